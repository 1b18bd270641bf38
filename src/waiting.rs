//! Waits whose conditions their user evaluates: the same loop turned inside out, for code that has no closure to hand over.
//!
//! It is what other languages wait with. Their conditions run while no frame of ours is on the stack, so they may end their
//! thread: what was enrolled is then taken off by the thread's end.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::enrolled::{Enrolled, Spot};
use crate::entry::claim_of;
use crate::error::{Error, Result};
use crate::many::{self, Member, WaitSet};
use crate::options::WaitOptions;
use crate::pace::{self, Spin};
use crate::pending::Pending;
use crate::queue::{Queue, left_at_least};
use crate::region::Region;
use crate::sleep::{JustSleep, Listening, Manner};
use crate::thread::Thread;
use crate::wait::{self, Ended, Learner, Turn};

/// A wait that is under way, for conditions that cannot be closures.
///
/// ```
/// # use std::sync::atomic::{AtomicU32, Ordering::*};
/// # use waitqueue::{Region, WaitOptions};
/// # fn main() -> waitqueue::Result<()> {
/// # let region = Region::builder().create_memfd("example")?;
/// # let (queue, ready) = (region.queue("queue")?, region.object::<AtomicU32>("ready")?);
/// # ready.store(1, Release);
/// let mut waiting = queue.begin_wait(&WaitOptions::new())?;
/// loop {
///     waiting.next_condition()?; // sleeps, unless there is something to evaluate
///     if ready.load(Acquire) != 0 {
///         break;
///     }
/// }
/// waiting.finish();
/// # Ok(())
/// # }
/// ```
///
/// Each call of [`Waiting::next_condition`] says that the condition it named before was false. As in [`Queue::wait_event`],
/// the condition beats a close, that a timeout, and that an interrupt. Dropping it gives up: a wake that chose it is
/// passed on.
#[must_use = "dropping it gives the wait up"]
pub struct Waiting<'a> {
    manner: Manner<'a>,
    /// (Dropped before what it points to.)
    listening: Option<Listening<'a>>,
    stage: Stage<'a>,
    on: On<'a>,
    turn: Turn,
    was_first: bool,
}

enum Stage<'a> {
    /// Not enrolled, and evaluating.
    Spinning(Spin<'a>, Rc<Thread>),
    /// Enrolled, and learning whether it should have been a spin.
    Enrolled(Enrolled, Option<Learner<'a>>),
    /// On the queues of a set.
    Staying,
    /// Over for this reason, unless a condition is true after all.
    Ending(Ended),
    Over(Error),
}

enum On<'a> {
    /// The place to ask next.
    Queues(Few<(&'a Queue, Spot)>, usize),
    Set(Members<'a>),
}

struct Members<'a> {
    enrolled: &'a Enrolled,
    members: &'a [(Member, Queue)],
    pending: &'a mut Pending,
    /// The place that was asked last.
    asked: Option<usize>,
}

/// Of which one needs no allocation.
enum Few<T> {
    One([T; 1]),
    Many(Vec<T>),
}

impl<T> std::ops::Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => one,
            Few::Many(many) => many,
        }
    }
}

impl<'a> Waiting<'a> {
    /// On one queue, whose condition was false just now.
    pub(crate) fn on_one(queue: &'a Queue, options: &WaitOptions<'a>) -> Result<Waiting<'a>> {
        let region = queue.region();
        let manner = Manner { pace: queue.pace(options), ..options.manner(region)? };
        let on = Few::One([(queue, queue.spot(options, 0))]);
        Self::on_queues(on, 1, region, manner, options.is_poll())
    }

    /// On many queues, each with the options that concern its entry: all are to be asked first. `options` are those of
    /// the sleep. See [`wait_many`](crate::wait_many).
    ///
    /// # Errors
    ///
    /// As [`wait_many`](crate::wait_many), but for those of the sleep.
    pub fn on_many(
        sources: &[(&'a Queue, WaitOptions<'a>)],
        options: &WaitOptions<'a>,
    ) -> Result<Waiting<'a>> {
        let queues = sources.iter().map(|(queue, _)| *queue);
        let region = many::region_of(queues)?;
        let on = sources.iter().map(|(queue, entry)| (*queue, queue.spot(entry, 0)));
        Self::on_queues(Few::Many(on.collect()), 0, region, options.manner(region)?, options.is_poll())
    }

    fn on_queues(
        on: Few<(&'a Queue, Spot)>,
        next: usize,
        region: &Region,
        manner: Manner<'a>,
        is_poll: bool,
    ) -> Result<Waiting<'a>> {
        let was_first = !on.iter().any(|(queue, _)| queue.has_sleepers());
        let (stage, next) = if is_poll {
            // One that was closed may have been so after its condition became true, which beats it.
            match on.iter().position(|(queue, _)| queue.is_closed()) {
                Some(at) => (Stage::Ending(Ended::Closed(at)), 0),
                None => (Stage::Ending(Ended::TimedOut), next),
            }
        } else {
            let thread = region.enter()?;
            thread.flush();
            let budget = pace::budget(manner.pace, manner.spin);
            (Stage::Spinning(Spin::new(budget, manner.deadline, manner.pace), thread), next)
        };
        let (on, turn) = (On::Queues(on, next), Turn::default());
        Ok(Waiting { manner, listening: None, stage, on, turn, was_first })
    }

    /// On the members of a set.
    pub(crate) fn on_set(set: &'a mut WaitSet, options: &WaitOptions<'a>) -> Result<Waiting<'a>> {
        let WaitSet { region, enrolled, members, pending, .. } = set;
        let manner = many::manner_of(region, options)?;
        let listening = Some(Listening::new(manner.handle, enrolled));
        let (on, turn) = (On::Set(Members { enrolled, members, pending, asked: None }), Turn::default());
        let mut waiting = Waiting { manner, listening, stage: Stage::Staying, on, turn, was_first: false };
        waiting.begin_turn()?;
        Ok(waiting)
    }

    /// Enrols now, without spinning first. What changes from here on is seen by the evaluation that is to follow, or keeps the
    /// sleep after it from happening.
    ///
    /// # Errors
    ///
    /// As [`Queue::begin_wait`], and then the wait is over.
    pub fn enrol(&mut self) -> Result<()> {
        let outcome = match &self.stage {
            Stage::Spinning(_, thread) => self.enrol_by(&thread.clone(), Duration::ZERO),
            _ => return Ok(()),
        };
        // Of one queue the caller knows which condition comes next.
        if let On::Queues(Few::One(_), next) = &mut self.on {
            *next = 1;
        }
        outcome.inspect_err(|error| self.stage = Stage::Over(error.clone()))
    }

    /// Which condition to evaluate now: the place of a queue, or the [number](crate::Member::number) of a set's member. Says
    /// that the one before was false; sleeps if all were.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Closed`], [`Error::PriorityTaken`], each of which was known
    /// before the last evaluations; [`Error::Full`], [`Error::LockStuck`], [`Error::Forked`], [`Error::Evicted`],
    /// [`Error::Reentered`]. After an error the wait is over.
    pub fn next_condition(&mut self) -> Result<usize> {
        loop {
            if let Some(at) = self.place_to_ask() {
                return Ok(at);
            }
            if let Err(error) = self.next_turn() {
                self.give_up();
                self.stage = Stage::Over(error.clone());
                return Err(error);
            }
        }
    }

    fn place_to_ask(&mut self) -> Option<usize> {
        match &mut self.on {
            On::Queues(few, next) => {
                let at = *next;
                *next = few.len().min(at + 1);
                (at < few.len()).then_some(at)
            }
            On::Set(set) => {
                if set.asked.is_some() {
                    set.pending.answered(false);
                }
                set.asked = set.pending.first();
                set.asked.map(|at| set.members[at].0.number() as usize)
            }
        }
    }

    /// Everything that was asked was false.
    fn next_turn(&mut self) -> Result<()> {
        if let (Stage::Spinning(spin, thread), On::Queues(few, next)) = (&mut self.stage, &mut self.on) {
            let spots = few.iter().map(|(_, spot)| *spot);
            if spin.again(thread.space(), spots) {
                *next = 0;
                return Ok(());
            }
            let (thread, budget) = (thread.clone(), spin.budget());
            return self.enrol_by(&thread, budget);
        }
        let ended = match (&self.stage, &self.on) {
            (Stage::Over(error), _) => return Err(error.clone()),
            (Stage::Ending(ended), _) => Some(*ended),
            (stage, on) => match enrolled_of(stage, on) {
                Some(enrolled) => self.turn.was_false(enrolled, &self.manner, &mut JustSleep)?,
                None => None,
            },
        };
        match ended {
            Some(ended) => Err(self.error(ended)),
            None => self.begin_turn(),
        }
    }

    fn enrol_by(&mut self, thread: &Rc<Thread>, spun: Duration) -> Result<()> {
        let On::Queues(few, next) = &mut self.on else {
            return Ok(());
        };
        *next = 0;
        let spots = few.iter().map(|(_, spot)| *spot);
        self.stage = match wait::enrol(thread, spots, self.manner.label)? {
            Ok(enrolled) => {
                self.listening = Some(Listening::new(self.manner.handle, &enrolled));
                Stage::Enrolled(enrolled, Learner::new(self.manner.pace, spun))
            }
            // A queue may have been closed after its condition became true, which beats it.
            Err(refused) => {
                self.stage = Stage::Ending(refused);
                return Ok(());
            }
        };
        self.begin_turn()
    }

    fn begin_turn(&mut self) -> Result<()> {
        match (&self.stage, &mut self.on) {
            (Stage::Enrolled(enrolled, _), On::Queues(_, next)) => {
                *next = 0;
                self.turn.begin(enrolled, &self.manner, |_| ())
            }
            (_, On::Set(Members { enrolled, pending, .. })) => {
                self.turn.begin(enrolled, &self.manner, |everywhere| pending.choose(enrolled, everywhere))
            }
            _ => Ok(()),
        }
    }

    /// The condition that was named last was true: ends the wait. Returns what is left of its timeout, at least 1 ns, or
    /// `Duration::MAX` without one.
    pub fn finish(mut self) -> Duration {
        self.listening = None;
        let over = Stage::Ending(Ended::TimedOut);
        match (std::mem::replace(&mut self.stage, over), &mut self.on) {
            (Stage::Spinning(spin, _), _) => spin.succeeded(),
            (Stage::Enrolled(enrolled, learner), On::Queues(_, next)) => {
                let at = next.saturating_sub(1);
                self.turn.was_true(&enrolled, at);
                learner.inspect(|learner| learner.slept(&enrolled, at));
                enrolled.finish(Some(at));
            }
            (Stage::Staying, On::Set(set)) => {
                if let Some(at) = set.asked {
                    self.turn.was_true(set.enrolled, at);
                    set.pending.answered(true);
                }
                // (If the lock is stuck it stays held, and the next wait's evaluation answers it.)
                let _ = set.enrolled.settle(set.asked);
            }
            _ => {}
        }
        self.manner.deadline.map_or(Duration::MAX, left_at_least)
    }

    fn give_up(&mut self) {
        self.listening = None;
        if let (Stage::Staying, On::Set(set)) = (&self.stage, &self.on) {
            let _ = set.enrolled.settle(None);
        }
    }

    fn error(&self, ended: Ended) -> Error {
        let outcome = match &self.on {
            On::Queues(few, _) => many::outcome(few.iter().map(|(queue, _)| *queue), ended),
            On::Set(set) => many::outcome(set.members.iter().map(|(_, queue)| queue), ended),
        };
        outcome.err().unwrap_or(Error::TimedOut { queue: "a wait that is over".into() })
    }

    /// Whether an exclusive wake has chosen this wait.
    #[must_use]
    pub fn was_chosen(&self) -> bool {
        enrolled_of(&self.stage, &self.on).is_some_and(|enrolled| claim_of(enrolled.word().load()).is_some())
    }

    /// Whether nobody was waiting when this began.
    #[must_use]
    pub fn was_first(&self) -> bool {
        self.was_first
    }
}

fn enrolled_of<'e>(stage: &'e Stage, on: &'e On) -> Option<&'e Enrolled> {
    match (stage, on) {
        (Stage::Enrolled(enrolled, _), _) => Some(enrolled),
        (Stage::Staying, On::Set(set)) => Some(set.enrolled),
        _ => None,
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.on {
            On::Queues(few, _) => f.debug_list().entries(few.iter().map(|(queue, _)| queue)).finish(),
            On::Set(set) => f.debug_list().entries(set.members.iter().map(|(_, queue)| queue)).finish(),
        }
    }
}
