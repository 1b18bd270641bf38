//! The entries of one wait on their queues: enrolled together, woken through one word, and always taken off again.
//!
//! A wait on one queue has one entry, which is its own lead. A wait on many has one for each queue, all led by the
//! first. A set that stays enrolled has a lead that is on no queue, so that members can come and go.
//!
//! Dropping it leaves all queues and passes on a claim that nobody has answered, whatever the reason: an error, a
//! panic in a condition, a guard that goes out of scope. Where a lock cannot be had because a living process keeps
//! it, the entries are left to the bell thread, unclaimable.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use crate::atomic::{AtomicU32, Guarded32, Ordering::*};
use crate::crash::{crash_point, mutant};
use crate::entry::{WaiterWord, claim_of, one_of_crowd};
use crate::error::Fallible;
use crate::head::{self, Enrolment, Refusal};
use crate::layout::{ALIGN, CLOSED, EXCLUSIVE, Entry, LAST, QueueHead};
use crate::sys::clock::wall_clock;
use crate::thread::Thread;

/// So many waiters are no crowd.
const NO_CROWD: u32 = if cfg!(loom) { 0 } else { 1 };
/// So many places are few.
const FEW: usize = 4;
/// The lead of what has already left.
const NONE: u32 = u32::MAX;

/// Where many sleep together.
pub(crate) struct Crowd<'a> {
    pub(crate) word: &'a AtomicU32,
    /// What it was before the wait committed: whoever tells it to look after that changes this.
    pub(crate) seen: u32,
    pub(crate) bits: NonZeroU32,
}

/// One queue of a wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    /// The head's offset.
    pub(crate) queue: u64,
    pub(crate) enrolment: Enrolment,
}

/// An entry on a queue.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: u32,
    queue: u64,
    /// How many wakes the queue had seen by then.
    wakes: u64,
}

/// The places of a wait, of which a few need no allocation.
enum Places {
    None,
    One(Place),
    Few(usize, [Place; FEW]),
    Many(Vec<Place>),
}

impl Places {
    fn push(&mut self, place: Place) {
        match self {
            Places::None => *self = Places::One(place),
            Places::One(first) => *self = Places::Few(2, [*first, place, place, place]),
            Places::Few(count @ ..FEW, places) => {
                places[*count] = place;
                *count += 1;
            }
            Places::Few(_, places) => *self = Places::Many([&places[..], &[place]].concat()),
            Places::Many(places) => places.push(place),
        }
    }

    /// Takes one out; the last takes its place.
    fn swap_remove(&mut self, at: usize) -> Place {
        match std::mem::replace(self, Places::None) {
            Places::None => unreachable!("an index of a place"),
            Places::One(place) => place,
            Places::Few(count, mut places) => {
                places[..count].swap(at, count - 1);
                *self = Places::Few(count - 1, places);
                places[count - 1]
            }
            Places::Many(mut places) => {
                let place = places.swap_remove(at);
                *self = Places::Many(places);
                place
            }
        }
    }
}

impl std::ops::Deref for Places {
    type Target = [Place];
    #[inline]
    fn deref(&self) -> &[Place] {
        match self {
            Places::None => &[],
            Places::One(place) => std::slice::from_ref(place),
            Places::Few(count, places) => &places[..*count],
            Places::Many(places) => places,
        }
    }
}

pub(crate) struct Enrolled {
    thread: Rc<Thread>,
    lead: u32,
    /// One for each spot.
    places: Places,
    /// A set: the lead is on no queue, and waits that end leave the entries where they are.
    stays: bool,
}

/// How a wait is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Evaluating.
    Awake,
    /// Claimable from the start, because there is nothing to evaluate.
    Asleep,
    /// As a set, whose lead is on no queue.
    Set,
}

impl Enrolled {
    /// Takes a lead; on no queue yet.
    #[inline]
    pub(crate) fn new(thread: &Rc<Thread>, label: &str, start: Start) -> Fallible<Enrolled> {
        let lead = thread.take_lead()?;
        let entry = &thread.space().entries()[lead as usize];
        entry.lead.store(lead, Relaxed);
        entry.ready.store(0, Relaxed);
        describe(thread, entry, label);
        WaiterWord(&entry.word).start(start == Start::Asleep);
        Ok(Enrolled { thread: thread.clone(), lead, places: Places::None, stays: start == Start::Set })
    }

    /// There will be so many places, and are none yet.
    #[inline]
    pub(crate) fn reserve(&mut self, count: usize) {
        if count > FEW {
            self.places = Places::Many(Vec::with_capacity(count));
        }
    }

    /// Enrols an entry on one queue more; on refusal or error nothing has changed. The label is that of a set's member.
    pub(crate) fn add(&mut self, spot: Spot, label: &str) -> Fallible<Result<(), Refusal>> {
        let is_lead = !self.stays && self.places.is_empty();
        let index = if is_lead { self.lead } else { self.follower(label)? };
        // (The place is made here: in a result it would be copied on its way.)
        let refused = match head::lock(&self.thread, spot.queue) {
            Ok(mut head) => {
                let wakes = head.wakes();
                let enrolled = head.enrol(index, spot.enrolment);
                head.unlock();
                drop(head);
                if enrolled.is_ok() {
                    self.places.push(Place { index, queue: spot.queue, wakes });
                    return Ok(Ok(()));
                }
                Ok(enrolled)
            }
            Err(error) => Err(error),
        };
        if !is_lead {
            self.thread.give_entry(index);
        }
        refused
    }

    /// An entry that is led by ours.
    fn follower(&self, label: &str) -> Fallible<u32> {
        let index = self.thread.take_entry()?;
        let entry = self.entry(index);
        entry.lead.store(self.lead, Relaxed);
        if self.stays {
            describe(&self.thread, entry, label);
            entry.place.store(self.places.len() as u32, Relaxed);
            entry.ready_next.store(0, Relaxed);
            entry.doubt.store(0, Relaxed);
        }
        Ok(index)
    }

    pub(crate) fn thread(&self) -> &Rc<Thread> {
        &self.thread
    }

    pub(crate) fn lead(&self) -> u32 {
        self.lead
    }

    pub(crate) fn word(&self) -> WaiterWord<'_> {
        WaiterWord(&self.entry(self.lead).word)
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.thread.space().entries()[index as usize]
    }

    fn head(&self, queue: u64) -> Option<&QueueHead> {
        self.thread.space().head(queue)
    }

    pub(crate) fn head_of(&self, at: usize) -> Option<&QueueHead> {
        self.places.get(at).and_then(|place| self.head(place.queue))
    }

    /// The head of a queue on which so many wait that this one is to sleep there, where one call wakes all. Not where a wake
    /// may choose this one alone.
    #[inline]
    pub(crate) fn crowd(&self) -> Option<Crowd<'_>> {
        let Places::One(place) = &self.places else {
            return None;
        };
        let entry = self.entry(place.index);
        let joins = !self.stays && entry.flags.load(Relaxed) & EXCLUSIVE == 0;
        let head = self.head(place.queue).filter(|head| joins && head.waiting.load(Relaxed) > NO_CROWD)?;
        entry.crowd.store(u32::try_from(place.queue / ALIGN).ok()?, Relaxed);
        Some(Crowd { word: &head.flags, seen: head.flags.load(Relaxed), bits: one_of_crowd(self.lead) })
    }

    /// Whether a spot's queue has seen a wake since it was enrolled.
    pub(crate) fn saw_wake(&self, at: usize) -> bool {
        self.head_of(at).is_none_or(|head| head.wakes.load(Relaxed) != self.places[at].wakes)
    }

    /// How often wakes met the entry of a spot.
    pub(crate) fn fired(&self, at: usize) -> u32 {
        self.entry(self.places[at].index).fired.load(Acquire)
    }

    /// The same, starting anew.
    pub(crate) fn take_fired(&self, at: usize) -> u32 {
        let fired = &self.entry(self.places[at].index).fired;
        let seen = fired.load(Acquire);
        fired.fetch_sub(seen, Relaxed);
        seen
    }

    /// The first spot whose queue was closed.
    pub(crate) fn closed(&self) -> Option<usize> {
        self.places.iter().position(|place| {
            let closed = self.head(place.queue).is_none_or(|head| head.flags.load(Acquire) & CLOSED != 0);
            closed || self.entry(place.index).queue.load(Acquire) != place.queue
        })
    }

    /// Whether the lead, and so all that was not taken off with a certificate, still belongs to us; if not, we were taken
    /// for dead, are a forked child inside its parent's wait, or the thread has ended.
    pub(crate) fn is_ours(&self) -> bool {
        !self.thread.locker().is_forked() && !self.thread.has_ended() && self.owns(self.lead)
    }

    fn owns(&self, index: u32) -> bool {
        self.entry(index).owner.load(Acquire) == self.thread.participant()
    }

    /// Which members of a set wakes have met since this was last asked: `met` is told the place of each. False if that
    /// cannot be said, because a peer has written what is not true; then all are in doubt.
    ///
    /// To be called before fence A, since a waker who finds a member noted does not note it again. Only what is taken from
    /// the stack is unmarked: what is marked otherwise is about to be put there, by a waker who must find it as he left it.
    pub(crate) fn take_ready(&self, met: &mut dyn FnMut(usize)) -> bool {
        if !self.is_ours() {
            return false;
        }
        // ORDERING: acquire pairs with the exchange by which a waker puts a member there, after its `ready_next`.
        let mut next = self.entry(self.lead).ready.swap(0, AcqRel);
        for _ in 0..=self.places.len() {
            if next == 0 {
                return true;
            }
            let Some(at) = self.place_of(next.wrapping_sub(1)) else {
                break;
            };
            met(at);
            next = match self.entry(self.places[at].index).ready_next.swap(0, Relaxed) {
                LAST => 0,
                0 => break,
                next => next,
            };
        }
        self.places.iter().for_each(|place| self.entry(place.index).doubt.store(1, Relaxed));
        false
    }

    /// Finds out of the members in doubt whether they are among the ready, for an owner who asks all in any case. False if
    /// one still is in doubt, because the lock of its head cannot be had.
    pub(crate) fn settle_doubts(&self) -> bool {
        let mut settled = true;
        for place in self.places.iter() {
            if self.entry(place.index).doubt.load(Relaxed) != 0 {
                settled &= self.settle_doubt(*place);
            }
        }
        settled
    }

    fn settle_doubt(&self, place: Place) -> bool {
        // Not waiting for a lock, which somebody stopped may hold: until it can be had all members are asked.
        let Ok(_head) = head::lock_within(&self.thread, place.queue, Duration::ZERO) else {
            return false;
        };
        // Nobody is noting it now, and all that were noted are taken: so it is not among them, whatever it says.
        let is_known = self.take_ready(&mut |_| ());
        if is_known {
            let entry = self.entry(place.index);
            entry.doubt.store(0, Relaxed);
            if !mutant("half a note stays") {
                entry.ready_next.store(0, Relaxed);
            }
        }
        is_known
    }

    /// Makes the next wait of a set look everywhere.
    pub(crate) fn look_everywhere(&self) {
        if self.is_ours() {
            self.word().look_everywhere();
        }
    }

    /// Where in a set an entry is.
    fn place_of(&self, index: u32) -> Option<usize> {
        let entry = self.thread.space().entries().get(index as usize)?;
        let at = entry.place.load(Relaxed) as usize;
        self.places.get(at).is_some_and(|place| place.index == index).then_some(at)
    }

    /// Leaves every queue but one that holds a claim: whoever cleans up after a death has to find that.
    pub(crate) fn leave_unclaimed(&self) {
        let claim = claim_of(self.word().load());
        for place in self.places.iter().filter(|place| claim != Some(place.index)) {
            // A lock that is stuck is met again, and dealt with, when the rest is left.
            if let Ok(mut head) = head::lock(&self.thread, place.queue) {
                head.leave(place.index);
            }
        }
    }

    /// A set's wait has ended: a claim that the spot that fired answers is used up, any other is passed on.
    pub(crate) fn settle(&self, fired: Option<usize>) -> Fallible<()> {
        let Some(claim) = claim_of(self.word().load()) else {
            return Ok(());
        };
        if !self.is_ours() {
            return Ok(());
        }
        match self.place_of(claim) {
            Some(at) if !self.answers(fired, claim) => {
                head::lock(&self.thread, self.places[at].queue)?.pass_on(claim);
            }
            _ => self.word().release(claim),
        }
        Ok(())
    }

    /// Whether the spot that fired is one that the wake, which claimed this wait through `claim`, was for.
    fn answers(&self, fired: Option<usize>, claim: u32) -> bool {
        let Some(place) = fired.map(|at| self.places[at]) else {
            return mutant("claim of a leaver not passed on");
        };
        let (entry, claimed) = (self.entry(place.index), self.entry(claim));
        let meets = |mask: &Guarded32, wake: &Guarded32| mask.load(Relaxed) & wake.load(Relaxed) != 0;
        mutant("sibling claim not passed on")
            || claimed.queue.load(Relaxed) == place.queue
                && meets(&entry.key, &claimed.claim_key)
                && meets(&entry.class, &claimed.claim_class)
    }

    /// Leaves one queue, passing on a claim that is held through it, unless that is answered.
    fn leave(&self, place: Place, fired: Option<usize>) -> Fallible<()> {
        let mut head = head::lock(&self.thread, place.queue)?;
        if self.owns(place.index) {
            if claim_of(self.word().load()) == Some(place.index) && !self.answers(fired, place.index) {
                head.pass_on(place.index);
            }
            head.leave(place.index);
        }
        head.unlock();
        Ok(())
    }

    /// Leaves one queue of a set. The entry must not be used elsewhere before it is forgotten, by [`Enrolled::remove`], who
    /// has seen that it is not among the ready.
    pub(crate) fn leave_one(&self, at: usize) -> Fallible<()> {
        if self.is_ours() { self.leave(self.places[at], None) } else { Ok(()) }
    }

    /// Forgets a spot of a set that was left; the last takes its place.
    pub(crate) fn remove(&mut self, at: usize) {
        let gone = self.places.swap_remove(at);
        if !self.is_ours() {
            return;
        }
        if let Some(moved) = self.places.get(at) {
            self.entry(moved.index).place.store(at as u32, Relaxed);
        }
        self.thread.give_entry(gone.index);
    }

    /// The wait is over: `fired` says which spot's condition was true. (In place, because to move it is to copy it.)
    pub(crate) fn leave_all(&mut self, fired: Option<usize>) {
        let ours = self.is_ours();
        // (All of them, also behind one that cannot be left.)
        let leave = |left, place: &Place| left & self.leave(*place, fired).is_ok();
        let left = ours && self.places.iter().fold(true, leave);
        if left {
            crash_point!("finish: left all queues");
            self.word().finish();
            self.others().for_each(|index| self.thread.give_entry(index));
            self.thread.give_lead(self.lead);
        } else {
            // (If it is not ours, nothing here is ours to change.)
            self.thread.drop_lead(self.lead);
            if ours {
                self.thread.linger(std::iter::once(self.lead).chain(self.others()).collect());
            }
        }
        self.lead = NONE;
    }

    fn others(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|place| place.index).filter(|index| *index != self.lead)
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        if self.lead != NONE {
            self.leave_all(None);
        }
    }
}

/// What a snapshot shows of a wait.
fn describe(thread: &Thread, entry: &Entry, label: &str) {
    entry.record.store(thread.locker().record(), Relaxed);
    entry.since.store(wall_clock(), Relaxed);
    entry.label.store(label);
}
