//! Sleeping on a shared word and waking its sleepers: futex(2), always shared, never private, and with every
//! unexpected error number taken as data, because a hostile peer can provoke some of them at will.

/// Why a sleep ended. None of these says anything about the word: the caller looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Somebody woke the word, or it no longer had the expected value.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
    /// The kernel refused, with this error number.
    Failed(i32),
}

#[cfg(not(loom))]
pub(crate) use real::{clear_and_wake, wait, wait_any, wait_bitset, wake, wake_bitset, wake_two};

#[cfg(not(loom))]
mod real {
    use std::num::NonZeroU32;
    use std::sync::atomic::Ordering::{Relaxed, Release};

    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags, WakeOp, WakeOpCmp};
    use rustix::time::{ClockId, Timespec};

    use super::Sleep;
    use crate::atomic::AtomicU32;
    use crate::sys::clock::Deadline;

    /// Sleeps while `word` is `expected`; `FUTEX_WAIT_BITSET` with an absolute deadline.
    #[inline]
    pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Sleep {
        wait_bitset(word, expected, deadline, NonZeroU32::MAX)
    }

    /// The same as one of those whom [`wake_bitset`] tells apart.
    #[inline]
    pub(crate) fn wait_bitset(
        word: &AtomicU32,
        expected: u32,
        deadline: Option<Deadline>,
        bits: NonZeroU32,
    ) -> Sleep {
        let until = deadline.map(timespec);
        outcome(futex::wait_bitset(word, Flags::empty(), expected, until.as_ref(), bits))
    }

    /// Wakes every sleeper of `word`: a stranger may sleep there too, and must not absorb the only wake.
    #[inline]
    pub(crate) fn wake(word: &AtomicU32) {
        // Errors are a hostile peer's doing (a `FUTEX_LOCK_PI` sleeper makes it EINVAL); all sleeps are bounded.
        let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
    }

    /// Wakes every sleeper of `word` whose bits meet these.
    #[inline]
    pub(crate) fn wake_bitset(word: &AtomicU32, bits: NonZeroU32) {
        let _ = futex::wake_bitset(word, Flags::empty(), i32::MAX as u32, bits);
    }

    /// Wakes every sleeper of two words in one system call, which otherwise does nothing to them.
    pub(crate) fn wake_two(one: &AtomicU32, other: &AtomicU32) {
        // The kernel wakes the second word's sleepers if that is not −1, which no honest peer writes.
        let (keep, unequal, never) = (WakeOp::Or, WakeOpCmp::Ne, 0xfff);
        let all = i32::MAX as u32;
        if futex::wake_op(one, Flags::empty(), all, all, other, keep, unequal, 0, never).is_err() {
            wake(one);
            wake(other);
        }
    }

    /// Stores 0 and wakes so many sleepers in one system call, so that no kill can fall between the two.
    pub(crate) fn clear_and_wake(word: &AtomicU32, held: u32, sleepers: u32) {
        let (set, equal) = (WakeOp::Set, WakeOpCmp::Eq);
        let done = futex::wake_op(word, Flags::empty(), sleepers, 0, word, set, equal, 0, 0);
        if done.is_err() {
            // The kernel stores before it walks the sleepers, so an error from the walk leaves the word clear.
            let _ = word.compare_exchange(held, 0, Release, Relaxed);
            wake(word);
        }
    }

    /// Sleeps while every word has its expected value; `None` where the kernel has no `futex_waitv` or forbids it.
    pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Option<Sleep> {
        let mut waiters = [const { Wait::new() }; 8];
        for (waiter, (word, expected)) in waiters.iter_mut().zip(words) {
            waiter.val = u64::from(*expected);
            waiter.uaddr = WaitPtr::new(word.as_ptr().cast());
            waiter.flags = WaitFlags::SIZE_U32;
        }
        let until = deadline.map(timespec);
        let count = words.len().min(waiters.len());
        let done = futex::waitv(&waiters[..count], WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic)
            .map(drop);
        match outcome(done) {
            Sleep::Failed(errno) if errno == libc::ENOSYS || errno == libc::EPERM => None,
            other => Some(other),
        }
    }

    #[inline]
    fn outcome(done: rustix::io::Result<()>) -> Sleep {
        match done {
            Ok(()) | Err(Errno::AGAIN) => Sleep::Woken,
            Err(Errno::TIMEDOUT) => Sleep::TimedOut,
            Err(Errno::INTR) => Sleep::Interrupted,
            Err(errno) => Sleep::Failed(errno.raw_os_error()),
        }
    }

    fn timespec(deadline: Deadline) -> Timespec {
        let ns = deadline.nanoseconds();
        Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ }
    }
}

#[cfg(loom)]
pub(crate) use super::model::{clear_and_wake, wait, wait_any, wait_bitset, wake, wake_bitset, wake_two};
