//! What is configured, what a state holds, and the few operations on the shared words that all steps use.

/// Threads 0..3 are waiters, 3..7 helpers (wakers, closers, interrupters), 7..9 bell threads.
pub(crate) const HELPER: usize = 3;
pub(crate) const BELL: usize = 7;
pub(crate) const THREADS: usize = 9;
pub(crate) const NONE: u8 = 0xff;
/// A wake count that is never used up.
pub(crate) const ALL: u8 = 9;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cond {
    /// An item of the entry's queue, which a true evaluation takes.
    Take,
    /// Any item of the entry's queue; it stays.
    Flag,
    /// Never true.
    Never,
    /// A wait without a condition.
    Absent,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Waiter {
    pub(crate) queues: Vec<u8>,
    pub(crate) cond: Cond,
    pub(crate) exclusive: bool,
    pub(crate) key: u8,
    pub(crate) priority: bool,
    /// May time out, whenever it sleeps.
    pub(crate) timed: bool,
    /// May leave in the middle of an evaluation (a panic, a dropped guard).
    pub(crate) cancels: bool,
    /// Further waits of a set that stays enrolled; 0 is an ordinary wait.
    pub(crate) more_waits: u8,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Helper {
    /// Changes the condition (if `push`), then wakes `n` exclusive waiters.
    Wake {
        q: u8,
        push: bool,
        n: u8,
        key: u8,
    },
    Close(u8),
    Interrupt(u8),
}

/// One deliberate change to the protocol. `No` is the protocol; tests say of every other whether it must fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Twist {
    No,
    // Mutants.
    SiblingClaimKept,
    ClaimOpen,
    NoSecondWalk,
    RingWithoutLook,
    RingLeavesHeldAsleep,
    NoLastEvaluation,
    TimeoutKeepsClaim,
    HandOnForgetsKey,
    KeyStoredBeforeLooking,
    NoSecondRound,
    CloseWithoutLook,
    InterruptWithoutLook,
    CommitByStore,
    LookClearedAfterEvaluation,
    UnlinkBeforeHandOn,
    UnlinkBeforeLastEvaluation,
    ClearBeforeHandOn,
    ClaimDroppedOnWaking,
    NoRing,
    NoUnlinkOfDead,
    GoneIgnoredByWait,
    ReportFirst,
    // Other designs.
    ReportBeforeRing,
    WalkClaimsGone,
    CertificateOnly,
    OneWalk,
    BellOnlyRings,
    /// The last two together.
    Simplest,
    SecondWalkOnlyLooks,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: &'static str,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) helpers: Vec<Helper>,
    /// For each bell thread, the thread whose process it belongs to, or NONE if it has one of its own.
    pub(crate) bells: Vec<u8>,
    /// Bit t: the process of thread t may be killed.
    pub(crate) killable: u16,
    pub(crate) kills: u8,
    pub(crate) false_bell: u8,
    /// A killed waker may still change its condition until the certificate.
    pub(crate) late_write: bool,
    /// Helpers begin when every waiter is enrolled: then each wake is owed to somebody.
    pub(crate) gated: bool,
    pub(crate) twist: Twist,
}

impl Config {
    pub(crate) fn is(&self, twist: Twist) -> bool {
        let both = self.twist == Twist::Simplest && matches!(twist, Twist::OneWalk | Twist::BellOnlyRings);
        self.twist == twist || both
    }
    pub(crate) fn queue(&self, e: u8) -> usize {
        self.waiters[e as usize / 2].queues[e as usize % 2] as usize
    }
    /// Whether wakes are followed one by one: only waits without a condition are owed single wakes.
    pub(crate) fn counts_wakes(&self) -> bool {
        self.waiters.iter().any(|w| w.cond == Cond::Absent)
    }
    pub(crate) fn process(&self, t: usize) -> usize {
        match t.checked_sub(BELL).and_then(|b| self.bells.get(b)) {
            Some(&home) if home != NONE => home as usize,
            _ => t,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Pc {
    Done,
    Dead,
    // A waiter.
    Start,
    Enrol,
    Clear,
    Eval,
    Commit,
    FutexWait,
    Sleeping,
    LateUnlink,
    Leave,
    LeaveWalk,
    LeaveClear,
    LeaveWake,
    Between,
    // A helper.
    Push,
    Wake,
    WakeWalk,
    Close,
    CloseWalk,
    Interrupt,
    InterruptLook,
    FutexWake,
    // A bell thread.
    Watch,
    Hand,
    HandWalk,
    HandClear,
    HandWake,
    Ring,
    RingWake,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Lead {
    Idle,
    Open,
    Asleep,
    Held(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Outcome {
    Pending,
    Got(u8),
    Closed,
    TimedOut,
    Interrupted,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Bad {
    Fine,
    SleepsOnTrueCondition,
    SleepsOnClosedQueue,
    SleepsThoughClaimed,
    SleepsThoughFired,
    SleepsThoughInterrupted,
    SleepsThoughOwedAWake,
    StuckAwake,
    WakeConsumedTwice,
    WakeWithWrongKey,
    TimedOutWithoutLooking,
    ClaimHeldByTheDead,
    DeadStillLinked,
    NotRecovered,
    ReturnedButLinked,
}

/// A walk over a queue, under its lock, by whoever wakes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Walk {
    pub(crate) q: u8,
    pub(crate) key: u8,
    pub(crate) n: u8,
    pub(crate) second: bool,
    pub(crate) visited: u8,
    pub(crate) claimed: u8,
    /// Which wake this is (a ghost: no process knows it).
    pub(crate) origin: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Thread {
    pub(crate) pc: Pc,
    /// Waiter: index of its entry. Bell thread: whose death it treats.
    pub(crate) i: u8,
    /// Bell thread: entry or lead it has come to.
    pub(crate) j: u8,
    /// Bell thread: bell (1) or certificate (2).
    pub(crate) round: u8,
    /// Leads still to be futex-woken, bit per waiter.
    pub(crate) wake: u8,
    pub(crate) walk: Walk,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Word {
    pub(crate) lead: Lead,
    pub(crate) look: bool,
    pub(crate) gone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Wait {
    pub(crate) word: Word,
    pub(crate) outcome: Outcome,
    pub(crate) interrupted: bool,
    pub(crate) late: bool,
    /// It saw GONE in its own word (a false bell).
    pub(crate) saw_gone: bool,
    /// Ghost: its condition held when its time ran out, and it has not looked since.
    pub(crate) unseen: bool,
    pub(crate) waits: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) fired: bool,
    pub(crate) key: u8,
    pub(crate) origin: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) items: [u8; 2],
    pub(crate) closed: [bool; 2],
    pub(crate) lock: [u8; 2],
    /// Entries of each queue in order: what the entry table says, whoever may have died.
    pub(crate) list: [[u8; 3]; 2],
    pub(crate) waits: [Wait; 3],
    pub(crate) entries: [Entry; 6],
    pub(crate) threads: [Thread; THREADS],
    /// By process: 0 alive, 1 killed but still writing, 2 certified dead, 3 alive but its bell rang.
    pub(crate) death: [u8; THREADS],
    /// By process: how many rounds of the death rule are done.
    pub(crate) rounds: [u8; THREADS],
    pub(crate) kills: u8,
    /// Wakes whose walk is over (bit per helper), and how often each was answered (ghosts).
    pub(crate) walked: u8,
    pub(crate) answered: [u8; 4],
    pub(crate) bad: Bad,
}

pub(crate) const NO_WALK: Walk =
    Walk { q: 0, key: 0, n: 0, second: false, visited: 0, claimed: 0, origin: 0 };

/// Where a waiter or helper begins.
pub(crate) fn first_pc(cfg: &Config, t: usize) -> Pc {
    match t.checked_sub(HELPER).map(|h| cfg.helpers[h]) {
        None => Pc::Start,
        Some(Helper::Wake { push: true, .. }) => Pc::Push,
        Some(Helper::Wake { push: false, .. }) => Pc::Wake,
        Some(Helper::Close(_)) => Pc::Close,
        Some(Helper::Interrupt(_)) => Pc::Interrupt,
    }
}

impl State {
    pub(crate) fn new(cfg: &Config) -> State {
        let thread = Thread { pc: Pc::Done, i: 0, j: 0, round: 0, wake: 0, walk: NO_WALK };
        let wait = Wait {
            word: Word { lead: Lead::Idle, look: false, gone: false },
            outcome: Outcome::Pending,
            interrupted: false,
            late: false,
            saw_gone: false,
            unseen: false,
            waits: 0,
        };
        let mut s = State {
            items: [0; 2],
            closed: [false; 2],
            lock: [NONE; 2],
            list: [[NONE; 3]; 2],
            waits: [wait; 3],
            entries: [Entry { fired: false, key: 0, origin: 0 }; 6],
            threads: [thread; THREADS],
            death: [0; THREADS],
            rounds: [0; THREADS],
            kills: cfg.kills,
            walked: 0,
            answered: [0; 4],
            bad: Bad::Fine,
        };
        for (w, waiter) in cfg.waiters.iter().enumerate() {
            s.threads[w].pc = first_pc(cfg, w);
            s.waits[w].waits = waiter.more_waits;
        }
        for h in 0..cfg.helpers.len() {
            s.threads[HELPER + h].pc = first_pc(cfg, HELPER + h);
        }
        for b in 0..cfg.bells.len() {
            s.threads[BELL + b].pc = Pc::Watch;
        }
        s
    }

    pub(crate) fn linked(&self, cfg: &Config, e: u8) -> bool {
        self.list[cfg.queue(e)].contains(&e)
    }

    /// Non-exclusive entries go before their class, newest first; exclusive ones behind it, oldest first.
    pub(crate) fn link(&mut self, cfg: &Config, e: u8) {
        let class = |e: u8| {
            let w = &cfg.waiters[e as usize / 2];
            if w.priority { 0 } else { 1 + u8::from(w.exclusive) }
        };
        let exclusive = cfg.waiters[e as usize / 2].exclusive;
        let list = &mut self.list[cfg.queue(e)];
        let before = |&&o: &&u8| o != NONE && (class(o) < class(e) || (exclusive && class(o) == class(e)));
        let at = list.iter().take_while(before).count();
        assert!(list[2] == NONE, "no room");
        list.copy_within(at..2, at + 1);
        list[at] = e;
    }

    pub(crate) fn unlink(&mut self, cfg: &Config, e: u8) {
        let list = &mut self.list[cfg.queue(e)];
        if let Some(at) = list.iter().position(|&o| o == e) {
            list.copy_within(at + 1.., at);
            list[2] = NONE;
        }
    }

    pub(crate) fn free(&self, q: usize) -> bool {
        self.lock[q] == NONE
    }

    /// Sets LOOK and remembers to wake the lead if it sleeps. One that is about to sleep will see the changed word.
    pub(crate) fn look(&mut self, t: usize, w: usize) {
        self.waits[w].word.look = true;
        self.note(t, w);
    }

    pub(crate) fn note(&mut self, t: usize, w: usize) {
        if self.threads[w].pc == Pc::Sleeping {
            self.threads[t].wake |= 1 << w;
        }
    }

    /// One futex wake of those noted; the sleeper looks at its word again.
    pub(crate) fn futex_wake(&mut self, t: usize) {
        let w = self.threads[t].wake.trailing_zeros() as usize;
        self.threads[t].wake &= !(1 << w);
        if self.threads[w].pc == Pc::Sleeping {
            self.threads[w].pc = Pc::FutexWait;
        }
    }

    /// A claim through entry `e` was answered: its wake is used.
    pub(crate) fn answer(&mut self, cfg: &Config, e: u8) {
        if !cfg.counts_wakes() {
            return;
        }
        let origin = self.entries[e as usize].origin as usize;
        let Helper::Wake { n, .. } = cfg.helpers[origin] else { unreachable!() };
        self.answered[origin] = (self.answered[origin] + 1).min(ALL);
        let untouched = self.kills == cfg.kills && !self.death.contains(&3);
        if untouched && self.answered[origin] > n {
            self.bad = Bad::WakeConsumedTwice;
        }
    }
}
