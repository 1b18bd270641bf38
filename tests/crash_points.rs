//! P2: a process that dies at any named point of the protocol harms nobody.
//!
//! The points are read from the sources, so none can be forgotten: a point that is in no line of `kill/cases.rs`, or that
//! a victim never reaches, fails the test. Each case runs twice. *Alone*: nobody else is attached when the victim
//! dies, and whoever comes next finds a region that works. *Among others*: waiters of every kind sleep on the same
//! queues, and get everything that is owed to them, with the tick off.
//!
//! After each: all items done, all waiters ended, all lists whole, nothing of the dead left.
#![allow(unsafe_code)]

#[path = "kill/cases.rs"]
mod cases;
mod common;
mod kill;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::mpsc::channel;
use std::time::Duration;

use cases::{CASES, IN_MUTANTS};
use common::{Child, Name, until};
use kill::{OF_A, OF_B, Survivors, World, nothing_leaked, small};
use waitqueue::{
    Error, Interrupter, Queue, Region, Source, WaitOptions, WaitSet, WaiterState, WakeOptions, wait_many,
};

#[test]
fn role() {
    common::play(&[("victim", victim), ("survivors", survivors), ("prey", prey)]);
}

#[test]
fn p2_every_crash_point_is_in_a_case() {
    let in_cases: BTreeSet<String> =
        CASES.iter().map(|(point, _)| *point).chain(IN_MUTANTS.iter().copied()).map(str::to_owned).collect();
    let in_source = kill::names_in_source("crash_point!(");
    let missing: Vec<_> = in_source.difference(&in_cases).collect();
    let stale: Vec<_> = in_cases.difference(&in_source).collect();
    assert!(missing.is_empty() && stale.is_empty(), "no case: {missing:?}; no such point: {stale:?}");
}

#[test]
fn p2_trap_40_death_at_any_point_harms_nobody() {
    let mut jobs: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for (point, programs) in CASES {
        for (program, nth) in *programs {
            for among_others in [false, true] {
                let company = if among_others { "among others" } else { "alone" };
                let what = format!("{program}, dead at {point:?}, pass {nth}, {company}");
                let crash = format!("{point}@{nth}");
                let run = move |what: &str| match *program {
                    "create" => create(&crash, among_others, what),
                    "replace" => replace(&crash, among_others, what),
                    "recover" => recover(&crash, among_others, what),
                    program => simple(program, &crash, among_others, what),
                };
                jobs.push((what.clone(), Box::new(move || run(&what))));
            }
        }
    }
    kill::in_parallel(jobs, 6);
}

/// A victim that is both waiter and waker runs its program to its death.
fn simple(program: &str, crash: &str, among_others: bool, what: &str) {
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    let world = World::new(&region);
    drop(region);
    if among_others {
        let start = |world: &World| Survivors::start(world);
        // A waiter that is to be chosen has to be the oldest.
        let waker = program.starts_with("wake");
        let early = waker.then(|| start(&world)).inspect(|survivors| survivors.asleep(0));
        let mut child = Child::start_with("victim", &[&name.0, program], &[("WAITQUEUE_CRASH", crash)]);
        let ready = child.hear_or_end().is_some();
        let survivors = early.unwrap_or_else(|| start(&world));
        if ready {
            survivors.asleep(0);
            child.tell("go");
        }
        child.end_killed();
        world.settled(what);
        after(&world, survivors, &name, what);
        return;
    }
    drop(world);
    let mut child = Child::start_with("victim", &[&name.0, program], &[("WAITQUEUE_CRASH", crash)]);
    if child.hear_or_end().is_some() {
        child.tell("go");
    }
    child.end_killed();
    let world = World::open(&name.0);
    let survivors = Survivors::start(&world);
    world.settled(what);
    after(&world, survivors, &name, what);
}

/// The region works as if nothing had happened.
fn after(world: &World, survivors: Survivors, name: &Name, what: &str) {
    world.put_more(3);
    world.settled(what);
    drop(world.lock.lock().unwrap_or_else(|error| panic!("{what}: {error}")));
    survivors.stop(what);
    // Who dies while attaching or detaching is announced by nobody; the next to attach cleans up.
    drop(World::open(&name.0));
    // Its own: no entry, two threads (this one and the bell), one participant.
    nothing_leaked(&world.region, (0, 1, 1), what);
}

fn create(crash: &str, among_others: bool, what: &str) {
    let name = Name::new();
    let mut child = Child::start_with("victim", &[&name.0, "create"], &[("WAITQUEUE_CRASH", crash)]);
    if among_others {
        // Others race with it for the name.
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let name = name.0.clone();
                std::thread::spawn(move || World::new(&small().open_or_create(&name).unwrap()))
            })
            .collect();
        let worlds: Vec<World> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let status = child.end();
        assert!(status.success() || status.code().is_none(), "{what}: {status}");
        worlds[0].items[0].store(7, Relaxed);
        assert_eq!(worlds[1].items[0].load(Relaxed), 7, "{what}: two regions of one name");
        return;
    }
    child.end_killed();
    let world = World::new(&small().open_or_create(&name.0).unwrap());
    let survivors = Survivors::start(&world);
    after(&world, survivors, &name, what);
    drop(world);
    assert_eq!(leftovers(&name), 0, "{what}: files in /dev/shm");
}

/// Files of a region besides the region itself.
fn leftovers(name: &Name) -> usize {
    let stem = name.0.trim_start_matches('/');
    let files = std::fs::read_dir("/dev/shm").unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().contains(stem) && file.file_name() != stem).count()
}

fn replace(crash: &str, among_others: bool, what: &str) {
    let name = Name::new();
    drop(small().create(&name.0).unwrap());
    let path = format!("/dev/shm{}", name.0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 200;
    std::fs::write(&path, bytes).unwrap();
    let mut child = Child::start_with("victim", &[&name.0, "replace"], &[("WAITQUEUE_CRASH", crash)]);
    let racer = name.0.clone();
    let racer = among_others.then(|| std::thread::spawn(move || replaced(&racer)));
    let raced = racer.map(|racer| racer.join().unwrap());
    let status = child.end();
    // (Among others it may have come too late to replace anything.)
    assert!(status.code().is_none() || among_others, "{what}: {status}");
    let world = World::new(&replaced(&name.0));
    drop(raced);
    let survivors = Survivors::start(&world);
    after(&world, survivors, &name, what);
}

/// A new region in the place of an old one, which we have just left: it looks inhabited as long as a child that another case
/// starts has a copy of our descriptors.
fn replaced(name: &str) -> Region {
    let mut region = None;
    until("the old region is empty", || match small().replace_dead().open_or_create(name) {
        Err(Error::WrongVersion { .. }) => false,
        outcome => {
            region = Some(outcome.unwrap());
            true
        }
    });
    region.unwrap()
}

/// The cleaner dies: nobody but it can act when its prey does, and others go on where it stopped.
fn recover(crash: &str, among_others: bool, what: &str) {
    let name = Name::new();
    drop(World::new(&small().create(&name.0).unwrap()));
    let mut prey = Child::start_with("prey", &[&name.0], &[("WAITQUEUE_CRASH", "wake: claimed")]);
    prey.expect("asleep");
    let mut others = among_others.then(|| Child::start("survivors", &[&name.0]));
    if let Some(others) = &mut others {
        others.expect("asleep");
        others.stop();
    }
    prey.tell("go");
    prey.end_killed();
    let mut cleaner = Child::start_with("victim", &[&name.0, "attach"], &[("WAITQUEUE_CRASH", crash)]);
    cleaner.end_killed();
    if let Some(mut others) = others {
        others.signal(libc::SIGCONT);
        others.expect("settled");
        others.tell("stop");
        others.end_well();
    }
    let world = World::open(&name.0);
    world.stop.store(0, Release);
    let survivors = Survivors::start(&world);
    world.settled(what);
    let guard = world.lock.lock().unwrap();
    assert!(guard.owner_died(), "{what}: the death of the lock's owner was forgotten");
    guard.repaired();
    drop(guard);
    after(&world, survivors, &name, what);
}

/// Dies while it wakes its own waiter, with that claimed, the queue locked, and a lock of its own held.
fn prey(args: &[String]) {
    let world = World::open(&args[0]);
    let _guard = world.lock.lock().unwrap();
    for _ in 0..2 {
        let waiter = world.clone();
        std::thread::spawn(move || waiter.a.wait_event_exclusive(|| waiter.work(OF_A)));
    }
    common::until_asleep(&world.region, "a", 2);
    common::say("asleep");
    common::listen();
    world.put(0);
    world.a.wake_up().unwrap();
}

fn survivors(args: &[String]) {
    let world = World::open(&args[0]);
    let survivors = Survivors::start(&world);
    survivors.asleep(2);
    common::say("asleep");
    until("the item of the prey", || world.is_done(0));
    world.settled("survivors");
    common::say("settled");
    common::listen();
    survivors.stop("survivors");
}

/// Plays a program that reaches the crash point. It says "ready" when its waiters are asleep, and acts when told.
fn victim(args: &[String]) {
    match &*args[1] {
        "create" => return drop(small().open_or_create(&args[0])),
        "replace" => return drop(small().replace_dead().open_or_create(&args[0])),
        _ => {}
    }
    let world = World::open(&args[0]);
    match &*args[1] {
        "attach" => {}
        "detach" => drop(world),
        "objects" => {
            let _ = world.region.queue("fresh").unwrap();
            let _ = world.region.queue("fresh too").unwrap();
        }
        "lock" => {
            let (other, (locked, is_locked)) = (world.clone(), channel());
            std::thread::spawn(move || {
                std::mem::forget(other.lock.lock());
                locked.send(()).unwrap();
                // A thread's death without any of the work that Rust or libc do at its end.
                // SAFETY: nothing is expected of this thread any more; it is never joined.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
            is_locked.recv().unwrap();
            drop(world.lock.lock());
        }
        program => wait_and_wake(&world, program),
    }
}

fn wait_and_wake(world: &World, program: &str) {
    let over = Arc::new(AtomicBool::new(false));
    let interrupter = Interrupter::new(&world.region);
    let ways: &[&str] = match program {
        "wake" | "wake all" | "wake key" | "wake sync" => &["exclusive", "exclusive", "shared"],
        "close" => &["close", "close"],
        one => &[one],
    };
    let waiter = |way: &&str| {
        let (world, over, interrupter) = (world.clone(), over.clone(), interrupter.clone());
        let way = (*way).to_owned();
        std::thread::spawn(move || wait(&world, &way, &over, &interrupter))
    };
    let waiters: Vec<_> = ways.iter().map(waiter).collect();
    if program == "timeout" {
        return waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }
    let queue = if program == "close" { "c" } else { "a" };
    let me = std::process::id();
    let asleep = |queue: &waitqueue::QueueInfo| {
        let ours = queue.waiters.iter().filter(|waiter| waiter.process == me);
        ours.filter(|waiter| waiter.state == WaiterState::Asleep).count() == ways.len()
    };
    until("our waiters sleep", || {
        world.region.snapshot().queues.iter().any(|found| found.name == queue && asleep(found))
    });
    common::say("ready");
    common::listen();
    let a = &world.a;
    match program {
        "exclusive" | "set" | "wake" => {
            world.put(0);
            a.wake_up().unwrap();
        }
        // Nothing that it waits for has happened: it is woken, and looks.
        "shared" => drop(a.wake_up().unwrap()),
        // The item is on the other queue than the wake.
        "many" => {
            world.put(OF_B.start);
            a.wake_up().unwrap();
        }
        "woken" => drop(a.wake_up().unwrap()),
        "interrupted" => interrupter.interrupt(),
        "close" => drop(world.c.close().unwrap()),
        "wake all" => {
            (0..3).for_each(|item| world.put(item));
            a.wake_up_all().unwrap();
        }
        "wake key" => {
            world.put(0);
            a.wake_up_with(&WakeOptions::new().key(1)).unwrap();
        }
        "wake sync" => {
            world.put(0);
            a.wake_up_sync(|| ()).unwrap();
        }
        other => panic!("no program {other}"),
    }
    world.settled(program);
    over.store(true, Release);
    a.wake_up_all().unwrap();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

fn wait(world: &World, program: &str, over: &AtomicBool, interrupter: &Interrupter) {
    let over = || over.load(Acquire);
    let (a, region): (&Queue, &Region) = (&world.a, &world.region);
    let exclusive = WaitOptions::new().exclusive();
    let many = |only_b: bool| {
        wait_many(
            &mut [
                Source::with(a, &exclusive, &mut || over() || !only_b && world.work(OF_A)),
                Source::with(&world.b, &exclusive, &mut || world.work(OF_B)),
            ],
            &WaitOptions::new(),
        )
    };
    match program {
        "shared" => a.wait_event(over).unwrap(),
        "timeout" => {
            let options = exclusive.timeout(Duration::from_millis(5));
            assert!(a.wait_event_with(&options, || false).is_err());
        }
        "interrupted" => {
            assert!(a.wait_event_with(&exclusive.interrupter(interrupter), || false).is_err());
        }
        "close" => assert!(world.c.wait_event(|| false).is_err()),
        "woken" => drop(a.wait_woken(&exclusive).unwrap()),
        "many" => drop(many(true).unwrap()),
        "set" => {
            let mut set = WaitSet::new(region).unwrap();
            set.add(a, &exclusive).unwrap();
            set.add(&world.b, &exclusive).unwrap();
            set.wait(&WaitOptions::new(), |_| over() || world.work(OF_A)).unwrap();
        }
        _ => {
            while !over() {
                a.wait_event_exclusive(|| over() || world.work(OF_A)).unwrap();
            }
        }
    }
}
