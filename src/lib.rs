//! The Linux kernel's wait queues for processes that share memory, right even when one of them is killed.
//!
//! A process sleeps until a condition over shared memory is true; another makes it true and wakes the queue. That is
//! all, and the rest of this crate is there so that it stays true when any of them is killed at any instruction: no
//! wakeup is lost, nobody hangs, what the dead held is reclaimed, and nothing has to be cleaned up by hand.
//!
//! | kernel | here |
//! |---|---|
//! | `DECLARE_WAIT_QUEUE_HEAD` | [`Region::queue`], or a [`QueueHead`] in a [`shared_struct!`] |
//! | `wait_event(…)` and its forms | [`Queue::wait_event`] …, all of them by [`Queue::wait_event_with`] |
//! | `prepare_to_wait`, `finish_wait` | [`Queue::prepare_to_wait`], [`Queue::begin_wait`] |
//! | `add_wait_queue`, `wait_woken` | [`WaitSet`] |
//! | several queues in one loop | [`wait_many`] |
//! | `wake_up(…)` and its forms | [`Queue::wake_up`] …, all of them by [`Queue::wake_up_with`] |
//! | `wake_up_pollfree` | [`Queue::close`] |
//! | `wq_has_sleeper`, `waitqueue_active` | [`Queue::has_sleepers`], [`Queue::has_sleepers_without_fence`] |
//!
//! # Signals, threads, fork
//!
//! Handles are `Send + Sync` and cheap to clone. A call from a signal handler that interrupted another call of this
//! crate on the same thread returns [`Error::Reentered`]; [`Interrupter::interrupt`], [`Queue::has_sleepers`],
//! [`Region::me`] and [`Region::is_alive`] may be called from handlers at any time. After `fork` the child opens the
//! region anew. A condition may itself wait.
//!
//! # Limits
//!
//! Linux 4.14 or later. A stopped process is not dead: what it holds, it keeps. Who may write to a region can refuse
//! service to the others, but not make them misbehave; see [`RegionBuilder::create_memfd`] for what a hostile peer
//! can do to other kinds of regions.

// The model checker sees the core alone, which has nothing to do without the handles.
#![cfg_attr(loom, allow(dead_code))]

#[cfg(not(target_os = "linux"))]
compile_error!("waitqueue is built on Linux futexes, file locks and robust lists");

// The core, in this order: a file uses only files above it.
mod error;
mod atomic;
mod sys;
mod crash;
mod layout;
mod offset;
#[cfg(not(loom))]
mod header;
mod lock;
mod list;
mod entry;
mod thread;
mod head;
mod enrolled;
mod pace;
mod sleep;
mod wait;
mod pending;
#[cfg(not(loom))]
mod directory;
#[cfg(not(loom))]
mod recover;
#[cfg(not(loom))]
mod member;
#[cfg(not(loom))]
mod participant;

// The handles that users hold, made of the core: a region makes the others, and they know their region.
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod many;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod prepare;
#[cfg(not(loom))]
mod queue;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
mod waiting;
#[cfg(not(loom))]
mod wake;

#[cfg(all(test, loom))]
mod models;

pub use error::{Error, Result};
pub use head::Woken;
pub use layout::{QueueHead, RobustLock};
#[cfg(not(loom))]
pub use {
    builder::RegionBuilder,
    many::{Member, Source, WaitSet, wait_many},
    mutex::{Lock, LockGuard, Relock},
    offset::{Shared, Tag},
    options::{Interrupter, WaitOptions, WakeOptions, class},
    prepare::PrepareToWait,
    queue::Queue,
    region::{Object, ParticipantId, Region},
    snapshot::{ParticipantInfo, QueueInfo, Snapshot, WaiterInfo, WaiterState},
    waiting::Waiting,
};

/// For other languages: a number that differs in the child of a fork, so that a handle can tell that it is inherited.
#[doc(hidden)]
#[must_use]
#[cfg(not(loom))]
pub fn fork_epoch() -> u64 {
    sys::fork::current()
}
