//! The atomics of the shared layout: `core`'s, or `loom`'s where a model checker has to interleave them.
//!
//! `AtomicU32` and `AtomicU64` are the words of the protocol. `Guarded32` and `Guarded64` are fields that only one
//! thread or the holder of a lock writes, and counters: always `core`'s, so that loom spends its steps on the protocol.

pub(crate) use core::sync::atomic::{AtomicU32 as Guarded32, AtomicU64 as Guarded64, compiler_fence};
#[cfg(not(loom))]
pub(crate) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// A full fence where this thread has made a read-modify-write since what is to be ordered: on x86 that was one. Corresponds
/// to the kernel's `smp_mb__after_atomic`.
#[inline(always)]
pub(crate) fn fence_after_update() {
    if cfg!(all(target_arch = "x86_64", not(loom))) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}
