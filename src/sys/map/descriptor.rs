//! A descriptor that knows its file.
//!
//! Numbers belong to the process: the application may close all of them (`close_range`) and get the same numbers
//! for other files. What is ours must then neither be asked nor closed any more, so a number is compared with its
//! file (`st_dev`, `st_ino`) first.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::Stat;

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl FileId {
    #[allow(clippy::unnecessary_cast, reason = "the fields have other widths elsewhere")]
    pub(crate) fn of(stat: &Stat) -> FileId {
        FileId { dev: stat.st_dev as u64, ino: stat.st_ino as u64 }
    }
}

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody holds a part of it.
    Taken,
    /// The kernel's error number.
    Failed(i32),
}

pub(crate) struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    id: FileId,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd, id: FileId) -> Descriptor {
        Descriptor { fd: ManuallyDrop::new(fd), id }
    }

    /// # Safety
    /// The number is open, or leads to another file than `id`, and its owner leaves it alone from now on.
    pub(crate) unsafe fn from_number(number: RawFd, id: FileId) -> Descriptor {
        // SAFETY: the caller gives the number up, and it is closed only while it leads to the file.
        Descriptor::new(unsafe { OwnedFd::from_raw_fd(number) }, id)
    }

    pub(crate) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the number still leads to the file (0.3 µs).
    pub(crate) fn is_ours(&self) -> bool {
        rustix::fs::fstat(self).is_ok_and(|stat| FileId::of(&stat) == self.id)
    }

    /// Write-locks bytes for this open file description, without waiting; length 0 is everything from `start` on.
    pub(crate) fn lock(&self, start: u64, length: u64) -> Result<(), Refusal> {
        match self.lock_call(libc::F_OFD_SETLK, libc::F_WRLCK, start, length) {
            Ok(_) => Ok(()),
            Err(libc::EAGAIN | libc::EACCES) => Err(Refusal::Taken),
            Err(errno) => Err(Refusal::Failed(errno)),
        }
    }

    /// Gives every lock of this open file description back, in forked copies too.
    pub(crate) fn unlock_all(&self) {
        let _ = self.lock_call(libc::F_OFD_SETLK, libc::F_UNLCK, 0, 0);
    }

    /// Whether another description has a lock on the byte; `None` if the kernel does not tell.
    pub(crate) fn is_locked(&self, byte: u64) -> Option<bool> {
        let found = self.lock_call(libc::F_OFD_GETLK, libc::F_WRLCK, byte, 1).ok()?;
        Some(found != libc::F_UNLCK)
    }

    /// The kind of lock that the kernel left in the structure, or the error number.
    fn lock_call(&self, command: i32, kind: i32, start: u64, length: u64) -> Result<i32, i32> {
        // SAFETY: all-zero is valid for this plain structure, and these commands want its `l_pid` to be 0.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as _;
        lock.l_whence = libc::SEEK_SET as _;
        lock.l_start = start.try_into().map_err(|_| libc::EINVAL)?;
        lock.l_len = length.try_into().map_err(|_| libc::EINVAL)?;
        // SAFETY: the structure is valid for reading and writing, and any descriptor number may be passed.
        while unsafe { libc::fcntl(self.number(), command, &raw mut lock) } != 0 {
            match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                errno => return Err(errno.unwrap_or(libc::EIO)),
            }
        }
        Ok(lock.l_type.into())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}
