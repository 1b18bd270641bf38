//! What one thread needs to act in a region: its record (to lock with), entries it keeps between waits, the leads of the
//! waits that it is in, and scratch memory, so that nothing is allocated while a lock is held.
//!
//! A record or an entry is taken by changing its `owner` from 0 to the participant's id, and given back by the reverse;
//! a cleaner does the latter for the dead. An id never names two participants, so a late or repeated give-back of
//! the same id fails instead of freeing what somebody else took meanwhile: no election is needed to clean up.

use std::cell::{Cell, RefCell, RefMut};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, compiler_fence};
use crate::crash::{crash_point, mutant};
use crate::entry::{WaiterWord, one_of_crowd, rouse, rouse_crowd};
use crate::error::{Error, Fallible};
use crate::layout::{Entry, QueueHead, Record};
use crate::lock::Locker;
use crate::offset::Space;
use crate::sys::futex;
use crate::sys::lease::Prober;
use crate::sys::mark::{Marker, OWNER_DIED};

/// How many entries a thread keeps for its next waits.
const SPARE: usize = 16;
/// How many wakes `wake_up_sync` puts off; further ones are made at once.
const DEFERRED: usize = 64;

/// What a thread keeps in private memory.
struct Kept {
    /// Leads to wake after the unlock.
    wakes: Vec<u32>,
    /// The bits of those of the head's crowd to wake after the unlock.
    crowd: u32,
    /// Members and their places, for a rebuild.
    order: Vec<(u64, u32)>,
    /// Leads whose system call is put off until [`Thread::flush`]; `None` outside of `wake_up_sync`.
    deferred: Option<Vec<u32>>,
    /// Entries for the next waits.
    spare: Vec<u32>,
    /// The leads of the waits that have not ended.
    leads: Vec<u32>,
    /// Where the search for a free entry begins: behind the last that was found, so that many are found in one walk.
    search: usize,
}

impl Kept {
    #[inline]
    fn drop_lead(&mut self, lead: u32) {
        if let Some(at) = self.leads.iter().rposition(|other| *other == lead) {
            self.leads.swap_remove(at);
        }
    }
}

/// Held by a thread while it works on what it keeps, or holds a region lock: a second taker is a signal handler that
/// interrupted the first, and is refused.
pub(crate) struct Inside<'t>(RefMut<'t, Kept>);

impl Inside<'_> {
    pub(crate) fn wakes(&mut self) -> &mut Vec<u32> {
        &mut self.0.wakes
    }

    /// Notes a lead that sleeps in the crowd of the head, to be woken after the unlock.
    pub(crate) fn wake_in_crowd(&mut self, lead: u32) {
        if self.0.deferred.is_some() {
            self.0.wakes.push(lead);
        } else {
            self.0.crowd |= one_of_crowd(lead).get();
        }
    }

    pub(crate) fn order(&mut self) -> &mut Vec<(u64, u32)> {
        &mut self.0.order
    }

    #[inline]
    pub(crate) fn has_to_wake(&self) -> bool {
        self.0.crowd != 0 || !self.0.wakes.is_empty()
    }

    /// Makes, or puts off, the system calls of the wakes that were noted under the lock of `head`.
    #[inline]
    pub(crate) fn wake(&mut self, space: &Space, head: &QueueHead) {
        let Kept { wakes, crowd, deferred, .. } = &mut *self.0;
        if let Some(bits) = NonZeroU32::new(std::mem::take(crowd)) {
            crash_point!("wake: some woken");
            rouse_crowd(head, bits);
        }
        match wakes[..] {
            [] => {}
            [lead] if deferred.is_none() => {
                wakes.clear();
                crash_point!("wake: some woken");
                futex::wake(&space.entries()[lead as usize].word);
            }
            _ => self.wake_many(space),
        }
    }

    #[inline(never)]
    fn wake_many(&mut self, space: &Space) {
        let Kept { wakes, deferred, .. } = &mut *self.0;
        if let Some(deferred) = deferred {
            let room = deferred.capacity() - deferred.len();
            deferred.extend(wakes.drain(..room.min(wakes.len())));
            wakes.drain(..).for_each(|lead| rouse(space, lead));
        }
        let word = |lead: &u32| &space.entries()[*lead as usize].word;
        for leads in wakes.chunks(2) {
            crash_point!("wake: some woken");
            match leads {
                [one, other] => futex::wake_two(word(one), word(other)),
                _ => leads.iter().map(word).for_each(futex::wake),
            }
        }
        wakes.clear();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // ORDERING: towards a signal handler on this thread: all is written before it may come in.
        compiler_fence(SeqCst);
    }
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
    pub(crate) is_bell: bool,
}

/// A thread of a participant.
pub(crate) struct Thread {
    locker: Locker,
    participant: u64,
    /// How long a lock may be held by a living owner before it counts as stuck.
    pub(crate) patience: Duration,
    kept: RefCell<Kept>,
    lingering: Arc<Lingering>,
    /// What is left of it are waits and guards in frames that are no more, or in memory that goes after this.
    has_ended: Cell<bool>,
}

impl Thread {
    /// Claims a record for the calling thread, which is `myself` to the kernel. A bell has the record that bears the
    /// number of its slot, so that nobody can take from survivors what they need to clean up.
    pub(crate) fn claim(
        space: &Arc<Space>,
        prober: &Arc<Prober>,
        myself: Myself,
        participant: u64,
        patience: Duration,
        lingering: Arc<Lingering>,
    ) -> Fallible<Thread> {
        let (wakes, order) = (room(space)?, room(space)?);
        let (records, bells) = (space.records(), space.capacity().participants as usize);
        let used = &space.header().records_used;
        let index = if myself.is_bell {
            let slot = participant as u32;
            used.fetch_max(slot + 1, AcqRel);
            // Whoever had it is dead: we hold the lock byte of the slot.
            records[slot as usize].owner.store(participant, Release);
            slot
        } else {
            claim_free(used, bells..records.len(), |index| &records[index].owner, participant)
                .ok_or_else(|| full(space, "threads", records.len() - bells))?
        };
        prepare(&records[index as usize], &myself);
        crash_point!("thread: record claimed");
        let few = || Vec::with_capacity(SPARE);
        let kept = Kept { wakes, crowd: 0, order, deferred: None, spare: few(), leads: few(), search: 0 };
        let locker = Locker::new(space.clone(), prober.clone(), myself.marker, index);
        let (kept, has_ended) = (RefCell::new(kept), Cell::new(false));
        Ok(Thread { locker, participant, patience, kept, lingering, has_ended })
    }

    /// Begins what no signal handler may interrupt with another call of ours.
    #[inline]
    pub(crate) fn begin(&self) -> Fallible<Inside<'_>> {
        let Ok(kept) = self.kept.try_borrow_mut() else {
            return Err(self.reentered());
        };
        // ORDERING: towards a signal handler on this thread: it finds the door shut before anything is touched.
        compiler_fence(SeqCst);
        Ok(Inside(kept))
    }

    #[cold]
    fn reentered(&self) -> Arc<Error> {
        self.space().reentered()
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

    /// Whether the thread has ended, and its entries are not its own any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// The thread ends, and something of it was forgotten, or is dropped only later: from here on its waits are nobody's.
    /// Returns the entries of each, lead first, for the caller to take off, and unclaimable.
    pub(crate) fn end(&self) -> Vec<Vec<u32>> {
        if self.locker.is_forked() || mutant("waits of the ended stay") || self.has_ended.replace(true) {
            return Vec::new();
        }
        let leads = self.begin().map(|mut inside| std::mem::take(&mut inside.0.leads)).unwrap_or_default();
        let entries = &self.space().entries()[..self.space().entries_used()];
        // (One that could not be dropped from the list, because a handler ended the wait, may lead another thread's by now.)
        let is_mine = |lead: &u32| {
            let entry = &entries[*lead as usize];
            entry.owner.load(Acquire) == self.participant
                && entry.record.load(Relaxed) == self.locker.record()
                && entry.lead.load(Relaxed) == *lead
        };
        let entries_of = |lead: u32| {
            WaiterWord(&entries[lead as usize].word).gone();
            // (What is on a queue is no other wait's as long as it names this lead.)
            let follows = |(index, entry): &(u32, &Entry)| {
                let is_on_a_queue = entry.queue.load(Acquire) != 0;
                is_on_a_queue && *index != lead && entry.lead.load(Relaxed) == lead
            };
            let others = (0..).zip(entries).filter(follows).map(|(index, _)| index);
            std::iter::once(lead).chain(others).collect()
        };
        leads.into_iter().filter(is_mine).map(entries_of).collect()
    }

    /// Gives back what was kept, but for the record of a thread that holds a lock.
    pub(crate) fn give_back(&self) {
        if self.locker.is_forked() {
            return;
        }
        if let Ok(mut inside) = self.begin() {
            inside.0.spare.drain(..).for_each(|index| self.free_entry(index));
        }
        if !self.locker.holds_any() {
            let record = &self.space().records()[self.locker.record() as usize];
            let _ = record.owner.compare_exchange(self.participant, 0, AcqRel, Relaxed);
        }
    }

    /// An entry to lead a wait.
    pub(crate) fn take_lead(&self) -> Fallible<u32> {
        let mut inside = self.begin_to_take()?;
        let lead = self.take(&mut inside.0)?;
        inside.0.leads.push(lead);
        Ok(lead)
    }

    /// An entry of this participant that is on no queue: one kept, or a free one of the table.
    pub(crate) fn take_entry(&self) -> Fallible<u32> {
        self.take(&mut self.begin_to_take()?.0)
    }

    #[inline]
    fn begin_to_take(&self) -> Fallible<Inside<'_>> {
        // A child that a condition forked has copies of what its parent keeps.
        if self.locker.is_forked() {
            return Err(Error::forked(self.space().label()));
        }
        // Nor has one that has ended a record to lock with: what is dropped after it may still ask, such as a set.
        if self.has_ended() {
            return Err(self.reentered());
        }
        self.begin()
    }

    #[inline]
    fn take(&self, kept: &mut Kept) -> Fallible<u32> {
        if let Some(index) = kept.spare.pop()
            && self.space().entries()[index as usize].owner.load(Relaxed) == self.participant
        {
            return Ok(index);
        }
        self.find(kept)
    }

    #[cold]
    fn find(&self, kept: &mut Kept) -> Fallible<u32> {
        let entries = self.space().entries();
        let used = &self.space().header().entries_used;
        let owner = |index: usize| &entries[index].owner;
        let search = |places| claim_free(used, places, owner, self.participant);
        let from = kept.search;
        let found = search(from..entries.len()).or_else(|| search(0..from));
        let index = found.ok_or_else(|| full(self.space(), "entries", entries.len()))?;
        kept.search = index as usize + 1;
        crash_point!("thread: entry claimed");
        Ok(index)
    }

    /// The wait has ended that the entry led, which is on no queue: keeps it for the next, or gives it back to the table.
    pub(crate) fn give_lead(&self, lead: u32) {
        match self.begin() {
            Ok(mut inside) => {
                inside.0.drop_lead(lead);
                self.give(&mut inside.0, lead);
            }
            Err(_) => self.free_entry(lead),
        }
    }

    /// The wait has ended that it led; the entry lingers, or is not ours any more.
    pub(crate) fn drop_lead(&self, lead: u32) {
        if let Ok(mut inside) = self.begin() {
            inside.0.drop_lead(lead);
        }
    }

    /// Keeps an entry that is on no queue for the next wait, or gives it back to the table.
    pub(crate) fn give_entry(&self, index: u32) {
        match self.begin() {
            Ok(mut inside) => self.give(&mut inside.0, index),
            Err(_) => self.free_entry(index),
        }
    }

    #[inline]
    fn give(&self, kept: &mut Kept, index: u32) {
        if kept.spare.len() < SPARE {
            kept.spare.push(index);
        } else {
            kept.search = kept.search.min(index as usize);
            self.free_entry(index);
        }
    }

    /// From here on system calls of wakes are put off; true if they were not before.
    pub(crate) fn defer(&self) -> Fallible<bool> {
        let mut inside = self.begin()?;
        let begins = inside.0.deferred.is_none();
        if begins {
            inside.0.deferred = Some(Vec::with_capacity(DEFERRED));
        }
        Ok(begins)
    }

    /// Makes the system calls that `wake_up_sync` put off; `ends`: and puts off no more.
    pub(crate) fn flush_and(&self, ends: bool) {
        let Ok(mut inside) = self.begin() else {
            return;
        };
        for lead in inside.0.deferred.iter_mut().flat_map(|deferred| deferred.drain(..)) {
            rouse(self.space(), lead);
        }
        if ends {
            inside.0.deferred = None;
        }
    }

    /// Makes the system calls that `wake_up_sync` put off, before this thread sleeps or spins.
    #[inline]
    pub(crate) fn flush(&self) {
        let puts_off = self.kept.try_borrow().is_ok_and(|kept| kept.deferred.is_some());
        if puts_off {
            self.flush_and(false);
        }
    }

    /// Leaves entries that could not leave their queues, the lead first, to the bell.
    pub(crate) fn linger(&self, entries: Vec<u32>) {
        // Not to be claimed from now on; what it holds already is passed on when the lock can be had.
        WaiterWord(&self.space().entries()[entries[0] as usize].word).gone();
        let _inside = self.begin();
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
}

/// The thread ends, or its participant leaves: what it kept is given back. A forked child's copy gives back nothing.
impl Drop for Thread {
    fn drop(&mut self) {
        if self.locker.is_forked() || self.has_ended() {
            return;
        }
        self.give_back();
        if self.locker.holds_any() {
            // A guard was forgotten: whoever wants the lock learns that its owner is no more.
            self.locker.abandon();
            self.space().records()[self.locker.record() as usize].mark.fetch_or(OWNER_DIED, Release);
        }
    }
}

/// Makes a record the calling thread's. The generation comes first: from then on every old lock word is out of date.
/// What a bell's record says that it holds is kept: nobody may have cleaned up after the bell that had it before.
fn prepare(record: &Record, myself: &Myself) {
    if !mutant("generation not bumped") {
        record.generation.fetch_add(1, Release);
    }
    if !myself.is_bell {
        for place in &record.holding {
            place.store(0, Relaxed);
        }
    }
    record.tid.store(myself.tid, Relaxed);
    // ORDERING: a reader that sees the new mark sees the new generation.
    record.mark.store(myself.mark, Release);
}

/// Scratch memory for the longest list there can be: much, in a large region, and none is no reason to abort.
fn room<T>(space: &Space) -> Fallible<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(space.entries().len()).map_err(|_| Error::no_memory(space.label()))?;
    Ok(room)
}

/// Takes the first free element of a table, noting the largest index ever used.
fn claim_free<'a>(
    used: &AtomicU32,
    places: Range<usize>,
    owner: impl Fn(usize) -> &'a AtomicU64,
    participant: u64,
) -> Option<u32> {
    for index in places {
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

fn full(space: &Space, what: &'static str, capacity: usize) -> Arc<Error> {
    Error::Full { region: space.label().clone(), what, capacity: capacity as u64 }.into()
}
