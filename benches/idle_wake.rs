//! What the calls cost when there is nothing to do: a wake with nobody there, a wait whose condition holds; and beside
//! them what the kernel and the C library ask for it.
#![allow(unsafe_code)] // futex(2), sem_t

use std::cell::UnsafeCell;
use std::mem::zeroed;
use std::sync::atomic::AtomicU32;

use waitqueue_bench::bodies::{HOLDS, Idle, WAKE, idle_waitqueue};

fn main() {
    let mut idle = Idle::new("idle_wake");
    idle_waitqueue(&mut idle);
    let word = AtomicU32::new(0);
    idle.call(WAKE, "FUTEX_WAKE", || {
        // SAFETY: a word that lives as long as the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) }
    });
    // SAFETY: zero is a value of both, which are made usable before they are used.
    let (mutex, condition) = unsafe {
        let (mutex, condition) = (UnsafeCell::new(zeroed()), UnsafeCell::new(zeroed()));
        let (mut of_mutex, mut of_condition) = (zeroed(), zeroed());
        libc::pthread_mutexattr_init(&raw mut of_mutex);
        libc::pthread_mutexattr_setpshared(&raw mut of_mutex, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutex_init(mutex.get(), &raw const of_mutex);
        libc::pthread_condattr_init(&raw mut of_condition);
        libc::pthread_condattr_setpshared(&raw mut of_condition, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_cond_init(condition.get(), &raw const of_condition);
        (mutex, condition)
    };
    // SAFETY: initialised.
    idle.call(WAKE, "glibc condvar, signal", || unsafe { libc::pthread_cond_signal(condition.get()) });
    // SAFETY: initialised; who finds the condition true takes the mutex for looking, and that is all.
    idle.call(HOLDS, "glibc condvar, its mutex", || unsafe {
        libc::pthread_mutex_lock(mutex.get());
        libc::pthread_mutex_unlock(mutex.get());
    });
}
