//! The one sleep, and the loops over it: with a condition, without one, and one turn of a loop that the user writes. It links nothing: that is the head's work, under its lock.
//!
//! ```text
//! evaluate (true: done, nothing was touched) · spin · enrol every entry, word OPEN
//! loop    open: OPEN or still HELD, LOOK cleared · closed? time up? interrupted? · a set: whom to ask · fence A · evaluate
//!         true                  leave all queues; a claim of another queue than the one that fired is passed on
//!         false, and a reason   leave all queues; a claim is passed on
//!         false                 commit: ASLEEP, unless LOOK was set meanwhile · sleep until the word changes
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
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::crash::{crash_point, mutant};
use crate::enrolled::{Enrolled, Spot};
use crate::entry::{WaiterWord, claim_of, may_sleep, state_of};
use crate::error::{Error, Result};
use crate::head::Refusal;
use crate::layout::{ASLEEP, EXCLUSIVE, GONE, LOOK, OPEN, TICK, WIDE};
use crate::offset::Space;
use crate::pace::{self, Pace};
use crate::sys::clock::{Deadline, earlier};
use crate::sys::futex::{self, Sleep};
use crate::sys::process;
use crate::thread::Thread;

/// How long after the tick found a true condition a wake may still come before the tick counts as a rescue.
const GRACE: Duration = Duration::from_millis(5);
/// A sleep without a deadline that signals are to interrupt: an untimed one would be restarted by the kernel.
const FAR: Duration = Duration::from_secs(1 << 31);

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
    /// How long to evaluate before sleeping, unless that is learned.
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
    fn after(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a wait evaluates.
pub(crate) trait Conditions {
    /// Chooses what to evaluate next: `everywhere`, or where something has happened. Between the clearing of LOOK and fence A.
    fn choose(&mut self, _everywhere: bool) {}

    /// The first spot whose condition is true.
    fn evaluate(&mut self) -> Option<usize>;
}

impl<F: FnMut() -> Option<usize>> Conditions for F {
    fn evaluate(&mut self) -> Option<usize> {
        self()
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

    fn after(&mut self) -> Result<()> {
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
        let lead = self.lead.load(Relaxed);
        if let Some(entry) = lead.checked_sub(1).and_then(|index| space.entries().get(index as usize)) {
            // The wait may have ended meanwhile: to its successor on this word LOOK is a look for nothing.
            if may_sleep(WaiterWord(&entry.word).look()) {
                futex::wake(&entry.word);
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

    fn is_pending(&self) -> bool {
        self.pending.load(Acquire) != 0
    }

    fn take(&self) {
        self.pending.store(0, Relaxed);
    }
}

/// Enrols one entry for each spot.
fn enrol(thread: &Rc<Thread>, spots: &[Spot], label: &str) -> Result<std::result::Result<Enrolled, Ended>> {
    let refused = |refusal, at| Ok(Err(Ended::refused(refusal, at)));
    if let [spot] = spots {
        return Enrolled::on_one(thread, *spot, label, false)?
            .map_or_else(|refusal| refused(refusal, 0), |enrolled| Ok(Ok(enrolled)));
    }
    let mut enrolled = Enrolled::on_many(thread, spots.len(), label, false)?;
    for (at, spot) in spots.iter().enumerate() {
        if let Err(refusal) = enrolled.add(*spot, "")? {
            return refused(refusal, at);
        }
    }
    Ok(Ok(enrolled))
}

/// Waits until `evaluate` names a spot; it was false once already, before anything was touched.
pub(crate) fn wait(
    thread: &Rc<Thread>,
    spots: &[Spot],
    manner: &Manner,
    around: &mut dyn AroundSleep,
    mut evaluate: &mut dyn FnMut() -> Option<usize>,
) -> Result<Ended> {
    thread.flush();
    let (budget, until) = (pace::budget(manner.pace, manner.spin), manner.deadline);
    if let Some(at) = pace::spin(thread.space(), spots, budget, until, manner.pace, evaluate) {
        return Ok(Ended::Fired(at));
    }
    // What is learned from a sleep is whether it should have been a spin.
    let learner = manner.pace.filter(|_| budget.is_zero()).map(|pace| (pace, Deadline::now()));
    let enrolled = match enrol(thread, spots, manner.label)? {
        Ok(enrolled) => enrolled,
        // It may have been closed after the condition became true, which beats it.
        Err(refused) => return Ok(evaluate().map_or(refused, Ended::Fired)),
    };
    crash_point!("wait: enrolled");
    let ended = wait_enrolled(&enrolled, manner, around, &mut evaluate);
    if let Ok(Ended::Fired(at)) = ended {
        if let (Some((pace, start)), Some(head)) = (learner, enrolled.head_of(at)) {
            let from_another = head.processor.load(Relaxed) != process::processor();
            pace.slept(Deadline::now().since(start), from_another);
        }
        enrolled.finish(Some(at));
    }
    ended
}

/// The end of a wait with no time to sleep, whose condition was false. A queue may have been closed after the condition
/// became true, which beats it.
pub(crate) fn poll(closed: Option<usize>, evaluate: &mut dyn FnMut() -> Option<usize>) -> Ended {
    match closed {
        Some(at) => evaluate().map_or(Ended::Closed(at), Ended::Fired),
        None => Ended::TimedOut,
    }
}

/// The loop of one wait by entries that are enrolled. What to do with their claim is the caller's affair.
pub(crate) fn wait_enrolled(
    enrolled: &Enrolled,
    manner: &Manner,
    around: &mut dyn AroundSleep,
    conditions: &mut dyn Conditions,
) -> Result<Ended> {
    let word = enrolled.word();
    let _listening = Listening::new(manner.handle, enrolled);
    let mut slept = Slept::default();
    loop {
        if !enrolled.is_ours() {
            return Err(evicted(enrolled.thread()));
        }
        let before = word.open();
        // After LOOK was cleared, because a reason comes with it; before the last evaluation, because that comes first.
        let is_wide = before & (WIDE | GONE) != 0 || slept.ticked;
        let reason = reason_to_stop(enrolled, manner, is_wide, slept.interrupted);
        if let Some(Ended::Closed(_)) = reason {
            // A set's next wait has to find it too, if a condition beats it in this one.
            word.look_everywhere();
        }
        let is_late = mutant("notes taken after fence A");
        if !is_late {
            conditions.choose(is_wide || reason.is_some());
        }
        if !mutant("no fence A") {
            fence(SeqCst); // (A)
        }
        if is_late {
            conditions.choose(is_wide || reason.is_some());
        }
        if let Some(at) = conditions.evaluate() {
            crash_point!("wait: condition true, not finished");
            slept.count_rescue(enrolled, at, before);
            return Ok(Ended::Fired(at));
        }
        // A child that the condition forked must not commit its parent.
        if enrolled.thread().locker().is_forked() {
            return Err(evicted(enrolled.thread()));
        }
        if let Some(reason) = reason {
            crash_point!("wait: giving up");
            return Ok(manner.give_up(reason));
        }
        manner.look_after_bell(before);
        if !word.commit() {
            continue;
        }
        crash_point!("wait: committed, awake");
        around.before();
        slept = sleep(enrolled, manner);
        crash_point!("wait: woken");
        around.after()?;
    }
}

impl Manner<'_> {
    fn look_after_bell(&self, word: u32) {
        if let Some(bell) = self.bell.filter(|_| word & GONE != 0) {
            bell.look_after_bell();
        }
    }

    /// An interrupt is kept until a wait returns it, and no longer.
    fn give_up(&self, reason: Ended) -> Ended {
        if let (Ended::Interrupted, Some(handle)) = (reason, self.handle) {
            handle.take();
        }
        reason
    }
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
pub(crate) fn sleep_once(enrolled: &Enrolled, manner: &Manner) -> Result<Option<Ended>> {
    if !enrolled.is_ours() {
        return Err(evicted(enrolled.thread()));
    }
    let _listening = Listening::new(manner.handle, enrolled);
    let mut interrupted = false;
    if reason_to_stop(enrolled, manner, true, false).is_none() && enrolled.word().commit() {
        interrupted = sleep(enrolled, manner).interrupted;
        // Awake, so not to be claimed; a claim, and what `prepare` would clear, stays.
        enrolled.word().wake();
    }
    Ok(reason_to_stop(enrolled, manner, true, interrupted).map(|reason| manner.give_up(reason)))
}

/// Waits until woken, without a condition: the entry is claimable from the start.
pub(crate) fn wait_woken(
    thread: &Rc<Thread>,
    spot: Spot,
    manner: &Manner,
    around: &mut dyn AroundSleep,
) -> Result<Ended> {
    let enrolled = match Enrolled::on_one(thread, spot, manner.label, true)? {
        Ok(enrolled) => enrolled,
        Err(refusal) => return Ok(Ended::refused(refusal, 0)),
    };
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
            enrolled.finish(Some(0));
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
                enrolled.finish(Some(0));
                return Ok(Ended::Fired(0));
            }
            return Ok(reason.map_or(Ended::Fired(0), |reason| manner.give_up(reason)));
        }
        if now & LOOK != 0 {
            // Whatever it was set for is looked for above, after this.
            word.sleep_on();
            continue;
        }
        around.before();
        slept = sleep(&enrolled, manner);
        around.after()?;
    }
}

/// What a sleep left behind.
#[derive(Default)]
struct Slept {
    interrupted: bool,
    /// Its own timer ended it, before the deadline.
    ticked: bool,
}

impl Slept {
    /// A condition that the tick found true, on a queue that nobody then wakes, was a lost wakeup.
    fn count_rescue(&self, enrolled: &Enrolled, at: usize, before: u32) {
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

/// Sleeps while the word is ASLEEP, at most until the tick.
fn sleep(enrolled: &Enrolled, manner: &Manner) -> Slept {
    let thread = enrolled.thread();
    thread.flush();
    let word = enrolled.word();
    // Spread over a quarter of the tick, so that waiters do not all look around at once.
    let tick = manner.tick.map(|tick| tick.saturating_add(tick / 16 * (thread.locker().record() % 4)));
    let until = earlier(manner.deadline, tick.and_then(Deadline::after));
    let outcome = match manner.signals {
        Signals::None => futex::wait(word.0, ASLEEP, until),
        signals => {
            let _blocked = block(signals);
            futex::wait(word.0, ASLEEP, until.or_else(|| Deadline::after(FAR)))
        }
    };
    let interrupted = outcome == Sleep::Interrupted && !matches!(manner.signals, Signals::None);
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
struct Listening<'a>(Option<&'a InterruptWord>);

impl<'a> Listening<'a> {
    fn new(handle: Option<&'a InterruptWord>, enrolled: &Enrolled) -> Self {
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

fn evicted(thread: &Thread) -> Error {
    let region = thread.space().label().clone();
    match thread.locker().is_forked() {
        true => Error::Forked { region },
        false => Error::Evicted { region, participant: thread.participant() },
    }
}
