//! What a wait or a wake can be asked for, beyond its condition.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Fallible};
use crate::head::{ALL, Enrolment, Wake};
use crate::layout::{EXCLUSIVE, PRIORITY};
use crate::offset::Space;
use crate::pace::Pace;
use crate::region::Region;
use crate::sleep::{InterruptWord, Manner, Signals};
use crate::sys::clock::Deadline;
use crate::sys::signals::KILLABLE;

/// The classes that the named calls use. A wake reaches a wait if their class masks have a bit in common.
pub mod class {
    /// Waits that a signal interrupts: the kernel's `TASK_INTERRUPTIBLE`.
    pub const INTERRUPTIBLE: u32 = 1;
    /// Waits that it does not: the kernel's `TASK_UNINTERRUPTIBLE`.
    pub const UNINTERRUPTIBLE: u32 = 2;
    /// Both, which is what `wake_up` wakes: the kernel's `TASK_NORMAL`. The other 30 bits are yours.
    pub const NORMAL: u32 = INTERRUPTIBLE | UNINTERRUPTIBLE;
    /// Every class.
    pub const ANY: u32 = u32::MAX;
}

/// What is left at least of a timeout that the condition beat.
pub(crate) const LEAST_LEFT: Duration = Duration::from_nanos(1);

/// How to wait. The first four concern the entry on each queue, the others the sleep as a whole.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use waitqueue::{Region, WaitOptions};
///
/// # fn main() -> waitqueue::Result<()> {
/// let queue = Region::builder().create_memfd("example")?.queue("work")?;
/// let options = WaitOptions::new().exclusive().label("worker 3").timeout(Duration::from_millis(1));
/// assert!(queue.wait_event_with(&options, || false).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WaitOptions<'a> {
    flags: u32,
    class: u32,
    key: u32,
    timeout: Option<Duration>,
    signals: Signals<'a>,
    interrupter: Option<&'a Interrupter>,
    /// `None`: as the queue's handle has learned.
    spin: Option<Duration>,
    label: &'a str,
}

impl Default for WaitOptions<'_> {
    fn default() -> Self {
        WaitOptions {
            flags: 0,
            class: class::UNINTERRUPTIBLE,
            key: u32::MAX,
            timeout: None,
            signals: Signals::None,
            interrupter: None,
            spin: None,
            label: "",
        }
    }
}

impl<'a> WaitOptions<'a> {
    /// Non-exclusive, uninterruptible, every key, without a deadline, spinning where that has paid.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Woken one at a time, oldest first: for waits that take something only one can have. A woken exclusive waiter
    /// that leaves work behind has to wake the next. Exclusive waiters of one queue should wait for the same thing, or
    /// tell themselves apart by [`WaitOptions::key`]: a wake that meets one whose condition is false is used up.
    /// Corresponds to `WQ_FLAG_EXCLUSIVE`.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.flags |= EXCLUSIVE;
        self
    }

    /// Before all that are not. With [`WaitOptions::exclusive`] there can be one on a queue. Corresponds to
    /// `WQ_FLAG_PRIORITY`.
    #[must_use]
    pub fn priority(mut self) -> Self {
        self.flags |= PRIORITY;
        self
    }

    /// Which wakes reach it, by the kind of sleep: a mask, see [`class`]. Zero is reached by none.
    #[must_use]
    pub fn class(mut self, mask: u32) -> Self {
        self.class = mask;
        self
    }

    /// Which wakes reach it, by event: a mask that has to meet the wake's key. Zero is reached by none.
    #[must_use]
    pub fn key(mut self, mask: u32) -> Self {
        self.key = mask;
        self
    }

    /// Ends with [`Error::TimedOut`](crate::Error::TimedOut) after this time; zero is a poll.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Ends with [`Error::Interrupted`](crate::Error::Interrupted) when a signal handler ran during the sleep, and is
    /// of class [`class::INTERRUPTIBLE`]. A handler that runs just before the sleep does not end it: where that
    /// matters, let it call [`Interrupter::interrupt`].
    #[must_use]
    pub fn interruptible(mut self) -> Self {
        self.signals = Signals::Any;
        self.class = class::INTERRUPTIBLE;
        self
    }

    /// As [`WaitOptions::interruptible`], for these signals only; all others are blocked over the sleep. The class
    /// stays as it is.
    #[must_use]
    pub fn signals(mut self, wanted: &'a [i32]) -> Self {
        self.signals = Signals::Only(wanted);
        self
    }

    /// The signals that usually end a program: `SIGINT`, `SIGTERM`, `SIGQUIT` and `SIGHUP`.
    #[must_use]
    pub fn killable(self) -> Self {
        self.signals(&KILLABLE)
    }

    /// Ends with [`Error::Interrupted`](crate::Error::Interrupted) when this handle, of the same region, is used.
    #[must_use]
    pub fn interrupter(mut self, interrupter: &'a Interrupter) -> Self {
        self.interrupter = Some(interrupter);
        self
    }

    /// Evaluates the condition in a loop for up to this time before sleeping; zero is never. A waker then makes no system
    /// call. Exclusive waits do not spin past sleepers.
    ///
    /// Without this, each handle of a queue learns whether it pays: a wait on it spins for up to 60 µs if the spins before
    /// it succeeded, and sleeps at once, all but rarely, if they did not. [`wait_many`](crate::wait_many) and
    /// [`WaitSet`](crate::WaitSet), and waits with a lock or commands around the sleep, spin only where they are told to.
    #[must_use]
    pub fn spin(mut self, budget: Duration) -> Self {
        self.spin = Some(budget);
        self
    }

    /// A text to recognise the wait by in a snapshot; what exceeds 32 bytes is cut.
    #[must_use]
    pub fn label(mut self, label: &'a str) -> Self {
        self.label = label;
        self
    }

    pub(crate) fn enrolment(&self, flags: u32) -> Enrolment {
        Enrolment { flags: self.flags | flags, class: self.class, key: self.key }
    }

    /// The whole timeout, which is what is left where no time has passed; for ever without one.
    #[inline]
    pub(crate) fn whole_timeout(&self) -> Duration {
        self.timeout.map_or(Duration::MAX, |timeout| timeout.max(LEAST_LEFT))
    }

    /// Whether the queue's handle is to say if it spins.
    pub(crate) fn learns(&self, region: &Region) -> bool {
        self.spin.is_none() && region.member().settings.spin.is_none()
    }

    pub(crate) fn text(&self) -> &'a str {
        self.label
    }

    pub(crate) fn is_poll(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    pub(crate) fn manner<'m>(&self, region: &'m Region) -> Fallible<Manner<'m>>
    where
        'a: 'm,
    {
        self.check(region).map(|()| self.manner_with(region, None))
    }

    /// Whether they are for this region.
    #[inline]
    pub(crate) fn check(&self, region: &Region) -> Fallible<()> {
        if self.interrupter.is_some_and(|handle| !Arc::ptr_eq(&handle.space, region.space())) {
            let region = region.label().clone();
            return Err(Error::ForeignObject { region, what: "interrupter" }.into());
        }
        Ok(())
    }

    /// The same for options that were checked.
    #[inline]
    pub(crate) fn manner_with<'m>(&self, region: &'m Region, pace: Option<&'m Pace>) -> Manner<'m>
    where
        'a: 'm,
    {
        Manner {
            deadline: self.timeout.and_then(Deadline::after),
            signals: self.signals,
            handle: self.interrupter.map(|interrupter| &*interrupter.word),
            tick: region.member().timer(),
            spin: self.spin.or(region.member().settings.spin).unwrap_or(Duration::ZERO),
            pace,
            label: self.label,
            bell: Some(region),
        }
    }
}

/// Ends a wait from elsewhere: another thread, or a signal handler.
///
/// An interrupt is kept until a wait that was given this handle returns [`Error::Interrupted`](crate::Error), so it
/// does not matter whether it comes before or during the sleep. For one wait at a time.
#[derive(Clone)]
pub struct Interrupter {
    word: Arc<InterruptWord>,
    space: Arc<Space>,
}

impl Interrupter {
    /// A handle for waits in this region.
    #[must_use]
    pub fn new(region: &Region) -> Interrupter {
        Interrupter { word: Arc::default(), space: region.space().clone() }
    }

    /// Ends the wait that has this handle, or the next one that gets it.
    ///
    /// Async-signal-safe.
    pub fn interrupt(&self) {
        self.word.interrupt(&self.space);
    }
}

impl std::fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupter({})", self.space.label())
    }
}

/// Whom to wake.
#[derive(Debug, Clone, Copy)]
pub struct WakeOptions(Wake);

impl Default for WakeOptions {
    fn default() -> Self {
        WakeOptions(Wake { count: 1, class: class::ANY, key: u32::MAX })
    }
}

impl WakeOptions {
    /// All non-exclusive waiters, one exclusive; every class and key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Up to this many exclusive waiters.
    #[must_use]
    pub fn nr(mut self, count: NonZeroU32) -> Self {
        self.0.count = count.get();
        self
    }

    /// All exclusive waiters.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.0.count = ALL;
        self
    }

    /// Only waits whose class mask meets this one; the others do not use up the count.
    #[must_use]
    pub fn class(mut self, mask: u32) -> Self {
        self.0.class = mask;
        self
    }

    /// Only waits whose key mask meets this one; the others do not use up the count.
    #[must_use]
    pub fn key(mut self, mask: u32) -> Self {
        self.0.key = mask;
        self
    }

    pub(crate) fn wake(&self) -> Wake {
        self.0
    }
}
