//! P5: a waker never waits for a waiter to run, and no wake depends on another participant running: processes that are
//! stopped, asleep or just woken, delay nobody.

#![allow(unsafe_code)]

mod common;
mod kill;

use std::time::Duration;

use common::stage::{Stage, bounded, woken};
use common::{Child, LIMIT, Name, listen, say, until};
use kill::turns::id_of;
use kill::{World, given_back, small};
use waitqueue::{Error, Source, WaitOptions, WaitSet, WaiterState, wait_many};

#[test]
fn role() {
    common::play(&[("sleeper", sleeper), ("ticker", ticker)]);
}

/// Waits for the flag, or for a token, and says so.
fn sleeper(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    match args[1].as_str() {
        "plain" => stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop),
        "exclusive" => stage.queue.wait_event_with(&bounded().exclusive(), || stage.is_set()).map(drop),
        "token" => stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()).map(drop),
        "many" => wait_many(&mut [Source::new(&stage.queue, &mut || stage.is_set())], &bounded()).map(drop),
        _ => {
            let mut set = WaitSet::new(&stage.region).unwrap();
            set.add(&stage.queue, &WaitOptions::new().exclusive()).unwrap();
            set.wait(&bounded(), |_| stage.is_set()).map(drop)
        }
    }
    .unwrap();
    say("woken");
    listen();
}

/// Stops it, and waits until the kernel says so.
fn stop(child: &Child) {
    child.signal(libc::SIGSTOP);
    common::until("it is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    });
}

#[test]
fn p5_trap_46_stopped_sleepers_delay_nobody_in_a_wake_all() {
    const FORMS: [&str; 4] = ["plain", "exclusive", "many", "set"];
    let name = Name::new();
    let stage = Stage::of(name.region());
    // One that runs behind each that is stopped, in every form.
    let mut children: Vec<_> =
        (0..16).map(|nth| Child::start("sleeper", &[&name.0, FORMS[nth / 2 % 4]])).collect();
    stage.asleep(children.len());
    children.iter().step_by(2).for_each(stop);
    for _ in 0..3 {
        stage.queue.wake_up_all().unwrap(); // also while those of the last wake have not run yet
    }
    stage.set(1);
    stage.queue.wake_up_all().unwrap();
    children.iter_mut().skip(1).step_by(2).for_each(|child| child.expect("woken"));
    common::until("only the stopped are left", || stage.waiters().len() == 8);
    let late = stage.queue.wait_event_with(&bounded(), || true);
    assert!(late.is_ok());
    for child in children.iter_mut().step_by(2) {
        child.signal(libc::SIGCONT);
        child.expect("woken");
    }
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn trap_07_a_stopped_waiter_resumes_rightly_and_the_next_wake_goes_past_it() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut first = Child::start("sleeper", &[&name.0, "token"]);
    stage.asleep(1);
    let mut second = Child::start("sleeper", &[&name.0, "token"]);
    stage.asleep(2);
    stop(&first);
    stage.set(1);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "chosen while stopped: it is not dead");
    stage.set(2);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "the next in line");
    second.expect("woken");
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)), "returns at once");
    first.signal(libc::SIGCONT);
    first.expect("woken");
    assert!(!stage.is_set());
}

#[test]
fn a_stopped_participant_does_not_keep_others_from_attaching_leaving_and_dying() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut stopped: Vec<_> = (0..3).map(|_| Child::start("sleeper", &[&name.0, "plain"])).collect();
    stage.asleep(3);
    stopped.iter().for_each(stop);
    for _ in 0..3 {
        let mut other = Child::start("sleeper", &[&name.0, "exclusive"]);
        stage.asleep(4);
        other.kill();
        common::until("the dead is taken off", || stage.waiters().len() == 3);
    }
    assert!(stage.region.participants().iter().filter(|participant| participant.alive).count() == 4);
    stage.set_and_wake();
    for child in &mut stopped {
        child.signal(libc::SIGCONT);
        child.expect("woken");
    }
}

/// How often everybody looks around in the test of what a stop of many ticks does.
const TICK: Duration = Duration::from_millis(10);

/// Takes items of its own, which no tick of another can take; one of the tickers takes the lock first.
fn ticker(args: &[String]) {
    let world = World::new(&small().tick(Some(TICK)).patience(TICK).open(&args[0]).unwrap());
    let first: usize = args[1].parse().unwrap();
    let guard = (args[2] == "holder").then(|| world.lock.lock().unwrap());
    say(&world.region.me().get().to_string());
    world.a.wait_event_exclusive(|| world.work(first..first + 1)).unwrap();
    say("woken");
    listen();
    drop(guard);
    world.a.wait_event_exclusive(|| world.work(first + 4..first + 5)).unwrap();
    say("woken");
    listen();
}

#[test]
fn p5_trap_34_who_is_stopped_for_many_ticks_is_not_dead_and_loses_nothing() {
    let name = Name::new();
    let region = small().tick(Some(TICK)).patience(TICK).create(&name.0).unwrap();
    let world = World::new(&region);
    world.region.check().unwrap();
    let info = || world.region.snapshot().queues.into_iter().find(|queue| queue.name == "a").unwrap();
    // In the order in which they are chosen: by a wake before the stop is over, with the lock, plainly, and one that runs.
    let children = ["", "holder", "", ""].into_iter().enumerate().map(|(item, role)| {
        let mut child = Child::start("ticker", &[&name.0, &item.to_string(), role]);
        let id = id_of(&mut child);
        until("it waits", || info().waiters.len() == item + 1);
        (child, id)
    });
    let mut children: Vec<_> = children.collect();
    until("all are asleep", || info().waiters.iter().all(|waiter| waiter.state == WaiterState::Asleep));
    children[..3].iter().for_each(|(child, _)| stop(child));
    let wake = |item| {
        world.put(item);
        world.a.wake_up().unwrap()
    };
    // (A tick may have ended a sleep just before the stop; then it is told to look instead.)
    let first = wake(0).exclusive;
    std::thread::sleep(12 * TICK);
    let outcome = world.lock.lock().map(drop);
    let holder = children[1].1.get();
    assert!(matches!(outcome, Err(Error::LockStuck { owner, .. }) if owner == holder), "{outcome:?}");
    assert!(children.iter().all(|(_, id)| world.region.is_alive(*id)));
    assert_eq!(info().waiters.len(), 4, "the stopped keep their places: {}", info());
    assert_eq!((info().claims, info().hand_ons), (u64::from(first), 0), "and what is theirs");
    for item in 1..4 {
        wake(item);
    }
    // The one that runs is not kept from its own by those before it.
    children[3].0.expect("woken");
    std::thread::sleep(12 * TICK);
    for (child, _) in &mut children[..3] {
        child.signal(libc::SIGCONT);
        child.expect("woken");
    }
    world.settled("all that was stopped");
    children[1].0.tell("release");
    let guard = world.lock.lock_timeout(LIMIT).unwrap();
    assert!(!guard.owner_died());
    drop(guard);
    (4..8).for_each(|item| world.put(item));
    world.a.wake_up_all().unwrap();
    for (nth, (child, _)) in children.iter_mut().enumerate() {
        if nth != 1 {
            child.tell("again");
        }
        child.expect("woken");
        child.tell("end");
        child.end_well();
    }
    given_back(&world.region, (0, 1, 1), "stopped for long");
}

/// A waiter whose waker has marked it and goes no further is awake by the next tick.
#[test]
fn p5_a_tick_wakes_who_was_marked_by_a_waker_that_does_not_go_on() {
    let name = Name::new();
    let tick = || common::options().tick(Some(TICK));
    // In the first the bell ticks, in the second each sleep has a timer.
    for region in [tick().create(&name.0).unwrap(), tick().create_memfd("stage").unwrap()] {
        let stage = Stage::of(region);
        let waiter = std::thread::spawn({
            let stage = stage.clone();
            move || stage.queue.wait_event_exclusive(|| stage.is_set())
        });
        stage.asleep(1);
        stage.set(1);
        // Between the mark and the system call that is put off.
        stage.queue.wake_up_sync(|| until("the tick wakes it", || waiter.is_finished())).unwrap();
        waiter.join().unwrap().unwrap();
    }
}
