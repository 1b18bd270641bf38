//! The robust lock: one 32-bit word that survives the death of its owner at any instruction.
//!
//! ```text
//! word = WAITERS | generation << 16 | record + 1        owner bits 0 = free, whatever WAITERS says
//!
//! take      holding[place] := offset · arm the mark · CAS 0 → me
//! release   CAS me → 0, or with WAITERS one FUTEX_WAKE_OP (store 0, wake all) · disarm · holding[place] := 0
//! take over CAS word → me, keeping WAITERS, when the owner is gone; the caller repairs what the lock guards
//! ```
//!
//! 1. Who may change the word: anybody from free to himself; the owner to free; anybody from an owner who is gone to
//!    himself; anybody who waits sets WAITERS. All by compare-and-swap but the release, which the owner alone does.
//! 2. An owner is gone when its record was reused or freed (the generation differs), when the kernel, or the ending thread
//!    itself, marked its record (it died holding a lock: exact to the thread, at once), when its process has left its
//!    slot, or when both lock bytes of its process are free (the certificate). A word that names no record is nobody's.
//!    Nothing else counts, above all no PID and no time.
//! 3. `holding` names the word before it is taken and until after it is released, so that whoever cleans up after a
//!    death finds every lock of the dead, and frees it before the record can be used again. That is why a stale
//!    owner never becomes a live one by reuse of the record. (A bell's record is used again at once, by a bell that
//!    first frees what it names; until it has, the generation tells the two apart.)
//! 4. No kill can strand a sleeper: a contended release is one system call, and a waiter sleeps in slices, looking
//!    at the owner after each. A waiter killed after it was woken leaves the word free, and all others were woken too.
//!    So that he need not wait for a slice to end, nor for anybody's bell, he sleeps on the owner's mark as well: the
//!    kernel wakes one sleeper when it sets it, and he wakes the others, who from then on sleep on the mark of the one
//!    who took over. Nothing rests on that: where the kernel cannot, or that one dies too, bell and slices serve.
//! 5. At most one region lock at a time per thread (place 0), nothing sleeps while holding it, so there is no
//!    deadlock between region locks. Users' locks use the other places, in whatever order users take them.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::atomic::{AtomicU32, Ordering, Ordering::*, compiler_fence, spin_loop};
use crate::crash::{crash_point, mutant};
use crate::error::{Error, Fallible};
use crate::layout::{HOLDING, OWNER, Record, WAITERS};
use crate::offset::Space;
use crate::sys::clock::{Deadline, earlier};
use crate::sys::fork;
use crate::sys::futex::{self, Sleep};
use crate::sys::lease::Prober;
use crate::sys::mark::{Armed, Marker, OWNER_DIED};

/// How a lock was got. (As wide as a register: a narrower one is written and read by different widths, which stalls.)
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grip {
    /// It was free.
    Clean,
    /// Its owner died inside: what it guards may be half-changed.
    OwnerDied,
}

/// How often a lock is looked at before sleeping on it: about a microsecond.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };
/// How often somebody else may be quicker to take a lock that can be had, before the deadline counts all the same.
const RACES: u32 = 100;
/// The first and the longest pause between two looks at the owner.
const FIRST_SLICE: Duration = Duration::from_millis(1);
const LAST_SLICE: Duration = Duration::from_secs(1);

/// One thread's ability to take locks. Not `Sync`: it belongs to the thread whose record it names.
pub(crate) struct Locker {
    space: Arc<Space>,
    prober: Arc<Prober>,
    marker: Marker,
    record: u32,
    /// The fork epoch in which the record was claimed: a forked child has none of its parent's locks.
    epoch: u64,
    /// The owner bits that stand for this thread.
    me: u32,
    /// What libc's pending word was before the first lock was taken; means something while any is held.
    before: Cell<Armed>,
    /// Which places are taken, a bit each.
    held: Cell<u32>,
}

impl Locker {
    /// `record` must have been claimed by the calling thread.
    pub(crate) fn new(space: Arc<Space>, prober: Arc<Prober>, marker: Marker, record: u32) -> Locker {
        let me = owner_bits(record, space.records()[record as usize].generation.load(Relaxed));
        let (before, held) = (Cell::new(Armed::default()), Cell::new(0));
        Locker { space, prober, marker, record, epoch: fork::current(), me, before, held }
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub(crate) fn prober(&self) -> &Arc<Prober> {
        &self.prober
    }

    pub(crate) fn record(&self) -> u32 {
        self.record
    }

    /// Whether this is a copy that a fork made.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        fork::current() != self.epoch
    }

    /// Makes sure that the kernel marks this thread when it ends, if it holds anything: libc may have wiped that.
    pub(crate) fn mark_again(&self) {
        if self.holds_any() && !self.is_forked() {
            let mark = &self.own_record().mark;
            if self.marker.is_none() {
                mark.fetch_or(OWNER_DIED, Release); // Nobody else will.
            }
            self.marker.arm(mark);
        }
    }

    /// Forgets what is held, for a thread that ends before it has released it.
    pub(crate) fn abandon(&self) {
        if self.holds_any() {
            self.marker.disarm(self.before.get());
        }
    }

    pub(crate) fn holds_any(&self) -> bool {
        self.held.get() != 0
    }

    /// A place in `holding` for a user's lock.
    pub(crate) fn free_place(&self) -> Fallible<usize> {
        let free = (1..HOLDING).find(|place| self.held.get() & 1 << place == 0);
        free.ok_or_else(|| {
            let region = self.space.label().clone();
            Error::TooManyLocks { region, limit: HOLDING as u64 - 1 }.into()
        })
    }

    /// Takes the lock at `offset`, noting it at `place`; fails after `patience` if a living owner keeps it.
    #[inline]
    pub(crate) fn lock(
        &self,
        word: &AtomicU32,
        offset: u64,
        place: usize,
        patience: Duration,
    ) -> Fallible<Grip> {
        if self.is_forked() {
            return Err(Error::forked(self.space.label()));
        }
        let record = self.own_record();
        record.holding[place].store(offset, Relaxed);
        let before = self.marker.arm(&record.mark);
        if self.held.replace(self.held.get() | 1 << place) == 0 {
            self.before.set(before);
        }
        crash_point!("lock: announced, not taken");
        // ORDERING: acquire pairs with the release of the last owner. A kill interrupts one thread between two of its
        // instructions, so the compiler must not move `holding` and the mark behind the swap: release.
        let grip = match word.compare_exchange(0, self.me, taking(), Relaxed) {
            Ok(_) => Ok(Grip::Clean),
            Err(_) => self.lock_slow(word, patience),
        };
        match grip {
            Ok(_) => {
                crash_point!("lock: taken");
            }
            Err(_) => self.forget(place),
        }
        grip
    }

    #[cold]
    fn lock_slow(&self, word: &AtomicU32, patience: Duration) -> Fallible<Grip> {
        let deadline = Deadline::after(patience);
        let (mut spins, mut slice, mut races) = (SPINS, FIRST_SLICE, 0);
        loop {
            // ORDERING: acquire pairs with the release of the owner's swap: who has read his name must not see his record
            // as it was before he claimed it, and take him for gone.
            let seen = word.load(if mutant("owner read without acquire") { Relaxed } else { Acquire });
            if seen & OWNER == self.me {
                return Err(self.space.reentered());
            }
            let is_free = seen & OWNER == 0;
            let is_abandoned = !is_free && spins == 0 && self.owner_is_gone(seen);
            if is_free || is_abandoned {
                if is_abandoned {
                    crash_point!("lock: owner gone, not taken over");
                }
                let waiters = if mutant("take-over drops waiters") { 0 } else { seen & WAITERS };
                if word.compare_exchange(seen, self.me | waiters, taking(), Relaxed).is_ok() {
                    if is_free {
                        return Ok(Grip::Clean);
                    }
                    if let Some(owner) = record_of(&self.space, seen).filter(|_| waiters != 0) {
                        futex::wake(&owner.mark);
                    }
                    crash_point!("lock: taken over, not repaired");
                    return Ok(Grip::OwnerDied);
                }
                races += 1;
            }
            if spins > 0 {
                spins -= 1;
                spin_loop();
                continue;
            }
            // A lock that can be had is worth another try, but not for ever: a peer may play with the word.
            let can_be_had = (is_free || is_abandoned) && races <= RACES;
            if !can_be_had && deadline.is_some_and(Deadline::passed) {
                return Err(self.stuck(seen));
            }
            let sleeps = !is_free && !is_abandoned;
            if sleeps
                && (seen & WAITERS != 0
                    || word.compare_exchange(seen, seen | WAITERS, Relaxed, Relaxed).is_ok())
            {
                let slice_ends = if mutant("no slices") { None } else { Deadline::after(slice) };
                self.sleep(word, seen | WAITERS, earlier(deadline, slice_ends));
                slice = LAST_SLICE.min(slice * 2);
            }
        }
    }

    /// Sleeps until the word changes or the thread that it names is marked.
    fn sleep(&self, word: &AtomicU32, held: u32, until: Option<Deadline>) {
        let slept = record_of(&self.space, held).and_then(|owner| {
            let mark = owner.mark.load(Acquire);
            // Marked since it was looked at: worth another look.
            if mark & OWNER_DIED != 0 {
                return Some(Sleep::Woken);
            }
            futex::wait_any(&[(word, held), (&owner.mark, mark)], until)
        });
        if matches!(slept, None | Some(Sleep::Failed(_))) {
            futex::wait(word, held, until);
        }
    }

    /// Releases a lock that this thread took at `place`.
    #[inline]
    pub(crate) fn unlock(&self, word: &AtomicU32, place: usize) {
        if self.is_forked() {
            return;
        }
        crash_point!("unlock: not yet");
        // ORDERING: release pairs with the acquire of the next owner.
        let release = if mutant("unlock without release") { Relaxed } else { Release };
        if word.compare_exchange(self.me, 0, release, Relaxed).is_err() {
            self.unlock_slow(word);
        }
        crash_point!("unlock: released, still noted");
        self.forget(place);
    }

    #[cold]
    fn unlock_slow(&self, word: &AtomicU32) {
        if mutant("store and wake split") {
            word.store(0, Release);
            crash_point!("unlock: stored, not woken");
            futex::wake(word);
        } else if word.load(Relaxed) == self.me | WAITERS {
            // All: one that is woken may be killed before it takes the lock, and would leave the others asleep.
            let sleepers = if mutant("one sleeper of a lock woken") { 1 } else { i32::MAX as u32 };
            futex::clear_and_wake(word, self.me | WAITERS, sleepers);
        }
        // Any other value is not ours to clear: somebody took us for dead and owns the lock now.
    }

    /// Takes back what `lock` announced.
    #[inline]
    fn forget(&self, place: usize) {
        // ORDERING: seen by survivors in program order, because a kill interrupts this thread alone.
        compiler_fence(SeqCst);
        let held = self.held.get() & !(1 << place);
        self.held.set(held);
        if held == 0 {
            self.marker.disarm(self.before.get());
        }
        self.own_record().holding[place].store(0, Relaxed);
    }

    #[inline]
    fn own_record(&self) -> &Record {
        &self.space.records()[self.record as usize]
    }

    /// Whether the owner that the lock word names can never release it.
    pub(crate) fn owner_is_gone(&self, word: u32) -> bool {
        let Some(record) = record_of(&self.space, word) else {
            return true; // No thread of this region has such a name: a forgery, and nobody to wait for.
        };
        // ORDERING: acquire pairs with the kernel's marking of a dead thread's record, and with a new owner's claim.
        let participant = record.owner.load(Acquire);
        if participant == 0 || owner_bits(index_of(word), record.generation.load(Acquire)) != word & OWNER {
            return true;
        }
        record.mark.load(Acquire) & OWNER_DIED != 0 || is_dead(&self.space, &self.prober, participant)
    }

    fn stuck(&self, word: u32) -> Arc<Error> {
        let owner = record_of(&self.space, word).map_or(0, |record| record.owner.load(Relaxed));
        let pid = pid_of(&self.space, owner);
        Error::LockStuck { region: self.space.label().clone(), owner, pid }.into()
    }
}

/// The ordering of a swap that takes a lock.
#[inline(always)]
fn taking() -> Ordering {
    if mutant("lock without acquire") { Relaxed } else { AcqRel }
}

/// Whether a lock word names a record, in whatever generation.
pub(crate) fn names(word: u32, record: u32) -> bool {
    word & OWNER != 0 && index_of(word) == record
}

/// The owner bits of a record in its present generation.
pub(crate) fn owner_bits(record: u32, generation: u32) -> u32 {
    (generation & 0x7fff) << 16 | (record + 1) & 0xffff
}

fn index_of(word: u32) -> u32 {
    (word & 0xffff).wrapping_sub(1)
}

/// The record that a lock word names, or `None` for no owner or a forged one.
pub(crate) fn record_of(space: &Space, word: u32) -> Option<&Record> {
    space.records().get(index_of(word) as usize)
}

#[cfg(not(loom))]
mod certificate {
    use super::*;
    use crate::layout::FREE;
    use crate::sys::lease::Probe;

    /// Whether a participant's id is out of date, or both of its lock bytes are free.
    ///
    /// Errs towards alive: an unanswered question is no proof.
    pub(crate) fn is_dead(space: &Space, prober: &Prober, participant: u64) -> bool {
        let (index, generation) = (participant as u32, (participant >> 32) as u32);
        let Some(slot) = space.slots().get(index as usize) else {
            return true;
        };
        let state = slot.state.load(Acquire);
        if (state >> 32) as u32 != generation || state as u32 == FREE {
            return true;
        }
        has_certificate(space, prober, index)
    }

    /// Whether nobody holds either lock byte of a slot.
    pub(crate) fn has_certificate(space: &Space, prober: &Prober, slot: u32) -> bool {
        let byte = space.lock_byte(slot);
        prober.state(byte) == Probe::Free && prober.state(byte + 1) == Probe::Free
    }

    /// The process id that a participant gave, for messages.
    pub(crate) fn pid_of(space: &Space, participant: u64) -> u32 {
        space.slots().get(participant as u32 as usize).map_or(0, |slot| slot.pid.load(Relaxed))
    }
}
#[cfg(not(loom))]
pub(crate) use certificate::{has_certificate, is_dead, pid_of};

/// In a model of threads everybody lives.
#[cfg(loom)]
pub(crate) fn is_dead(_space: &Space, _prober: &Prober, _participant: u64) -> bool {
    false
}

#[cfg(loom)]
pub(crate) fn pid_of(_space: &Space, _participant: u64) -> u32 {
    0
}
