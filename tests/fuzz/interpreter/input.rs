//! What the bytes of an input mean: a past, then steps of a hostile peer and of honest participants in turn.

use arbitrary::Arbitrary;

#[derive(Arbitrary, Debug, Clone)]
pub struct Input {
    pub past: Past,
    pub steps: Vec<Step>,
}

/// What the region looks like before the first step.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Past {
    /// One participant, doing nothing.
    Quiet,
    /// And one that was killed while it held a lock, had a claim and was enrolled in several ways.
    Killed,
}

/// `inner` is how many of the steps that follow run inside this one: in its condition, before its sleep, under its lock.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Step {
    // The hostile peer.
    Write {
        at: Place,
        value: Value,
    },
    Copy {
        from: Place,
        to: Place,
        words: u8,
    },
    Fill {
        at: Place,
        words: u8,
        seed: u8,
        small: bool,
    },
    // Honest participants.
    Attach,
    Detach,
    /// The steps that follow are those of another participant.
    Turn(u8),
    Meanwhile {
        inner: u8,
    },
    Name {
        what: u8,
        name: u8,
    },
    Wait {
        queue: u8,
        how: How,
        inner: u8,
        turns: u8,
    },
    WaitAround {
        queue: u8,
        how: How,
        inner: u8,
        turns: u8,
    },
    WaitLocked {
        queue: u8,
        lock: u8,
        how: How,
        inner: u8,
        turns: u8,
    },
    WaitMany {
        queues: [u8; 3],
        how: How,
        inner: u8,
        turns: u8,
    },
    WaitWoken {
        queue: u8,
        how: How,
    },
    Prepare {
        queue: u8,
        how: How,
        inner: u8,
        end: u8,
    },
    SetAdd {
        set: u8,
        queue: u8,
        how: How,
    },
    SetRemove {
        set: u8,
        member: u8,
    },
    SetWait {
        set: u8,
        how: How,
        inner: u8,
        turns: u8,
    },
    SetDrop {
        set: u8,
    },
    Wake {
        queue: u8,
        count: u8,
        class: u8,
        key: u8,
    },
    WakeSync {
        queue: u8,
        inner: u8,
    },
    Close {
        queue: u8,
    },
    Lock {
        lock: u8,
        inner: u8,
        repaired: bool,
    },
    Interrupt,
    Look {
        what: u8,
    },
}

/// How to wait: each bit is an option, see `Run::options`.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct How {
    pub bits: u8,
    pub class: u8,
    pub key: u8,
    /// Some microseconds, or a poll.
    pub timeout: u8,
}

/// A 32-bit word: of the `nth` element of a table, the one with number `word`.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Place {
    pub table: Table,
    pub nth: u8,
    pub word: u8,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Table {
    Header,
    Slots,
    Records,
    Entries,
    Objects,
    Memory,
}

/// What a hostile peer writes: rather something that could be true than any number.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Value {
    Small(u8),
    Any(u32),
    /// Changed by a little.
    Added(i8),
    Flipped {
        bit: u8,
    },
    /// A lock held by a record, in its present generation or another.
    LockedBy {
        record: u8,
        older: u8,
        waiters: bool,
    },
    /// A waiter word: state and bits in the low half, and a claim.
    Waiter {
        bits: u8,
        claim: u8,
    },
    /// The offset of something in user memory.
    Offset(u8),
}
