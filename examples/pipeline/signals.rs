//! Ctrl-C ends the run well: a handler that interrupts the collector's wait, whether it sleeps already or not.
#![allow(unsafe_code)]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::*};

use waitqueue::{Interrupter, Region};

static INTERRUPTER: OnceLock<Interrupter> = OnceLock::new();
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on `SIGINT` and `SIGTERM` interrupt a wait that has the [`interrupter`].
pub(crate) fn interrupt_waits_of(region: &Region) -> io::Result<()> {
    INTERRUPTER.get_or_init(|| Interrupter::new(region));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler lives as long as the program, and makes only async-signal-safe calls.
        if unsafe { libc::signal(signal, interrupt as extern "C" fn(i32) as libc::sighandler_t) }
            == libc::SIG_ERR
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

pub(crate) fn interrupter() -> &'static Interrupter {
    INTERRUPTER.get().expect("the handler is set before the first wait")
}

pub(crate) fn was_interrupted() -> bool {
    INTERRUPTED.load(Acquire)
}

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Release);
    if let Some(interrupter) = INTERRUPTER.get() {
        interrupter.interrupt();
    }
}
