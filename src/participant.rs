//! One process's membership in a region: its slot, its proof of life, its bell, and its threads.
//!
//! ```text
//! attach   lock byte A · state FREE → ATTACHING, new generation · bell thread: lock byte B, life words · LIVE
//!          · ring the doorbells of the three neighbours who are to watch this slot · clean up after the dead
//! detach   LIVE → DETACHING · ring all waiters · stop the bell (life words 0) · give everything back · FREE · bytes
//! ```
//!
//! 1. Lock byte A elects the owner of a slot; only he changes `state`, but for cleaners who set a certainly dead
//!    generation FREE. Death before LIVE leaves a slot that owns nothing but its bell's record: any attacher takes it
//!    over, or a cleaner frees it.
//! 2. The bells form a ring. Each watches the three nearest live slots before its own, word k of the k-th, because
//!    the kernel wakes one sleeper for each word, and that one may be stopped or dying itself.
//! 3. A newcomer stores LIVE, fence, then looks for whom to tell; a bell thread reads its doorbell, fence, then looks
//!    for whom to watch. So of two neighbours who attach at once, at least one sees the other.
//! 4. Who wakes, for whatever reason, sweeps all slots. So a death is noticed if any of its three watchers runs, or
//!    any watcher of those.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::atomic::{AtomicU32, Ordering::*, fence};
use crate::crash::{crash_point, mutant};
use crate::error::{Error, Result};
use crate::head;
use crate::layout::{ATTACHING, DETACHING, FREE, LIFE_WORDS, LIVE, Slot};
use crate::lock::is_dead;
use crate::offset::Space;
use crate::recover::{PATIENCE, Recovery, bell_rang, id_of, release_noted, ring_all};
use crate::sys::bell::{self, BellContext, BellThread, LifeWords};
use crate::sys::clock::{Deadline, earlier, wall_clock};
use crate::sys::lease::{Lease, Probe, Prober};
use crate::sys::mark::Marker;
use crate::sys::{fork, futex, process};
use crate::thread::{Lingering, Myself, Thread};

/// How long the first and the longest pause between two questions for a certificate are.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// How often a bell looks around that cannot sleep on several words.
const BLIND_PAUSE: Duration = Duration::from_millis(20);
/// The shortest time between two revivals of a killed bell.
const REVIVAL: Duration = Duration::from_millis(10);
/// The same where a life word says that it was killed, and it runs all the same.
const FALSE_ALARM: Duration = Duration::from_secs(1);
/// How often a call tries to start it again.
const REVIVALS: u32 = 5;

/// The generation's half of a slot's state, and of a participant's id.
const GENERATION: u64 = !(u32::MAX as u64);

/// What the builder lets users choose for their own process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Every sleep ends after about this long to look again; `None`: never.
    pub(crate) tick: Option<Duration>,
    /// How long to wait for a lock that a living owner keeps.
    pub(crate) patience: Duration,
}

/// The part of a membership that its threads and its bell share.
pub(crate) struct Member {
    pub(crate) space: Arc<Space>,
    pub(crate) settings: Settings,
    pub(crate) id: u64,
    prober: Arc<Prober>,
    /// The fork epoch in which it attached.
    epoch: u64,
    /// Set when it leaves: the bell stops, and threads let go of what they keep.
    left: AtomicBool,
    lingering: Arc<Lingering>,
}

pub(crate) struct Participant {
    member: Arc<Member>,
    bell: Mutex<Bell>,
    /// Held from before the slot's state changes until after.
    _lease: Lease,
}

struct Bell {
    /// None if it could not be started again.
    thread: Option<BellThread>,
    /// When it may be started again.
    revival: Option<Deadline>,
}

impl Bell {
    fn started(thread: BellThread) -> Bell {
        Bell { thread: Some(thread), revival: Deadline::after(REVIVAL) }
    }
}

thread_local! {
    static THREADS: RefCell<Threads> = const { RefCell::new(Threads(Vec::new())) };
}

/// What this thread keeps, for each membership; a guard or set that outlives the list keeps its own.
struct Threads(Vec<(Arc<Member>, Rc<Thread>)>);

impl Drop for Threads {
    fn drop(&mut self) {
        // A guard that was forgotten keeps them for ever: then the kernel has to say that the thread is no more.
        self.0.iter().for_each(|(_, thread)| thread.locker().mark_again());
    }
}

impl Participant {
    /// Takes a slot, starts the bell, and cleans up after the dead.
    pub(crate) fn attach(space: Arc<Space>, settings: Settings) -> Result<Participant> {
        crate::crash::arm();
        let epoch = fork::epoch()?;
        let prober = Arc::new(Prober::new(space.mapping())?);
        let (lease, id, was_in_use) = take_slot(&space, &prober)?;
        let (left, lingering) = (AtomicBool::new(false), Arc::default());
        let member = Arc::new(Member { space, settings, id, prober, epoch, left, lingering });
        // A taken-over slot's last owner may owe a ring, and nobody but us may know that he died.
        match start_bell(&member, was_in_use) {
            Ok(bell) => Ok(Participant { member, bell: Mutex::new(Bell::started(bell)), _lease: lease }),
            Err(error) => {
                // A slot that was taken from the dead stays as it is: without a lock byte, so that others go on.
                if !was_in_use {
                    member.give_back();
                    let (taken, free) =
                        (id & GENERATION | u64::from(ATTACHING), id & GENERATION | u64::from(FREE));
                    let _ = member.slot().state.compare_exchange(taken, free, Release, Relaxed);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// The calling thread's means to act, after checking that this membership still stands.
    pub(crate) fn enter(&self) -> Result<Rc<Thread>> {
        let slot = self.member.check()?;
        if bell_rang(slot) {
            self.revive();
        }
        self.member.thread()
    }

    /// Starts the bell again after something killed that one thread. Not while another thread does, or a call of ours
    /// that this one interrupted, and not too often: what killed it may do so again.
    fn revive(&self) {
        let Ok(mut bell) = self.bell.try_lock() else {
            return;
        };
        if !bell_rang(self.member.slot()) || bell.revival.is_some_and(|revival| !revival.passed()) {
            return;
        }
        // If it fails we look half dead, and live; a later call tries again.
        for _ in 0..REVIVALS {
            if bell.thread.as_ref().is_some_and(BellThread::runs) {
                // About to end, or a peer has written what is not true.
                bell.revival = Deadline::after(FALSE_ALARM);
            } else {
                if let Some(dead) = bell.thread.take() {
                    dead.abandon();
                }
                bell.revival = Deadline::after(REVIVAL);
                bell.thread = start_bell(&self.member, false).ok();
                if bell.thread.is_some() {
                    return;
                }
            }
            // The dead one's lock byte is free when its descriptors are closed, some microseconds after the mark.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        let bell = self.bell.get_mut().unwrap_or_else(PoisonError::into_inner).thread.take();
        let member = &self.member;
        if !member.is_current() {
            if let Some(bell) = bell {
                bell.abandon();
            }
            return;
        }
        let slot = member.slot();
        let (free, live) = (member.id & !u64::from(u32::MAX), u64::from(LIVE));
        let ours =
            slot.state.compare_exchange(free | live, free | u64::from(DETACHING), SeqCst, Relaxed).is_ok();
        crash_point!("detach: announced");
        if ours {
            if let Ok(thread) = member.thread() {
                member.settle_lingering(&thread);
            }
            ring_all(&member.space);
        }
        member.left.store(true, Release);
        member.ring_doorbell();
        if let Some(bell) = bell {
            bell.join(|| member.ring_doorbell());
        }
        crash_point!("detach: bell stopped");
        let _ = THREADS.try_with(|threads| {
            if let Ok(mut threads) = threads.try_borrow_mut() {
                threads.0.retain(|(other, _)| !Arc::ptr_eq(other, member));
            }
        });
        let all = member.give_back();
        crash_point!("detach: given back, slot not free");
        // With something left it is not free: our lock bytes go, and others find a slot of the dead.
        if ours && all {
            let _ = slot.state.compare_exchange(
                free | u64::from(DETACHING),
                free | u64::from(FREE),
                Release,
                Relaxed,
            );
        }
    }
}

impl Member {
    pub(crate) fn slot(&self) -> &Slot {
        &self.space.slots()[self.id as u32 as usize]
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
    fn is_current(&self) -> bool {
        fork::current() == self.epoch && !self.left.load(Acquire)
    }

    fn check(&self) -> Result<&Slot> {
        if fork::current() != self.epoch {
            return Err(Error::Forked { region: self.space.label().clone() });
        }
        let slot = self.slot();
        let state = slot.state.load(Acquire);
        if id_of(self.id as u32 as usize, state) != self.id || state as u32 == FREE {
            return Err(Error::Evicted { region: self.space.label().clone(), participant: self.id });
        }
        Ok(slot)
    }

    /// What the calling thread keeps for this membership; made at its first use.
    fn thread(self: &Arc<Self>) -> Result<Rc<Thread>> {
        let reentered = || Error::Reentered { region: self.space.label().clone() };
        THREADS
            .try_with(|threads| {
                let mut threads = threads.try_borrow_mut().map_err(|_| reentered())?;
                if let Some((_, thread)) = threads.0.iter().find(|(member, _)| Arc::ptr_eq(member, self)) {
                    return Ok(thread.clone());
                }
                threads.0.retain(|(member, _)| member.is_current());
                let thread = Rc::new(self.claim_thread(&self.prober, false)?);
                threads.0.push((self.clone(), thread.clone()));
                Ok(thread)
            })
            .map_err(|_| reentered())?
    }

    fn claim_thread(&self, prober: &Arc<Prober>, is_bell: bool) -> Result<Thread> {
        let patience = if is_bell { PATIENCE } else { self.settings.patience };
        let marker = if mutant("marks off") { Marker::none() } else { Marker::for_this_thread() };
        let tid = process::thread_id();
        let myself = Myself { marker, mark: Marker::mark_value(), tid, is_bell };
        Thread::claim(&self.space, prober, myself, self.id, patience, self.lingering.clone())
    }

    /// Tries again to leave queues; true if some are left.
    fn settle_lingering(&self, thread: &Thread) -> bool {
        // Not under its lock: a thread that has something to add must not wait for a queue's. And one by one, each off the
        // list before it is free for our other threads' waits: this bell may be killed alone, and the next finds the rest.
        let lingering = self.lingering.list().clone();
        for entries in lingering {
            if entries.iter().all(|index| leave(thread, *index).is_ok()) {
                self.lingering.list().retain(|other| *other != entries);
                for index in &entries {
                    let owner = &self.space.entries()[*index as usize].owner;
                    let _ = owner.compare_exchange(self.id, 0, AcqRel, Relaxed);
                }
            }
        }
        !self.lingering.list().is_empty()
    }

    /// Gives back all that bears our id; false if something cannot be: an entry that is still on a queue, or a record
    /// whose thread has forgotten that it holds a lock.
    fn give_back(&self) -> bool {
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

    fn ring_doorbell(&self) {
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
    fn go_live(&self, thread: &Thread, ring: bool) -> Recovery {
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
    fn keep_watch(&self, thread: &Thread, mut recovery: Recovery) {
        let mut pause = FIRST_PAUSE;
        let mut ask_all = false;
        loop {
            let words = self.watch_list();
            if self.left.load(Acquire) {
                break; // Set before the doorbell was rung, whose new value we may just have read.
            }
            let awaited = recovery.sweep(thread, ask_all, false);
            let lingers = self.settle_lingering(thread);
            let again = (awaited || lingers).then(|| Deadline::after(pause)).flatten();
            pause = if again.is_some() { LAST_PAUSE.min(pause * 2) } else { FIRST_PAUSE };
            let tick = self.settings.tick.and_then(Deadline::after);
            let until = earlier(again, tick);
            let slept = futex::wait_any(&words, until).unwrap_or_else(|| {
                futex::wait(words[0].0, words[0].1, earlier(until, Deadline::after(BLIND_PAUSE)))
            });
            ask_all = slept == futex::Sleep::TimedOut && again.is_none();
        }
    }
}

/// Under the locked head: passes on what the entry holds, and takes it off.
fn leave(thread: &Thread, index: u32) -> Result<()> {
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

/// A slot of our own: one that was left in good order, or else one whose owner is certainly dead.
fn take_slot(space: &Arc<Space>, prober: &Prober) -> Result<(Lease, u64, bool)> {
    // Twice also those of the dead: one may change hands, or be freed by a cleaner, while we look at it.
    for only_free in [true, false, false] {
        for (index, slot) in space.slots().iter().enumerate() {
            let is_free = slot.state.load(Acquire) as u32 == FREE;
            if only_free && !is_free {
                continue;
            }
            let byte = space.lock_byte(index as u32);
            if !is_free && prober.state(byte) != Probe::Free {
                continue;
            }
            let Some(lease) = Lease::take(space.mapping(), byte)? else {
                continue;
            };
            if prober.state(byte + 1) != Probe::Free {
                continue;
            }
            crash_point!("attach: byte held, slot not taken");
            space.header().slots_used.fetch_max(index as u32 + 1, AcqRel);
            let state = slot.state.load(Acquire);
            let generation = ((state >> 32) as u32).wrapping_add(1).max(1);
            let taken = u64::from(generation) << 32 | u64::from(ATTACHING);
            if slot.state.compare_exchange(state, taken, AcqRel, Relaxed).is_err() {
                continue;
            }
            crash_point!("attach: slot taken");
            slot.pid.store(process::process_id(), Relaxed);
            slot.since.store(wall_clock(), Relaxed);
            return Ok((lease, id_of(index, taken), state as u32 != FREE));
        }
    }
    let capacity = space.slots().len() as u64;
    Err(Error::Full { region: space.label().clone(), what: "participants", capacity })
}

/// Starts the bell thread and waits until its life words are registered and it has cleaned up after the dead.
fn start_bell(member: &Arc<Member>, ring: bool) -> Result<BellThread> {
    let slot = member.slot();
    let mapping = member.space.mapping();
    let damaged =
        || Error::Damaged { region: mapping.label().clone(), what: "slot", at: 0, value: member.id };
    let offset = member.space.offset_of(&slot.life).ok_or_else(damaged)?;
    let life = LifeWords::new(mapping, offset).ok_or_else(damaged)?;
    let byte = member.space.lock_byte(member.id as u32) + 1;
    let (ready, answer) = mpsc::sync_channel(1);
    let shared = member.clone();
    let bell = bell::spawn(mapping.clone(), life, byte, move |context: &BellContext| {
        match shared.claim_thread(context.prober(), true) {
            Ok(thread) => {
                let recovery = shared.go_live(&thread, ring);
                let _ = ready.send(Ok(()));
                shared.keep_watch(&thread, recovery);
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    crash_point!("attach: bell started");
    let lost = || Error::system(mapping.label(), "clone", process::NO_MORE);
    loop {
        match answer.recv_timeout(LAST_PAUSE) {
            Ok(Ok(())) => return Ok(bell),
            // Something killed that one thread: it will neither answer nor let go of its end.
            Err(mpsc::RecvTimeoutError::Timeout) if !bell.runs() => {
                bell.abandon();
                return Err(lost());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(Err(error)) => {
                bell.join(|| ());
                return Err(error);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bell.join(|| ());
                return Err(lost());
            }
        }
    }
}
