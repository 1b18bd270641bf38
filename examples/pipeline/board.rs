//! What parent and workers share: slots, each of which carries one piece of text and its count.
//!
//! ```text
//!              feeder            worker              worker             collector
//!     FREE ─────────────▶ FILLED ──────▶ its own id ────────▶ DONE ─────────────────▶ FREE
//!                                          │    ▲
//!                                          └────┘ another worker, once the owner is dead
//! ```
//!
//! The state is one word, and each arrow is one atomic instruction on it. So a worker that is killed leaves its slot
//! either as it was or one arrow further: its text is never lost, and only one `DONE` is ever counted. The count is
//! written before `DONE`; a dead owner's half-finished one is overwritten, and `is_alive` turns false only when
//! nothing that the dead did can happen any more.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use waitqueue::{ParticipantId, Region};

/// How many pieces can be on their way.
pub(crate) const SLOTS: usize = 64;
/// How many bytes of text a slot has room for.
pub(crate) const ROOM: usize = 8 * WORDS;
const WORDS: usize = 29;

/// States. Any other value is the id of the worker who has taken the slot: ids are never 0, and these two would be
/// those of the last attachment of a slot that no region has.
const FREE: u64 = 0;
const DONE: u64 = u64::MAX - 1;
const FILLED: u64 = u64::MAX;

waitqueue::shared_struct! {
    /// The one object of the region.
    #[tag = "pipeline v1"]
    pub(crate) struct Board {
        /// Whose run it is: the parent's id, or 0 when it is over.
        pub(crate) run: AtomicU64,
        slots: [Slot; SLOTS],
    }
}

waitqueue::shared_struct! {
    /// 256 bytes, so that neighbours do not share cache lines.
    #[tag = "pipeline slot"]
    pub(crate) struct Slot {
        state: AtomicU64,
        begins_line: AtomicU32,
        inside_word: AtomicU32,
        length: AtomicU32,
        count: AtomicU32,
        text: [AtomicU64; WORDS],
    }
}

/// A line, or a part of one that is too long for a slot.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) begins_line: bool,
    /// The word at its beginning has begun in the piece before, and was counted there.
    pub(crate) inside_word: bool,
}

/// What one piece contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) lines: u64,
    pub(crate) words: u64,
}

impl Board {
    /// Puts a piece into a free slot; false if there is none. There is only one feeder.
    pub(crate) fn fill(&self, piece: Piece, turn: &mut usize) -> bool {
        let free = self.in_turn(turn, |slot| slot.state.load(Acquire) == FREE);
        free.inspect(|slot| slot.fill(piece)).is_some()
    }

    /// Takes a slot that is filled, or that was taken by a worker who is dead.
    pub(crate) fn take(&self, region: &Region, turn: &mut usize) -> Option<&Slot> {
        let me = region.me().get();
        let take = |slot: &Slot, from| slot.state.compare_exchange(from, me, AcqRel, Relaxed).is_ok();
        let orphaned = |state| {
            let owner = ParticipantId::new(state).filter(|_| state < DONE);
            owner.is_some_and(|owner| !region.is_alive(owner))
        };
        self.in_turn(turn, |slot| slot.state.load(Relaxed) == FILLED && take(slot, FILLED)).or_else(|| {
            self.slots.iter().find(|slot| {
                let state = slot.state.load(Relaxed);
                orphaned(state) && take(slot, state)
            })
        })
    }

    /// Frees every slot that is done, and returns what is in them, and of how many. There is only one collector.
    pub(crate) fn collect(&self) -> (u64, Count) {
        let done = self.slots.iter().filter(|slot| slot.state.load(Acquire) == DONE);
        done.fold((0, Count::default()), |(pieces, total), slot| {
            let lines = total.lines + u64::from(slot.begins_line.load(Relaxed));
            let words = total.words + u64::from(slot.count.load(Relaxed));
            slot.state.store(FREE, Release);
            (pieces + 1, Count { lines, words })
        })
    }

    /// For a new run, when nobody else is there any more.
    pub(crate) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.state.store(FREE, Release));
    }

    /// The first slot from `turn` on, once round, for which `wanted` is true; the next search begins behind it.
    fn in_turn(&self, turn: &mut usize, wanted: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        let found = (0..SLOTS).map(|step| (*turn + step) % SLOTS).find(|at| wanted(&self.slots[*at]))?;
        *turn = found + 1;
        Some(&self.slots[found])
    }
}

impl Slot {
    fn fill(&self, piece: Piece) {
        for (word, bytes) in self.text.iter().zip(piece.text.chunks(8)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(value), Relaxed);
        }
        self.length.store(piece.text.len() as u32, Relaxed);
        self.begins_line.store(piece.begins_line.into(), Relaxed);
        self.inside_word.store(piece.inside_word.into(), Relaxed);
        self.state.store(FILLED, Release);
    }

    /// For the worker who has taken it.
    pub(crate) fn count_words(&self, region: &Region) {
        let mut text = [0; ROOM];
        for (bytes, word) in text.chunks_mut(8).zip(&self.text) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        let length = (self.length.load(Relaxed) as usize).min(ROOM);
        let mut inside = self.inside_word.load(Relaxed) != 0;
        let mut words = 0;
        for byte in &text[..length] {
            let was_inside = std::mem::replace(&mut inside, !byte.is_ascii_whitespace());
            words += u32::from(inside && !was_inside);
        }
        self.count.store(words, Relaxed);
        let _ = self.state.compare_exchange(region.me().get(), DONE, AcqRel, Relaxed);
    }
}
