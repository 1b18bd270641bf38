//! THE shared layout: what every byte of a region means, who may write it, and under which lock. No logic.
//!
//! ```text
//! 0        Header        one page: magic, version, layout hash, capacities
//! 4096     Slot    [P]   one for each attached process; its first two bytes in the file are the lock bytes
//!          Record [P+T]  one for each slot's bell, then one for each thread of users
//!          Entry   [E]   one for each enrolment on a head
//!          Object  [O]   the directory of named objects
//!          memory  [M]   user memory: heads, locks and atomics of the users
//! ```
//!
//! Every table starts at a multiple of 64 and follows the one before, so that the capacities alone, read once and
//! checked when the region is opened, say where everything is. Every field is an atomic for which every bit pattern
//! is valid: a peer may write anything at any time, and the worst that follows is a wrong number, checked before use.
//! Links, the claim in a waiter word and the owner in a lock word are indices plus one, so that zero bytes mean
//! "none"; `lead` and `record` of an entry mean something only while `owner` is set.
//!
//! # Bit laws
//!
//! Lock word: `WAITERS`(31) `generation`(30…16) `record + 1`(15…0). Owner bits 0: free, whatever `WAITERS` says.
//! `WAITERS` may be set without a sleeper; it may not be clear while somebody sleeps.
//!
//! Waiter word: `entry + 1`(31…8) `CROWD`(6) `TICK`(5) `WIDE`(4) `GONE`(3) `LOOK`(2) `state`(1…0); only the word of a
//! lead entry is used. `TICK` … `LOOK` may be set without a reason at any time by anybody, `WIDE` and `TICK` only together
//! with `LOOK`; only the owner clears them. `CROWD` is the owner's: he sets it only to sleep on the head that `crowd` names.

use crate::atomic::{AtomicU32, AtomicU64, Guarded32, Guarded64, Ordering::Relaxed};

/// The first eight bytes of every region.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"waitque\0");
/// Raised whenever the meaning of any byte changes.
pub(crate) const VERSION: u32 = 4;
/// Where the tables start.
pub(crate) const HEADER_SIZE: u64 = 4096;
/// The tables, and objects that hold heads, start at multiples of this.
pub(crate) const ALIGN: u64 = 64;

/// The state bits of a waiter word.
pub(crate) const STATE: u32 = 0b11;
/// Not waiting.
pub(crate) const IDLE: u32 = 0;
/// Enrolled, awake, evaluating.
pub(crate) const OPEN: u32 = 1;
/// Committed to sleep: the only state a waker may claim.
pub(crate) const ASLEEP: u32 = 2;
/// Claimed through the entry in the upper bits, until the condition has been answered.
pub(crate) const HELD: u32 = 3;
/// Look again before sleeping: the condition, the queue, the interrupt flag, or the owner's own life.
pub(crate) const LOOK: u32 = 1 << 2;
/// Not to be claimed: the owner is believed dead, or has given up and could not leave yet.
pub(crate) const GONE: u32 = 1 << 3;
/// Beside `LOOK`: at everything. At every member of a set, not only at those that wakes have met; at whether a queue was
/// closed.
pub(crate) const WIDE: u32 = 1 << 4;
/// Beside `LOOK`: it is the tick's.
pub(crate) const TICK: u32 = 1 << 5;
/// Beside `ASLEEP`: sleeps not here but on a head's `flags`, where one call wakes all who do.
pub(crate) const CROWD: u32 = 1 << 6;
/// What keeps a waiter from falling asleep.
pub(crate) const STICKY: u32 = LOOK | GONE | WIDE | TICK;
/// How far the claiming entry's index plus one is shifted.
pub(crate) const CLAIM_SHIFT: u32 = 8;

/// Somebody may sleep on the lock word.
pub(crate) const WAITERS: u32 = 1 << 31;
/// Both the record index plus one and its generation.
pub(crate) const OWNER: u32 = !WAITERS;

/// [`QueueHead::flags`]: nobody can wait here any more.
pub(crate) const CLOSED: u32 = 1;
/// [`QueueHead::flags`]: one more call for a crowd. All other bits count the calls, so that who then goes to sleep here does
/// not.
pub(crate) const CALL: u32 = 2;

/// [`Entry::flags`]: woken one at a time, oldest first.
pub(crate) const EXCLUSIVE: u32 = 1;
/// [`Entry::flags`]: placed before all that lack it.
pub(crate) const PRIORITY: u32 = 2;
/// [`Entry::flags`]: stays enrolled between waits, so it moves to the tail when it is claimed.
pub(crate) const PERSISTENT: u32 = 4;

/// [`Entry::ready_next`]: no other behind it.
pub(crate) const LAST: u32 = u32::MAX;

/// [`Slot::state`], lower half.
pub(crate) const FREE: u32 = 0;
/// Taken, owning no more than its bell's record.
pub(crate) const ATTACHING: u32 = 1;
/// In use, its life words registered.
pub(crate) const LIVE: u32 = 2;
/// Leaving: nobody takes it for alive, but it still owes a ring, and has not given everything back.
pub(crate) const DETACHING: u32 = 3;

/// How many life words a slot has, each watched by another participant.
pub(crate) const LIFE_WORDS: usize = 3;
/// How many locks a thread can hold at once: a region's own at place 0, users' locks at the others.
pub(crate) const HOLDING: usize = 8;

/// Text of up to `8 * N` bytes, padded with zeros. Torn reads are possible and harmless: it is for display, or
/// written before the word that publishes it.
#[repr(C)]
pub(crate) struct Text<const N: usize>([Guarded64; N]);

#[cfg(loom)]
impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text(core::array::from_fn(|_| Guarded64::new(0)))
    }
}

/// The first page. Written before the region is published, then only its last five fields.
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: Guarded64,
    pub(crate) version: Guarded32,
    pub(crate) objects: Guarded32,
    pub(crate) layout: Guarded64,
    pub(crate) size: Guarded64,
    pub(crate) participants: Guarded32,
    pub(crate) threads: Guarded32,
    pub(crate) entries: Guarded32,
    pub(crate) reserved: Guarded32,
    pub(crate) memory: Guarded64,
    pub(crate) created: Guarded64,
    /// Guards the directory: a robust lock word.
    pub(crate) directory_lock: AtomicU32,
    /// No slot at or above this index was ever used. Only grows.
    pub(crate) slots_used: AtomicU32,
    /// The same for records.
    pub(crate) records_used: AtomicU32,
    /// The same for entries.
    pub(crate) entries_used: AtomicU32,
    /// Deaths that were cleaned up.
    pub(crate) deaths: Guarded64,
}

/// One attached process. `state` changes by compare-and-swap; the life words are the bell's and the kernel's, the
/// doorbell is anybody's; the other fields are the owner's.
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// Generation in the upper half, `FREE` … `DETACHING` in the lower.
    pub(crate) state: AtomicU64,
    /// `TID | FUTEX_WAITERS` of the bell thread; the kernel sets `FUTEX_OWNER_DIED` when it dies.
    pub(crate) life: [LifeWord; LIFE_WORDS],
    /// The bell thread sleeps here too: bumped by newcomers it should watch, and to stop it.
    pub(crate) doorbell: AtomicU32,
    /// In the owner's PID namespace: for display only.
    pub(crate) pid: Guarded32,
    pub(crate) since: Guarded64,
    pub(crate) reserved: Guarded64,
}

/// Eight bytes apart, so that one `futex_offset` serves all nodes of the bell's robust list.
#[cfg_attr(loom, derive(Default))]
#[repr(C, align(8))]
pub(crate) struct LifeWord {
    pub(crate) word: AtomicU32,
    pub(crate) reserved: Guarded32,
}

/// One thread of a participant: first a record for each slot's bell, then those of users' threads. `owner` changes by
/// compare-and-swap, a bell's by whoever holds lock byte A of its slot; `mark` is the kernel's too; the other fields are
/// the owning thread's.
#[cfg_attr(loom, derive(Default))]
#[repr(C, align(64))]
pub(crate) struct Record {
    /// The participant; 0 is free.
    pub(crate) owner: AtomicU64,
    /// `TID | FUTEX_WAITERS`; the kernel sets `FUTEX_OWNER_DIED` when the thread dies holding a lock, and wakes one of
    /// those who wait for it: they sleep here too.
    pub(crate) mark: AtomicU32,
    /// Bumped at each claim; its low 15 bits are part of every lock word.
    pub(crate) generation: AtomicU32,
    pub(crate) tid: Guarded32,
    pub(crate) reserved: Guarded32,
    /// Offsets of the lock words it holds, or is about to take, or has just released.
    pub(crate) holding: [Guarded64; HOLDING],
    pub(crate) unused: [Guarded64; 5],
}

/// One enrolment. `owner` changes by compare-and-swap. The lead's `word` is anybody's, by read-modify-write. `queue`,
/// `order`, the links and the claim's key and class change only under the lock of the head named by `queue`. So do `fired`
/// and `ready_next`, but that the owner lowers the one and takes the other without it; and `doubt`, but that the owner also
/// sets it without it. The lead's `ready` grows under the lock of any member's head, and is emptied by the owner, by
/// read-modify-write. The rest belongs to the owner, and all of it but `crowd` rests while `queue` is not 0.
#[cfg_attr(loom, derive(Default))]
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// The waiter word, if this is a lead entry: a thread sleeps here.
    pub(crate) word: AtomicU32,
    /// Index of the lead entry; its own for a single wait.
    pub(crate) lead: Guarded32,
    /// The participant; 0 is free.
    pub(crate) owner: AtomicU64,
    /// Offset of the head it is enrolled on; 0 is none. This is the truth, the links below are a cache of it.
    pub(crate) queue: AtomicU64,
    /// Rank and ticket: the place in the queue, smallest first.
    pub(crate) order: Guarded64,
    pub(crate) flags: Guarded32,
    /// Which kinds of sleep this is: a wake's class mask must meet it.
    pub(crate) class: Guarded32,
    /// Which events it waits for: a wake's key must meet it.
    pub(crate) key: Guarded32,
    /// How often a wake met it since it was last looked at (for a non-exclusive entry: it was woken).
    pub(crate) fired: Guarded32,
    pub(crate) next: Guarded32,
    pub(crate) prev: Guarded32,
    /// Key and class of the wake that claimed it, for a hand-on to repeat.
    pub(crate) claim_key: Guarded32,
    pub(crate) claim_class: Guarded32,
    pub(crate) since: Guarded64,
    /// The thread's record, for display.
    pub(crate) record: Guarded32,
    /// A set's member: where in the set it is. A hint, checked before it is used.
    pub(crate) place: Guarded32,
    /// A set's lead: the members that wakes have met since it last looked, the newest first; index plus one.
    pub(crate) ready: AtomicU32,
    /// A set's member: the next of them, or `LAST`; 0 while it is not among them.
    pub(crate) ready_next: AtomicU32,
    /// A set's member: not 0 if `ready_next` may say that it is among them while it is not.
    pub(crate) doubt: AtomicU32,
    /// The head on which it sleeps in a crowd: its offset in units of [`ALIGN`].
    pub(crate) crowd: Guarded32,
    pub(crate) label: Text<4>,
}

/// One named object. `state` is stored last, under the directory lock, and never changes again.
#[repr(C, align(64))]
pub(crate) struct Object {
    pub(crate) state: AtomicU32,
    pub(crate) align: Guarded32,
    pub(crate) offset: Guarded64,
    pub(crate) size: Guarded64,
    pub(crate) reserved: Guarded64,
    pub(crate) tag: Text<4>,
    pub(crate) name: Text<8>,
    pub(crate) unused: [Guarded64; 8],
}

/// [`Object::state`]: complete. Anything else is a free place.
pub(crate) const READY: u32 = 1;

/// A wait-queue head in shared memory: 64 bytes, of which all zero is an open, empty queue.
///
/// Heads live in regions only: as named queues, or embedded in a user's own struct (see
/// [`shared_struct!`](crate::shared_struct)) and used through
/// [`Region::queue_at`](crate::Region::queue_at). Corresponds to the kernel's `wait_queue_head_t`.
#[repr(C, align(64))]
#[cfg_attr(loom, derive(Default))]
pub struct QueueHead {
    /// The robust lock of everything below.
    pub(crate) lock: AtomicU32,
    /// How many entries are enrolled. Never too low: raised before linking, lowered after unlinking.
    pub(crate) waiting: AtomicU32,
    pub(crate) first: Guarded32,
    pub(crate) last: Guarded32,
    /// `CLOSED`, and a count of [`CALL`]s: a crowd sleeps here.
    pub(crate) flags: AtomicU32,
    pub(crate) rescues: Guarded32,
    /// The next ticket.
    pub(crate) tickets: Guarded64,
    pub(crate) wakes: Guarded64,
    pub(crate) claims: Guarded64,
    pub(crate) hand_ons: Guarded64,
    pub(crate) recoveries: Guarded32,
    /// Where the last waker ran: a hint for who thinks of spinning.
    pub(crate) processor: Guarded32,
}

/// A robust lock in shared memory: 16 bytes, of which all zero is free.
///
/// Used through [`Region::lock_at`](crate::Region::lock_at).
#[repr(C, align(16))]
#[cfg_attr(loom, derive(Default))]
pub struct RobustLock {
    pub(crate) word: AtomicU32,
    /// 1 from the moment an owner died inside until somebody says that the data is repaired.
    pub(crate) died: AtomicU32,
    pub(crate) reserved: Guarded64,
}

impl<const N: usize> Text<N> {
    /// How many bytes fit.
    pub(crate) const BYTES: usize = N * 8;

    /// Writes `text`, cut to what fits at a character's boundary.
    #[inline]
    pub(crate) fn store(&self, text: &str) {
        if text.is_empty() {
            return self.0[0].store(0, Relaxed);
        }
        self.store_some(text);
    }

    fn store_some(&self, text: &str) {
        let mut end = text.len().min(Self::BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut chunks = text.as_bytes()[..end].chunks(8);
        for field in &self.0 {
            let mut bytes = [0; 8];
            let chunk = chunks.next().unwrap_or(&[]);
            bytes[..chunk.len()].copy_from_slice(chunk);
            field.store(u64::from_le_bytes(bytes), Relaxed);
        }
    }

    /// Reads up to the first zero byte; what is not UTF-8 is replaced.
    pub(crate) fn load(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|field| field.load(Relaxed).to_le_bytes()).collect();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

#[cfg(not(loom))]
mod assertions {
    use super::*;
    use core::mem::{align_of, offset_of, size_of};

    /// A fingerprint of every size and offset below, so that a build that lays them out differently is refused.
    pub(crate) const LAYOUT: u64 = {
        let facts = [
            VERSION as usize,
            size_of::<Header>(),
            size_of::<Slot>(),
            size_of::<Record>(),
            size_of::<Entry>(),
            size_of::<Object>(),
            size_of::<QueueHead>(),
            size_of::<RobustLock>(),
            offset_of!(Slot, doorbell),
            offset_of!(Record, holding),
            offset_of!(Entry, order),
            offset_of!(Entry, ready),
            offset_of!(Entry, label),
            offset_of!(Object, name),
            offset_of!(QueueHead, tickets),
            LIFE_WORDS,
            HOLDING,
        ];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut i = 0;
        while i < facts.len() {
            hash = (hash ^ facts[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        hash
    };

    const _: () = assert!(LIFE_WORDS == crate::sys::bell::LIFE_WORDS);
    const _: () = assert!(size_of::<LifeWord>() == crate::sys::bell::LIFE_STRIDE);

    macro_rules! at {
        ($type:ty { $($field:ident: $offset:literal),* $(,)? } size $size:literal align $align:literal) => {
            const _: () = {
                $(assert!(offset_of!($type, $field) == $offset);)*
                assert!(size_of::<$type>() == $size && align_of::<$type>() == $align);
            };
        };
    }
    at!(Header { magic: 0, version: 8, objects: 12, layout: 16, size: 24, participants: 32, threads: 36, entries: 40,
        memory: 48, created: 56, directory_lock: 64, slots_used: 68, records_used: 72, entries_used: 76, deaths: 80 }
        size 88 align 8);
    at!(Slot { state: 0, life: 8, doorbell: 32, pid: 36, since: 40, reserved: 48 } size 64 align 64);
    at!(Record { owner: 0, mark: 8, generation: 12, tid: 16, holding: 24, unused: 88 } size 128 align 64);
    at!(Entry { word: 0, lead: 4, owner: 8, queue: 16, order: 24, flags: 32, class: 36, key: 40, fired: 44, next: 48,
        prev: 52, claim_key: 56, claim_class: 60, since: 64, record: 72, place: 76, ready: 80, ready_next: 84,
        doubt: 88, crowd: 92, label: 96 } size 128 align 64);
    at!(Object { state: 0, align: 4, offset: 8, size: 16, reserved: 24, tag: 32, name: 64, unused: 128 }
        size 192 align 64);
    at!(QueueHead { lock: 0, waiting: 4, first: 8, last: 12, flags: 16, rescues: 20, tickets: 24, wakes: 32, claims: 40,
        hand_ons: 48, recoveries: 56, processor: 60 } size 64 align 64);
    at!(RobustLock { word: 0, died: 4, reserved: 8 } size 16 align 16);
    at!(LifeWord { word: 0, reserved: 4 } size 8 align 8);
}
#[cfg(not(loom))]
pub(crate) use assertions::LAYOUT;
