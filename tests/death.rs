//! P2 and P10 by name: whoever is killed, wherever, the others go on, and who comes later finds a region that works.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{Child, LIMIT, Name, until, until_asleep};
use kill::{OF_A, World, nothing_leaked, small};
use waitqueue::{Error, ParticipantId, WaitOptions, WaitSet};

#[test]
fn role() {
    common::play(&[
        ("sleeper", sleeper),
        ("waker", waker),
        ("holder", holder),
        ("taker", taker),
        ("idler", idler),
        ("crowd", crowd),
    ]);
}

fn stage() -> (Name, World) {
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    (name, World::new(&region))
}

/// Waits exclusively on `a` for an item, without end.
fn sleeper(args: &[String]) {
    let world = World::open(&args[0]);
    let _ = world.a.wait_event_exclusive(|| world.work(OF_A));
}

fn idler(args: &[String]) {
    let world = World::open(&args[0]);
    common::say(&world.region.me().get().to_string());
    common::listen();
}

fn idle(name: &Name) -> (Child, ParticipantId) {
    let mut child = Child::start("idler", &[&name.0]);
    let id = child.hear().parse().unwrap();
    (child, ParticipantId::new(id).unwrap())
}

#[test]
fn p2_trap_17_a_waiter_killed_asleep_is_taken_off_and_holds_up_no_waker() {
    let (name, world) = stage();
    for _ in 0..10 {
        let mut sleepers: Vec<Child> = (0..3).map(|_| Child::start("sleeper", &[&name.0])).collect();
        until_asleep(&world.region, "a", 3);
        sleepers.iter_mut().for_each(Child::kill);
        // (Trap 17: these return, whoever is dead.)
        world.a.wake_up_all().unwrap();
        until("the dead are taken off", || !world.a.has_sleepers());
    }
    nothing_leaked(&world.region, (0, 1, 1), "sleepers");
}

#[test]
fn p2_trap_16_the_next_waiter_gets_what_the_chosen_one_took_to_its_grave_100_of_100() {
    let (name, world) = stage();
    for round in 0..100 {
        let mut chosen = Child::start("sleeper", &[&name.0]);
        until_asleep(&world.region, "a", 1);
        let (report, reports) = channel();
        let a = world.a.clone();
        // Without a condition: only the hand-on can end this.
        let next = std::thread::spawn(move || {
            let options = WaitOptions::new().exclusive().timeout(LIMIT);
            report.send(a.wait_woken(&options)).unwrap();
        });
        until_asleep(&world.region, "a", 2);
        chosen.stop();
        assert_eq!(world.a.wake_up().unwrap().exclusive, 1);
        chosen.kill();
        let outcome = reports.recv().unwrap();
        assert!(outcome.is_ok(), "round {round}: {outcome:?}");
        next.join().unwrap();
    }
    nothing_leaked(&world.region, (0, 1, 1), "100 rounds");
}

fn waker(args: &[String]) {
    let world = World::open(&args[0]);
    world.put(0);
    world.a.wake_up().unwrap();
}

#[test]
fn p2_sleepers_evaluate_when_a_waker_dies_between_the_change_and_the_wake() {
    let (name, world) = stage();
    let waiting = world.clone();
    let waiter = std::thread::spawn(move || waiting.a.wait_event_exclusive(|| waiting.work(OF_A)));
    until_asleep(&world.region, "a", 1);
    let crash = [("WAITQUEUE_CRASH", "wake: waiters seen, lock not taken")];
    Child::start_with("waker", &[&name.0], &crash).end_killed();
    common::join("the waiter", waiter).unwrap();
}

/// Holds the lock until it is killed.
fn holder(args: &[String]) {
    let world = World::open(&args[0]);
    let _guard = world.lock.lock().unwrap();
    common::say("locked");
    common::listen();
}

fn lock_holder_killed(contenders: usize, mutant: &str) {
    let (name, world) = stage();
    let mut holder = Child::start_with("holder", &[&name.0], &[("WAITQUEUE_MUTANT", mutant)]);
    holder.expect("locked");
    assert!(matches!(world.lock.lock_timeout(Duration::ZERO), Err(Error::LockStuck { .. })));
    let (report, reports) = channel();
    for _ in 0..contenders {
        let (world, report) = (world.clone(), report.clone());
        std::thread::spawn(move || {
            let guard = world.lock.lock_timeout(LIMIT).unwrap();
            let died = guard.owner_died();
            guard.repaired();
            report.send(died).unwrap();
        });
    }
    holder.kill();
    let died = (0..contenders).filter(|_| reports.recv_timeout(LIMIT).expect("a contender hangs")).count();
    assert_eq!(died, 1, "exactly the first owner learns of it, for it repairs");
}

#[test]
fn p2_a_lock_whose_holder_is_killed_is_taken_over_by_the_mark() {
    lock_holder_killed(1, "");
    lock_holder_killed(8, "");
}

#[test]
fn p2_a_lock_whose_holder_is_killed_is_taken_over_by_the_certificate() {
    lock_holder_killed(1, "marks off");
    lock_holder_killed(8, "marks off");
}

#[test]
fn p2_trap_36_a_queue_whose_lock_holder_is_killed_serves_many_contenders() {
    for mutant in ["", "marks off"] {
        let (name, world) = stage();
        let crash = [("WAITQUEUE_CRASH", "lock: taken"), ("WAITQUEUE_MUTANT", mutant)];
        Child::start_with("sleeper", &[&name.0], &crash).end_killed();
        let contend = |_| {
            let world = world.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let options = WaitOptions::new().timeout(Duration::from_micros(50));
                    let outcome = world.a.wait_event_with(&options, || false);
                    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
                    world.a.wake_up().unwrap();
                }
            })
        };
        let threads: Vec<_> = (0..8).map(contend).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        until("the dead waiter is gone", || !world.a.has_sleepers());
        nothing_leaked(&world.region, (0, 1, 1), mutant);
    }
}

/// Sleeps until all of these are dead, by `is_alive` alone.
fn sleep_until_dead(world: &World, peers: &[ParticipantId]) -> std::thread::JoinHandle<()> {
    let (world, peers) = (world.clone(), peers.to_vec());
    let asleep = world.a.clone();
    let thread = std::thread::spawn(move || {
        world.a.wait_event(|| peers.iter().all(|peer| !world.region.is_alive(*peer))).unwrap();
    });
    until_asleep(asleep.region(), "a", 1);
    thread
}

#[test]
fn p2_is_alive_turns_false_at_a_death_and_sleepers_evaluate() {
    let (name, world) = stage();
    for _ in 0..20 {
        let (mut child, id) = idle(&name);
        assert!(world.region.is_alive(id));
        let sleeper = sleep_until_dead(&world, &[id]);
        child.kill();
        common::join("the sleeper evaluates when a peer is dead", sleeper);
    }
}

#[test]
fn p2_is_alive_turns_false_at_an_orderly_end_and_sleepers_evaluate() {
    let (name, world) = stage();
    for _ in 0..20 {
        let (mut child, id) = idle(&name);
        let sleeper = sleep_until_dead(&world, &[id]);
        child.tell("end");
        child.end_well();
        common::join("the sleeper evaluates when a peer is dead", sleeper);
    }
    nothing_leaked(&world.region, (0, 1, 1), "orderly ends");
}

#[test]
fn p2_a_peer_killed_while_it_detaches_is_rung_for_though_its_watchers_have_looked_elsewhere_since() {
    let (name, world) = stage();
    let stop = [("WAITQUEUE_STOP", "detach: announced")];
    let mut leaver = Child::start_with("idler", &[&name.0], &stop);
    let id = ParticipantId::new(leaver.hear().parse().unwrap()).unwrap();
    let sleeper = sleep_until_dead(&world, &[id]);
    leaver.tell("end");
    leaver.until_stopped();
    // Who comes and goes makes every bell choose anew whom to watch.
    for _ in 0..3 {
        drop(World::open(&name.0));
    }
    leaver.kill();
    common::join("the sleeper evaluates when a peer is dead", sleeper);
    nothing_leaked(&world.region, (0, 1, 1), "killed while it detaches");
}

#[test]
fn p2_a_bell_is_heard_though_two_of_its_three_watchers_are_stopped() {
    let (name, world) = stage();
    let (mut victim, id) = idle(&name);
    let watchers = [idle(&name), idle(&name)];
    watchers.iter().for_each(|(watcher, _)| watcher.stop());
    let sleeper = sleep_until_dead(&world, &[id]);
    victim.kill();
    common::join("the sleeper evaluates when a peer is dead", sleeper);
}

#[test]
fn p2_two_and_more_killed_at_once_are_all_noticed() {
    let (name, world) = stage();
    for count in [2, 2, 2, 4, 6] {
        let (mut children, ids): (Vec<_>, Vec<_>) = (0..count).map(|_| idle(&name)).unzip();
        let sleeper = sleep_until_dead(&world, &ids);
        children.iter().for_each(|child| child.signal(libc::SIGKILL));
        children.iter_mut().for_each(Child::kill);
        common::join("the sleeper evaluates when a peer is dead", sleeper);
    }
    nothing_leaked(&world.region, (0, 1, 1), "killed together");
}

/// Takes an item, says so, and never finishes it.
fn taker(args: &[String]) {
    let world = World::open(&args[0]);
    assert!(world.take(OF_A).is_some());
    common::say("taken");
    common::listen();
}

#[test]
fn p2_work_of_the_dead_is_taken_up_again_by_the_id_they_left_with_it() {
    let (name, world) = stage();
    world.put(0);
    let mut taker = Child::start("taker", &[&name.0]);
    taker.expect("taken");
    let waiting = world.clone();
    let waiter = std::thread::spawn(move || waiting.a.wait_event_exclusive(|| waiting.work(OF_A)));
    until_asleep(&world.region, "a", 1);
    taker.kill();
    common::join("the waiter", waiter).unwrap();
    assert!(world.is_done(0));
}

/// Uses up threads and entries of the region, then waits to be killed.
fn crowd(args: &[String]) {
    let region = common::options().open(&args[0]).unwrap();
    let queue = region.queue("a").unwrap();
    let mut threads = Vec::new();
    while region.snapshot().threads.0 < region.snapshot().threads.1 {
        let queue = queue.clone();
        threads.push(std::thread::spawn(move || {
            let _ = queue.wait_event(|| false);
        }));
        let before = threads.len();
        until("a thread more", || region.snapshot().threads.0 as usize > before);
    }
    common::say("full");
    common::listen();
}

#[test]
fn p10_everybody_killed_and_started_again_in_any_order() {
    let name = Name::new();
    for round in 0..5 {
        let mut first = Child::start("idler", &[&name.0]);
        if round == 0 {
            // Nobody has created it yet.
            assert!(!first.end().success());
            drop(World::new(&small().open_or_create(&name.0).unwrap()));
            first = Child::start("idler", &[&name.0]);
        }
        first.hear();
        let mut children = [first, Child::start("holder", &[&name.0]), Child::start("sleeper", &[&name.0])];
        children[1].expect("locked");
        let world = World::open(&name.0);
        until_asleep(&world.region, "a", 1);
        drop(world);
        children.iter_mut().for_each(Child::kill);
        let world = World::open(&name.0);
        nothing_leaked(&world.region, (0, 1, 1), "restart");
        assert!(world.lock.lock().unwrap().owner_died());
        world.lock.lock().unwrap().repaired();
    }
}

#[test]
fn p10_what_the_dead_have_used_up_is_there_again_for_the_next() {
    let name = Name::new();
    let small = common::options().participants(2).threads(4).entries(4);
    drop(small.clone().create(&name.0).unwrap());
    for _ in 0..3 {
        let mut crowd = Child::start("crowd", &[&name.0]);
        crowd.expect("full");
        crowd.kill();
        // Nobody was left to clean up: the next to attach finds every thread record taken by a dead owner.
        let region = small.clone().open(&name.0).unwrap_or_else(|error| panic!("{error}"));
        region.queue("a").unwrap().wake_up().unwrap();
        nothing_leaked(&region, (0, 1, 1), "after the crowd");
    }
}

#[test]
fn p2_a_thread_that_ends_or_panics_while_enrolled_leaves_nothing() {
    let (_name, world) = stage();
    let ends: [fn(&World); 3] = [
        |world| {
            let _ = world.a.wait_event_exclusive(|| panic!("a condition that panics before it is enrolled"));
        },
        |world| {
            let evaluations = AtomicU32::new(0);
            let _ = world.a.wait_event_exclusive(|| {
                assert!(evaluations.fetch_add(1, Relaxed) == 0, "a condition that panics while enrolled");
                false
            });
        },
        |world| {
            let mut set = WaitSet::new(&world.region).unwrap();
            set.add(&world.a, &WaitOptions::new().exclusive()).unwrap();
            panic!("a thread that panics with a set");
        },
    ];
    for end in ends {
        let doomed = world.clone();
        assert!(std::thread::spawn(move || end(&doomed)).join().is_err());
        assert!(!world.a.has_sleepers());
    }
    // A guard that is forgotten: whoever is next learns that its owner is no more.
    let doomed = world.clone();
    std::thread::spawn(move || std::mem::forget(doomed.lock.lock().unwrap())).join().unwrap();
    assert!(world.lock.lock().unwrap().owner_died());
    world.region.check().unwrap();
    assert_eq!(world.region.snapshot().entries.0, 0);
}

#[test]
fn p2_who_died_while_attaching_is_not_alive() {
    let (name, world) = stage();
    for crash in ["attach: slot taken", "attach: bell started"] {
        Child::start_with("idler", &[&name.0], &[("WAITQUEUE_CRASH", crash)]).end_killed();
        let others = world.region.participants();
        let alive = others.iter().filter(|other| other.alive && other.id != world.region.me()).count();
        assert_eq!(alive, 0, "{crash}: {others:?}");
    }
}
