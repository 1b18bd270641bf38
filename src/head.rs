//! A queue's head under its lock: enrol, leave, wake, pass a wake on, close. It never sleeps and runs no user code.
//!
//! What is done, in which order, so that a kill between any two steps loses nothing:
//!
//! ```text
//! enrol     order, flags, key… · waiting + 1 · queue := head (from here it is a member) · links
//! leave     queue := 0 (from here it is none) · links · waiting − 1
//! wake      marks and claims in order of the list (a set's member is noted first) · unlock
//!           · one system call for every two leads, or for a crowd
//! pass on   a wake for the next · then the claim is cleared
//! close     CLOSED · then for each member: queue := 0, LOOK · links and count anew · unlock · wakes
//! ```
//!
//! 1. Whoever takes the lock from a dead owner rebuilds links and count from the entries before anything else, finishes a
//!    half-done close, and has the owners of sets look everywhere, whose members may be noted by half (5). Nothing else can
//!    be half-done: marks are repeated by the next step or by the ring.
//! 2. A waker who dies between marking and the system call is covered by the ring that follows every death: it sets
//!    LOOK in all leads, and wakes all that may be in the kernel, also those already claimed.
//! 3. `waiting` is read without the lock by wakers, so it is never too low: raised before, lowered after.
//! 4. Each entry is met once in a walk, by one read-modify-write of its word. A non-exclusive one is told to look. Of the
//!    exclusive, one that is asleep is claimed, and one that is awake is told to look again, because it may have
//!    evaluated before the change and commit after we have passed.
//! 5. A set asks only the members that were noted for it, so a member is noted before its owner is told to look. A note is
//!    two steps: the member says that it is among the ready, then it is put there. Who dies in between holds the lock: the
//!    repair puts the head's members in doubt, and tells their owners to look everywhere; they find out under the lock.
//! 6. A non-exclusive wait on one queue that finds others there sleeps on the head's `flags` in place of its word, so that
//!    one call wakes all of such a crowd. Nobody misses it: he reads `flags`, commits, and sleeps if they are still the
//!    same; whoever tells him to look after the commit changes them, then calls: who is not asleep by then finds them
//!    changed. One of a crowd alone is woken the same way, by one of 32 bits.
//! 7. The key and class of a claim are stored before it, so that a hand-on finds them; and only in the entry of a
//!    waiter seen asleep, because that of a claimed one still holds those of the claim.

use std::sync::Arc;
use std::time::Duration;

use crate::atomic::{Guarded64, Ordering::*, fence};
use crate::crash::{crash_point, mutant};
use crate::entry::{WaiterWord, claim_of, may_sleep, state_of};
use crate::error::{Error, Fallible};
use crate::layout::{ASLEEP, CLOSED, CROWD, EXCLUSIVE, Entry, GONE, LAST, PERSISTENT, PRIORITY, QueueHead};
use crate::list::{Broken, ENDLESS, List};
use crate::lock::Grip;
use crate::sys::process;
use crate::thread::{Inside, Thread};

/// The place for a region's own lock in `holding`.
pub(crate) const REGION_LOCK: usize = 0;
/// How often others may be quicker to note a member of the same set.
const RACES: u32 = 1000;
/// A wake without a limit.
pub(crate) const ALL: u32 = u32::MAX;

/// How many waiters a wake reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Woken {
    /// Exclusive waiters that were asleep and are now charged with this wake.
    pub exclusive: u32,
    /// Non-exclusive waiters that were asleep, or that this wake kept from falling asleep.
    pub nonexclusive: u32,
}

/// Whom to wake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wake {
    /// How many exclusive waiters at most.
    pub(crate) count: u32,
    pub(crate) class: u32,
    pub(crate) key: u32,
}

/// How an entry is to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enrolment {
    pub(crate) flags: u32,
    pub(crate) class: u32,
    pub(crate) key: u32,
}

/// Why an entry could not be enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    PriorityTaken,
}

/// A locked head. Dropping it unlocks, then wakes whom the work under the lock marked.
pub(crate) struct LockedHead<'t> {
    thread: &'t Thread,
    list: List<'t>,
    inside: Inside<'t>,
    is_held: bool,
}

/// Whether anybody waits, for a waker who has just changed something: if not, whoever enrols from now on sees the change.
#[inline]
pub(crate) fn has_sleepers(head: &QueueHead) -> bool {
    if !mutant("no fence B") {
        fence(SeqCst); // (B)
    }
    head.waiting.load(Relaxed) != 0
}

/// Locks the head at `offset`, repairing it if its last owner died inside.
///
/// Inlined, because a guard returned through memory is written by words and read by pairs of them, which stalls for longer
/// than the lock takes.
#[inline(always)]
pub(crate) fn lock(thread: &Thread, offset: u64) -> Fallible<LockedHead<'_>> {
    lock_within(thread, offset, thread.patience)
}

/// The same, with another patience than the thread's own.
#[inline(always)]
pub(crate) fn lock_within(thread: &Thread, offset: u64, patience: Duration) -> Fallible<LockedHead<'_>> {
    #[cold]
    fn misplaced(thread: &Thread, value: u64) -> Arc<Error> {
        let region = thread.space().label().clone();
        Error::Damaged { region, what: "offset of a queue", at: 0, value }.into()
    }
    let space = thread.space();
    let Some(head) = space.head(offset) else {
        return Err(misplaced(thread, offset));
    };
    let inside = thread.begin()?;
    let grip = thread.locker().lock(&head.lock, offset, REGION_LOCK, patience)?;
    match grip {
        Grip::Clean => Ok(LockedHead::new(thread, head, offset, inside)),
        Grip::OwnerDied => Ok(repaired(thread, head, offset, inside)),
    }
}

/// (Makes the guard itself: one lent to be repaired would have to be in memory always.)
#[cold]
#[inline(never)]
fn repaired<'t>(thread: &'t Thread, head: &'t QueueHead, offset: u64, inside: Inside<'t>) -> LockedHead<'t> {
    let mut locked = LockedHead::new(thread, head, offset, inside);
    locked.repair();
    locked
}

impl<'t> LockedHead<'t> {
    #[inline]
    fn new(thread: &'t Thread, head: &'t QueueHead, at: u64, inside: Inside<'t>) -> LockedHead<'t> {
        LockedHead { thread, list: List { space: thread.space(), head, at }, inside, is_held: true }
    }
}

impl LockedHead<'_> {
    fn head(&self) -> &QueueHead {
        self.list.head
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.list.entries()[index as usize]
    }

    /// Whether the entry is a member of this head.
    pub(crate) fn has(&self, index: u32) -> bool {
        self.list.entries().get(index as usize).is_some_and(|entry| entry.queue.load(Relaxed) == self.list.at)
    }

    /// How many wakes it has seen.
    pub(crate) fn wakes(&self) -> u64 {
        self.head().wakes.load(Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.head().flags.load(Relaxed) & CLOSED != 0
    }

    /// Enrols an entry of this participant that is on no queue; its `lead` and label are set.
    pub(crate) fn enrol(&mut self, index: u32, enrolment: Enrolment) -> Result<(), Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        let sole = EXCLUSIVE | PRIORITY;
        if enrolment.flags & sole == sole
            && let Ok(Some(first)) = self.list.first()
            && self.entry(first).flags.load(Relaxed) & PRIORITY != 0
        {
            return Err(Refusal::PriorityTaken);
        }
        let entry = self.entry(index);
        entry.flags.store(enrolment.flags, Relaxed);
        entry.class.store(enrolment.class, Relaxed);
        entry.key.store(enrolment.key, Relaxed);
        entry.fired.store(0, Relaxed);
        entry.order.store(self.next_order(enrolment.flags), Relaxed);
        let head = self.head();
        // ORDERING: no ordering of its own is needed: fence A follows before the condition is read.
        head.waiting.store(head.waiting.load(Relaxed).saturating_add(1), Relaxed);
        crash_point!("enrol: counted, not a member");
        entry.queue.store(self.list.at, Release);
        crash_point!("enrol: member, not linked");
        let linked = self.list.insert(index);
        self.mend(linked);
        Ok(())
    }

    /// Takes an entry off this head; nothing happens if it is not a member.
    pub(crate) fn leave(&mut self, index: u32) {
        if !self.has(index) {
            return;
        }
        if mutant("waiting lowered too early") {
            self.head().waiting.store(self.head().waiting.load(Relaxed).saturating_sub(1), Release);
            crash_point!("leave: lowered, still a member");
        }
        self.entry(index).queue.store(0, Relaxed);
        crash_point!("leave: no member, still linked");
        match self.list.remove(index) {
            Ok(()) => {
                crash_point!("leave: unlinked, still counted");
                let waiting = self.head().waiting.load(Relaxed);
                self.head().waiting.store(waiting.saturating_sub(1), Release);
            }
            Err(broken) => self.mend(Err(broken)),
        }
    }

    /// Wakes matching members in order, at most `wake.count` exclusive ones.
    pub(crate) fn wake(&mut self, wake: Wake) -> Woken {
        let mut woken = Woken::default();
        // Entries that a rotation moves behind this place were already visited.
        let end = rank_and_ticket(EXCLUSIVE, self.head().tickets.load(Relaxed));
        let (mut next, mut seen) = (self.list.first(), None);
        let (mut mended, mut hops, limit) = (false, 0, self.list.used().len());
        while woken.exclusive < wake.count {
            let index = match next {
                Ok(None) => break,
                Ok(Some(index)) if hops < limit => index,
                // A link that leads elsewhere, or a circle: met again at once, it is a peer's work.
                _ if mended => break,
                broken => {
                    (mended, hops) = (true, 0);
                    self.mend(broken.and(Err(ENDLESS)));
                    next = self.list.first();
                    continue;
                }
            };
            hops += 1;
            next = self.list.after(index);
            let order = self.entry(index).order.load(Relaxed);
            if order >= end {
                break;
            }
            if seen.is_none_or(|seen| order > seen) {
                seen = Some(order);
                self.offer(index, wake, &mut woken);
            }
        }
        let head = self.head();
        count(&head.wakes, 1);
        count(&head.claims, u64::from(woken.exclusive));
        head.processor.store(process::processor(), Relaxed);
        woken
    }

    /// One member's turn in a wake.
    fn offer(&mut self, index: u32, wake: Wake, woken: &mut Woken) {
        let entry = self.entry(index);
        if entry.class.load(Relaxed) & wake.class == 0 || entry.key.load(Relaxed) & wake.key == 0 {
            return;
        }
        let Some((lead, word)) = self.lead_of(index) else {
            return;
        };
        let flags = entry.flags.load(Relaxed);
        // Before the mark or the claim, so that whoever is woken by it finds it counted, and noted.
        entry.fired.fetch_add(1, Release);
        let is_noted = mutant("member not noted") || flags & PERSISTENT == 0 || self.note_ready(index, lead);
        if !is_noted {
            word.look_everywhere();
        }
        if flags & EXCLUSIVE == 0 {
            let before = word.look();
            crash_point!("wake: non-exclusive marked");
            woken.nonexclusive += u32::from(before & GONE == 0);
            self.wake_later(lead, before);
            return;
        }
        let before = word.claim_or_look(index, || {
            if !mutant("claim without its key") {
                entry.claim_key.store(wake.key, Relaxed);
                entry.claim_class.store(wake.class, Relaxed);
            }
            crash_point!("wake: key stored, not claimed");
        });
        if state_of(before) == ASLEEP && before & GONE == 0 {
            crash_point!("wake: claimed");
            woken.exclusive += 1;
            self.inside.wakes().push(lead);
            if flags & PERSISTENT != 0 {
                self.rotate(index);
            }
        } else {
            // Also of one who is believed dead: if he is not, whoever believes it may not have come to wake him.
            self.wake_later(lead, before);
        }
    }

    /// Notes for the owner of a set which member a wake has met; false if a peer does not let us.
    fn note_ready(&self, index: u32, lead: u32) -> bool {
        let (entry, ready) = (self.entry(index), &self.entry(lead).ready);
        // ORDERING: between fence B and this read, or the owner's clearing of it and his fence A, one sees the other: if he
        // has yet to clear it, he has yet to evaluate.
        if entry.ready_next.load(Relaxed) != 0 {
            return true;
        }
        let mut first = ready.load(Relaxed);
        for _ in 0..RACES {
            entry.ready_next.store(if first == 0 { LAST } else { first }, Relaxed);
            crash_point!("wake: member about to be noted");
            match ready.compare_exchange(first, index + 1, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => first = now,
            }
        }
        entry.ready_next.store(0, Relaxed);
        false
    }

    /// A persistent entry that was chosen goes to the tail, so that it does not win for ever.
    fn rotate(&mut self, index: u32) {
        if let Err(broken) = self.list.remove(index) {
            self.mend(Err(broken));
            return;
        }
        crash_point!("rotate: out of the list");
        let order = self.next_order(self.entry(index).flags.load(Relaxed));
        self.entry(index).order.store(order, Relaxed);
        let linked = self.list.insert(index);
        self.mend(linked);
    }

    /// Repeats the wake that a member holds for the next one, if it still holds it, and only then lets go.
    pub(crate) fn pass_on(&mut self, index: u32) {
        if self.lead_of(index).is_none_or(|(_, word)| claim_of(word.load()) != Some(index)) {
            return;
        }
        let entry = self.entry(index);
        let (mut key, mut class) = (entry.claim_key.load(Relaxed), entry.claim_class.load(Relaxed));
        if mutant("hand-on forgets the key") {
            (key, class) = (ALL, ALL);
        }
        if !mutant("claim not handed on") {
            self.wake(Wake { count: 1, class, key });
        }
        crash_point!("pass on: next is marked, claim still held");
        if let Some((_, word)) = self.lead_of(index) {
            word.release(index);
        }
        count(&self.head().hand_ons, 1);
    }

    /// Unlocks, then wakes: for callers who came to wake.
    #[inline(always)]
    pub(crate) fn unlock_and_wake(&mut self) {
        self.let_go();
        self.inside.wake(self.list.space, self.list.head);
    }

    /// The same for callers who rarely have somebody to wake.
    #[inline(always)]
    pub(crate) fn unlock(&mut self) {
        self.let_go();
        if self.inside.has_to_wake() {
            self.wake_noted();
        }
    }

    #[inline(always)]
    fn let_go(&mut self) {
        self.is_held = false;
        self.thread.locker().unlock(&self.list.head.lock, REGION_LOCK);
        crash_point!("wake: marked, not woken");
    }

    #[cold]
    fn wake_noted(&mut self) {
        self.inside.wake(self.list.space, self.list.head);
    }

    /// Not inlined: for guards that are dropped.
    #[inline(never)]
    fn unlock_dropped(&mut self) {
        self.unlock();
    }

    /// The first law of the list that does not hold.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        self.list.check()
    }

    /// Ends the queue: all members leave and are told.
    pub(crate) fn close(&mut self) -> u32 {
        self.head().flags.fetch_or(CLOSED, AcqRel);
        crash_point!("close: closed, members not told");
        self.expel()
    }

    /// Notes that the lead must be woken after the unlock, unless its owner is certainly not asleep.
    fn wake_later(&mut self, lead: u32, before: u32) {
        if may_sleep(before) && before & CROWD != 0 {
            self.inside.wake_in_crowd(lead);
        } else if may_sleep(before) {
            self.inside.wakes().push(lead);
        }
    }

    /// The lead of a member and its word, if it belongs to the same participant.
    fn lead_of(&self, index: u32) -> Option<(u32, WaiterWord<'_>)> {
        let entry = self.entry(index);
        let lead = entry.lead.load(Relaxed);
        let leader = self.thread.space().entries().get(lead as usize)?;
        (leader.owner.load(Relaxed) == entry.owner.load(Relaxed)).then_some((lead, WaiterWord(&leader.word)))
    }

    fn next_order(&self, flags: u32) -> u64 {
        let ticket = self.head().tickets.load(Relaxed);
        self.head().tickets.store(ticket.wrapping_add(1), Relaxed);
        rank_and_ticket(flags, ticket)
    }
}

impl Drop for LockedHead<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_held {
            self.unlock_dropped();
        }
    }
}

/// Counts what happened on a queue, for whoever has its lock.
fn count(counter: &Guarded64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The place of a new entry: priority first, then non-exclusive newest first, then exclusive oldest first.
fn rank_and_ticket(flags: u32, ticket: u64) -> u64 {
    const TICKET: u64 = (1 << 62) - 1;
    if flags & PRIORITY != 0 {
        !ticket & TICKET
    } else if flags & EXCLUSIVE == 0 {
        1 << 62 | !ticket & TICKET
    } else {
        2 << 62 | ticket & TICKET
    }
}

mod repair;
#[cfg(all(test, not(loom)))]
mod tests;
