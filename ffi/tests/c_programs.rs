//! Programs in C: compiled, run, killed, and talking to this process, which is one in Rust.

mod common;
mod running;

use std::sync::atomic::{AtomicU32, Ordering::*};

use common::process::{LIMIT, Name, until, until_asleep};
use common::{How, Program};
use running::Running;

fn example(source: &str) -> Program {
    Program::new(&format!("../examples/c/{source}"), How::C)
}

#[test]
fn p9_rust_and_c_wake_each_other_also_after_one_was_killed() {
    let (waiter, waker) = (example("waiter.c"), example("waker.c"));
    let name = Name::new();
    let region = name.region();
    let ready = region.object::<AtomicU32>("ready").unwrap();
    let queue = region.queue("ready-queue").unwrap();
    for _ in 0..3 {
        // Rust wakes C, of which another was killed in its sleep.
        let killed = Running::start(&waiter, &name, &[]);
        until_asleep(&region, "ready-queue", 1);
        drop(killed);
        until("nobody waits", || !queue.has_sleepers());
        let waiting = Running::start(&waiter, &name, &[]);
        until_asleep(&region, "ready-queue", 1);
        ready.store(1, Release);
        assert_eq!(queue.wake_up().unwrap().nonexclusive, 1);
        assert_eq!(waiting.end(), "ready\n");

        // C wakes Rust, after others of its kind were killed somewhere between their first instruction and their last.
        for _ in 0..5 {
            drop(Running::start(&waker, &name, &[]));
        }
        ready.store(0, Release);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait_event_timeout(|| ready.swap(0, AcqRel) != 0, LIMIT));
            until_asleep(&region, "ready-queue", 1);
            assert_eq!(Running::start(&waker, &name, &[]).end(), "woke 1\n");
            waiting.join().unwrap().unwrap();
        });
    }
    region.check().unwrap();
    assert_eq!(region.participants().iter().filter(|other| other.alive).count(), 1);
}

#[test]
fn p10_c_programs_work_in_either_order() {
    let (waiter, waker) = (example("waiter.c"), example("waker.c"));
    let name = Name::new();
    for _ in 0..2 {
        assert_eq!(Running::start(&waker, &name, &[]).end(), "woke 0\n");
        assert_eq!(Running::start(&waiter, &name, &[]).end(), "ready\n");
        let waiting = Running::start(&waiter, &name, &[]);
        until_asleep(&name.region(), "ready-queue", 1);
        assert_eq!(Running::start(&waker, &name, &[]).end(), "woke 1\n");
        assert_eq!(waiting.end(), "ready\n");
    }
}
