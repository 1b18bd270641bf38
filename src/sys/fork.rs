//! Noticing a fork with a load: a page that the kernel wipes in every child (`MADV_WIPEONFORK`).
//!
//! Process ids do not tell (parent and child can both be 1 in nested namespaces), and handlers of `pthread_atfork`
//! do not run for a raw `clone`. The wiped page does in all cases, and costs no system call.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::{Error, Result};

/// The page's length as asked for; the kernel rounds up to its own pages.
const PAGE: usize = 4096;

/// Stands in for the page until it is mapped, so that [`current`] has nothing to test.
static NOTHING: AtomicU64 = AtomicU64::new(0);

/// The epoch's place: the wiped page, once there is one.
static EPOCH: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const NOTHING).cast_mut());

/// The last epoch given out. Ordinary memory, so a child counts on from its parent's value and repeats none of them.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The epoch of this process: the same until a fork, after which the child gets another one.
pub(crate) fn epoch() -> Result<u64> {
    if ptr::eq(EPOCH.load(Ordering::Acquire), &raw const NOTHING) {
        map_page()?;
    }
    let now = current();
    if now != 0 {
        return Ok(now);
    }
    let fresh = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    Ok(page()
        .compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire)
        .map_or_else(|theirs| theirs, |_| fresh))
}

/// The epoch, or 0: in a child that has not asked for its own, and before the first [`epoch`].
#[inline]
pub(crate) fn current() -> u64 {
    page().load(Ordering::Relaxed)
}

#[inline]
fn page() -> &'static AtomicU64 {
    // SAFETY: EPOCH points to a static or to a page that is never unmapped; both are only used as an `AtomicU64`.
    // ORDERING: Acquire partners the publication of the page in `map_page`.
    unsafe { &*EPOCH.load(Ordering::Acquire) }
}

#[cold]
fn map_page() -> Result<()> {
    let failed = |call: &'static str| {
        move |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::INVAL => Error::Unsupported { what: "MADV_WIPEONFORK", since: "Linux 4.14" },
            _ => Error::system(&Arc::from("(this process)"), call, errno.raw_os_error()),
        }
    };
    let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let made = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), PAGE, rights, flags) };
    let made = made.map_err(failed("mmap"))?;
    // SAFETY: the page is ours and still empty, so wiping it loses nothing.
    let advised = unsafe { rustix::mm::madvise(made, PAGE, Advice::LinuxWipeOnFork) };
    let nothing = (&raw const NOTHING).cast_mut();
    // ORDERING: Release publishes the advice together with the page; partner: `page`.
    let ours = advised.is_ok()
        && EPOCH.compare_exchange(nothing, made.cast(), Ordering::Release, Ordering::Relaxed).is_ok();
    if !ours {
        // SAFETY: nobody has seen this page: the advice failed, or another thread published its own.
        let _ = unsafe { rustix::mm::munmap(made, PAGE) };
    }
    advised.map_err(failed("madvise"))
}
