//! A page of named shared memory for primitives that have no name of their own.
#![allow(unsafe_code)] // a reference into a mapping

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use memmap2::{MmapOptions, MmapRaw};

/// Its name; removed when this is dropped.
pub struct Name(PathBuf);

/// The page, mapped.
pub(crate) struct Segment(MmapRaw);

impl Segment {
    /// Makes the page, all zero, and lets `prepare` fill it.
    pub(crate) fn create(name: &str, prepare: impl FnOnce(&Segment)) -> Name {
        let path = PathBuf::from(format!("/dev/shm{name}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        file.and_then(|file| file.set_len(4096)).expect("a new file in /dev/shm");
        let name = Name(path);
        prepare(&Segment::open(&name));
        name
    }

    pub(crate) fn open(name: &Name) -> Segment {
        let file = OpenOptions::new().read(true).write(true).open(&name.0).expect("it was created");
        Segment(MmapOptions::new().map_raw(&file).expect("it can be mapped"))
    }

    /// What is at its beginning.
    ///
    /// # Safety
    ///
    /// `T` is valid when all zero, and is only used in ways in which processes may share it.
    pub(crate) unsafe fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.0.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned; the rest is promised by the caller.
        unsafe { &*self.bytes(offset).cast() }
    }

    pub(crate) fn bytes(&self, offset: usize) -> *mut u8 {
        self.0.as_mut_ptr().wrapping_add(offset)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
