//! The loops over the one sleep: with a condition, without one, and one turn of a loop that the user writes. They link
//! nothing: that is the head's work, under its lock.
//!
//! ```text
//! evaluate (true: done, nothing was touched) · spin · enrol every entry, word OPEN
//! loop    open: OPEN or still HELD, LOOK cleared · closed? time up? interrupted? · a set: whom to ask · fence A · evaluate
//!         true                  leave all queues; a claim of another queue than the one that fired is passed on
//!         false, and a reason   leave all queues; a claim is passed on
//!         false                 commit: ASLEEP, unless LOOK was set meanwhile · sleep until the word, or the crowd's, changes
//! ```
//!
//! 1. From `open` to `commit` the word is OPEN or HELD, so nobody can claim it: what the wait is to do about wakes is
//!    settled by its evaluations alone, each of which begins after LOOK was cleared.
//! 2. A claim is given up only by an evaluation that was false and began after the claim, or passed on. Until then its
//!    entry stays on its queue, so that whoever cleans up after a death finds it: first passed on, then unlinked.
//! 3. The order of results: condition, closed, timeout, interrupt. The evaluation comes after the look at the reasons,
//!    so each of them gets one last evaluation, and giving up needs nothing of its own.
//! 4. Whatever way a wait ends, also by a panic in the condition, `Enrolled` is dropped, which leaves all queues and
//!    passes a claim on. (A set stays enrolled: its wait settles the claim, and after a panic its drop or next wait does.)

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::atomic::{Ordering::*, fence_after_update};
use crate::crash::{crash_point, mutant};
use crate::enrolled::{Enrolled, Spot, Start};
use crate::entry::{claim_of, state_of};
use crate::error::{Error, Fallible};
use crate::head::Refusal;
use crate::layout::{ASLEEP, EXCLUSIVE, GONE, WIDE};
use crate::offset::Space;
use crate::pace::{Pace, Spin};
use crate::sleep::{AroundSleep, InterruptWord, Listening, Manner, Slept, sleep};
use crate::sys::clock::Deadline;
use crate::sys::process;
use crate::thread::Thread;

/// How a wait ended, if not by an error of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The condition of this spot was true (or it was woken, for a wait without a condition).
    Fired(usize),
    TimedOut,
    Interrupted,
    Closed(usize),
    PriorityTaken(usize),
}

impl Ended {
    pub(crate) fn refused(refusal: Refusal, at: usize) -> Ended {
        match refusal {
            Refusal::Closed => Ended::Closed(at),
            Refusal::PriorityTaken => Ended::PriorityTaken(at),
        }
    }
}

/// What a wait evaluates.
pub(crate) trait Conditions {
    /// Chooses what to evaluate next: `everywhere`, or where something has happened. Called between the clearing of LOOK
    /// and fence A.
    fn choose(&mut self, _everywhere: bool) {}

    /// The first spot whose condition is true.
    fn evaluate(&mut self) -> Option<usize>;
}

/// What a wait evaluates, and where it enrols for it.
pub(crate) trait Sources: Conditions {
    fn spots(&self) -> impl Iterator<Item = Spot>;
}

/// One queue and its condition.
pub(crate) struct One<'a> {
    pub(crate) spot: Spot,
    pub(crate) condition: &'a mut dyn FnMut() -> bool,
}

impl Conditions for One<'_> {
    #[inline]
    fn evaluate(&mut self) -> Option<usize> {
        (self.condition)().then_some(0)
    }
}

impl Sources for One<'_> {
    #[inline]
    fn spots(&self) -> impl Iterator<Item = Spot> {
        std::iter::once(self.spot)
    }
}

/// Enrols one entry for each spot; returns why a queue refused one.
#[inline]
pub(crate) fn enrol(enrolled: &mut Enrolled, spots: impl Iterator<Item = Spot>) -> Fallible<Option<Ended>> {
    enrolled.reserve(spots.size_hint().0);
    for (at, spot) in spots.enumerate() {
        if let Err(refusal) = enrolled.add(spot, "")? {
            return Ok(Some(Ended::refused(refusal, at)));
        }
    }
    Ok(None)
}

/// Waits until a condition is true; all were false once already, before anything was touched.
#[inline]
pub(crate) fn wait(
    thread: &Rc<Thread>,
    sources: &mut impl Sources,
    manner: &Manner,
    around: &mut dyn AroundSleep,
) -> Fallible<Ended> {
    thread.flush();
    if !manner.spin.is_zero()
        && let Some(at) = spin(thread.space(), sources, manner)
    {
        return Ok(Ended::Fired(at));
    }
    let learner = Learner::new(manner.pace, manner.spin);
    let mut enrolled = Enrolled::new(thread, manner.label, Start::Awake)?;
    if let Some(refused) = enrol(&mut enrolled, sources.spots())? {
        drop(enrolled);
        // It may have been closed after the condition became true, which beats it.
        return Ok(sources.evaluate().map_or(refused, Ended::Fired));
    }
    crash_point!("wait: enrolled");
    let ended = wait_enrolled(&enrolled, manner, around, sources);
    if let Ok(Ended::Fired(at)) = ended {
        learner.inspect(|learner| learner.slept(&enrolled, at));
        enrolled.leave_all(Some(at));
    }
    ended
}

#[inline(never)]
fn spin(space: &Space, sources: &mut impl Sources, manner: &Manner) -> Option<usize> {
    let mut spin = Spin::new(manner.spin, manner.deadline, manner.pace);
    while spin.again(space, sources.spots()) {
        if let Some(at) = sources.evaluate() {
            spin.succeeded();
            return Some(at);
        }
    }
    None
}

/// Learns from a sleep whether it should have been a spin.
pub(crate) struct Learner<'a> {
    pace: &'a Pace,
    start: Deadline,
}

impl<'a> Learner<'a> {
    /// For a wait that did not spin.
    pub(crate) fn new(pace: Option<&'a Pace>, budget: Duration) -> Option<Learner<'a>> {
        pace.filter(|_| budget.is_zero()).map(|pace| Learner { pace, start: Deadline::now() })
    }

    pub(crate) fn slept(&self, enrolled: &Enrolled, at: usize) {
        if let Some(head) = enrolled.head_of(at) {
            let from_another = head.processor.load(Relaxed) != process::processor();
            self.pace.slept(Deadline::now().since(self.start), from_another);
        }
    }
}

/// The end of a wait with no time to sleep, whose condition was false. A queue may have been closed after the condition
/// became true, which beats it.
pub(crate) fn poll(closed: Option<usize>, conditions: &mut impl Conditions) -> Ended {
    match closed {
        Some(at) => conditions.evaluate().map_or(Ended::Closed(at), Ended::Fired),
        None => Ended::TimedOut,
    }
}

/// The loop of one wait by entries that are enrolled. What to do with their claim is the caller's affair.
#[inline(always)]
pub(crate) fn wait_enrolled(
    enrolled: &Enrolled,
    manner: &Manner,
    around: &mut dyn AroundSleep,
    conditions: &mut impl Conditions,
) -> Fallible<Ended> {
    let _listening = Listening::new(manner.handle, enrolled);
    let mut turn = Turn::default();
    loop {
        turn.begin(enrolled, manner, |everywhere| conditions.choose(everywhere))?;
        if let Some(at) = conditions.evaluate() {
            turn.was_true(enrolled, at);
            return Ok(Ended::Fired(at));
        }
        if let Some(ended) = turn.was_false(enrolled, manner, around)? {
            return Ok(ended);
        }
    }
}

/// One turn of the loop: begin, evaluate, and say what came of it.
#[derive(Default)]
pub(crate) struct Turn {
    /// How the sleep before it went.
    slept: Slept,
    /// What the word was when it began.
    before: u32,
    reason: Option<Ended>,
}

impl Turn {
    /// What has happened until now, or happens while the conditions are evaluated, is not slept over. `choose` is told
    /// whether to evaluate everywhere.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        enrolled: &Enrolled,
        manner: &Manner,
        mut choose: impl FnMut(bool),
    ) -> Fallible<()> {
        if !enrolled.is_ours() {
            return Err(evicted(enrolled.thread()));
        }
        let word = enrolled.word();
        self.before = word.open();
        // After LOOK was cleared, because a reason comes with it; before the last evaluation, because that comes first.
        let is_wide = self.before & (WIDE | GONE) != 0 || self.slept.ticked;
        self.reason = reason_to_stop(enrolled, manner, is_wide, self.slept.interrupted);
        if let Some(Ended::Closed(_)) = self.reason {
            // A set's next wait has to find it too, if a condition beats it in this one.
            word.look_everywhere();
        }
        let everywhere = is_wide || self.reason.is_some();
        let is_late = mutant("notes taken after fence A");
        if !is_late {
            choose(everywhere);
        }
        // ORDERING: the update is that of `open`; where that changed nothing, the unlock after enrolling, or a set's taking of
        // notes.
        if !mutant("no fence A") {
            fence_after_update(); // (A)
        }
        if is_late {
            choose(everywhere);
        }
        Ok(())
    }

    /// The condition of a spot was true.
    #[inline]
    pub(crate) fn was_true(&self, enrolled: &Enrolled, at: usize) {
        crash_point!("wait: condition true, not finished");
        self.slept.count_rescue(enrolled, at, self.before);
    }

    /// All that was to be evaluated was false: ends the wait, or sleeps if nothing has happened since.
    #[inline]
    pub(crate) fn was_false(
        &mut self,
        enrolled: &Enrolled,
        manner: &Manner,
        around: &mut dyn AroundSleep,
    ) -> Fallible<Option<Ended>> {
        // A child that the condition forked must not commit its parent.
        if enrolled.thread().locker().is_forked() {
            return Err(evicted(enrolled.thread()));
        }
        if let Some(reason) = self.reason {
            crash_point!("wait: giving up");
            return Ok(Some(give_up(manner, reason)));
        }
        manner.look_after_bell(self.before);
        let crowd = enrolled.crowd();
        if !enrolled.word().commit(crowd.is_some()) {
            return Ok(None);
        }
        crash_point!("wait: committed, awake");
        around.before();
        self.slept = sleep(enrolled, manner, crowd);
        crash_point!("wait: woken");
        around.after()?;
        Ok(None)
    }
}

/// An interrupt is kept until a wait returns it, and no longer.
fn give_up(manner: &Manner, reason: Ended) -> Ended {
    if let (Ended::Interrupted, Some(handle)) = (reason, manner.handle) {
        handle.take();
    }
    reason
}

/// `is_wide`: somebody may have closed a queue since it was enrolled on, or since this was last asked.
fn reason_to_stop(enrolled: &Enrolled, manner: &Manner, is_wide: bool, interrupted: bool) -> Option<Ended> {
    if let Some(at) = is_wide.then(|| enrolled.closed()).flatten() {
        Some(Ended::Closed(at))
    } else if manner.deadline.is_some_and(Deadline::passed) {
        Some(Ended::TimedOut)
    } else if interrupted || manner.handle.is_some_and(InterruptWord::is_pending) {
        Some(Ended::Interrupted)
    } else {
        None
    }
}

/// One sleep of a loop that the caller writes: `None` if it should evaluate.
pub(crate) fn sleep_once(enrolled: &Enrolled, manner: &Manner) -> Fallible<Option<Ended>> {
    if !enrolled.is_ours() {
        return Err(evicted(enrolled.thread()));
    }
    let _listening = Listening::new(manner.handle, enrolled);
    let mut interrupted = false;
    if reason_to_stop(enrolled, manner, true, false).is_none() && enrolled.word().commit(false) {
        interrupted = sleep(enrolled, manner, None).interrupted;
        // Awake, so not to be claimed; a claim, and what `prepare` would clear, stays.
        enrolled.word().wake();
    }
    Ok(reason_to_stop(enrolled, manner, true, interrupted).map(|reason| give_up(manner, reason)))
}

/// Waits until woken, without a condition: the entry is claimable from the start.
pub(crate) fn wait_woken(
    thread: &Rc<Thread>,
    spot: Spot,
    manner: &Manner,
    around: &mut dyn AroundSleep,
) -> Fallible<Ended> {
    let mut enrolled = Enrolled::new(thread, manner.label, Start::Asleep)?;
    if let Some(refused) = enrol(&mut enrolled, std::iter::once(spot))? {
        return Ok(refused);
    }
    let _listening = Listening::new(manner.handle, &enrolled);
    let word = enrolled.word();
    let was_woken =
        |now: u32| claim_of(now).is_some() || spot.enrolment.flags & EXCLUSIVE == 0 && enrolled.fired(0) != 0;
    let mut slept = Slept::default();
    loop {
        if !enrolled.is_ours() {
            return Err(evicted(thread));
        }
        let now = word.load();
        let reason = reason_to_stop(&enrolled, manner, true, slept.interrupted);
        if was_woken(now) {
            enrolled.leave_all(Some(0));
            return Ok(Ended::Fired(0));
        }
        // Believed dead while alive, it may have been passed by, or its claim passed on, which leaves it OPEN: one wake too
        // many is better than one too few. (In other states, which a peer has written, no wake would find it.)
        let was_given_up = |word: u32| word & GONE != 0 || state_of(word) != ASLEEP;
        if was_given_up(now) || reason.is_some() {
            // From here on it cannot be claimed; a claim that came first counts.
            let last = word.open();
            enrolled.leave_unclaimed();
            manner.look_after_bell(last);
            if was_woken(last) || was_given_up(last) {
                enrolled.leave_all(Some(0));
                return Ok(Ended::Fired(0));
            }
            return Ok(reason.map_or(Ended::Fired(0), |reason| give_up(manner, reason)));
        }
        if now != ASLEEP {
            // LOOK: whatever it was set for is looked for above, after this.
            word.sleep_on();
            continue;
        }
        around.before();
        slept = sleep(&enrolled, manner, None);
        around.after()?;
    }
}

fn evicted(thread: &Thread) -> Arc<Error> {
    let region = thread.space().label();
    match thread.locker().is_forked() {
        true => Error::forked(region),
        false => Error::Evicted { region: region.clone(), participant: thread.participant() }.into(),
    }
}
