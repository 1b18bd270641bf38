//! Blocking signals, always through libc's `pthread_sigmask`: it keeps libc's own signals open, without which
//! `setuid` would wait for ever for a thread of ours.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

/// The signals that end a process from outside and can be caught.
pub(crate) const KILLABLE: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];

/// Faults of the thread itself. Blocking them would only turn the application's handler into a certain death.
const FAULTS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Signals stay blocked on this thread until this is dropped, which restores the mask found before.
#[must_use]
pub(crate) struct Blocked {
    before: libc::sigset_t,
    /// A mask belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

/// Blocks every signal but the wanted ones and the thread's own faults. What was blocked before stays so.
pub(crate) fn block_all_but(wanted: &[i32]) -> Blocked {
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the whole set. `sigdelset` and `pthread_sigmask` then get valid sets; they
    // fail only for signal numbers and modes that do not exist, and SIG_BLOCK does.
    unsafe {
        libc::sigfillset(mask.as_mut_ptr());
        for signal in FAULTS.iter().chain(wanted) {
            libc::sigdelset(mask.as_mut_ptr(), *signal);
        }
        libc::sigemptyset(before.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, mask.as_ptr(), before.as_mut_ptr());
        Blocked { before: before.assume_init(), _not_send: PhantomData }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` was initialised when this was made, and this never leaves the thread it was made on.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
