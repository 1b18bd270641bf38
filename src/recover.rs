//! The death rule: what survivors do for the dead, and in which order, so that it may be done by several at once, be
//! cut off by the death of the one who does it, and be done again.
//!
//! A death is known twice. The *bell* (a life word that the kernel marked) comes within microseconds, but the process
//! may still be inside the kernel, writing to the region. The *certificate* (both lock bytes free) comes when its
//! memory is gone. The rule runs at each; what must not happen to the living waits for the second:
//!
//! ```text
//!                                                     bell        certificate
//! locks of the dead: take over, repair, release       if marked   all
//! entries: GONE; a claim still held is passed on      yes         yes
//!          leave the queue                            –           yes
//! ring: LOOK in every lead of the region, and wake    yes         yes
//! give entries, records and the slot back             –           yes, in this order
//! ```
//!
//! 1. Everything names the dead by participant id, which never comes to name another, and changes shared state by
//!    compare-and-swap or under the head's lock after checking again, but for LOOK and GONE, which may be set on
//!    anybody. So the rule needs no election, and a cleaner
//!    who was stopped for an hour does no harm when he goes on.
//! 2. The claim first, then the ring, then the give-back: whoever dies in between has left the traces that make the
//!    next one do it again; his own death makes sure that there is a next one.
//! 3. The ring covers what leaves no trace: a waker who changed a condition but had not woken anybody yet, or had
//!    marked waiters without having woken them. It also makes the living see that a peer is dead.
//! 4. A slot may be taken again as soon as there is a certificate, before anybody has cleaned up: what the old
//!    generation left is known by its id. Who takes such a slot, and whoever had heard the bell, rings.
//! 5. A lock that a living process keeps (it may be stopped) holds nobody else up: what is under it, and the give-back,
//!    is left for the next sweep, everything else is done, and the ring is rung.
//! 6. A bell can be false: then GONE made its owner look, who clears it, and a claim was passed on that he may use
//!    nevertheless. A condition does not mind; a wait without a condition is woken once too often, not too rarely.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::atomic::{AtomicU32, Ordering::*, fence};
use crate::crash::{crash_point, mutant};
use crate::directory;
use crate::entry::{WaiterWord, may_sleep, rouse, rouse_with};
use crate::error::Fallible;
use crate::head::{self, REGION_LOCK};
use crate::layout::{ATTACHING, CROWD, DETACHING, FREE, HOLDING, LIVE, RobustLock, Slot};
use crate::lock::{Grip, has_certificate, names};
use crate::offset::Space;
use crate::sys::mark::OWNER_DIED;
use crate::thread::Thread;

/// What is known of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Alive,
    /// The bell has rung.
    Rung,
    /// The certificate is there, or the slot has passed to another.
    Dead,
    /// Left in good order: nothing is owed to it, and what still bears its id is nobody's.
    Left,
}

/// How long a cleaner waits for one lock before it goes on with the rest: what it leaves, it tries again.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// After how many stuck queues it only tries the others once: a peer can make as many as there is memory for.
const STUCK: usize = 8;

/// One cleaner's private memory between its sweeps.
#[derive(Default)]
pub(crate) struct Recovery {
    /// Who was found dead in the last sweep, and how dead.
    known: Vec<(u64, Verdict)>,
    /// A lock could not be had, so that something is still to be done for them.
    unsettled: bool,
    /// Somebody is attaching or leaving, and may die before the bell can tell.
    passing: bool,
    /// The verdict on each slot in the sweep under way, with the slot's state.
    slots: Vec<(u64, Verdict)>,
}

impl Recovery {
    /// For one who begins: what others have left undone is his to do.
    pub(crate) fn new() -> Recovery {
        Recovery { unsettled: true, ..Recovery::default() }
    }
}

/// The participant that a slot belongs to at present.
pub(crate) fn id_of(slot: usize, state: u64) -> u64 {
    state & !u64::from(u32::MAX) | slot as u64
}

/// Whether the kernel has marked any of a slot's life words.
pub(crate) fn bell_rang(slot: &Slot) -> bool {
    slot.life.iter().any(|life| life.word.load(Acquire) & OWNER_DIED != 0)
}

impl Recovery {
    /// Looks at every slot and does what is owed to the dead. `ask_all`: also where no bell rang. `ring`: in any case.
    ///
    /// Returns whether there is something to come back for: a certificate, a lock, or somebody who attaches or leaves.
    pub(crate) fn sweep(&mut self, thread: &Thread, ask_all: bool, ring: bool) -> bool {
        self.judge(thread, ask_all);
        let dead: Vec<(u64, Verdict)> = (self.slots.iter().enumerate())
            .filter(|(_, (_, verdict))| matches!(verdict, Verdict::Rung | Verdict::Dead))
            .map(|(index, (state, verdict))| (id_of(index, *state), *verdict))
            .collect();
        // Whoever had only rung and has left the table since was certified by somebody who may have died before ringing.
        let moved_on =
            |(id, verdict): &(u64, Verdict)| *verdict == Verdict::Rung && self.is_nobody(thread, *id);
        let ring =
            ring || dead.iter().any(|dead| !self.known.contains(dead)) || self.known.iter().any(moved_on);
        if ring || self.unsettled {
            self.unsettled = !self.settle(thread);
            crash_point!("recover: settled, not rung");
            if ring && !mutant("no ring") {
                ring_all(thread.space());
            }
            crash_point!("recover: rung, nothing given back");
            if !self.unsettled {
                self.give_back(thread);
            }
        }
        let awaited = dead.iter().any(|(_, verdict)| *verdict == Verdict::Rung);
        self.known = dead;
        awaited || self.unsettled || self.passing
    }

    /// Everything under locks; true if all of them could be had.
    fn settle(&self, thread: &Thread) -> bool {
        let mut settled = true;
        for index in 0..thread.space().records_used() as u32 {
            settled &= self.release_locks(thread, index).is_ok();
        }
        // One try for each queue: a stopped owner must not cost as many times as there are entries on it.
        let mut stuck = Vec::new();
        for index in 0..thread.space().entries_used() as u32 {
            self.settle_entry(thread, index, &mut stuck);
        }
        settled && stuck.is_empty()
    }

    /// One question to the kernel for each slot in doubt.
    fn judge(&mut self, thread: &Thread, ask_all: bool) {
        let space = thread.space();
        let before = std::mem::take(&mut self.slots);
        self.passing = false;
        for (index, slot) in space.slots()[..space.slots_used()].iter().enumerate() {
            let state = slot.state.load(Acquire);
            let rang = bell_rang(slot);
            let doubtful = rang || ask_all || state as u32 != LIVE;
            let verdict = if state as u32 == FREE {
                Verdict::Left
            } else if id_of(index, state) == thread.participant() {
                Verdict::Alive
            } else if doubtful
                && !mutant("second round left out")
                && has_certificate(space, thread.locker().prober(), index as u32)
            {
                Verdict::Dead
            } else if rang {
                Verdict::Rung
            } else {
                Verdict::Alive
            };
            // Also one that has just come: it may not have been among those whom to watch.
            let is_news = before.get(index) != Some(&(state, verdict));
            let is_passing = is_news || matches!(state as u32, ATTACHING | DETACHING);
            self.passing |= verdict == Verdict::Alive && is_passing;
            self.slots.push((state, verdict));
        }
    }

    /// `participant` may have been read before or after the slots were judged.
    fn verdict(&self, thread: &Thread, participant: u64) -> Verdict {
        let (index, generation) = (participant as u32 as usize, (participant >> 32) as u32);
        if let Some((judged, verdict)) = self.slots.get(index)
            && (*judged >> 32) as u32 == generation
        {
            return *verdict;
        }
        // Either older than the slot's present owner, or attached since the slots were judged.
        match thread.space().slots().get(index) {
            Some(slot) if (slot.state.load(Acquire) >> 32) as u32 == generation => Verdict::Alive,
            _ => Verdict::Dead,
        }
    }

    /// Whether what bears this id may be given back.
    fn is_nobody(&self, thread: &Thread, participant: u64) -> bool {
        matches!(self.verdict(thread, participant), Verdict::Dead | Verdict::Left)
    }

    /// Frees what a dead thread held, so that nobody has to find out by waiting for it.
    fn release_locks(&self, thread: &Thread, index: u32) -> Fallible<()> {
        let record = &thread.space().records()[index as usize];
        let owner = record.owner.load(Acquire);
        let verdict = if owner == 0 { Verdict::Alive } else { self.verdict(thread, owner) };
        let marked = record.mark.load(Acquire) & OWNER_DIED != 0;
        if verdict == Verdict::Alive || verdict == Verdict::Rung && !marked {
            return Ok(());
        }
        release_noted(thread, index)
    }

    /// Passes on what a dead waiter was woken for, and takes the certainly dead off their queues.
    fn settle_entry(&self, thread: &Thread, index: u32, stuck: &mut Vec<u64>) {
        let entries = thread.space().entries();
        let entry = &entries[index as usize];
        let owner = entry.owner.load(Acquire);
        let verdict = if owner == 0 { Verdict::Alive } else { self.verdict(thread, owner) };
        if verdict == Verdict::Alive {
            return;
        }
        let lead = entry.lead.load(Relaxed);
        if let Some(leader) = entries.get(lead as usize)
            && leader.owner.load(Relaxed) == owner
            && may_sleep(WaiterWord(&leader.word).gone())
        {
            rouse(thread.space(), lead);
        }
        crash_point!("recover: marked gone");
        let queue = entry.queue.load(Acquire);
        if queue == 0 || thread.space().head(queue).is_none() {
            return;
        }
        if stuck.contains(&queue) {
            return;
        }
        let patience = if stuck.len() < STUCK { thread.patience } else { Duration::ZERO };
        let Ok(mut head) = head::lock_within(thread, queue, patience) else {
            stuck.push(queue);
            return;
        };
        if head.has(index) && entry.owner.load(Relaxed) == owner {
            head.pass_on(index);
            if verdict != Verdict::Rung {
                head.leave(index);
            }
        }
    }

    fn give_back(&self, thread: &Thread) {
        let space = thread.space();
        let owners =
            (space.entries()[..space.entries_used()].iter().map(|entry| (&entry.owner, &entry.queue)))
                .filter(|(_, queue)| space.head(queue.load(Relaxed)).is_none())
                .map(|(owner, _)| owner)
                .chain(space.records()[..space.records_used()].iter().map(|record| &record.owner));
        for owner in owners {
            let id = owner.load(Relaxed);
            if id != 0 && self.is_nobody(thread, id) {
                let _ = owner.compare_exchange(id, 0, AcqRel, Relaxed);
                crash_point!("recover: one owner given back");
            }
        }
        for (slot, (state, verdict)) in space.slots().iter().zip(&self.slots) {
            let free = state & !u64::from(u32::MAX) | u64::from(FREE);
            if *verdict == Verdict::Dead && slot.state.compare_exchange(*state, free, AcqRel, Relaxed).is_ok()
            {
                space.header().deaths.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Releases every lock that a record says it holds and whose word still names it, in a generation that is gone.
pub(crate) fn release_noted(thread: &Thread, index: u32) -> Fallible<()> {
    let record = &thread.space().records()[index as usize];
    for place in 0..HOLDING {
        let offset = record.holding[place].load(Acquire);
        if offset != 0 {
            release_lock(thread, index, offset, place)?;
        }
    }
    Ok(())
}

/// Takes one lock over from a record that is gone, and releases it.
fn release_lock(thread: &Thread, dead: u32, offset: u64, place: usize) -> Fallible<()> {
    let (space, locker) = (thread.space(), thread.locker());
    let is_abandoned = |word: &AtomicU32| {
        let word = word.load(Acquire);
        names(word, dead) && locker.owner_is_gone(word)
    };
    let directory = &space.header().directory_lock;
    let (word, outcome) = if place == REGION_LOCK && Some(offset) == space.offset_of(directory) {
        (directory, is_abandoned(directory).then(|| directory::release(thread)))
    } else if place == REGION_LOCK {
        let Some(head) = space.head(offset) else { return Ok(()) };
        (&head.lock, is_abandoned(&head.lock).then(|| head::lock(thread, offset).map(drop)))
    } else {
        let Some(lock) = space.robust_lock(offset) else { return Ok(()) };
        (&lock.word, is_abandoned(&lock.word).then(|| release_users(thread, lock, offset)))
    };
    // Somebody living may have taken it over meanwhile, and keep it: then it is not the dead one's any more.
    match outcome {
        Some(Err(error)) if is_abandoned(word) => Err(error),
        _ => Ok(()),
    }
}

/// A user's lock: the next owner is to learn of the death.
fn release_users(thread: &Thread, lock: &RobustLock, offset: u64) -> Fallible<()> {
    let locker = thread.locker();
    let _inside = thread.begin()?;
    let place = locker.free_place()?;
    if locker.lock(&lock.word, offset, place, thread.patience)? == Grip::OwnerDied {
        lock.died.store(1, Relaxed);
    }
    locker.unlock(&lock.word, place);
    Ok(())
}

/// Makes every waiter of the region evaluate its condition again, and wakes also those whose waker may have died
/// before he could.
pub(crate) fn ring_all(space: &Space) {
    // ORDERING: a waiter who is about to begin may overwrite the bit, as meant for nobody; then by his fence A he sees what
    // the dead did.
    fence(SeqCst);
    let leads = || {
        let used = (0..).zip(&space.entries()[..space.entries_used()]);
        used.filter(|(index, entry)| entry.owner.load(Relaxed) != 0 && entry.lead.load(Relaxed) == *index)
    };
    for (_, entry) in leads() {
        WaiterWord(&entry.word).look_everywhere();
        crash_point!("recover: ringing");
    }
    // All are told by now: one call for each crowd, or nearly.
    let mut called = None;
    for (lead, entry) in leads() {
        let word = WaiterWord(&entry.word).load();
        let crowd = (word & CROWD != 0).then(|| entry.crowd.load(Relaxed));
        if may_sleep(word) && (crowd.is_none() || crowd != called) {
            rouse_with(space, lead, NonZeroU32::MAX);
            called = crowd.or(called);
        }
    }
}
