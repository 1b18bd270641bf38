//! A wait queue as its users see it: the kernel's calls, each a few words above the one sleep loop.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use crate::enrolled::Spot;
use crate::error::{Error, Label, Result};
use crate::layout::QueueHead;
use crate::mutex::{Relock, Unlocked};
use crate::offset::Ref;
use crate::options::{LEAST_LEFT, WaitOptions};
use crate::pace::{self, Pace};
use crate::prepare::PrepareToWait;
use crate::region::Region;
use crate::sleep::{AroundSleep, Commands, JustSleep};
use crate::sys::clock::Deadline;
use crate::wait::{self, Ended, One};
use crate::waiting::Waiting;

/// A wait queue in a region: where processes sleep until others have changed something.
///
/// The pattern is the kernel's. The waiter names a condition over shared atomics; the waker makes it true, then wakes
/// the queue:
///
/// ```text
/// waiter   queue.wait_event(|| ready.load(Acquire) != 0)?;
/// waker    ready.store(1, Release);  queue.wake_up()?;
/// ```
///
/// The order of the waker's two steps is all that the user has to get right; the fences are inside. A wake is not
/// an event: it has no effect on later waiters, several may coalesce, and a waiter may evaluate its condition without
/// one. So the condition decides, and it is evaluated again after every wake. It may have side effects (take the
/// item): once it has returned true it is not called again.
///
/// # Crash safety
///
/// Whoever is killed in any of these calls, at any instruction, harms nobody: a waiter that a wake had chosen is
/// replaced by the next, and all waiters of the region evaluate their conditions again.
#[derive(Clone)]
pub struct Queue {
    pub(crate) region: Region,
    pub(crate) head: Ref<QueueHead>,
    label: Label,
    /// Not shared with clones, which may be for other uses.
    pace: Pace,
}

impl Queue {
    pub(crate) fn new(region: Region, head: Ref<QueueHead>, name: &str) -> Queue {
        let label = format!("{}:{name}", region.name()).into();
        Queue { region, head, label, pace: Pace::default() }
    }

    /// Sleeps until the condition is true. No signal ends it. Corresponds to `wait_event`.
    ///
    /// A condition that is true at once costs its evaluation and nothing else. Waiters are non-exclusive: one wake
    /// wakes all of them.
    ///
    /// # Memory ordering
    ///
    /// What a waker did before it woke this queue happens before the evaluation that follows.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the queue is or gets closed while the condition is false; [`Error::Full`] if entries or
    /// threads are used up; [`Error::LockStuck`]; [`Error::Forked`]; [`Error::Evicted`]; [`Error::Reentered`];
    /// [`Error::Damaged`].
    #[inline]
    pub fn wait_event(&self, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_event_with(&WaitOptions::new(), condition).map(drop)
    }

    /// Sleeps until the condition is true, for at most `timeout`; returns what is left of it, at least 1 ns. Corresponds
    /// to `wait_event_timeout` and `wait_event_hrtimeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if the condition was false at the end; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_timeout(&self, condition: impl FnMut() -> bool, timeout: Duration) -> Result<Duration> {
        self.wait_event_with(&WaitOptions::new().timeout(timeout), condition)
    }

    /// Sleeps until the condition is true, or any signal handler runs during the sleep. Corresponds to
    /// `wait_event_interruptible`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_interruptible(&self, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_event_with(&WaitOptions::new().interruptible(), condition).map(drop)
    }

    /// The same, for at most `timeout`. Corresponds to `wait_event_interruptible_timeout` and
    /// `wait_event_interruptible_hrtimeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::Interrupted`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_interruptible_timeout(
        &self,
        condition: impl FnMut() -> bool,
        timeout: Duration,
    ) -> Result<Duration> {
        self.wait_event_with(&WaitOptions::new().interruptible().timeout(timeout), condition)
    }

    /// Sleeps until the condition is true, or a handler of `SIGINT`, `SIGTERM`, `SIGQUIT` or `SIGHUP` runs; all other
    /// signals are blocked over the sleep. Corresponds to `wait_event_killable`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_killable(&self, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_event_with(&WaitOptions::new().killable(), condition).map(drop)
    }

    /// The same, for at most `timeout`. Corresponds to `wait_event_killable_timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::Interrupted`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_killable_timeout(
        &self,
        condition: impl FnMut() -> bool,
        timeout: Duration,
    ) -> Result<Duration> {
        self.wait_event_with(&WaitOptions::new().killable().timeout(timeout), condition)
    }

    /// As an exclusive waiter: one `wake_up` wakes one of them. Corresponds to `wait_event_exclusive`.
    ///
    /// For conditions that take something. If this takes less than a wake announced, wake the next.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_exclusive(&self, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_event_with(&WaitOptions::new().exclusive(), condition).map(drop)
    }

    /// Exclusive, and ended by signal handlers. Corresponds to `wait_event_interruptible_exclusive`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_interruptible_exclusive(&self, condition: impl FnMut() -> bool) -> Result<()> {
        self.wait_event_with(&WaitOptions::new().exclusive().interruptible(), condition).map(drop)
    }

    /// Runs `before` before each sleep and `after` after it; the condition is evaluated after `after`. Corresponds to
    /// `wait_event_cmd`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event`].
    pub fn wait_event_cmd(
        &self,
        condition: impl FnMut() -> bool,
        before: impl FnMut(),
        after: impl FnMut(),
    ) -> Result<()> {
        self.wait_around(&WaitOptions::new(), &mut Commands { before, after }, condition)
    }

    /// The same as an exclusive waiter. Corresponds to `wait_event_exclusive_cmd`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event`].
    pub fn wait_event_exclusive_cmd(
        &self,
        condition: impl FnMut() -> bool,
        before: impl FnMut(),
        after: impl FnMut(),
    ) -> Result<()> {
        self.wait_around(&WaitOptions::new().exclusive(), &mut Commands { before, after }, condition)
    }

    /// With a lock that is held whenever the condition is evaluated, and dropped over each sleep. Corresponds to
    /// `wait_event_lock_irq` and `wait_event_interruptible_locked`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event`]; what [`Relock::retake`] returns, and then the lock is not held.
    pub fn wait_event_locked<G: Relock>(
        &self,
        options: &WaitOptions,
        guard: &mut G,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<()> {
        let guard = RefCell::new(guard);
        self.wait_around(options, &mut Unlocked(&guard), || condition(&mut guard.borrow_mut()))
    }

    /// With any options. Returns what is left of the timeout, at least 1 ns, or `Duration::MAX` without one.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::Interrupted`]; [`Error::PriorityTaken`]; as [`Queue::wait_event`].
    #[inline]
    pub fn wait_event_with(
        &self,
        options: &WaitOptions,
        mut condition: impl FnMut() -> bool,
    ) -> Result<Duration> {
        if condition() {
            return Ok(options.whole_timeout());
        }
        self.wait_slow(options, self.pace(options), &mut JustSleep, &mut condition)
    }

    /// Sleeps until a wake reaches this waiter; there is no condition. For events that leave no trace elsewhere.
    ///
    /// A wake before this call has no effect on it. Among living processes each exclusive wake returns from exactly
    /// one such wait; when one of them dies, at least from one.
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event_with`].
    pub fn wait_woken(&self, options: &WaitOptions) -> Result<Duration> {
        let manner = options.manner(&self.region)?;
        let thread = self.region.enter()?;
        let ended = wait::wait_woken(&thread, self.spot(options, 0), &manner, &mut JustSleep)?;
        self.outcome(ended).map(|()| left_until(manner.deadline))
    }

    /// Enrols now, for a loop written by hand. Corresponds to `prepare_to_wait` and `prepare_to_wait_exclusive`; see
    /// [`PrepareToWait`].
    ///
    /// # Errors
    ///
    /// As [`Queue::wait_event_with`], but for those of the sleep.
    pub fn prepare_to_wait<'a>(&'a self, options: &WaitOptions<'a>) -> Result<PrepareToWait<'a>> {
        PrepareToWait::new(self, options)
    }

    /// Begins a wait whose condition, which was false just now, the caller evaluates: see [`Waiting`].
    #[inline]
    pub fn begin_wait<'a>(&'a self, options: &WaitOptions<'a>) -> Waiting<'a> {
        Waiting::on_one(self, options)
    }

    /// The name by which messages call this queue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.label
    }

    /// The region it lies in.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    fn wait_around(
        &self,
        options: &WaitOptions,
        around: &mut dyn AroundSleep,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        if condition() {
            return Ok(());
        }
        // (Does not spin unasked: what runs around the sleep, such as the release of a lock, may be what others wait for.)
        self.wait_slow(options, None, around, &mut condition).map(drop)
    }

    #[inline(never)]
    fn wait_slow(
        &self,
        options: &WaitOptions,
        pace: Option<&Pace>,
        around: &mut dyn AroundSleep,
        condition: &mut dyn FnMut() -> bool,
    ) -> Result<Duration> {
        let mut source = One { spot: self.spot(options, 0), condition };
        if options.is_poll() {
            let closed = self.is_closed().then_some(0);
            return self.outcome(wait::poll(closed, &mut source)).map(|()| LEAST_LEFT);
        }
        options.check(&self.region)?;
        let mut manner = options.manner_with(&self.region, pace);
        manner.spin = pace::budget(pace, manner.spin);
        if !manner.spin.is_zero() && pace::glance(self.region.space(), pace, source.spot, source.condition) {
            return Ok(left_until(manner.deadline));
        }
        let ended = wait::wait(&self.region.enter()?, &mut source, &manner, around)?;
        self.outcome(ended).map(|()| left_until(manner.deadline))
    }

    /// What is to say whether a wait spins, if nobody has said so.
    #[inline]
    pub(crate) fn pace(&self, options: &WaitOptions) -> Option<&Pace> {
        options.learns(&self.region).then_some(&self.pace)
    }

    pub(crate) fn spot(&self, options: &WaitOptions, flags: u32) -> Spot {
        Spot { queue: self.head.offset(), enrolment: options.enrolment(flags) }
    }

    /// The public result of a wait on this queue.
    #[inline]
    pub(crate) fn outcome(&self, ended: Ended) -> Result<()> {
        if let Ended::Fired(_) = ended { Ok(()) } else { Err(self.failure(ended)) }
    }

    #[cold]
    fn failure(&self, ended: Ended) -> Error {
        let queue = self.label.clone();
        match ended {
            Ended::Fired(_) | Ended::TimedOut => Error::TimedOut { queue },
            Ended::Interrupted => Error::Interrupted { queue },
            Ended::Closed(_) => Error::Closed { queue },
            Ended::PriorityTaken(_) => Error::PriorityTaken { queue },
        }
    }
}

/// What is left until a deadline that the condition beat: never nothing, and for ever without one.
pub(crate) fn left_until(deadline: Option<Deadline>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.remaining().max(LEAST_LEFT))
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.label)
    }
}
