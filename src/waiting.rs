//! Waits whose conditions their user evaluates: the same loop turned inside out, for code that has no closure to hand over.
//!
//! It is what other languages wait with. Their conditions run while no frame of ours is on the stack, so they may end their
//! thread: what was enrolled is then taken off by the thread's end.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::enrolled::{Enrolled, Spot, Start};
use crate::entry::claim_of;
use crate::error::{Error, Fallible, Result};
use crate::many::{self, Member, WaitSet};
use crate::options::WaitOptions;
use crate::pace::{self, Spin};
use crate::pending::Pending;
use crate::queue::{Queue, left_until};
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
/// let mut waiting = queue.begin_wait(&WaitOptions::new());
/// loop {
///     waiting.next_condition()?; // sleeps, unless there is something to evaluate
///     if ready.load(Acquire) != 0 {
///         waiting.finish();
///         break;
///     }
/// }
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
    /// Nothing was done yet. What may fail is left to the first call: in a result a `Waiting`, which is large, would be copied.
    New {
        is_poll: bool,
    },
    /// Not enrolled, and evaluating.
    Spinning(Spin<'a>, Rc<Thread>),
    /// Enrolled, and learning whether it should have been a spin.
    Enrolled(Enrolled, Option<Learner<'a>>),
    /// On the queues of a set.
    Staying,
    /// Over for this reason, unless a condition is true after all.
    Ending(Ended),
    Failed(Arc<Error>),
    Over,
}

enum On<'a> {
    One(&'a Queue, Spot, Asked),
    Many(Vec<(&'a Queue, Spot)>, usize),
    Set(Members<'a>),
}

/// Whether the one condition was asked in this turn.
type Asked = bool;

struct Members<'a> {
    enrolled: &'a Enrolled,
    members: &'a [(Member, Queue)],
    pending: &'a mut Pending,
    /// The place that was asked last.
    asked: Option<usize>,
}

impl<'a> Waiting<'a> {
    /// On one queue, whose condition was false just now.
    #[inline]
    pub(crate) fn on_one(queue: &'a Queue, options: &WaitOptions<'a>) -> Waiting<'a> {
        let on = On::One(queue, queue.spot(options, 0), true);
        let manner = options.manner_with(queue.region(), queue.pace(options));
        let was_first = !queue.has_sleepers_without_fence();
        let stage = Stage::new(queue.region(), options);
        Waiting { manner, listening: None, stage, on, turn: Turn::default(), was_first }
    }

    /// On many queues, each with the options that concern its entry: all are to be asked first. `options` are those of
    /// the sleep. See [`wait_many`](crate::wait_many).
    ///
    /// # Errors
    ///
    /// [`Error::ForeignObject`] if the queues are of different regions; [`Error::BadCapacity`] if there are none.
    pub fn on_many(
        sources: &[(&'a Queue, WaitOptions<'a>)],
        options: &WaitOptions<'a>,
    ) -> Result<Waiting<'a>> {
        let region = many::region_of(sources.iter().map(|(queue, _)| *queue))?;
        let was_first = !sources.iter().any(|(queue, _)| queue.has_sleepers_without_fence());
        let on = sources.iter().map(|(queue, entry)| (*queue, queue.spot(entry, 0))).collect();
        let (manner, turn) = (options.manner_with(region, None), Turn::default());
        let (on, stage) = (On::Many(on, 0), Stage::new(region, options));
        Ok(Waiting { manner, listening: None, stage, on, turn, was_first })
    }

    /// On the members of a set.
    pub(crate) fn on_set(set: &'a mut WaitSet, options: &WaitOptions<'a>) -> Waiting<'a> {
        let WaitSet { region, enrolled, members, pending, .. } = set;
        let (manner, turn) = (options.manner_with(region, None), Turn::default());
        // A check of the membership as a whole: the thread itself is the one that made the set.
        let checked = options.check(region).and_then(|()| region.enter());
        // (An interrupter of another region is not to listen for us.)
        let listening = checked.is_ok().then(|| Listening::new(manner.handle, enrolled));
        let on = On::Set(Members { enrolled, members, pending, asked: None });
        let mut waiting = Waiting { manner, listening, stage: Stage::Staying, on, turn, was_first: false };
        if let Err(error) = checked.map(|thread| thread.flush()).and_then(|()| waiting.begin_turn()) {
            waiting.stage = Stage::Failed(error);
        }
        waiting
    }

    #[inline]
    fn begin(&mut self) {
        let Stage::New { is_poll } = self.stage else { return };
        if is_poll {
            let closed = self.on.queues().position(|queue| queue.is_closed());
            let ended = closed.map_or(Ended::TimedOut, Ended::Closed);
            if closed.is_some() {
                // It may have been closed after its condition became true, which beats it.
                self.on.ask_all();
            }
            self.stage = Stage::Ending(ended);
            return;
        }
        self.stage = match self.on.region().map(Region::enter) {
            Some(Ok(thread)) => {
                thread.flush();
                let Manner { deadline, pace, spin, .. } = self.manner;
                Stage::Spinning(Spin::new(pace::budget(pace, spin), deadline, pace), thread)
            }
            Some(Err(error)) => Stage::Failed(error),
            None => Stage::Over,
        };
    }

    /// Enrols now, without spinning first. What changes from here on is seen by the evaluation that is to follow, or
    /// keeps the sleep after it from happening.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::LockStuck`]; as [`Waiting::check`]. (That a queue is closed is said after the evaluation.)
    pub fn enrol(&mut self) -> Result<()> {
        self.begin();
        if let Stage::Spinning(_, thread) = &self.stage {
            let thread = thread.clone();
            if let Err(error) = self.enrol_by(&thread, Duration::ZERO) {
                self.stage = Stage::Failed(error);
            }
            // Of one queue the caller knows which condition comes next.
            if let On::One(_, _, asked) = &mut self.on {
                *asked = true;
            }
        }
        self.check()
    }

    /// Begins, and says whether it could.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignObject`] if an interrupter is of another region; [`Error::Full`] if no thread is free;
    /// [`Error::Forked`]; [`Error::Evicted`]; [`Error::Reentered`].
    #[inline]
    pub fn check(&mut self) -> Result<()> {
        self.begin();
        match &self.stage {
            Stage::Failed(error) => Err((**error).clone()),
            _ => Ok(()),
        }
    }

    /// Which condition to evaluate now: the place of a queue, or the [number](crate::Member::number) of a set's member. Says
    /// that the one before was false; sleeps if all were.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`], [`Error::Closed`], [`Error::PriorityTaken`], each of which was known
    /// before the last evaluations; as [`Waiting::enrol`]. After an error the wait is over.
    #[inline]
    pub fn next_condition(&mut self) -> Result<usize> {
        self.begin();
        loop {
            // (What is pending in a set has nothing to answer any more.)
            if let Stage::Over = self.stage {
                return Err(self.on.error(Ended::TimedOut));
            }
            if let Some(at) = self.on.next() {
                return Ok(at);
            }
            if let Err(error) = self.next_turn() {
                self.give_up();
                self.stage = Stage::Failed(error.clone());
                return Err(error.into());
            }
        }
    }

    /// Everything that was asked was false.
    #[inline]
    fn next_turn(&mut self) -> Fallible<()> {
        if let Stage::Spinning(spin, thread) = &mut self.stage {
            if spin.again(thread.space(), self.on.spots()) {
                self.on.ask_all();
                return Ok(());
            }
            let (thread, budget) = (thread.clone(), spin.budget());
            return self.enrol_by(&thread, budget);
        }
        let ended = match enrolled(&self.stage, &self.on) {
            Some(enrolled) => self.turn.was_false(enrolled, &self.manner, &mut JustSleep)?,
            None => Some(self.reason()?),
        };
        match ended {
            Some(ended) => Err(self.on.error(ended).into()),
            None => self.begin_turn(),
        }
    }

    /// Why a wait is over that is on no queue.
    fn reason(&self) -> Fallible<Ended> {
        match &self.stage {
            Stage::Ending(ended) => Ok(*ended),
            Stage::Failed(error) => Err(error.clone()),
            _ => Ok(Ended::TimedOut),
        }
    }

    fn enrol_by(&mut self, thread: &Rc<Thread>, spun: Duration) -> Fallible<()> {
        let mut enrolled = Enrolled::new(thread, self.manner.label, Start::Awake)?;
        match wait::enrol(&mut enrolled, self.on.spots())? {
            None => {
                self.listening = Some(Listening::new(self.manner.handle, &enrolled));
                self.stage = Stage::Enrolled(enrolled, Learner::new(self.manner.pace, spun));
                self.begin_turn()
            }
            // A queue may have been closed after its condition became true, which beats it.
            Some(refused) => {
                self.stage = Stage::Ending(refused);
                self.on.ask_all();
                Ok(())
            }
        }
    }

    #[inline]
    fn begin_turn(&mut self) -> Fallible<()> {
        self.on.ask_all();
        match (&self.stage, &mut self.on) {
            (Stage::Enrolled(enrolled, _), _) => self.turn.begin(enrolled, &self.manner, |_| ()),
            (_, On::Set(Members { enrolled, pending, .. })) => {
                self.turn.begin(enrolled, &self.manner, |everywhere| pending.choose(enrolled, everywhere))
            }
            _ => Ok(()),
        }
    }

    /// The condition that was named last was true: ends the wait. Returns what is left of its timeout, at least 1 ns, or
    /// `Duration::MAX` without one.
    #[inline]
    pub fn finish(&mut self) -> Duration {
        self.listening = None;
        let at = self.on.asked();
        match (&self.stage, &mut self.on) {
            (Stage::Spinning(spin, _), _) => spin.succeeded(),
            (Stage::Enrolled(enrolled, learner), _) => {
                self.turn.was_true(enrolled, at);
                learner.as_ref().inspect(|learner| learner.slept(enrolled, at));
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
        if let Stage::Enrolled(enrolled, _) = &mut self.stage {
            enrolled.leave_all(Some(at));
        }
        self.stage = Stage::Over;
        left_until(self.manner.deadline)
    }

    fn give_up(&mut self) {
        self.listening = None;
        if let (Stage::Staying, On::Set(set)) = (&self.stage, &self.on) {
            let _ = set.enrolled.settle(None);
        }
    }

    /// Whether an exclusive wake has chosen this wait.
    #[must_use]
    pub fn was_chosen(&self) -> bool {
        enrolled(&self.stage, &self.on).is_some_and(|enrolled| claim_of(enrolled.word().load()).is_some())
    }

    /// Whether nobody was waiting when this began.
    #[must_use]
    pub fn was_first(&self) -> bool {
        self.was_first
    }
}

impl Stage<'_> {
    #[inline]
    fn new(region: &Region, options: &WaitOptions) -> Self {
        match options.check(region) {
            Ok(()) => Stage::New { is_poll: options.is_poll() },
            Err(error) => Stage::Failed(error),
        }
    }
}

fn enrolled<'e>(stage: &'e Stage, on: &'e On) -> Option<&'e Enrolled> {
    match (stage, on) {
        (Stage::Enrolled(enrolled, _), _) => Some(enrolled),
        (Stage::Staying, On::Set(set)) => Some(set.enrolled),
        _ => None,
    }
}

impl On<'_> {
    fn queues(&self) -> impl Iterator<Item = &Queue> {
        let (one, many, members): (_, &[_], &[_]) = match self {
            On::One(queue, ..) => (Some(*queue), &[], &[]),
            On::Many(many, _) => (None, many, &[]),
            On::Set(set) => (None, &[], set.members),
        };
        let many = many.iter().map(|(queue, _): &(&Queue, Spot)| *queue);
        one.into_iter().chain(many).chain(members.iter().map(|(_, queue): &(Member, Queue)| queue))
    }

    /// The region that all of them are in.
    #[inline]
    fn region(&self) -> Option<&Region> {
        match self {
            On::One(queue, ..) => Some(queue.region()),
            other => other.queues().next().map(Queue::region),
        }
    }

    fn spots(&self) -> impl Iterator<Item = Spot> {
        let (one, many): (_, &[_]) = match self {
            On::One(_, spot, _) => (Some(*spot), &[]),
            On::Many(many, _) => (None, many),
            On::Set(_) => (None, &[]),
        };
        (0..many.len().max(one.iter().len())).map(move |at| one.unwrap_or_else(|| many[at].1))
    }

    /// The next condition of this turn.
    fn next(&mut self) -> Option<usize> {
        match self {
            On::One(_, _, asked) => (!std::mem::replace(asked, true)).then_some(0),
            On::Many(many, next) => {
                let at = *next;
                *next = many.len().min(at + 1);
                (at < many.len()).then_some(at)
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

    /// A set asks those that are pending.
    fn ask_all(&mut self) {
        match self {
            On::One(_, _, asked) => *asked = false,
            On::Many(_, next) => *next = 0,
            On::Set(_) => {}
        }
    }

    /// The place that was asked last.
    fn asked(&self) -> usize {
        match self {
            On::One(..) => 0,
            On::Many(_, next) => next.saturating_sub(1),
            On::Set(set) => set.asked.unwrap_or(0),
        }
    }

    #[cold]
    fn error(&self, ended: Ended) -> Error {
        let outcome = many::outcome(self.queues(), ended);
        outcome.err().unwrap_or(Error::TimedOut { queue: "a wait that is over".into() })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.on.queues()).finish()
    }
}
