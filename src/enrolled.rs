//! The entries of one wait on their queues: enrolled together, woken through one word, and always taken off again.
//!
//! A wait on one queue has one entry, which is its own lead. A wait on many has one for each queue, all led by the
//! first. A set that stays enrolled has a lead that is on no queue, so that members can come and go.
//!
//! Dropping it leaves all queues and passes on a claim that nobody has answered, whatever the reason: an error, a
//! panic in a condition, a guard that goes out of scope. Where a lock cannot be had because a living process keeps
//! it, the entries are left to the bell thread, unclaimable.

use std::rc::Rc;

use crate::atomic::{Guarded32, Ordering::*};
use crate::crash::{crash_point, mutant};
use crate::entry::{WaiterWord, claim_of};
use crate::error::Result;
use crate::head::{self, Enrolment, Refusal};
use crate::layout::{CLOSED, Entry, QueueHead};
use crate::sys::clock::wall_clock;
use crate::thread::Thread;

/// One queue of a wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    /// The head's offset.
    pub(crate) queue: u64,
    pub(crate) enrolment: Enrolment,
}

pub(crate) struct Enrolled {
    thread: Rc<Thread>,
    lead: u32,
    /// Entry and queue of each spot.
    spots: Vec<(u32, u64)>,
    /// A set: the lead is on no queue, and waits that end leave the entries where they are.
    pub(crate) stays: bool,
}

impl Enrolled {
    /// Takes a lead. A wait with nothing to evaluate is `asleep`, and so claimable, from the start.
    pub(crate) fn new(thread: &Rc<Thread>, asleep: bool, stays: bool) -> Result<Enrolled> {
        let lead = thread.take_entry()?;
        let enrolled = Enrolled { thread: thread.clone(), lead, spots: Vec::new(), stays };
        enrolled.entry(lead).lead.store(lead, Relaxed);
        enrolled.word().start(asleep);
        Ok(enrolled)
    }

    /// Enrols an entry on one queue more; on refusal or error nothing has changed.
    pub(crate) fn add(&mut self, spot: Spot, label: &str) -> Result<Result<(), Refusal>> {
        let is_lead = !self.stays && self.spots.is_empty();
        let index = if is_lead { self.lead } else { self.thread.take_entry()? };
        let entry = self.entry(index);
        entry.lead.store(self.lead, Relaxed);
        entry.record.store(self.thread.locker().record(), Relaxed);
        entry.since.store(wall_clock(), Relaxed);
        entry.label.store(label);
        let outcome = head::lock(&self.thread, spot.queue).map(|mut head| head.enrol(index, spot.enrolment));
        if let Ok(Ok(())) = outcome {
            self.spots.push((index, spot.queue));
        } else if !is_lead {
            self.thread.give_entry(index);
        }
        outcome
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
        self.spots.get(at).and_then(|(_, queue)| self.head(*queue))
    }

    /// How many wakes the queues have seen in all.
    pub(crate) fn wakes(&self) -> u64 {
        let wakes =
            self.spots.iter().filter_map(|(_, queue)| self.head(*queue)).map(|head| head.wakes.load(Relaxed));
        wakes.fold(0, u64::wrapping_add)
    }

    /// How often wakes met the entry of a spot.
    pub(crate) fn fired(&self, at: usize) -> u32 {
        self.entry(self.spots[at].0).fired.load(Acquire)
    }

    /// The same, starting anew.
    pub(crate) fn take_fired(&self, at: usize) -> u32 {
        let fired = &self.entry(self.spots[at].0).fired;
        let seen = fired.load(Acquire);
        fired.fetch_sub(seen, Relaxed);
        seen
    }

    /// The first spot whose queue was closed.
    pub(crate) fn closed(&self) -> Option<usize> {
        self.spots.iter().position(|(index, queue)| {
            let closed = self.head(*queue).is_none_or(|head| head.flags.load(Acquire) & CLOSED != 0);
            closed || self.entry(*index).queue.load(Acquire) != *queue
        })
    }

    /// Whether every entry still belongs to us; if not, we were taken for dead, with a certificate, or are a forked
    /// child inside its parent's wait.
    pub(crate) fn is_ours(&self) -> bool {
        let me = self.thread.participant();
        let ours = |index: u32| self.entry(index).owner.load(Acquire) == me;
        !self.thread.locker().is_forked()
            && ours(self.lead)
            && self.spots.iter().all(|(index, _)| ours(*index))
    }

    /// Leaves every queue but one that holds a claim: whoever cleans up after a death has to find that.
    pub(crate) fn leave_unclaimed(&self) {
        let claim = claim_of(self.word().load());
        for (index, queue) in self.spots.iter().filter(|(index, _)| claim != Some(*index)) {
            // A lock that is stuck is met again, and dealt with, when the rest is left.
            if let Ok(mut head) = head::lock(&self.thread, *queue) {
                head.leave(*index);
            }
        }
    }

    /// A set's wait has ended: a claim that the spot that fired answers is used up, any other is passed on.
    pub(crate) fn settle(&self, fired: Option<usize>) -> Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        let Some(claim) = claim_of(self.word().load()) else {
            return Ok(());
        };
        match self.spots.iter().find(|(index, _)| *index == claim) {
            Some((_, queue)) if !self.answers(fired, claim) => {
                head::lock(&self.thread, *queue)?.pass_on(claim)
            }
            _ => self.word().release(claim),
        }
        Ok(())
    }

    /// Whether the spot that fired is one that the wake, which claimed this wait through `claim`, was for.
    fn answers(&self, fired: Option<usize>, claim: u32) -> bool {
        let Some((index, queue)) = fired.map(|at| self.spots[at]) else {
            return mutant("claim of a leaver not passed on");
        };
        let (entry, claimed) = (self.entry(index), self.entry(claim));
        let meets = |mask: &Guarded32, wake: &Guarded32| mask.load(Relaxed) & wake.load(Relaxed) != 0;
        mutant("sibling claim not passed on")
            || claimed.queue.load(Relaxed) == queue
                && meets(&entry.key, &claimed.claim_key)
                && meets(&entry.class, &claimed.claim_class)
    }

    /// Leaves one queue, passing on a claim that is held through it, unless that is answered.
    fn leave(&self, at: usize, fired: Option<usize>) -> Result<()> {
        let (index, queue) = self.spots[at];
        let mut head = head::lock(&self.thread, queue)?;
        if !self.answers(fired, index) {
            head.pass_on(index);
        }
        head.leave(index);
        Ok(())
    }

    /// Takes one spot out of a set.
    pub(crate) fn remove(&mut self, at: usize) -> Result<()> {
        if !self.is_ours() {
            self.spots.remove(at);
            return Ok(());
        }
        self.leave(at, None)?;
        let (index, _) = self.spots.remove(at);
        self.thread.give_entry(index);
        Ok(())
    }

    /// The wait is over: `fired` says which spot's condition was true.
    pub(crate) fn finish(mut self, fired: Option<usize>) {
        self.leave_all(fired);
    }

    fn leave_all(&mut self, fired: Option<usize>) {
        let mut entries = vec![self.lead];
        entries.extend(self.spots.iter().map(|(index, _)| *index).filter(|index| *index != self.lead));
        let ours = self.is_ours();
        let mut left = true;
        for at in 0..self.spots.len() {
            left &= !ours || self.leave(at, fired).is_ok();
        }
        self.spots.clear();
        if !ours {
            // Given away with our slot: nothing here is ours to change.
        } else if left {
            crash_point!("finish: left all queues");
            self.word().finish();
            for index in entries {
                self.thread.give_entry(index);
            }
        } else {
            self.thread.linger(entries);
        }
        self.lead = NONE;
    }
}

/// The lead of what has already left.
const NONE: u32 = u32::MAX;

impl Drop for Enrolled {
    fn drop(&mut self) {
        if self.lead != NONE {
            self.leave_all(None);
        }
    }
}
