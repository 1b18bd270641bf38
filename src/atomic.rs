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
