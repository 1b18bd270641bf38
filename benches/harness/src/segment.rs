//! Named shared memory, a page unless said otherwise, for primitives that have no name of their own.
#![allow(unsafe_code)] // a reference into a mapping

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use memmap2::{MmapOptions, MmapRaw};

/// Its name; removed when this is dropped.
pub struct Name(PathBuf);

/// The memory, mapped.
pub struct Segment(MmapRaw);

impl Segment {
    /// Makes the page, all zero, and lets `prepare` fill it.
    pub fn create(name: &str, prepare: impl FnOnce(&Segment)) -> Name {
        Segment::create_sized(name, 4096, prepare)
    }

    /// The same with another size.
    pub fn create_sized(name: &str, size: usize, prepare: impl FnOnce(&Segment)) -> Name {
        let path = PathBuf::from(format!("/dev/shm{name}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        file.and_then(|file| file.set_len(size as u64)).expect("a new file in /dev/shm");
        let name = Name(path);
        prepare(&Segment::open(&name));
        name
    }

    /// Maps it.
    #[must_use]
    pub fn open(name: &Name) -> Segment {
        let file = OpenOptions::new().read(true).write(true).open(&name.0).expect("it was created");
        Segment(MmapOptions::new().map_raw(&file).expect("it can be mapped"))
    }

    /// What is at `offset`.
    ///
    /// # Safety
    ///
    /// `T` is valid when all zero, and is only used in ways in which processes may share it.
    pub unsafe fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= self.0.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned; the rest is promised by the caller.
        unsafe { &*self.bytes(offset).cast() }
    }

    /// The address of a byte of it.
    #[must_use]
    pub fn bytes(&self, offset: usize) -> *mut u8 {
        self.0.as_mut_ptr().wrapping_add(offset)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
