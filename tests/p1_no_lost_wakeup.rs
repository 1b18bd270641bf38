//! P1: a waker that makes a condition true and then wakes the queue wakes every waiter that was owed it.

mod common;

use std::sync::atomic::{AtomicU32, Ordering::*};

use common::{Child, Name};

#[test]
fn role() {
    common::play(&[("echo", echo)]);
}

/// Answers each turn of the test with a turn of its own.
fn echo(args: &[String]) {
    let region = common::region(&args[0]);
    let turn = region.object::<AtomicU32>("turn").unwrap();
    let queue = region.queue("queue").unwrap();
    let rounds: u32 = args[1].parse().unwrap();
    for round in 0..rounds {
        queue.wait_event(|| turn.load(Acquire) == 2 * round + 1).unwrap();
        turn.store(2 * round + 2, Release);
        queue.wake_up().unwrap();
    }
}

#[test]
fn p1_trap_01_two_processes_take_turns_without_a_tick() {
    const ROUNDS: u32 = 20_000;
    let name = Name::new();
    let region = name.region();
    let turn = region.object::<AtomicU32>("turn").unwrap();
    let queue = region.queue("queue").unwrap();
    let mut other = Child::start("echo", &[&name.0, &ROUNDS.to_string()]);
    // Without a timeout, which would evaluate once more at the end and hide a lost wakeup.
    let taking_turns = std::thread::spawn({
        let (turn, queue) = (turn.clone(), queue.clone());
        move || {
            for round in 0..ROUNDS {
                turn.store(2 * round + 1, Release);
                queue.wake_up().unwrap();
                queue.wait_event(|| turn.load(Acquire) == 2 * round + 2).unwrap();
            }
        }
    });
    common::join("taking turns", taking_turns);
    other.end_well();
    region.check().unwrap();
}
