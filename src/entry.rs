//! The waiter word: what a thread sleeps on, unless in a crowd, and how exactly one waker comes to own its wake.
//!
//! ```text
//!             enrol                    evaluated false
//!   IDLE ──────────────► OPEN ───────────────────────────► ASLEEP ──────┐
//!    ▲                    ▲  ▲        (no bit is set)        │          │ a waker claims it
//!    │ finish             │  └───────────────────────────────┘          │ through entry e
//!    └────────────────────┤             woke, or timed out              ▼
//!                         └──────────── claim given back ──────────── HELD(e)
//!                                                                       │ evaluated false: back to ASLEEP
//! ```
//!
//! 1. Only the word of a lead entry is used; all entries of one wait name the same lead. Wakers: ASLEEP → HELD(e), and
//!    whoever passes a claim on: HELD(e) → OPEN, both under the lock of e's head. LOOK, WIDE, TICK and GONE: anybody. All
//!    else is the owner's. All by read-modify-write but `start` and `finish`, which run while the wait is on no queue:
//!    what they overwrite was meant for no wait.
//! 2. A thread sleeps in the kernel only while the word is exactly ASLEEP. So any other bit, and any claim, ends the sleep
//!    or prevents it; a wake that finds OPEN needs no system call. One that committed with CROWD sleeps while its head's
//!    `flags` are what they were before: whoever sets a bit then changes them too. (The grace after a tick sleeps some
//!    milliseconds on OPEN, which nobody has to end.)
//! 3. LOOK means "look again": at the condition, at whether the queue was closed, at the interrupt flag, at one's own
//!    life. It may be set at any time by anybody. Committing to sleep fails while it is set, and it is cleared only
//!    before an evaluation, never after. So it is with WIDE and TICK, which say where to look, and whose word it is.
//! 4. A claim is made only of ASLEEP, and kept while its owner evaluates. If the evaluation is false, somebody else
//!    took what the wake announced, and the claim ends. If it was true through another queue, or the waiter leaves,
//!    the claim is passed on. So each exclusive wake meets one evaluation that began after it, or is passed on.
//! 5. A word with GONE is not claimed: its owner is believed dead, or has given up and could not leave. If he is alive
//!    and goes on, he clears it himself.
//!
//! Why no wakeup is lost: a waker changes the condition, then fence B, then looks for waiters. A waiter is enrolled
//! and OPEN, then fence A, then evaluates. Of any two such sequences one sees the other: the evaluation sees the
//! change, or the waker sees the waiter: ASLEEP, and claims or wakes it; or OPEN or HELD, and sets LOOK, which fails
//! the commit. (A wake whose count is used up before it meets a waiter was given to others, who evaluate instead.)

use std::num::NonZeroU32;

use crate::atomic::{AtomicU32, Ordering::*};
use crate::crash::mutant;
use crate::layout::{
    ALIGN, ASLEEP, CALL, CLAIM_SHIFT, CROWD, GONE, HELD, IDLE, LOOK, OPEN, QueueHead, STATE, STICKY, TICK,
    WIDE,
};
use crate::offset::Space;
use crate::sys::futex;

/// A lead entry's word.
#[derive(Clone, Copy)]
pub(crate) struct WaiterWord<'a>(pub(crate) &'a AtomicU32);

fn held(entry: u32) -> u32 {
    (entry + 1) << CLAIM_SHIFT | HELD
}

/// The entry through which a word is claimed.
pub(crate) fn claim_of(word: u32) -> Option<u32> {
    (word & STATE == HELD).then_some(word >> CLAIM_SHIFT).and_then(|name| name.checked_sub(1))
}

/// Whether the owner of such a word may be asleep in the kernel, and has to be woken.
pub(crate) fn may_sleep(word: u32) -> bool {
    word & STATE >= ASLEEP
}

/// The system call for a lead whose word says, since it was changed, that its owner [may sleep](may_sleep).
pub(crate) fn rouse(space: &Space, lead: u32) {
    rouse_with(space, lead, one_of_crowd(lead));
}

/// The same; if it is of a crowd, for all who have one of these bits.
pub(crate) fn rouse_with(space: &Space, lead: u32, bits: NonZeroU32) {
    let Some(entry) = space.entries().get(lead as usize) else {
        return;
    };
    let is_in_crowd = entry.word.load(Acquire) & CROWD != 0;
    match space.head(u64::from(entry.crowd.load(Relaxed)) * ALIGN) {
        Some(head) if is_in_crowd => rouse_crowd(head, bits),
        _ => futex::wake(&entry.word),
    }
}

/// For those of a head's crowd who have one of these bits. Who has yet to fall asleep finds `flags` changed.
#[inline]
pub(crate) fn rouse_crowd(head: &QueueHead, bits: NonZeroU32) {
    // ORDERING: none of its own: the kernel looks at `flags` under the lock that the call takes too.
    if !mutant("crowd not counted") {
        head.flags.fetch_add(CALL, Relaxed);
    }
    if !mutant("crowd not woken") {
        futex::wake_bitset(&head.flags, bits);
    }
}

/// The bit by which a call finds one of a crowd, and whoever shares it.
pub(crate) fn one_of_crowd(lead: u32) -> NonZeroU32 {
    NonZeroU32::new(1 << (lead % 32)).unwrap_or(NonZeroU32::MIN)
}

pub(crate) fn state_of(word: u32) -> u32 {
    word & STATE
}

impl<'a> WaiterWord<'a> {
    /// The owner enrols: evaluating, or committed at once if there is nothing to evaluate.
    pub(crate) fn start(self, asleep: bool) {
        self.0.store(if asleep { ASLEEP } else { OPEN }, Relaxed);
    }

    /// The owner begins an evaluation; returns what the word was, with the bits it clears.
    #[inline]
    pub(crate) fn open(self) -> u32 {
        let opened = |word| if word & STATE == HELD { word & !STICKY } else { OPEN };
        // (It is so already when a wait begins. What is set after this look fails the commit, as after a change.)
        let word = self.load();
        if word == opened(word) {
            return word;
        }
        self.update(|word| Some(opened(word))).unwrap_or_else(|word| word)
    }

    /// The owner evaluated false: commits to sleep, giving up a claim. False if it has to look again.
    pub(crate) fn commit(self, in_crowd: bool) -> bool {
        let asleep = if in_crowd { ASLEEP | CROWD } else { ASLEEP };
        if mutant("commit by store") {
            self.0.store(asleep, Relaxed);
            return true;
        }
        self.update(|word| (word & STICKY == 0).then_some(asleep)).is_ok()
    }

    /// The owner is awake: not to be claimed, but with all that others have set.
    pub(crate) fn wake(self) {
        let _ = self.update(|word| (word & STATE == ASLEEP).then_some(word & !(STATE | CROWD) | OPEN));
    }

    /// The owner of a wait without a condition was rung for nothing: clears LOOK without ceasing to be claimable, and
    /// with it what only a peer can have set.
    pub(crate) fn sleep_on(self) {
        self.0.fetch_and(!((1 << CLAIM_SHIFT) - 1) | STATE | GONE, AcqRel);
    }

    /// A waker meets an exclusive waiter through `entry`, whose head it has locked: claims it if it is asleep, or else
    /// tells it to look again. Returns what the word was; it was claimed if that was ASLEEP without GONE. `prepare` runs
    /// before each attempt at a claim, not before a look: of a waiter that is not claimed it must not change anything.
    pub(crate) fn claim_or_look(self, entry: u32, prepare: impl Fn()) -> u32 {
        self.update(|word| {
            let claimable =
                word & STATE == ASLEEP || mutant("claim of an evaluating waiter") && word & STATE == OPEN;
            if claimable && word & GONE == 0 {
                prepare();
                Some(held(entry) | word & (STICKY & !GONE))
            } else {
                Some(if mutant("no look for the awake") { word } else { word | LOOK })
            }
        })
        .unwrap_or_else(|word| word)
    }

    /// Gives a claim back, if it is still the one made through `entry`.
    pub(crate) fn release(self, entry: u32) {
        let _ = self.update(|word| (claim_of(word) == Some(entry)).then_some(OPEN | word & STICKY));
    }

    /// Tells the owner to look again; returns what the word was. If by that he [may sleep](may_sleep), the caller must
    /// wake the word.
    pub(crate) fn look(self) -> u32 {
        self.0.fetch_or(LOOK, AcqRel)
    }

    /// The same, at everything that it waits for.
    pub(crate) fn look_everywhere(self) -> u32 {
        let wide = if mutant("ring without wide") { 0 } else { WIDE };
        self.0.fetch_or(LOOK | wide, AcqRel)
    }

    /// The tick of the owner's process: to look everywhere, if it sleeps and nobody has told it to look. True if it has to
    /// be woken.
    pub(crate) fn tick(self) -> bool {
        // Who has told it may be stopped before he wakes it.
        self.0
            .fetch_update(AcqRel, Relaxed, |word| {
                (word & !CROWD == ASLEEP).then_some(word | LOOK | WIDE | TICK)
            })
            .map_or_else(may_sleep, may_sleep)
    }

    /// Marks the owner as believed dead; returns what the word was.
    pub(crate) fn gone(self) -> u32 {
        self.0.fetch_or(GONE | LOOK | WIDE, AcqRel)
    }

    /// The owner has left all queues.
    pub(crate) fn finish(self) {
        self.0.store(IDLE, Relaxed);
    }

    pub(crate) fn load(self) -> u32 {
        self.0.load(Acquire)
    }

    /// Replaces the word by what `change` makes of it; the old word, as `Ok` if it was replaced.
    fn update(self, change: impl FnMut(u32) -> Option<u32>) -> Result<u32, u32> {
        // ORDERING: a claim or LOOK carries what its maker did before, to the owner who then looks.
        self.0.fetch_update(AcqRel, Acquire, change)
    }
}
