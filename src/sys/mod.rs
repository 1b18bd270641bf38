//! The kernel: the only folder that knows rustix, linux-futex, memmap2 and libc.
//!
//! `futex` sleeps and wakes · `clock` tells the time · `map` makes, opens and maps a region's file · `lease` holds
//! and probes the lock bytes that prove life · `bell` is the kernel's part of the thread that announces death ·
//! `mark` makes the kernel mark a dying lock holder · `fork` notices forks · `signals` blocks signals over a sleep ·
//! `process` says who we are.

// In this order: a file uses only files above it.
#[cfg(not(loom))]
pub(crate) mod clock;
pub(crate) mod futex;
#[cfg(not(loom))]
pub(crate) mod signals;
#[cfg(not(loom))]
pub(crate) mod process;
#[cfg(not(loom))]
pub(crate) mod fork;
#[cfg(not(loom))]
pub(crate) mod mark;
#[cfg(not(loom))]
pub(crate) mod map;
#[cfg(not(loom))]
pub(crate) mod lease;
#[cfg(not(loom))]
pub(crate) mod bell;

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub(crate) use model::{clock, fork, lease, mark, process};
