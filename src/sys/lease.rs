//! The certificate: a lock byte in the region's file that is held as long as its holder lives.
//!
//! It is an open-file-description write lock (`F_OFD_SETLK`): the kernel drops it when the last descriptor of that
//! description is closed, which for a dying process is after its memory is gone, in whatever namespace it ran. So the
//! description is opened for this alone, never mapped, duplicated, passed on or exposed, and never unlocked by
//! hand: a copy in a forked child shares it, and unlocking there would make the parent look dead.
//!
//! A forked child closes its copies at once (`pthread_atfork`). One made by raw `clone` does not, and keeps its
//! parent looking alive until it ends or calls `exec`; everything here errs in that direction.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::map::{Descriptor, FileId, Mapping, Refusal};
use crate::error::{Error, Result};

/// Whose descriptor table a lease lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// The process's: a fork copies it.
    Process,
    /// One that belongs to a single thread, which never forks.
    Own,
}

/// A lock byte that is ours until this is dropped or the process ends.
pub(crate) struct Lease {
    /// Taken out only by `drop`.
    file: Option<Descriptor>,
    ticket: u64,
}

impl Lease {
    /// `None` if somebody holds the byte.
    pub(crate) fn take(mapping: &Mapping, byte: u64) -> Result<Option<Lease>> {
        Lease::take_in(Table::Process, mapping, byte)
    }

    pub(crate) fn take_in(table: Table, mapping: &Mapping, byte: u64) -> Result<Option<Lease>> {
        let lease = match table {
            Table::Own => {
                Lease { file: Some(Descriptor::new(mapping.reopen()?, mapping.file_id())), ticket: FREE }
            }
            Table::Process => Lease::open_unshared_by_fork(mapping)?,
        };
        let file = lease.file.as_ref().expect("only drop takes it");
        match file.lock(byte, 1) {
            Ok(()) => Ok(Some(lease)),
            Err(Refusal::Taken) => Ok(None),
            Err(Refusal::Failed(errno)) => Err(Error::system(mapping.label(), "fcntl(F_OFD_SETLK)", errno)),
        }
    }

    /// For the bell thread, which closes all other numbers of its table.
    pub(super) fn number(&self) -> Option<RawFd> {
        self.file.as_ref().map(Descriptor::number)
    }

    /// Opens a description of which no child has a copy: if a fork ran between the opening and the entry in the
    /// list of what children close, it is done again. A process that forks all the time gets one all the same.
    fn open_unshared_by_fork(mapping: &Mapping) -> Result<Lease> {
        let handlers = *HANDLERS.get_or_init(|| {
            // SAFETY: the three functions live as long as the process, and are async-signal-safe.
            unsafe { pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) }
        });
        if handlers != 0 {
            return Err(Error::system(mapping.label(), "pthread_atfork", handlers));
        }
        let mut patience = 100;
        loop {
            let (begun, ended) = (FORKS_BEGUN.load(Ordering::SeqCst), FORKS_ENDED.load(Ordering::SeqCst));
            let file = Descriptor::new(mapping.reopen()?, mapping.file_id());
            let ticket = register(&file);
            let lease = Lease { file: Some(file), ticket };
            if (begun == ended && FORKS_BEGUN.load(Ordering::SeqCst) == begun) || patience == 0 {
                return Ok(lease);
            }
            patience -= 1;
            drop(lease);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let file = self.file.take();
        // Not in the list any more: a later lease of ours has this number, so the application has closed this one.
        if self.ticket != FREE && !unregister(self.ticket) {
            std::mem::forget(file);
        }
    }
}

/// What is known about the holder of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Somebody holds it.
    Held,
    /// Nobody does.
    Free,
    /// It cannot be told; counts as alive.
    Unknown,
}

/// Asks who lives, through a description that never locks anything.
pub(crate) struct Prober {
    file: Descriptor,
}

impl Prober {
    /// Works on an observer's read-only mapping too.
    pub(crate) fn new(mapping: &Mapping) -> Result<Prober> {
        // The mapped description never holds a lock either; only if the application has closed it, it takes a new one.
        let fd = mapping.try_clone_fd().or_else(|_| mapping.reopen())?;
        Ok(Prober { file: Descriptor::new(fd, mapping.file_id()) })
    }

    /// For the bell thread, which closes all other numbers of its table.
    pub(super) fn number(&self) -> RawFd {
        self.file.number()
    }

    pub(crate) fn state(&self, byte: u64) -> Probe {
        match self.file.is_locked(byte) {
            Some(true) => Probe::Held,
            // The number may lead to another file by now, where every byte is free: looked at after the question,
            // so that it covers the time of the question.
            Some(false) if self.file.is_ours() => Probe::Free,
            _ => Probe::Unknown,
        }
    }
}

// What a forked child closes. Its handler runs where only async-signal-safe calls are allowed: no lock, no memory.

/// One lease. `ticket` is FREE, CLAIMED while the rest is being written, or serial << 32 | descriptor.
struct Entry {
    ticket: AtomicU64,
    dev: AtomicU64,
    ino: AtomicU64,
}

const FREE: u64 = 0;
const CLAIMED: u64 = u64::MAX;

/// As many leases as a process is likely to have; one too many is not closed in children, which errs towards alive.
static LEASES: [Entry; 256] =
    [const { Entry { ticket: AtomicU64::new(FREE), dev: AtomicU64::new(0), ino: AtomicU64::new(0) } }; 256];
static SERIAL: AtomicU32 = AtomicU32::new(1);
static FORKS_BEGUN: AtomicU32 = AtomicU32::new(0);
static FORKS_ENDED: AtomicU32 = AtomicU32::new(0);
static HANDLERS: OnceLock<i32> = OnceLock::new();

type Handler = Option<unsafe extern "C" fn()>;

// SAFETY: the declaration of POSIX, which the `libc` crate does not have for Linux.
unsafe extern "C" {
    fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> i32;
}

fn number_of(ticket: u64) -> RawFd {
    (ticket as u32).cast_signed()
}

/// Enters a descriptor; FREE if the list is full.
fn register(file: &Descriptor) -> u64 {
    let fd = file.number();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
    let ticket = u64::from(serial.max(1)) << 32 | u64::from(fd.cast_unsigned());
    for entry in &LEASES {
        let old = entry.ticket.load(Ordering::Acquire);
        // A number can only be given out again after it was closed behind our back.
        if old != FREE && old != CLAIMED && number_of(old) == fd {
            let _ = entry.ticket.compare_exchange(old, FREE, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    let claim = |entry: &&Entry| {
        entry.ticket.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let Some(entry) = LEASES.iter().find(claim) else { return FREE };
    let FileId { dev, ino } = file.id();
    entry.dev.store(dev, Ordering::Relaxed);
    entry.ino.store(ino, Ordering::Relaxed);
    // ORDERING: SeqCst, so that a fork that misses this entry is seen to have begun before it.
    entry.ticket.store(ticket, Ordering::SeqCst);
    ticket
}

/// Whether it was still entered.
fn unregister(ticket: u64) -> bool {
    let leave = |entry: &Entry| {
        entry.ticket.compare_exchange(ticket, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    LEASES.iter().any(leave)
}

unsafe extern "C" fn before_fork() {
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn after_fork() {
    FORKS_ENDED.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn in_child() {
    FORKS_ENDED.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    for entry in &LEASES {
        let ticket = entry.ticket.swap(FREE, Ordering::AcqRel);
        if ticket == FREE || ticket == CLAIMED {
            continue;
        }
        let id = FileId { dev: entry.dev.load(Ordering::Relaxed), ino: entry.ino.load(Ordering::Relaxed) };
        // SAFETY: this child's copy of a descriptor that only a lease owns, and the lease finds its ticket gone
        // and leaves the number alone. The descriptor closes itself only if it still leads to that file.
        drop(unsafe { Descriptor::from_number(number_of(ticket), id) });
    }
}
