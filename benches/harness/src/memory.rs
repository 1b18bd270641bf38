//! Zeroed words that a process shares with all that it forks.
#![allow(unsafe_code)] // a mapping

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// The words; unmapped when dropped.
pub struct Words(NonNull<[AtomicU64]>);

// SAFETY: atomics, in memory that is its own.
unsafe impl Sync for Words {}

impl Words {
    /// That many.
    #[must_use]
    pub fn new(count: usize) -> Words {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), count * 8, rights, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        let start = NonNull::new(start.cast()).expect("not at zero");
        Words(NonNull::slice_from_raw_parts(start, count))
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: as large as that, aligned to a page, zeroed, mapped for as long as `self` lives, and atomics.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.0.len() * 8) };
    }
}
