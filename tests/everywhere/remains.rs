//! What a death leaves behind: the bytes of the region, and what the kernel does for the dead.
//!
//! Two instructions before which all of this is the same are one kill, as far as others can tell.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::FileExt;

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::kill::{ENTRIES, PARTICIPANTS, THREADS};

/// Watches a running victim for changes that outlive it.
pub struct Remains {
    path: String,
    /// None until it is published.
    region: Option<File>,
    bytes: Vec<u8>,
    /// Where the kernel finds which word to mark, in the main thread.
    pending: Option<u64>,
    last_pending: i64,
}

impl Remains {
    pub fn new(region: &str) -> Remains {
        let path = format!("/dev/shm{region}");
        Remains { path, region: None, bytes: Vec::new(), pending: None, last_pending: 0 }
    }

    /// Whether any of it differs from the last time this was asked.
    pub fn changed(&mut self, main: Pid) -> bool {
        if self.region.is_none() {
            self.region = File::open(&self.path).ok();
            self.pending = pending_word(main);
        }
        let mut bytes = vec![0; self.bytes.len().max(1 << 17)];
        let length = self.region.as_ref().map_or(0, |region| region.read_at(&mut bytes, 0).unwrap_or(0));
        bytes.truncate(length);
        let pending = self.pending.and_then(|at| ptrace::read(main, at as *mut _).ok()).unwrap_or(0);
        let changed = (&bytes, pending) != (&self.bytes, self.last_pending);
        (self.bytes, self.last_pending) = (bytes, pending);
        changed
    }
}

/// The address of `list_op_pending` of a thread's registered list.
fn pending_word(thread: Pid) -> Option<u64> {
    let (mut head, mut size) = (0_u64, 0_usize);
    // SAFETY: both are valid places for what is returned.
    let done =
        unsafe { libc::syscall(libc::SYS_get_robust_list, thread.as_raw(), &raw mut head, &raw mut size) };
    (done == 0 && head != 0).then(|| head + 2 * size_of::<usize>() as u64)
}

/// Whether the instruction at this address of a stopped thread calls the kernel.
pub fn is_system_call(thread: Pid, address: u64) -> bool {
    ptrace::read(thread, address as *mut _).is_ok_and(|word| word & 0xffff == 0x050f)
}

/// A hash of what matters in a region: not when it happened, nor the numbers of processes.
pub fn essence(bytes: &[u8]) -> u64 {
    let mut bytes = bytes.to_vec();
    let (slots, records) = (4096, 4096 + PARTICIPANTS * 64);
    let entries = records + (PARTICIPANTS + THREADS) * 128;
    let mut forget = |at: usize, length: usize| {
        if let Some(range) = bytes.get_mut(at..at + length) {
            range.fill(0);
        }
    };
    forget(56, 8);
    for slot in 0..PARTICIPANTS {
        let at = slots + slot * 64;
        // Of the life words, what counts is that the bell was rung.
        [8, 16, 24].into_iter().for_each(|word| forget(at + word, 3));
        forget(at + 32, 16);
    }
    for record in 0..PARTICIPANTS + THREADS {
        forget(records + record * 128 + 8, 3);
        forget(records + record * 128 + 16, 4);
    }
    (0..ENTRIES).for_each(|entry| forget(entries + entry * 128 + 64, 8));
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
