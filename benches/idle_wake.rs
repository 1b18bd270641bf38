//! What the calls cost when there is nothing to do: a wake with nobody there, a wait whose condition holds; and beside
//! them what the kernel asks for waking nobody.
#![allow(unsafe_code)] // futex(2)

use std::sync::atomic::AtomicU32;

use waitqueue_bench::bodies::{Idle, idle_waitqueue};

fn main() {
    let mut idle = Idle::new("idle_wake");
    let word = AtomicU32::new(0);
    idle.call("FUTEX_WAKE of nobody", || {
        // SAFETY: a word that lives as long as the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) }
    });
    idle_waitqueue(&mut idle);
}
