//! The one sleep: how it is made, what ends it, and what it leaves behind.
//!
//! A thread sleeps while its word is ASLEEP, so whoever wants it awake changes the word first. Signals and interrupts are
//! kept out of the word: a signal is what the kernel says of it, and an interrupt is kept in the handle, with LOOK to say
//! that there is something to see.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::crash::mutant;
use crate::enrolled::{Crowd, Enrolled};
use crate::entry::{WaiterWord, claim_of, may_sleep, rouse};
use crate::error::Fallible;
use crate::layout::{ASLEEP, GONE, LOOK, OPEN, TICK};
use crate::offset::Space;
use crate::pace::Pace;
use crate::sys::clock::{Deadline, earlier};
use crate::sys::futex::{self, Sleep};

/// How long after the tick found a true condition a wake may still come before the tick counts as a rescue.
const GRACE: Duration = Duration::from_millis(5);
/// A sleep without a deadline that signals are to interrupt: an untimed one would be restarted by the kernel.
const FAR: Duration = Duration::from_secs(1 << 31);

/// Which signals end a wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signals<'a> {
    None,
    Any,
    Only(&'a [i32]),
}

/// How to sleep.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) deadline: Option<Deadline>,
    pub(crate) signals: Signals<'a>,
    pub(crate) handle: Option<&'a InterruptWord>,
    pub(crate) tick: Option<Duration>,
    /// How long to evaluate before sleeping.
    pub(crate) spin: Duration,
    pub(crate) pace: Option<&'a Pace>,
    pub(crate) label: &'a str,
    /// Whose bell to start again when somebody believes us dead.
    pub(crate) bell: Option<&'a dyn LookAfterBell>,
}

/// Makes sure that this process's bell runs: others may have seen it killed alone.
pub(crate) trait LookAfterBell {
    fn look_after_bell(&self);
}

/// What runs around each sleep: dropping and retaking a lock, or the commands of `wait_event_cmd`.
pub(crate) trait AroundSleep {
    fn before(&mut self) {}
    fn after(&mut self) -> Fallible<()> {
        Ok(())
    }
}

/// Nothing.
pub(crate) struct JustSleep;
impl AroundSleep for JustSleep {}

/// A closure on either side.
pub(crate) struct Commands<B, A> {
    pub(crate) before: B,
    pub(crate) after: A,
}

impl<B: FnMut(), A: FnMut()> AroundSleep for Commands<B, A> {
    fn before(&mut self) {
        (self.before)();
    }

    fn after(&mut self) -> Fallible<()> {
        (self.after)();
        Ok(())
    }
}

/// An interrupt that is kept until a wait returns it, and the lead of the wait that listens.
#[derive(Default)]
pub(crate) struct InterruptWord {
    pending: AtomicU32,
    /// Index plus one; 0 while nobody listens.
    lead: AtomicU64,
}

impl InterruptWord {
    /// Two atomics and a system call: may be called from a signal handler.
    pub(crate) fn interrupt(&self, space: &Space) {
        self.pending.store(1, Relaxed);
        // ORDERING: pending before lead; pairs with the fence in `listen`.
        if !mutant("no fence in interrupt") {
            fence(SeqCst);
        }
        let lead = self.lead.load(Relaxed).wrapping_sub(1);
        if let Some(entry) = space.entries().get(lead as usize) {
            // The wait may have ended meanwhile: to its successor on this word LOOK is a look for nothing.
            if may_sleep(WaiterWord(&entry.word).look()) {
                rouse(space, lead as u32);
            }
        }
    }

    fn listen(&self, lead: Option<u32>) {
        self.lead.store(lead.map_or(0, |index| u64::from(index) + 1), Relaxed);
        // ORDERING: lead before pending; pairs with the fence in `interrupt`.
        if !mutant("no fence in listen") {
            fence(SeqCst);
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Acquire) != 0
    }

    pub(crate) fn take(&self) {
        self.pending.store(0, Relaxed);
    }
}

impl Manner<'_> {
    pub(crate) fn look_after_bell(&self, word: u32) {
        if let Some(bell) = self.bell.filter(|_| word & GONE != 0) {
            bell.look_after_bell();
        }
    }
}

/// What a sleep left behind.
#[derive(Default)]
pub(crate) struct Slept {
    pub(crate) interrupted: bool,
    /// Its own timer ended it, before the deadline.
    pub(crate) ticked: bool,
}

impl Slept {
    /// A condition that the tick found true, on a queue that nobody then wakes, was a lost wakeup.
    pub(crate) fn count_rescue(&self, enrolled: &Enrolled, at: usize, before: u32) {
        let was_tick = before & TICK != 0 || self.ticked && before & LOOK == 0;
        if was_tick && before & GONE == 0 && claim_of(before).is_none() {
            rescued(enrolled, at);
        }
    }
}

#[cold]
fn rescued(enrolled: &Enrolled, at: usize) {
    let word = enrolled.word();
    futex::wait(word.0, OPEN, Deadline::after(GRACE));
    if let Some(head) = enrolled.head_of(at)
        && word.load() & LOOK == 0
        && !enrolled.saw_wake(at)
    {
        head.rescues.fetch_add(1, Relaxed);
    }
}

/// Sleeps while the word is ASLEEP, or the crowd's what it was; at most until the tick.
///
/// Inlined, like all that leads to a frequent system call: after one, the processor mispredicts each return to a caller.
#[inline]
pub(crate) fn sleep(enrolled: &Enrolled, manner: &Manner, crowd: Option<Crowd>) -> Slept {
    let thread = enrolled.thread();
    thread.flush();
    let word = enrolled.word();
    // Spread over a quarter of the tick, so that waiters do not all look around at once.
    let tick = manner.tick.map(|tick| tick.saturating_add(tick / 16 * (thread.locker().record() % 4)));
    let until = earlier(manner.deadline, tick.and_then(Deadline::after));
    let (word, expected, bits) = match crowd {
        None => (word.0, ASLEEP, NonZeroU32::MAX),
        Some(Crowd { word, seen, bits }) => (word, seen, bits),
    };
    let (interruptible, until) = match manner.signals {
        Signals::None => (false, until),
        _ => (true, until.or_else(|| Deadline::after(FAR))),
    };
    let _blocked = block(manner.signals);
    let outcome = futex::wait_bitset(word, expected, until, bits);
    let interrupted = interruptible && outcome == Sleep::Interrupted;
    let ticked = outcome == Sleep::TimedOut && !manner.deadline.is_some_and(Deadline::passed);
    Slept { interrupted, ticked }
}

#[cfg(not(loom))]
fn block(signals: Signals) -> Option<crate::sys::signals::Blocked> {
    match signals {
        Signals::Only(wanted) => Some(crate::sys::signals::block_all_but(wanted)),
        _ => None,
    }
}

#[cfg(loom)]
fn block(_signals: Signals) -> Option<()> {
    None
}

/// While this lives, an interrupt reaches the wait.
pub(crate) struct Listening<'a>(Option<&'a InterruptWord>);

impl<'a> Listening<'a> {
    pub(crate) fn new(handle: Option<&'a InterruptWord>, enrolled: &Enrolled) -> Self {
        if let Some(handle) = handle {
            handle.listen(Some(enrolled.lead()));
        }
        Listening(handle)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.0 {
            handle.listen(None);
        }
    }
}
