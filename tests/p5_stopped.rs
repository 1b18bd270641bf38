//! P5: a waker never waits for a waiter to run, and no wake depends on another participant running: processes that are
//! stopped, asleep or just woken, delay nobody.

#![allow(unsafe_code)]

mod common;

use common::stage::{Stage, bounded, woken};
use common::{Child, Name, listen, say};
use waitqueue::{Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[("sleeper", sleeper)]);
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
