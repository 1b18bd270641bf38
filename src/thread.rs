//! What one thread needs to act in a region: its record (to lock with), entries it keeps between waits, and scratch
//! memory, so that nothing is allocated while a lock is held.
//!
//! A record or an entry is taken by changing its `owner` from 0 to the participant's id, and given back by the reverse;
//! a cleaner does the latter for the dead. An id never names two participants, so a late or repeated give-back of
//! the same id fails instead of freeing what somebody else took meanwhile: no election is needed to clean up.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::crash::{crash_point, mutant};
use crate::entry::WaiterWord;
use crate::error::{Error, Result};
use crate::layout::Record;
use crate::lock::{Locker, is_dead};
use crate::offset::Space;
use crate::sys::futex;
use crate::sys::lease::Prober;
use crate::sys::mark::{Marker, OWNER_DIED};

/// How many entries a thread keeps for its next waits.
const SPARE: usize = 16;

/// Private memory for work under a head's lock.
pub(crate) struct Scratch {
    /// Leads to wake after the unlock.
    pub(crate) wakes: Vec<u32>,
    /// Members and their places, for a rebuild.
    pub(crate) order: Vec<(u64, u32)>,
}

/// Waits whose thread could not leave their queues, because a living owner kept a lock for too long: the entries of
/// each, lead first. The bell tries again.
#[derive(Default)]
pub(crate) struct Lingering(Mutex<Vec<Vec<u32>>>);

impl Lingering {
    pub(crate) fn list(&self) -> MutexGuard<'_, Vec<Vec<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calling thread as the kernel knows it.
pub(crate) struct Myself {
    pub(crate) marker: Marker,
    /// What the kernel must find in the mark word to set the bit that says the owner died.
    pub(crate) mark: u32,
    pub(crate) tid: u32,
}

/// A thread of a participant.
pub(crate) struct Thread {
    locker: Locker,
    participant: u64,
    /// How long a lock may be held by a living owner before it counts as stuck.
    pub(crate) patience: Duration,
    /// Taken while a region lock is held: a second taker is a signal handler.
    pub(crate) scratch: Cell<Option<Box<Scratch>>>,
    /// Leads whose system call is put off until [`Thread::flush`]; `None` outside of `wake_up_sync`.
    pub(crate) deferred: Cell<Option<Vec<u32>>>,
    spare: Cell<Vec<u32>>,
    lingering: Arc<Lingering>,
}

impl Thread {
    /// Claims a record for the calling thread, which is `myself` to the kernel.
    pub(crate) fn claim(
        space: &Arc<Space>,
        prober: &Arc<Prober>,
        myself: Myself,
        participant: u64,
        patience: Duration,
        lingering: Arc<Lingering>,
    ) -> Result<Thread> {
        let records = space.records();
        let used = &space.header().records_used;
        let index = claim_free(used, records.len(), |index| &records[index].owner, participant)
            .or_else(|| claim_dead(space, prober, participant))
            .ok_or_else(|| full(space, "threads", records.len()))?;
        prepare(&records[index as usize], &myself);
        crash_point!("thread: record claimed");
        let room = space.entries().len();
        let scratch = Scratch { wakes: Vec::with_capacity(room), order: Vec::with_capacity(room) };
        Ok(Thread {
            locker: Locker::new(space.clone(), prober.clone(), myself.marker, index),
            participant,
            patience,
            scratch: Cell::new(Some(Box::new(scratch))),
            deferred: Cell::new(None),
            spare: Cell::new(Vec::with_capacity(SPARE)),
            lingering,
        })
    }

    pub(crate) fn locker(&self) -> &Locker {
        &self.locker
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        self.locker.space()
    }

    pub(crate) fn participant(&self) -> u64 {
        self.participant
    }

    /// An entry of this participant that is on no queue: one kept, or a free one of the table.
    pub(crate) fn take_entry(&self) -> Result<u32> {
        let mut spare = self.spare.take();
        let kept = spare.pop();
        self.spare.set(spare);
        let entries = self.space().entries();
        if let Some(index) = kept
            && entries[index as usize].owner.load(Relaxed) == self.participant
        {
            return Ok(index);
        }
        let used = &self.space().header().entries_used;
        let index = claim_free(used, entries.len(), |index| &entries[index].owner, self.participant)
            .ok_or_else(|| full(self.space(), "entries", entries.len()))?;
        crash_point!("thread: entry claimed");
        Ok(index)
    }

    /// Keeps an entry that is on no queue for the next wait, or gives it back to the table.
    pub(crate) fn give_entry(&self, index: u32) {
        let mut spare = self.spare.take();
        if spare.len() < spare.capacity() {
            spare.push(index);
        } else {
            self.free_entry(index);
        }
        self.spare.set(spare);
    }

    /// Makes the system calls that `wake_up_sync` put off.
    pub(crate) fn flush(&self) {
        if let Some(mut deferred) = self.deferred.take() {
            for lead in deferred.drain(..) {
                futex::wake(&self.space().entries()[lead as usize].word);
            }
            self.deferred.set(Some(deferred));
        }
    }

    /// Leaves entries that could not leave their queues, the lead first, to the bell.
    pub(crate) fn linger(&self, entries: Vec<u32>) {
        // Not to be claimed from now on; what it holds already is passed on when the lock can be had.
        WaiterWord(&self.space().entries()[entries[0] as usize].word).gone();
        self.lingering.list().push(entries);
    }

    fn free_entry(&self, index: u32) {
        let _ = self.space().entries()[index as usize].owner.compare_exchange(
            self.participant,
            0,
            AcqRel,
            Relaxed,
        );
    }

    /// Gives everything back: the thread ends while its participant lives on. Not for forked children.
    pub(crate) fn release(&self) {
        for index in self.spare.take() {
            self.free_entry(index);
        }
        let record = &self.space().records()[self.locker.record() as usize];
        if self.locker.holds_any() {
            // A guard was forgotten: whoever wants the lock learns that its owner is no more.
            record.mark.fetch_or(OWNER_DIED, Release);
            return;
        }
        let _ = record.owner.compare_exchange(self.participant, 0, AcqRel, Relaxed);
    }
}

/// Makes a record the calling thread's. The generation comes first: from then on every old lock word is out of date.
fn prepare(record: &Record, myself: &Myself) {
    if !mutant("generation not bumped") {
        record.generation.fetch_add(1, Release);
    }
    for place in &record.holding {
        place.store(0, Relaxed);
    }
    record.tid.store(myself.tid, Relaxed);
    // ORDERING: a reader that sees the new mark sees the new generation.
    record.mark.store(myself.mark, Release);
}

/// Takes the first free element of a table, noting the largest index ever used.
fn claim_free<'a>(
    used: &AtomicU32,
    count: usize,
    owner: impl Fn(usize) -> &'a AtomicU64,
    participant: u64,
) -> Option<u32> {
    for index in 0..count {
        let owner = owner(index);
        if owner.load(Relaxed) == 0 {
            // Before the claim, so that a cleaner who reads `used` after our death finds what we claimed.
            if used.load(Relaxed) <= index as u32 {
                used.fetch_max(index as u32 + 1, AcqRel);
            }
            if owner.compare_exchange(0, participant, AcqRel, Relaxed).is_ok() {
                return Some(index as u32);
            }
        }
    }
    None
}

/// Takes the record of a certainly dead thread: nobody can clean up who has none, and who attaches to a region whose
/// former participants all died has none. Only one that names no lock, since the old name frees what it held.
fn claim_dead(space: &Space, prober: &Prober, participant: u64) -> Option<u32> {
    let records = &space.records()[..space.records_used()];
    let claim = |record: &Record| {
        let owner = record.owner.load(Acquire);
        owner != 0
            && is_dead(space, prober, owner)
            && record.holding.iter().all(|place| place.load(Relaxed) == 0)
            && record.owner.compare_exchange(owner, participant, AcqRel, Relaxed).is_ok()
    };
    records.iter().position(claim).map(|index| index as u32)
}

fn full(space: &Space, what: &'static str, capacity: usize) -> Error {
    Error::Full { region: space.label().clone(), what, capacity: capacity as u64 }
}
