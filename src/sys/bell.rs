//! The bell: a thread whose death the kernel announces in shared words.
//!
//! A thread's robust list is a list of futex words that the kernel visits when the thread ends: where a word holds
//! the thread's id, it sets `FUTEX_OWNER_DIED` and wakes one sleeper. Each thread has one list, libc's own; so this
//! thread, which takes no robust mutex, registers a list of ours, over the life words of its process. There are
//! several, because the one sleeper of a word may be stopped or killed itself.
//!
//! The thread also holds half of the certificate, in a descriptor table of its own that the application cannot
//! close. Everything else is closed in there at once, or the application's pipes would never see their end.
//!
//! A life word is `thread id | FUTEX_WAITERS` while the thread runs, gets `FUTEX_OWNER_DIED` when it is killed,
//! or when its body panics, and 0 when its body returns.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use linux_futex::{Futex, Private};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::UnshareFlags;

use super::clock::Deadline;
use super::lease::{Lease, Prober, Table};
use super::map::Mapping;
use super::mark::{Marker, RobustHead, registered_head};
use super::process::{process_id, thread_id};
use super::{futex, signals};
use crate::error::{Error, Result};

/// How many words announce one death.
pub(crate) const LIFE_WORDS: usize = 3;

/// From one life word to the next, in bytes; nodes of the robust list lie as far apart.
pub(crate) const LIFE_STRIDE: usize = 8;

/// How long the thread may take to get ready. It takes some 100 µs, unless a system call filter has killed it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the life words of a process are in a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LifeWords {
    base: *mut u8,
    offset: usize,
}

// SAFETY: an address and a number; what they lead to is only used together with the mapping, and is atomic.
unsafe impl Send for LifeWords {}

impl LifeWords {
    /// `None` if they are not aligned or not all inside.
    pub(crate) fn new(mapping: &Mapping, offset: u64) -> Option<LifeWords> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(LIFE_WORDS * LIFE_STRIDE)?;
        let fits = offset.is_multiple_of(LIFE_STRIDE) && end <= mapping.len() && mapping.is_writable();
        fits.then_some(LifeWords { base: mapping.base(), offset })
    }

    /// The words in their mapping.
    fn of<'m>(&self, mapping: &'m Mapping) -> [&'m AtomicU32; LIFE_WORDS] {
        debug_assert_eq!(self.base, mapping.base());
        std::array::from_fn(|nth| {
            // SAFETY: `new` has checked bounds and alignment for this mapping, and `spawn` that it is this one; it
            // stays mapped for 'm, and everybody uses these words as atomics.
            unsafe { AtomicU32::from_ptr(self.base.add(self.offset + nth * LIFE_STRIDE).cast()) }
        })
    }
}

/// What the body of the thread works with.
pub(crate) struct BellContext {
    prober: Arc<Prober>,
    /// Held for as long as the thread runs.
    _lease: Lease,
}

impl BellContext {
    /// Works in the bell thread only: its descriptor is in that thread's table.
    pub(crate) fn prober(&self) -> &Arc<Prober> {
        &self.prober
    }
}

/// How long its end is awaited: it has nothing left to do that takes long, but a peer can keep it from hearing of it.
const FAREWELL: Duration = Duration::from_secs(60);

/// A running bell thread.
pub(crate) struct BellThread {
    handle: JoinHandle<Result<()>>,
    handshake: Arc<Handshake>,
}

impl BellThread {
    /// Whether the kernel still has it. What the life words say is no proof: any peer can write there.
    pub(crate) fn runs(&self) -> bool {
        let (process, thread) = (process_id(), self.handshake.thread.load(Ordering::Relaxed));
        // SAFETY: numbers only, and no signal.
        let asked = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
        asked == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
    }

    /// Waits for its end; the body must have been told to return, and is told so again by `tell`, because a peer may have
    /// moved it to where the first time was not heard. One that was killed alone has no result.
    pub(crate) fn join(self, tell: impl Fn()) {
        let until = Deadline::after(FAREWELL);
        while !self.handshake.has_ended() && self.runs() && !until.is_some_and(Deadline::passed) {
            let _ = self.handshake.state.wait_for(READY, GLANCE);
            tell();
        }
        if self.handshake.has_ended() || self.handle.is_finished() {
            let _ = self.handle.join();
        } else {
            self.abandon();
        }
    }

    /// For a thread that was killed alone, or one that does not exist, in a forked child: joining it would never end, or
    /// find no result.
    pub(crate) fn abandon(self) {
        mem::forget(self);
    }
}

/// What the spawner and the thread agree on: whoever changes STARTING first decides.
const STARTING: u32 = 0;
const READY: u32 = 1;
const FAILED: u32 = 2;
const ABANDONED: u32 = 3;
const ENDED: u32 = 4;

/// Between two looks at whether a thread that is to end was killed instead.
const GLANCE: Duration = Duration::from_millis(10);

/// In private memory, where no peer can write.
struct Handshake {
    state: Futex<Private>,
    /// The thread, as the kernel calls it.
    thread: AtomicU32,
}

impl Handshake {
    fn settle(&self, outcome: u32) -> bool {
        let settled =
            self.state.value.compare_exchange(STARTING, outcome, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.state.wake(i32::MAX);
        settled
    }

    fn wait(&self) -> u32 {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let now = self.state.value.load(Ordering::Acquire);
            let left = deadline.map_or(PATIENCE, Deadline::remaining);
            if now != STARTING {
                return now;
            }
            if left.is_zero() {
                self.settle(ABANDONED);
            } else {
                let _ = self.state.wait_for(STARTING, left);
            }
        }
    }

    fn end(&self) {
        self.state.value.store(ENDED, Ordering::Release);
        self.state.wake(i32::MAX);
    }

    fn has_ended(&self) -> bool {
        self.state.value.load(Ordering::Acquire) == ENDED
    }
}

/// Starts the thread and returns when it holds its lock byte and its life words are set; then `body` runs in it.
///
/// The mapping must not be dropped for the last time by `body`: its descriptor is not in that thread's table.
/// A lock byte that somebody else holds is a `System` error with `EAGAIN`.
pub(crate) fn spawn(
    mapping: Arc<Mapping>,
    life: LifeWords,
    lease_byte: u64,
    body: impl FnOnce(&BellContext) + Send + 'static,
) -> Result<BellThread> {
    let label = mapping.label().clone();
    if life.base != mapping.base() {
        return Err(Error::ForeignObject { region: label, what: "life word" });
    }
    let handshake = Arc::new(Handshake { state: Futex::new(STARTING), thread: AtomicU32::new(0) });
    let theirs = Arc::clone(&handshake);
    let run = move || {
        theirs.thread.store(thread_id(), Ordering::Relaxed);
        let prepared = prepare(&mapping, &life, lease_byte);
        let (context, list) = prepared.inspect_err(|_| {
            theirs.settle(FAILED);
        })?;
        if theirs.settle(READY) {
            body(&context);
        }
        // Not reached by a panic in `body`: then the list stays registered, and the kernel rings.
        list.leave(&mapping, &life);
        drop(context);
        theirs.end();
        Ok(())
    };
    let spawned = {
        // The thread inherits the mask, so no handler of the application ever runs in it.
        let _blocked = signals::block_all_but(&[]);
        Builder::new().name("waitqueue-bell".into()).stack_size(128 << 10).spawn(run)
    };
    let handle = spawned
        .map_err(|error| Error::system(&label, "clone", error.raw_os_error().unwrap_or(libc::EAGAIN)))?;
    match handshake.wait() {
        // (It may have been ready, and have ended since.)
        READY | ENDED => Ok(BellThread { handle, handshake }),
        FAILED => match handle.join() {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::system(&label, "clone", libc::EAGAIN)),
        },
        _ => Err(Error::system(&label, "clone (the bell thread does not start)", libc::ETIMEDOUT)),
    }
}

fn prepare(mapping: &Mapping, life: &LifeWords, lease_byte: u64) -> Result<(BellContext, RobustList)> {
    // SAFETY: only this thread's table changes: what is in it keeps its numbers, and nothing here is closed in it
    // that this thread uses later, except as said at `close_all_but`.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }.is_ok();
    let table = if unshared { Table::Own } else { Table::Process };
    // Before the lease, which may get the mapping's number where the application has closed that.
    let prober = Prober::new(mapping)?;
    let lease = Lease::take_in(table, mapping, lease_byte)?
        .ok_or_else(|| Error::system(mapping.label(), "fcntl(F_OFD_SETLK)", libc::EAGAIN))?;
    if unshared && let Some(number) = lease.number() {
        close_all_but([number.min(prober.number()), number.max(prober.number())]);
    }
    let list = RobustList::register(mapping, life)?;
    for word in life.of(mapping) {
        // ORDERING: Release, so that whoever sees a bell word finds the certificate taken.
        word.store(Marker::mark_value(), Ordering::Release);
    }
    Ok((BellContext { prober: Arc::new(prober), _lease: lease }, list))
}

/// Closes everything else in this thread's own table. The owners of the numbers are in other threads, and their
/// table keeps them; what this thread holds of theirs, the mapping, compares a number with its file before closing.
fn close_all_but([low, high]: [RawFd; 2]) {
    let ranges = [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)];
    let whole = |&(from, to): &(RawFd, RawFd)| {
        let (first, last) = (libc::c_long::from(from), libc::c_long::from(to));
        // SAFETY: see above: this table is ours alone.
        from > to || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
    };
    if ranges.iter().all(whole) {
        return;
    }
    // Before Linux 5.9, one by one. Without /proc either, they stay open, which only delays an end of file.
    let Ok(listed) = std::fs::read_dir("/proc/thread-self/fd") else { return };
    let numbers: Vec<RawFd> =
        listed.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number != low && *number != high) {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close, libc::c_long::from(number)) };
    }
}

/// One node of the list, as far from its life word as every other.
#[repr(C, align(8))]
struct Node {
    next: *mut c_void,
}
const _: () = assert!(size_of::<Node>() == LIFE_STRIDE);

#[repr(C)]
struct Page {
    head: RobustHead,
    nodes: [Node; LIFE_WORDS],
}

/// The registered list, in a page that is private but mapped shared: the kernel may discard private memory of a
/// dying process before it reads the list.
struct RobustList {
    page: NonNull<Page>,
    /// libc's head.
    before: *mut RobustHead,
}

impl RobustList {
    fn register(mapping: &Mapping, life: &LifeWords) -> Result<RobustList> {
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let page = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), size_of::<Page>(), rights, flags) };
        let page = page.map_err(|errno| Error::system(mapping.label(), "mmap", errno.raw_os_error()))?;
        let page = NonNull::new(page.cast::<Page>())
            .ok_or_else(|| Error::system(mapping.label(), "mmap", libc::ENOMEM))?;
        let at = page.as_ptr();
        // SAFETY: the page is ours, large enough, aligned, and zeroed, which is valid for it.
        unsafe {
            let nodes = (&raw mut (*at).nodes).cast::<Node>();
            for nth in 0..LIFE_WORDS - 1 {
                (*nodes.add(nth)).next = nodes.add(nth + 1).cast();
            }
            (*nodes.add(LIFE_WORDS - 1)).next = at.cast();
            let first = life.base.wrapping_add(life.offset).addr();
            (*at).head.futex_offset = first.wrapping_sub(nodes.addr()) as _;
            (*at).head.first = nodes.cast();
        }
        let list = RobustList { page, before: registered_head() };
        if let Err(errno) = set_robust_list(at.cast()) {
            list.unmap();
            return Err(Error::system(mapping.label(), "set_robust_list", errno));
        }
        Ok(list)
    }

    /// Leaves in peace: the words first, so that a kill in between finds either the list or nothing to announce.
    fn leave(self, mapping: &Mapping, life: &LifeWords) {
        for word in life.of(mapping) {
            // Not blindly: if our slot was given away, these are another's by now.
            let _ = word.compare_exchange(Marker::mark_value(), 0, Ordering::Release, Ordering::Relaxed);
            futex::wake(word);
        }
        if set_robust_list(self.before).is_ok() {
            self.unmap();
        }
    }

    fn unmap(&self) {
        // SAFETY: mapped by `register`, with this length; the kernel does not know it any more.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), size_of::<Page>()) };
    }
}

fn set_robust_list(head: *mut RobustHead) -> Result<(), i32> {
    // SAFETY: null, libc's own head, or a page that stays mapped until another head is registered.
    match unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<RobustHead>()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOSYS)),
    }
}
