//! Whether a wait should begin by spinning: learned from the waits before it, for each handle of a queue.
//!
//! Spinning pays where the condition comes true within about the time that a sleep and a wake take, and costs a processor
//! for nothing where it comes later, or where the one who is to make it true cannot run meanwhile. Which of them it is
//! cannot be asked, but tried:
//!
//! ```text
//! a spin that succeeds      the next wait spins too
//! a spin that fails         the next 2, 4, 8 … 256 waits sleep at once, then one tries again
//! a wait that slept, short  the next one tries again, unless who woke it has run on the same processor
//! ```
//!
//! The last rule makes it quick to notice that replies have become short: a sleep whose condition came true soon, made so
//! by somebody who has a processor of his own, would have been a successful spin.

use std::time::Duration;

use crate::atomic::{Guarded32, Ordering::Relaxed, spin_loop};
use crate::enrolled::Spot;
use crate::layout::EXCLUSIVE;
use crate::offset::Space;
use crate::sys::clock::{Deadline, earlier};

/// How long a wait spins that was not told: about what a sleep and a wake take between two processors.
const BUDGET: Duration = Duration::from_micros(60);
/// How often a wait that is to spin evaluates before all else.
const GLANCE: u32 = 4;
/// How often a spin evaluates at most between two looks at the clock.
const MOST_EVALUATIONS: u32 = 32;
/// At most so many powers of two waits sleep after spins that failed.
const MOST_FAILURES: u32 = 8;

/// What one handle of a queue has learned. Threads that share it may overwrite what the others learn: they are hints.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// How many spins have failed since one succeeded.
    failures: Guarded32,
    /// How many waits are to sleep before one tries again.
    rest: Guarded32,
}

impl Clone for Pace {
    fn clone(&self) -> Pace {
        let copy = |field: &Guarded32| Guarded32::new(field.load(Relaxed));
        Pace { failures: copy(&self.failures), rest: copy(&self.rest) }
    }
}

impl Pace {
    /// Whether this wait is to spin.
    pub(crate) fn spins(&self) -> bool {
        let rest = self.rest.load(Relaxed);
        self.rest.store(rest.saturating_sub(1), Relaxed);
        rest == 0
    }

    /// A spin has ended.
    pub(crate) fn spun(&self, succeeded: bool) {
        if succeeded {
            if self.failures.load(Relaxed) != 0 {
                self.failures.store(0, Relaxed);
            }
        } else {
            let failures = MOST_FAILURES.min(self.failures.load(Relaxed) + 1);
            self.failures.store(failures, Relaxed);
            self.rest.store(1 << failures, Relaxed);
        }
    }

    /// A wait that did not spin has slept for so long, and was woken from another processor, or from the same.
    pub(crate) fn slept(&self, span: Duration, from_another: bool) {
        if from_another && span < BUDGET {
            self.rest.store(0, Relaxed);
        }
    }
}

/// For how long a wait is to spin: as `pace` has learned, or else as it was `told`.
pub(crate) fn budget(pace: Option<&Pace>, told: Duration) -> Duration {
    if pace.is_some_and(Pace::spins) { BUDGET } else { told }
}

/// The first evaluations of a wait that is to spin, before what only a sleep needs, which takes longer than a quick reply.
/// Few, because wakes that were put off are still to be made, and a condition may be slow.
pub(crate) fn glance(
    space: &Space,
    pace: Option<&Pace>,
    spot: Spot,
    condition: &mut dyn FnMut() -> bool,
) -> bool {
    let mut evaluate = |_| {
        spin_loop();
        condition()
    };
    let succeeds = is_first(space, spot) && (0..GLANCE).any(&mut evaluate);
    if succeeds && let Some(pace) = pace {
        pace.spun(true);
    }
    succeeds
}

/// Whether nobody who came first is overtaken by a spin.
fn is_first(space: &Space, spot: Spot) -> bool {
    spot.enrolment.flags & EXCLUSIVE == 0
        || space.head(spot.queue).is_some_and(|head| head.waiting.load(Relaxed) == 0)
}

/// A spin under way.
pub(crate) struct Spin<'a> {
    budget: Duration,
    deadline: Option<Deadline>,
    pace: Option<&'a Pace>,
    /// When it is over; known from the first look at the clock on.
    until: Option<Option<Deadline>>,
    /// How many evaluations the last look at the clock allowed, and how many of them are left.
    allowed: u32,
    left: u32,
}

impl<'a> Spin<'a> {
    /// For so long or until the deadline.
    pub(crate) fn new(budget: Duration, deadline: Option<Deadline>, pace: Option<&'a Pace>) -> Spin<'a> {
        Spin { budget, deadline, pace, until: None, allowed: 1, left: 0 }
    }

    /// Whether to evaluate once more without being enrolled; not past sleepers who came first.
    #[inline]
    pub(crate) fn again(&mut self, space: &Space, spots: impl Iterator<Item = Spot>) -> bool {
        if self.left == 0 && !self.goes_on(space, spots) {
            return false;
        }
        self.left -= 1;
        spin_loop();
        true
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    fn goes_on(&mut self, space: &Space, mut spots: impl Iterator<Item = Spot>) -> bool {
        if self.budget.is_zero() {
            return false;
        }
        if self.allowed > 1 {
            let (budget, deadline) = (self.budget, self.deadline);
            let until = *self.until.get_or_insert_with(|| earlier(Deadline::after(budget), deadline));
            if until.is_none_or(Deadline::passed) {
                self.pace.inspect(|pace| pace.spun(false));
                return false;
            }
        }
        // (More and more without a look at the clock: as long as its time is not over, an evaluation is short.)
        self.allowed = MOST_EVALUATIONS.min(self.allowed * 2);
        self.left = self.allowed;
        spots.all(|spot| is_first(space, spot))
    }

    /// The condition was true.
    pub(crate) fn succeeded(&self) {
        self.pace.inspect(|pace| pace.spun(true));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// How many of so many waits spin, if spins end like that.
    fn spins(pace: &Pace, waits: u32, succeed: bool) -> u32 {
        (0..waits).filter(|_| pace.spins()).inspect(|_| pace.spun(succeed)).count() as u32
    }

    #[test]
    fn as_long_as_spins_succeed_every_wait_spins() {
        assert_eq!(spins(&Pace::default(), 1000, true), 1000);
    }

    #[test]
    fn spins_that_fail_become_rare_but_never_end() {
        let pace = Pace::default();
        assert!(spins(&pace, 1000, false) < 12);
        assert!(spins(&pace, 100_000, false) >= 100_000 / 257 - 1);
    }

    #[test]
    fn one_success_makes_all_spin_again() {
        let pace = Pace::default();
        spins(&pace, 1000, false);
        while !pace.spins() {}
        pace.spun(true);
        assert_eq!(spins(&pace, 100, true), 100);
    }

    #[test]
    fn a_short_sleep_is_followed_by_a_spin_unless_it_was_ended_on_the_same_processor() {
        let pace = Pace::default();
        for (span, from_another, spins_next) in [(20, true, true), (20, false, false), (500, true, false)] {
            spins(&pace, 1000, false);
            pace.rest.store(100, Relaxed);
            pace.slept(Duration::from_micros(span), from_another);
            assert_eq!(pace.spins(), spins_next, "{span} us, from another: {from_another}");
        }
    }
}
