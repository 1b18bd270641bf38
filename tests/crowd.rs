//! Many who sleep on one queue are woken by one call, as a crowd: nobody of them is hidden from anybody by that.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Stage, Thread, bounded, thread, woken};
use common::{Child, Name, until};
use waitqueue::{Error, Interrupter, Result, WaitOptions, WakeOptions};

/// Enough for a crowd.
const MANY: u32 = 12;

#[test]
fn role() {
    common::play(&[("waker", waker)]);
}

/// Makes the condition true and wakes all, when told to.
fn waker(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    common::say("ready");
    common::listen();
    stage.set_and_wake();
}

/// As many sleepers, the n-th with key `1 << n`; each counts its evaluations.
fn sleepers(stage: &Stage) -> Vec<(Thread<Result<()>>, Arc<AtomicU32>)> {
    let sleeper = |nth: u32| {
        let (counted, stage) = (Arc::new(AtomicU32::new(0)), stage.clone());
        let counter = counted.clone();
        let condition = move |stage: &Stage| {
            counter.fetch_add(1, Relaxed);
            stage.is_set()
        };
        let options = bounded().key(1 << nth);
        (thread(move || stage.queue.wait_event_with(&options, || condition(&stage)).map(drop)), counted)
    };
    let sleepers = (0..MANY).map(sleeper).collect();
    stage.asleep(MANY as usize);
    sleepers
}

fn all_end(sleepers: Vec<(Thread<Result<()>>, Arc<AtomicU32>)>) {
    sleepers.into_iter().for_each(|(sleeper, _)| sleeper.join().unwrap());
}

/// Marked by a waker that goes no further.
#[cfg(debug_assertions)]
fn marked(stage: &Stage, name: &Name, ends: &str) -> Child {
    let mut child = Child::start_with("waker", &[&name.0], &[(ends, "wake: marked, not woken")]);
    child.expect("ready");
    child.tell("go");
    until("the condition is true", || stage.is_set());
    child
}

#[cfg(debug_assertions)]
#[test]
fn p5_a_waker_that_is_stopped_hides_no_crowd_from_the_next() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let sleepers = sleepers(&stage);
    let child = marked(&stage, &name, "WAITQUEUE_STOP");
    until("it stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    });
    stage.queue.wake_up().unwrap();
    all_end(sleepers);
}

#[cfg(debug_assertions)]
#[test]
fn p2_a_crowd_is_rung_when_its_waker_is_killed_between_mark_and_call() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let sleepers = sleepers(&stage);
    let _child = marked(&stage, &name, "WAITQUEUE_CRASH");
    all_end(sleepers);
    stage.region.check().unwrap();
}

#[test]
fn p1_a_crowd_hears_every_call() {
    const ROUNDS: u32 = 2000;
    let stage = Stage::new();
    let heard = Arc::new(AtomicU32::new(0));
    let listener = |_| {
        let (stage, heard) = (stage.clone(), heard.clone());
        thread(move || {
            for round in 1..=ROUNDS {
                stage.queue.wait_event_with(&bounded(), || stage.flag.load(Acquire) >= round).unwrap();
                heard.fetch_add(1, AcqRel);
            }
        })
    };
    let listeners: Vec<_> = (0..MANY).map(listener).collect();
    for round in 1..=ROUNDS {
        stage.set(round);
        // (Some sleep already, some are about to: no pause here.)
        stage.queue.wake_up().unwrap();
        until("all have heard it", || heard.load(Acquire) == round * MANY);
    }
    listeners.into_iter().for_each(Thread::join);
    stage.region.check().unwrap();
}

#[test]
fn a_wake_for_one_key_leaves_the_crowd_asleep() {
    let stage = Stage::new();
    let sleepers = sleepers(&stage);
    let before: Vec<u32> = sleepers.iter().map(|(_, counted)| counted.load(Relaxed)).collect();
    let last = sleepers.len() - 1;
    let options = WakeOptions::new().key(1 << last);
    assert_eq!(stage.queue.wake_up_with(&options), Ok(woken(0, 1)));
    until("it looks", || sleepers[last].1.load(Relaxed) > before[last]);
    stage.asleep(MANY as usize);
    for ((_, counted), before) in sleepers[..last].iter().zip(before) {
        assert_eq!(counted.load(Relaxed), before);
    }
    stage.set_and_wake();
    all_end(sleepers);
}

#[test]
fn each_of_a_crowd_can_be_interrupted_time_out_and_be_told_that_it_is_over() {
    let stage = Stage::new();
    let sleepers = sleepers(&stage);
    let interrupter = Interrupter::new(&stage.region);
    let alone = |interrupter: Option<&Interrupter>| {
        let (stage, interrupter) = (stage.clone(), interrupter.cloned());
        thread(move || {
            let soon = WaitOptions::new().timeout(Duration::from_millis(20));
            let options = interrupter.as_ref().map_or(soon, |handle| bounded().interrupter(handle));
            stage.queue.wait_event_with(&options, || false).map(drop)
        })
    };
    let interrupted = alone(Some(&interrupter));
    stage.asleep(MANY as usize + 1);
    interrupter.interrupt();
    assert!(matches!(interrupted.join(), Err(Error::Interrupted { .. })));
    assert!(matches!(alone(None).join(), Err(Error::TimedOut { .. })));
    stage.queue.close().unwrap();
    for (sleeper, _) in sleepers {
        assert!(matches!(sleeper.join(), Err(Error::Closed { .. })));
    }
}
