//! A membership as its threads and its bell share it, and the bell's watch over the others.
//!
//! 1. The bells form a ring. Each watches the three nearest live slots before its own, word k of the k-th, because
//!    the kernel wakes one sleeper for each word, and that one may be stopped or dying itself.
//! 2. A newcomer stores LIVE, fence, then looks for whom to tell; a bell thread reads its doorbell, fence, then looks
//!    for whom to watch. So of two neighbours who attach at once, at least one sees the other.
//! 3. Who wakes, for whatever reason, sweeps all slots. So a death is noticed if any of its three watchers runs, or
//!    any watcher of those.
//! 4. Where only this user can have the region open, the bell ticks for all sleepers of its process. Where strangers can, who
//!    might move a sleeper to another word (`FUTEX_REQUEUE`), each sleep has a timer, which no stranger can take from it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::atomic::{AtomicU32, Ordering::*, fence};
use crate::crash::{crash_point, mutant};
use crate::entry::{WaiterWord, rouse};
use crate::error::{Error, Fallible};
use crate::head;
use crate::layout::{ATTACHING, DETACHING, FREE, LIFE_WORDS, LIVE, Slot};
use crate::lock::is_dead;
use crate::offset::Space;
use crate::recover::{PATIENCE, Recovery, bell_rang, id_of, release_noted};
use crate::sys::clock::{Deadline, earlier};
use crate::sys::lease::Prober;
use crate::sys::mark::Marker;
use crate::sys::{fork, futex, process};
use crate::thread::{Lingering, Myself, Thread};

/// How long the first and the longest pause between two questions for a certificate are.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
pub(crate) const LAST_PAUSE: Duration = Duration::from_millis(100);
/// How often a bell looks around that cannot sleep on several words.
const BLIND_PAUSE: Duration = Duration::from_millis(20);

/// The generation's half of a slot's state, and of a participant's id.
pub(crate) const GENERATION: u64 = !(u32::MAX as u64);

/// What the builder lets users choose for their own process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Every sleep ends after about this long to look again; `None`: never.
    pub(crate) tick: Option<Duration>,
    /// How long to wait for a lock that a living owner keeps.
    pub(crate) patience: Duration,
    /// How long waits spin that do not say so themselves; `None`: as each queue's handle has learned.
    pub(crate) spin: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { tick: Some(Duration::from_secs(1)), patience: Duration::from_secs(10), spin: None }
    }
}

/// The part of a membership that its threads and its bell share.
pub(crate) struct Member {
    pub(crate) space: Arc<Space>,
    pub(crate) settings: Settings,
    pub(crate) id: u64,
    pub(crate) prober: Arc<Prober>,
    /// The fork epoch in which it attached.
    pub(crate) epoch: u64,
    /// Whether a peer may move our sleepers to another word (`FUTEX_REQUEUE`): then each sleep has a timer of its own.
    pub(crate) has_strangers: AtomicBool,
    /// Set when it leaves: the bell stops, and threads let go of what they keep.
    pub(crate) left: AtomicBool,
    /// Shared by threads that end, of whose waits something is left, and whose handles may all be gone; alone by who detaches:
    /// what they lock with must not be given back under them.
    pub(crate) ends: RwLock<()>,
    pub(crate) lingering: Arc<Lingering>,
}

impl Member {
    pub(crate) fn slot(&self) -> &Slot {
        &self.space.slots()[self.id as u32 as usize]
    }

    /// After how long a sleep of our threads has to end by itself. Otherwise the bell's tick ends it: a timer for each sleep
    /// is an eighth of what a round trip costs.
    pub(crate) fn timer(&self) -> Option<Duration> {
        self.settings.tick.filter(|_| self.has_strangers.load(Relaxed))
    }

    /// Makes those of our threads that sleep look around.
    fn tick(&self) {
        if self.has_strangers.load(Relaxed) {
            return;
        }
        for (index, entry) in self.space.entries()[..self.space.entries_used()].iter().enumerate() {
            let is_ours = entry.owner.load(Relaxed) == self.id && entry.lead.load(Relaxed) as usize == index;
            if is_ours && WaiterWord(&entry.word).tick() {
                rouse(&self.space, index as u32);
            }
        }
    }

    /// Whether a participant is alive: attached, and not both of its lock bytes free.
    pub(crate) fn is_alive(&self, participant: u64) -> bool {
        let Some(slot) = self.space.slots().get(participant as u32 as usize) else {
            return false;
        };
        let state = slot.state.load(Acquire);
        if id_of(participant as u32 as usize, state) != participant
            || matches!(state as u32, FREE | DETACHING)
        {
            return false;
        }
        // Before it is live it has no bell that could ring.
        let is_silent = state as u32 == LIVE && !bell_rang(slot);
        is_silent || !is_dead(&self.space, &self.prober, participant)
    }

    /// Neither left nor copied by a fork.
    pub(crate) fn is_current(&self) -> bool {
        fork::current() == self.epoch && !self.left.load(Acquire)
    }

    pub(crate) fn check(&self) -> Fallible<&Slot> {
        if fork::current() != self.epoch {
            return Err(Error::forked(self.space.label()));
        }
        let slot = self.slot();
        let state = slot.state.load(Acquire);
        if id_of(self.id as u32 as usize, state) != self.id || state as u32 == FREE {
            let region = self.space.label().clone();
            return Err(Error::Evicted { region, participant: self.id }.into());
        }
        Ok(slot)
    }

    pub(crate) fn claim_thread(&self, prober: &Arc<Prober>, is_bell: bool) -> Fallible<Thread> {
        let patience = if is_bell { PATIENCE } else { self.settings.patience };
        let marker = if mutant("marks off") { Marker::none() } else { Marker::for_this_thread() };
        let tid = process::thread_id();
        let myself = Myself { marker, mark: Marker::mark_value(), tid, is_bell };
        Thread::claim(&self.space, prober, myself, self.id, patience, self.lingering.clone())
    }

    /// A thread ends of which something was forgotten: takes its waits off, and gives back what it had.
    pub(crate) fn end(&self, thread: &Thread) {
        for entries in thread.end() {
            // (Not by way of the list, which the bell may be working on.)
            if entries.iter().all(|index| leave(thread, *index).is_ok()) {
                self.free(&entries);
            } else {
                thread.linger(entries);
            }
        }
        thread.give_back();
    }

    fn free(&self, entries: &[u32]) {
        for index in entries {
            let owner = &self.space.entries()[*index as usize].owner;
            let _ = owner.compare_exchange(self.id, 0, AcqRel, Relaxed);
        }
    }

    /// Tries again to leave queues; true if some are left.
    pub(crate) fn settle_lingering(&self, thread: &Thread) -> bool {
        // Not under its lock: a thread that has something to add must not wait for a queue's. And one by one, each off the
        // list before it is free for our other threads' waits: this bell may be killed alone, and the next finds the rest.
        let lingering = self.lingering.list().clone();
        for entries in lingering {
            if entries.iter().all(|index| leave(thread, *index).is_ok()) {
                self.lingering.list().retain(|other| *other != entries);
                self.free(&entries);
            }
        }
        !self.lingering.list().is_empty()
    }

    /// Gives back all that bears our id; false if something cannot be: an entry that is still on a queue, or a record
    /// whose thread has forgotten that it holds a lock.
    pub(crate) fn give_back(&self) -> bool {
        let entries = self.space.entries()[..self.space.entries_used()].iter();
        let entries = entries.map(|entry| (&entry.owner, entry.queue.load(Relaxed) == 0));
        let records = self.space.records()[..self.space.records_used()].iter();
        let records = records
            .map(|record| (&record.owner, record.holding.iter().all(|place| place.load(Relaxed) == 0)));
        let mut all = true;
        for (owner, can_be) in entries.chain(records).filter(|(owner, _)| owner.load(Relaxed) == self.id) {
            all &= can_be;
            if can_be {
                let _ = owner.compare_exchange(self.id, 0, AcqRel, Relaxed);
            }
        }
        all
    }

    pub(crate) fn ring_doorbell(&self) {
        ring(self.slot());
    }

    /// The three next live slots are to watch ours.
    fn tell_neighbours(&self) {
        // ORDERING: our LIVE before their states; pairs with the fence in `watch_list`.
        fence(SeqCst);
        for slot in self.neighbours(1) {
            ring(slot);
        }
    }

    /// The nearest live slots after ours (`step` 1) or before it (`step` −1), three at most. One that detaches is among
    /// them until its bell has stopped: killed before, it still owes a ring, since nobody takes it for alive any more.
    fn neighbours(&self, step: isize) -> impl Iterator<Item = &Slot> {
        let slots = &self.space.slots()[..self.space.slots_used()];
        let (count, mine) = (slots.len() as isize, self.id as u32 as isize);
        (1..count)
            .map(move |distance| &slots[(mine + step * distance).rem_euclid(count.max(1)) as usize])
            .filter(|slot| matches!(slot.state.load(Acquire) as u32, LIVE | DETACHING) && !bell_rang(slot))
            .take(LIFE_WORDS)
    }

    /// The words whose change this bell must not miss, with the values seen before the sweep that follows.
    fn watch_list(&self) -> Vec<(&AtomicU32, u32)> {
        let doorbell = &self.slot().doorbell;
        let mut words = vec![(doorbell, doorbell.load(Acquire))];
        // ORDERING: the doorbell before their states; pairs with the fence in `tell_neighbours`.
        fence(SeqCst);
        for (place, slot) in self.neighbours(-1).enumerate() {
            let word = &slot.life[place].word;
            words.push((word, word.load(Acquire)));
        }
        words
    }

    /// The bell thread begins: from here on we can own something, are watched, and have cleaned up.
    pub(crate) fn go_live(&self, thread: &Thread, ring: bool) -> Recovery {
        let (attaching, live) = (u64::from(ATTACHING), u64::from(LIVE));
        let generation = self.id & GENERATION;
        // (Already live, if only the bell was started again.)
        let _ =
            self.slot().state.compare_exchange(generation | attaching, generation | live, SeqCst, Relaxed);
        crash_point!("attach: live, nobody told");
        if mutant("life words not set") {
            self.slot().life.iter().for_each(|life| life.word.store(0, Relaxed));
        }
        self.tell_neighbours();
        // What the slot's last bell held, if it died unnoticed; if it cannot be had now, whoever wants it takes it over.
        let _ = release_noted(thread, thread.locker().record());
        let mut recovery = Recovery::new();
        recovery.sweep(thread, true, ring);
        recovery
    }

    /// The bell thread goes on: sweeps whenever anything happens that it watches.
    pub(crate) fn keep_watch(&self, thread: &Thread, mut recovery: Recovery) {
        let mut pause = FIRST_PAUSE;
        let mut ask_all = false;
        // Spread over a quarter of the tick, so that processes do not all look around at once.
        let tick = self.settings.tick.map(|tick| tick.saturating_add(tick / 16 * (self.id as u32 % 4)));
        let next_tick = || tick.and_then(Deadline::after);
        let mut ticks = next_tick();
        loop {
            let words = self.watch_list();
            if self.left.load(Acquire) {
                break; // Set before the doorbell was rung, whose new value we may just have read.
            }
            let awaited = recovery.sweep(thread, ask_all, false);
            let lingers = self.settle_lingering(thread);
            let again = (awaited || lingers).then(|| Deadline::after(pause)).flatten();
            pause = if again.is_some() { LAST_PAUSE.min(pause * 2) } else { FIRST_PAUSE };
            let until = earlier(again, ticks);
            let slept = futex::wait_any(&words, until).unwrap_or_else(|| {
                futex::wait(words[0].0, words[0].1, earlier(until, Deadline::after(BLIND_PAUSE)))
            });
            let is_tick = ticks.is_some_and(Deadline::passed);
            if is_tick {
                self.tick();
                ticks = next_tick();
            }
            ask_all = is_tick || slept == futex::Sleep::TimedOut && again.is_none();
        }
    }
}

/// Under the locked head: passes on what the entry holds, and takes it off.
fn leave(thread: &Thread, index: u32) -> Fallible<()> {
    let queue = thread.space().entries()[index as usize].queue.load(Acquire);
    if thread.space().head(queue).is_some() {
        let mut head = head::lock(thread, queue)?;
        let owner = &thread.space().entries()[index as usize].owner;
        if head.has(index) && owner.load(Relaxed) == thread.participant() {
            head.pass_on(index);
            head.leave(index);
        }
    }
    Ok(())
}

fn ring(slot: &Slot) {
    slot.doorbell.fetch_add(1, Release);
    futex::wake(&slot.doorbell);
}
