//! What is said of each bench, the bars that it is held to, and why somebody else is faster where that is so.

/// One bench, with what goes with it: `roundtrip` and `roundtrip-crates`.
pub(crate) struct Chapter {
    pub(crate) bench: &'static str,
    pub(crate) title: &'static str,
    /// A sentence, without its full stop.
    pub(crate) about: &'static str,
    /// By what figure one is faster than another.
    pub(crate) order: Order,
    pub(crate) bars: &'static [Bar],
    /// A part of somebody's name, and why that one is faster where it is.
    pub(crate) why: &'static [(&'static str, &'static str)],
}

/// By what figure one is faster than another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Median,
    Mean,
    None,
}

/// What some figure must not exceed, in any row that is meant.
pub(crate) struct Bar {
    pub(crate) says: &'static str,
    /// Which rows: a JSON pointer, and the text there.
    pub(crate) rows: &'static [(&'static str, &'static str)],
    pub(crate) figure: Figure,
    pub(crate) at_most: f64,
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

const OURS: (&str, &str) = ("/subject", "waitqueue");
const CONDVAR: &str = "÷ glibc shared condvar";
const SEMAPHORE: &str = "÷ POSIX semaphore";
const BY_LEAVING_OUT: &str =
    "one word and two system calls, and no list: nobody knows who waits, nobody notices a death";
const BY_COUNTING: &str =
    "a count in one word; no condition, no list, and a wake that a dead process was chosen for is gone";
const BY_LOCKING_LITTLE: &str =
    "who waits is on no list that survives its death; a waiter that dies inside hangs the others";

/// In the order of the page.
pub(crate) const CHAPTERS: &[Chapter] = &[
    Chapter {
        bench: "roundtrip",
        title: "Round trip, asleep",
        about: "Two processes in turns, each of which sleeps until the other has replied",
        order: Order::Median,
        bars: &[],
        why: &[
            ("bare futex", BY_LEAVING_OUT),
            ("futex_waitv", BY_LEAVING_OUT),
            ("semaphore", BY_COUNTING),
            ("condvar", BY_LOCKING_LITTLE),
        ],
    },
    Chapter {
        bench: "roundtrip_spin",
        title: "Round trip, awake",
        about: "The same, with replies that come at once and processes that spin",
        order: Order::Median,
        bars: &[],
        why: &[(
            "bare atomics",
            "a store and a load: nobody could sleep there, so nobody has to look for sleepers",
        )],
    },
    Chapter {
        bench: "mixed",
        title: "Replies that take time",
        about: "Whether it is better to sleep or to spin, and what the default makes of it",
        order: Order::Mean,
        bars: &[],
        why: &[],
    },
    Chapter {
        bench: "idle_wake",
        title: "Nothing to do",
        about: "Waking nobody, and waiting for what is so already",
        order: Order::None,
        bars: &[],
        why: &[],
    },
    Chapter {
        bench: "wait_many",
        title: "Many queues, named at each wait",
        about: "One waits on 2 to 4,096 queues, another wakes one of them",
        order: Order::Median,
        bars: &[],
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
        title: "Many queues, enrolled once",
        about: "One stays enrolled on 1 to 10,000 queues, another wakes one of them",
        order: Order::Median,
        bars: &[],
        why: &[(
            "epoll",
            "the kernel's own list of what is ready is handed out without looking at the others",
        )],
    },
    Chapter {
        bench: "wake_all",
        title: "Waking all",
        about: "One wakes 1 to 256 processes that sleep on the same queue",
        order: Order::Median,
        bars: &[
            Bar {
                says: "the last one runs within 1.1 × the broadcast of a shared condition variable",
                rows: &[OURS, ("/case/until", "the last one runs")],
                figure: Ratio(CONDVAR),
                at_most: 1.1,
            },
            Bar {
                says: "the waker is free within 1.2 × the broadcast",
                rows: &[OURS, ("/case/until", "the waker is free")],
                figure: Ratio(CONDVAR),
                at_most: 1.2,
            },
            Bar {
                says: "a stretch: the waker is free within 0.5 × the broadcast",
                rows: &[OURS, ("/case/until", "the waker is free")],
                figure: Ratio(CONDVAR),
                at_most: 0.5,
            },
        ],
        why: &[
            (
                "bare futex",
                "all sleep on one word, so one system call wakes all; here each sleeps on a word of its own, on which it \
                 can be chosen, and is woken by a call of its own",
            ),
            (
                "condvar",
                "all sleep on one word, so one system call wakes all, and the waker is free after it",
            ),
            (
                "semaphore",
                "a post while the last one woken has not run yet is an addition and a short system call",
            ),
        ],
    },
    Chapter {
        bench: "handoff",
        title: "Handing on",
        about: "A token goes round among 2, 8 and 32 processes, each an exclusive waiter: dispensed by one process, or passed on \
                by whoever has it",
        order: Order::Median,
        bars: &[
            Bar {
                says: "one waiter chosen for each token",
                rows: &[OURS, ("/case/token", "dispensed")],
                figure: At("/more/claims_per_token"),
                at_most: 1.005,
            },
            Bar {
                says: "who dispenses makes one system call to wake and one to sleep for each token",
                rows: &[OURS, ("/case/token", "dispensed")],
                figure: At("/more/calls_per_token"),
                at_most: 2.02,
            },
            Bar {
                says: "over a minute nobody has 2 % more or less than the others",
                rows: &[OURS, ("/case/seconds", "60")],
                figure: At("/more/spread"),
                at_most: 0.02,
            },
        ],
        why: &[
            ("bare futex", BY_LEAVING_OUT),
            (
                "semaphore",
                "who posts takes his own post back at once, without anybody being woken: no hand-over at all",
            ),
            ("condvar", BY_LOCKING_LITTLE),
        ],
    },
    Chapter {
        bench: "contended",
        title: "Contention",
        about: "2 to 16 who put and as many who take, over one pair of queues, or each two over a pair of their own",
        order: Order::Mean,
        bars: &[
            Bar {
                says: "an item takes at most 1.5 × with 16 on each side what it takes with 2",
                rows: &[OURS, ("/case/wakers", "16")],
                figure: Ratio("÷ with 2"),
                at_most: 1.5,
            },
            Bar {
                says: "below a shared condition variable",
                rows: &[OURS],
                figure: Ratio(CONDVAR),
                at_most: 1.0,
            },
            Bar { says: "below a semaphore", rows: &[OURS], figure: Ratio(SEMAPHORE), at_most: 1.0 },
        ],
        why: &[("bare futex", BY_LEAVING_OUT), ("semaphore", BY_COUNTING), ("condvar", BY_LOCKING_LITTLE)],
    },
    Chapter {
        bench: "attach",
        title: "Beginning and ending",
        about: "Creating a region, attaching to it, detaching; and how large all of it is",
        order: Order::None,
        bars: &[
            Bar {
                says: "creating takes at most 300 µs",
                rows: &[("/subject", "waitqueue, create")],
                figure: At("/p50_ns"),
                at_most: 300e3,
            },
            Bar {
                says: "opening, which attaches, takes at most 300 µs",
                rows: &[("/subject", "waitqueue, open (attach)")],
                figure: At("/p50_ns"),
                at_most: 300e3,
            },
            Bar {
                says: "opening or creating takes at most 300 µs",
                rows: &[("/subject", "waitqueue, open_or_create")],
                figure: At("/p50_ns"),
                at_most: 300e3,
            },
            Bar {
                says: "detaching takes at most 300 µs",
                rows: &[("/subject", "waitqueue, detach")],
                figure: At("/p50_ns"),
                at_most: 300e3,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "growth",
        title: "Growth",
        about: "What calls cost as a region fills with waiters, queues, processes, entries and the dead",
        order: Order::None,
        bars: &[
            Bar {
                says: "no hot call depends on how many entries a region has",
                rows: &[("/more/hot", "true"), ("/case/grows with", "entries that the region has")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many entries are enrolled elsewhere",
                rows: &[("/more/hot", "true"), ("/case/grows with", "entries enrolled on another queue")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many queues there are",
                rows: &[("/more/hot", "true"), ("/case/grows with", "queues in the region")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many are attached",
                rows: &[("/more/hot", "true"), ("/case/grows with", "processes attached")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
            Bar {
                says: "no hot call depends on how many have died",
                rows: &[("/more/hot", "true"), ("/case/grows with", "processes that died before")],
                figure: At("/more/order"),
                at_most: 0.05,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "rebuild",
        title: "Rebuilding a queue",
        about: "Somebody dies who holds the lock of a queue, in a region of 65,536 entries, 256 of them asleep there",
        order: Order::None,
        bars: &[
            Bar {
                says: "rebuilding takes at most 10 ms beyond what a death costs anyhow",
                rows: &[("/subject", "the difference")],
                figure: At("/more/rebuild_ns"),
                at_most: 10e6,
            },
            Bar {
                says: "rebuilding without a death takes at most 10 ms",
                rows: &[("/case/what", "a broken link")],
                figure: At("/p50_ns"),
                at_most: 10e6,
            },
        ],
        why: &[],
    },
    Chapter {
        bench: "recovery",
        title: "After a death",
        about: "From just before SIGKILL until whoever comes next runs, beside a robust mutex of the C library",
        order: Order::None,
        bars: &[],
        why: &[],
    },
];
