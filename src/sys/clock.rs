//! Time: deadlines are absolute and monotonic, and never leave the process, because the monotonic clock differs
//! between time namespaces. What is shown to other processes is wall-clock time.
#![allow(unsafe_code)]

use std::time::Duration;

/// An instant of `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) fn now() -> Deadline {
        Deadline(nanoseconds(libc::CLOCK_MONOTONIC))
    }

    /// `None`, which means no deadline, where the sum does not fit: a sleep of centuries is for ever.
    pub(crate) fn after(span: Duration) -> Option<Deadline> {
        let span = u64::try_from(span.as_nanos()).ok()?;
        Deadline::now().0.checked_add(span).filter(|ns| *ns <= i64::MAX as u64).map(Deadline)
    }

    pub(crate) fn passed(self) -> bool {
        Deadline::now() >= self
    }

    /// The time from an earlier instant to this one.
    pub(crate) fn since(self, earlier: Deadline) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// What is left until then; zero once it has passed.
    pub(crate) fn remaining(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(Deadline::now().0))
    }

    pub(crate) fn nanoseconds(self) -> u64 {
        self.0
    }
}

/// The earlier of two deadlines, where `None` is never.
pub(crate) fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Nanoseconds since 1970, some milliseconds out of date at most: for display across processes, at a fifth of the cost.
pub(crate) fn wall_clock() -> u64 {
    nanoseconds(libc::CLOCK_REALTIME_COARSE)
}

/// By libc: what looks for the kernel's code in memory by itself finds none under valgrind, and crashes.
fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time`, and cannot fail for a clock that every kernel has.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
