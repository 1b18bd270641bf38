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
//! 2. Only the last give-back frees the slot, so a death before it leaves all that others need to do the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::Duration;

use crate::atomic::Ordering::*;
use crate::crash::crash_point;
use crate::error::{Error, Fallible, Result};
use crate::layout::{ATTACHING, DETACHING, FREE, LIVE};
use crate::member::{GENERATION, LAST_PAUSE, Member, Settings};
use crate::offset::Space;
use crate::recover::{bell_rang, id_of, ring_all};
use crate::sys::bell::{self, BellContext, BellThread, LifeWords};
use crate::sys::clock::{Deadline, wall_clock};
use crate::sys::lease::{Lease, Probe, Prober};
use crate::sys::{fork, process};
use crate::thread::Thread;

/// The shortest time between two revivals of a killed bell.
const REVIVAL: Duration = Duration::from_millis(10);
/// The same where a life word says that it was killed, and it runs all the same.
const FALSE_ALARM: Duration = Duration::from_secs(1);
/// How often a call tries to start it again.
const REVIVALS: u32 = 5;

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
        for (member, thread) in &self.0 {
            thread.flush_and(true);
            // What was forgotten keeps it for ever: then the kernel has to say that the thread is no more, and what it waits
            // on is left now.
            if Rc::strong_count(thread) > 1 && member.is_current() {
                let _ends = member.ends.read().unwrap_or_else(PoisonError::into_inner);
                // Asked again: it may have been detached, or taken for dead, and its records given away.
                if member.is_current() && member.check().is_ok() {
                    thread.locker().mark_again();
                    member.end(thread);
                }
            }
        }
    }
}

impl Participant {
    /// Takes a slot, starts the bell, and cleans up after the dead.
    pub(crate) fn attach(space: Arc<Space>, settings: Settings) -> Result<Participant> {
        crate::crash::arm();
        let epoch = fork::epoch()?;
        let prober = Arc::new(Prober::new(space.mapping())?);
        let (lease, id, was_in_use) = take_slot(&space, &prober)?;
        let (left, ends, lingering) = (AtomicBool::new(false), RwLock::default(), Arc::default());
        let has_strangers = AtomicBool::new(space.mapping().has_strangers());
        let member =
            Arc::new(Member { space, settings, id, prober, epoch, has_strangers, left, ends, lingering });
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
    pub(crate) fn enter(&self) -> Fallible<Rc<Thread>> {
        let slot = self.member.check()?;
        if bell_rang(slot) {
            self.revive();
        }
        this_thread(&self.member)
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
        process::uncancelled(|| self.try_to_revive(&mut bell));
    }

    /// If it fails we look half dead, and live; a later call tries again.
    fn try_to_revive(&self, bell: &mut Bell) {
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
        let none_ends = member.ends.write().unwrap_or_else(PoisonError::into_inner);
        if ours {
            if let Ok(thread) = this_thread(member) {
                member.settle_lingering(&thread);
            }
            ring_all(&member.space);
        }
        member.left.store(true, Release);
        drop(none_ends);
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

/// What the calling thread keeps for a membership; made at its first use.
fn this_thread(member: &Arc<Member>) -> Fallible<Rc<Thread>> {
    let reentered = || member.space.reentered();
    THREADS
        .try_with(|threads| {
            let mut threads = threads.try_borrow_mut().map_err(|_| reentered())?;
            if let Some((_, thread)) = threads.0.iter().find(|(other, _)| Arc::ptr_eq(other, member)) {
                return Ok(thread.clone());
            }
            threads.0.retain(|(other, _)| other.is_current());
            let thread = Rc::new(member.claim_thread(&member.prober, false)?);
            threads.0.push((member.clone(), thread.clone()));
            Ok(thread)
        })
        .map_err(|_| reentered())?
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
                return Err(error.into());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bell.join(|| ());
                return Err(lost());
            }
        }
    }
}
