//! What is said of each bench, the bars that it is held to, and why somebody else is faster where that is so.

use waitqueue_bench::bodies::{HOLDS, WAKE};

/// One bench, with what goes with it: `roundtrip` and `roundtrip-crates`.
pub(crate) struct Chapter {
    pub(crate) bench: &'static str,
    /// How it is run.
    pub(crate) command: &'static str,
    pub(crate) title: &'static str,
    /// A sentence, without its full stop.
    pub(crate) about: &'static str,
    /// What one has to know to read the figures.
    pub(crate) how: &'static str,
    /// Where in a row the figure is by which one is faster than another, if that is a question.
    pub(crate) order: Option<&'static str>,
    pub(crate) short: &'static [Short],
    pub(crate) bars: &'static [Bar],
    /// A part of somebody's name, and why that one is faster where it is.
    pub(crate) why: &'static [(&'static str, &'static str)],
}

/// A line of the summary: the first row that is meant, its figure, and some of its ratios.
pub(crate) struct Short {
    pub(crate) says: &'static str,
    pub(crate) rows: &'static [Rule],
    pub(crate) figure: Figure,
    pub(crate) ratios: &'static [&'static str],
}

/// What some figure must not exceed, in any row that is meant.
pub(crate) struct Bar {
    pub(crate) says: &'static str,
    pub(crate) rows: &'static [Rule],
    pub(crate) figure: Figure,
    pub(crate) at_most: f64,
}

/// Which rows are meant: all rules have to hold. The first of each is a JSON pointer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// There is this text.
    Is(&'static str, &'static str),
    /// There is one of these texts.
    Among(&'static str, &'static [&'static str]),
    /// There is a larger number.
    Over(&'static str, f64),
    /// It is waitqueue's, however it waits.
    Ours,
}

/// Which figure of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    /// The median of a ratio: "÷ bare futex".
    Ratio(&'static str),
    /// What a JSON pointer leads to.
    At(&'static str),
}

use Figure::{At, Ratio};
use Rule::{Among, Is, Ours, Over};

const MEDIAN: Figure = At("/p50_ns");
const SLEEPING: Rule = Is("/subject", "waitqueue");
const DEFAULT: Rule = Is("/subject", "waitqueue, default");
const ASLEEP: Rule = Is("/note", "");
const TWO_CPUS: Rule = Is("/case/pinning", "two CPUs");
const ONE_CPU: Rule = Is("/case/pinning", "one CPU");
const LAST_RUNS: Rule = Is("/case/until", "the last one runs");
const WAKER_FREE: Rule = Is("/case/until", "the waker is free");
const DISPENSED: Rule = Is("/case/token", "dispensed");

const FUTEX: &str = "÷ bare futex";
const CONDVAR: &str = "÷ glibc shared condvar";
const FASTEST: &str = "÷ the fastest peer";
const NEXT: &str = "÷ the fastest but the futex";
const BETTER: &str = "÷ the better of the first two";
const WAITV: &str = "÷ futex_waitv";
const EPOLL: &str = "÷ eventfd, epoll";
const MUTEX: &str = "÷ glibc robust mutex";

const BY_LEAVING_OUT: &str =
    "one word and two system calls, and no list: nobody knows who waits, and nobody notices a death";
const BY_COUNTING: &str =
    "a count in one word; no condition, no list, and a wake that a dead process was chosen for is gone";
const BY_LOCKING_LITTLE: &str =
    "who waits is on no list that survives its death; a waiter that dies inside hangs the others";
const IN_THE_KERNEL: &str = "the list of who sleeps is the kernel's, on the way of a system call that is made anyhow; \
     one waits for a number in a file, not for a condition on shared memory";
const WITHIN_A_PROCESS: &str = "it works within one process, where nobody dies alone";

/// In the order of the page.
pub(crate) const CHAPTERS: &[Chapter] = &[
    Chapter {
        bench: "roundtrip",
        command: "cargo bench --bench roundtrip",
        title: "Round trip, asleep",
        about: "Two processes in turns, each of which sleeps until the other has replied",
        how: "Where each has a processor of its own, both pause before they send, so that the other is asleep by then; \
              the pauses are in no figure. On one processor, and where the kernel likes, the woken does not take the \
              processor from its waker (`SCHED_BATCH`); \"preempting\" is without that, and there the reply is often \
              there before anybody slept, which is marked \"awake\". The second picture has the crates.",
        order: Some("/p50_ns"),
        short: &[
            Short {
                says: "round trip, both asleep, on two CPUs",
                rows: &[SLEEPING, TWO_CPUS],
                figure: MEDIAN,
                ratios: &[FUTEX, NEXT],
            },
            Short {
                says: "round trip, both asleep, on one CPU",
                rows: &[SLEEPING, ONE_CPU],
                figure: MEDIAN,
                ratios: &[FUTEX, FASTEST],
            },
        ],
        bars: &[
            Bar {
                says: "within 1.10 × a bare futex on two CPUs and unpinned",
                rows: &[SLEEPING, ASLEEP, Among("/case/pinning", &["two CPUs", "unpinned"])],
                figure: Ratio(FUTEX),
                at_most: 1.10,
            },
            Bar {
                says: "faster there than all others",
                rows: &[SLEEPING, ASLEEP, Among("/case/pinning", &["two CPUs", "unpinned"])],
                figure: Ratio(NEXT),
                at_most: 1.0,
            },
            Bar {
                says: "within 1.10 × the fastest peer on one CPU",
                rows: &[SLEEPING, ASLEEP, ONE_CPU],
                figure: Ratio(FASTEST),
                at_most: 1.10,
            },
        ],
        why: &[
            ("bare futex", BY_LEAVING_OUT),
            ("futex_waitv", BY_LEAVING_OUT),
            ("semaphore", BY_COUNTING),
            ("condvar", BY_LOCKING_LITTLE),
            ("eventfd", IN_THE_KERNEL),
            ("pipe", IN_THE_KERNEL),
            ("socket", IN_THE_KERNEL),
            ("raw_sync", BY_LOCKING_LITTLE),
        ],
    },
    Chapter {
        bench: "roundtrip_spin",
        command: "cargo bench --bench roundtrip_spin",
        title: "Round trip, awake",
        about: "The same on two processors, with replies that come at once",
        how: "Two processes that spin on bare atomics are the least that is possible. A sample is the mean of 16 round \
              trips: reading the clock takes about as long as one.",
        order: Some("/p50_ns"),
        short: &[Short {
            says: "round trip with a reply at once, by default",
            rows: &[DEFAULT],
            figure: MEDIAN,
            ratios: &["÷ bare atomics", "CPU ÷ bare atomics"],
        }],
        bars: &[Bar {
            says: "by default within 2 × two processes that spin on bare atomics",
            rows: &[DEFAULT],
            figure: Ratio("÷ bare atomics"),
            at_most: 2.0,
        }],
        why: &[(
            "bare atomics",
            "a store and a load: nobody could sleep there, so nobody has to look for sleepers",
        )],
    },
    Chapter {
        bench: "mixed",
        command: "cargo bench --bench mixed",
        title: "Replies that take time",
        about: "Whether it is better to sleep or to spin, and what the default makes of it",
        how: "Each phase has one reply time, and begins after fifty replies of the other kind, short or long; its own \
              first hundred are not measured. Compared by the mean, in which a wrong decision shows even if it is rare. \
              The last case has reply times at random, and no bar.",
        order: None,
        short: &[Short {
            says: "the wait for a reply of 10 µs, by default",
            rows: &[DEFAULT, Is("/case/reply_us", "10.0")],
            figure: At("/more/mean_ns"),
            ratios: &[BETTER],
        }],
        bars: &[
            Bar {
                says: "the default takes at most 1.15 × the better of always asleep and always awake",
                rows: &[DEFAULT, Over("/case/reply_us", 0.0)],
                figure: Ratio(BETTER),
                at_most: 1.15,
            },
            Bar {
                says: "and 1.3 × the processor time of always asleep, where a reply takes more than 50 µs",
                rows: &[DEFAULT, Over("/case/reply_us", 50.0)],
                figure: Ratio("asker's CPU ÷ waitqueue"),
                at_most: 1.3,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "idle_wake",
        command: "cargo bench --bench idle_wake",
        title: "Nothing to do",
        about: "Waking nobody, and waiting for what is so already",
        how: "By criterion, in one process. `parking_lot_core` and `event-listener` work within one process only, and are \
              here to compare with.",
        order: Some("/p50_ns"),
        short: &[
            Short {
                says: "waking nobody",
                rows: &[Ours, Is("/case/call", WAKE)],
                figure: MEDIAN,
                ratios: &[],
            },
            Short {
                says: "waiting for what is so already",
                rows: &[Ours, Is("/case/call", HOLDS)],
                figure: MEDIAN,
                ratios: &[],
            },
        ],
        bars: &[
            Bar {
                says: "waking nobody takes at most 10 ns",
                rows: &[Ours, Is("/case/call", WAKE)],
                figure: MEDIAN,
                at_most: 10.0,
            },
            Bar {
                says: "waiting for what is so already takes at most 5 ns",
                rows: &[Ours, Is("/case/call", HOLDS)],
                figure: MEDIAN,
                at_most: 5.0,
            },
            Bar {
                says: "neither makes a system call",
                rows: &[Ours],
                figure: At("/system_calls"),
                at_most: 0.0,
            },
        ],
        why: &[
            ("condvar", "a look at a word, without the fence that makes it safe to look without a lock"),
            ("parking_lot_core", WITHIN_A_PROCESS),
            ("event-listener", WITHIN_A_PROCESS),
        ],
    },
    Chapter {
        bench: "wait_many",
        command: "cargo bench --bench wait_many",
        title: "Many queues, named at each wait",
        about: "One waits on 2 to 4,096 queues, another wakes one of them",
        how: "The waker has seen in `/proc` that the waiter sleeps; looking there is in no figure. Time is from just before \
              the wake until the waiter has the value; that for enrolling and leaving is of a wait whose last \
              condition is true when it is evaluated again, and contains two evaluations of each.",
        order: Some("/p50_ns"),
        short: &[Short {
            says: "a wake of one of 128 queues",
            rows: &[Is("/subject", "waitqueue, wait_many"), Is("/case/queues", "128")],
            figure: MEDIAN,
            ratios: &[WAITV, "CPU ÷ futex_waitv"],
        }],
        bars: &[
            Bar {
                says: "enrolling and leaving takes at most 60 ns for each queue",
                rows: &[Ours],
                figure: At("/more/ns_per_queue"),
                at_most: 60.0,
            },
            Bar {
                says: "at 128 queues the waiter takes at most 0.6 × the processor time that it takes with `futex_waitv`",
                rows: &[Ours, Is("/case/queues", "128")],
                figure: Ratio("CPU ÷ futex_waitv"),
                at_most: 0.6,
            },
            Bar {
                says: "and is there as soon",
                rows: &[Ours, Is("/case/queues", "128")],
                figure: Ratio(WAITV),
                at_most: 1.0,
            },
        ],
        why: &[
            (
                "futex_waitv",
                "the kernel enqueues on up to 128 words itself; two wakes on two of them count as one",
            ),
            ("poll", "the kernel keeps its lists to itself, and needs no lock that others may die under"),
        ],
    },
    Chapter {
        bench: "wait_set",
        command: "cargo bench --bench wait_set",
        title: "Many queues, enrolled once",
        about: "One stays enrolled on 1 to 10,000 queues, another wakes one of them",
        how: "As above. Each of iceoryx2's lines is a service with files of its own, so it has at most 100 here.",
        order: Some("/p50_ns"),
        short: &[Short {
            says: "a wake of one of 10,000 queues on which one stays enrolled",
            rows: &[Ours, Is("/case/queues", "10000")],
            figure: MEDIAN,
            ratios: &["÷ with 1", EPOLL],
        }],
        bars: &[
            Bar {
                says: "with 10,000 queues within 1.3 × what it is with one",
                rows: &[Ours, Is("/case/queues", "10000")],
                figure: Ratio("÷ with 1"),
                at_most: 1.3,
            },
            Bar {
                says: "faster than `epoll` with eventfds, with any number",
                rows: &[Ours],
                figure: Ratio(EPOLL),
                at_most: 1.0,
            },
        ],
        why: &[(
            "epoll",
            "the kernel's own list of what is ready is handed out without looking at the others",
        )],
    },
    Chapter {
        bench: "wake_all",
        command: "cargo bench --bench wake_all",
        title: "Waking all",
        about: "One wakes 1 to 256 processes that sleep on the same queue",
        how: "On two processors, which the woken share with their waker.",
        order: Some("/p50_ns"),
        short: &[Short {
            says: "waking 256 processes, until the last one runs",
            rows: &[SLEEPING, LAST_RUNS, Is("/case/waiters", "256")],
            figure: MEDIAN,
            ratios: &[CONDVAR],
        }],
        bars: &[
            Bar {
                says: "the last one runs within 1.1 × the broadcast of a shared condition variable",
                rows: &[SLEEPING, LAST_RUNS],
                figure: Ratio(CONDVAR),
                at_most: 1.1,
            },
            Bar {
                says: "the waker is free within 1.2 × the broadcast",
                rows: &[SLEEPING, WAKER_FREE],
                figure: Ratio(CONDVAR),
                at_most: 1.2,
            },
            Bar {
                says: "a stretch: the waker is free within 0.5 × the broadcast",
                rows: &[SLEEPING, WAKER_FREE],
                figure: Ratio(CONDVAR),
                at_most: 0.5,
            },
        ],
        why: &[
            (
                "bare futex",
                "all sleep on one word, and are on no list; here each is told by a word of its own as well, before \
                 the one call, and leaves the queue under its lock",
            ),
            ("condvar", "nobody is told beforehand, and who was woken is on no list that he has to leave"),
            (
                "semaphore",
                "a post while the last one woken has not run yet is an addition and a short system call",
            ),
        ],
    },
    Chapter {
        bench: "handoff",
        command: "cargo bench --bench handoff",
        title: "Handing on",
        about: "A token goes round among 2, 8 and 32 processes, each an exclusive waiter",
        how: "Dispensed: one process hands it out, and gets it back before it does so again, so whoever has waited longest \
              has it. Passed on: whoever has it lays it down for the others, and waits for it again, so who is awake may \
              be quicker than who was woken; the semaphore even takes its own post back. How many were chosen for each \
              token is told by the queue itself; how even it is, by the tokens of each process.",
        order: Some("/p50_ns"),
        short: &[Short {
            says: "handing a token to the next of 8 who wait",
            rows: &[SLEEPING, DISPENSED, Is("/case/waiters", "8")],
            figure: MEDIAN,
            ratios: &[CONDVAR],
        }],
        bars: &[
            Bar {
                says: "one waiter chosen for each token",
                rows: &[SLEEPING, DISPENSED],
                figure: At("/more/claims_per_token"),
                at_most: 1.005,
            },
            Bar {
                says: "over a minute none of 8 waiters has 2 % more or less than the others",
                rows: &[SLEEPING, Over("/case/seconds", 59.0)],
                figure: At("/more/spread"),
                at_most: 0.02,
            },
        ],
        why: &[
            ("bare futex", BY_LEAVING_OUT),
            (
                "semaphore",
                "who posts may take his own post back at once, without anybody being woken: no hand-over at all",
            ),
            ("condvar", BY_LOCKING_LITTLE),
        ],
    },
    Chapter {
        bench: "contended",
        command: "cargo bench --bench contended",
        title: "Contention",
        about: "2 to 16 who put and as many who take, over one pair of queues, or each two over a pair of their own",
        how: "A pair is a buffer with room for as many items as there are on each side: one queue for items, one for room. \
              The figure that counts is the mean, the time of all divided by the items.",
        order: Some("/more/mean_ns"),
        short: &[Short {
            says: "an item through a buffer, 16 who put and 16 who take",
            rows: &[SLEEPING, Is("/case/queues", "one pair"), Is("/case/wakers", "16")],
            figure: At("/more/mean_ns"),
            ratios: &[CONDVAR, "÷ with 2"],
        }],
        bars: &[
            Bar {
                says: "an item takes at most 1.5 × with 16 on each side what it takes with 2",
                rows: &[Ours, Is("/case/wakers", "16")],
                figure: Ratio("÷ with 2"),
                at_most: 1.5,
            },
            Bar {
                says: "below a shared condition variable, with any number",
                rows: &[Ours],
                figure: Ratio(CONDVAR),
                at_most: 1.0,
            },
        ],
        why: &[("bare futex", BY_LEAVING_OUT), ("semaphore", BY_COUNTING), ("condvar", BY_LOCKING_LITTLE)],
    },
    Chapter {
        bench: "recovery",
        command: "cargo bench -p waitqueue-peers --bench recovery",
        title: "After a death",
        about: "From just before SIGKILL until whoever is next runs, beside a robust mutex of the C library",
        how: "*lock*: the victim holds a robust lock. *hand-on*: it was chosen by a wake, and has not run yet. *inside*: it \
              is in the middle of enrolling, with the queue locked. The victims are small, have touched 1 GiB, or have 64 \
              threads that never rest. There is nothing to compare the last two with: with the others the wake is lost, or \
              the survivor hangs.",
        order: Some("/p50_ns"),
        short: &[
            Short {
                says: "the holder of a lock is killed: the next one has it after",
                rows: &[Is("/subject", "waitqueue, lock"), Is("/case/victim", "small")],
                figure: MEDIAN,
                ratios: &[MUTEX],
            },
            Short {
                says: "the chosen waiter is killed: the next one runs after",
                rows: &[Is("/subject", "waitqueue, hand-on"), Is("/case/victim", "small")],
                figure: MEDIAN,
                ratios: &[MUTEX],
            },
        ],
        bars: &[],
        why: &[("robust mutex", "the kernel itself frees it, and nothing has to be repaired")],
    },
    Chapter {
        bench: "rebuild",
        command: "cargo bench --bench rebuild",
        title: "Rebuilding a queue",
        about: "Somebody dies who holds the lock of a queue, in a region of 65,536 entries, 256 of them asleep there",
        how: "What a kill costs there beyond what it costs in a small region is the rebuilding. That all who sleep look at \
              their conditions again is apart: in the processor time of those who sleep.",
        order: None,
        short: &[Short {
            says: "a queue of 256, in a region of 65,536 entries, is made anew in",
            rows: &[Is("/subject", "the difference")],
            figure: At("/more/rebuild_ns"),
            ratios: &[],
        }],
        bars: &[
            Bar {
                says: "rebuilding takes at most 10 ms beyond what a death costs anyhow",
                rows: &[Is("/subject", "the difference")],
                figure: At("/more/rebuild_ns"),
                at_most: 10e6,
            },
            Bar {
                says: "rebuilding without a death takes at most 10 ms",
                rows: &[Is("/case/what", "a broken link")],
                figure: MEDIAN,
                at_most: 10e6,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "attach",
        command: "cargo bench --bench attach",
        title: "Beginning and ending",
        about: "Creating a region, attaching to it, detaching; and how large all of it is",
        how: "Bare shared memory of the same size is mapped and, where it is made, written to once in each page, which a \
              region is as well.",
        order: None,
        short: &[Short {
            says: "attaching to a region",
            rows: &[Is("/subject", "waitqueue, open (attach)")],
            figure: MEDIAN,
            ratios: &[],
        }],
        bars: &[
            Bar {
                says: "creating, opening, attaching and detaching take at most 300 µs each",
                rows: &[Among(
                    "/subject",
                    &[
                        "waitqueue, create",
                        "waitqueue, open (attach)",
                        "waitqueue, open_or_create",
                        "waitqueue, detach",
                    ],
                )],
                figure: MEDIAN,
                at_most: 300e3,
            },
            Bar {
                says: "an entry is 128 bytes, as documented",
                rows: &[Is("/subject", "each entry")],
                figure: At("/more/bytes"),
                at_most: 128.0,
            },
            Bar {
                says: "a queue is 64 bytes, and 192 more for its name",
                rows: &[Is("/subject", "a queue, beside its object")],
                figure: At("/more/bytes"),
                at_most: 64.0,
            },
            Bar {
                says: "a named object is 192 bytes beside its memory",
                rows: &[Is("/subject", "each object")],
                figure: At("/more/bytes"),
                at_most: 192.0,
            },
            Bar {
                says: "a participant is 64 bytes, and 128 more for its bell",
                rows: &[Is("/subject", "each participant")],
                figure: At("/more/bytes"),
                at_most: 192.0,
            },
            Bar {
                says: "a region of default size is 612 KiB, with 128 KiB for objects",
                rows: &[Is("/subject", "a region of default size")],
                figure: At("/more/bytes"),
                at_most: 612.0 * 1024.0,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "growth",
        command: "cargo bench --bench growth",
        title: "Growth",
        about: "What calls cost as a region fills with waiters, queues, processes, entries and the dead",
        how: "One thing grows at a time. A hot call is one that is made all the time, and must not depend on anything \
              that it does not have to wake; attaching, looking a queue up by its name and building a set are not hot.",
        order: None,
        short: &[],
        bars: &[
            Bar {
                says: "no hot call depends on how many entries a region has",
                rows: &[Is("/more/hot", "true"), Is("/case/grows with", "entries that the region has")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many entries are enrolled elsewhere",
                rows: &[Is("/more/hot", "true"), Is("/case/grows with", "entries enrolled on another queue")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many queues there are",
                rows: &[Is("/more/hot", "true"), Is("/case/grows with", "queues in the region")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many are attached",
                rows: &[Is("/more/hot", "true"), Is("/case/grows with", "processes attached")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many have died",
                rows: &[Is("/more/hot", "true"), Is("/case/grows with", "processes that died before")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
        ],
        why: &[],
    },
];
