//! Each step that the promises rest on is needed: where it is left out, some scenario notices.
//!
//! A mutant is a named step that a debug build can leave out; the names are read from the sources. A scenario is a
//! short play, made deterministic by conditions that wait inside their own evaluation, by crash points and by stopped
//! processes. It must end well as the code is, and must not end well with its mutant: it hangs, or an assertion fails.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Child, Name, until_asleep};
use kill::World;
use waitqueue::{
    Error, Interrupter, Object, Relock, Result, Source, WaitOptions, WaitSet, WakeOptions, wait_many,
};

/// How long a scenario with its mutant may hang until that counts as noticed.
const NOTICED: Duration = Duration::from_secs(3);

const SCENARIOS: &[(&str, fn())] = &[
    ("commit by store", woken_while_evaluating),
    ("no look for the awake", woken_while_evaluating),
    ("claim of an evaluating waiter", woken_while_evaluating),
    ("sibling claim not passed on", sibling),
    ("claim of a leaver not passed on", leaver),
    ("close without look", close),
    ("crowd not woken", a_crowd),
    ("claim not handed on", hand_on),
    ("hand-on forgets the key", hand_on_with_key),
    ("claim without its key", hand_on_with_key),
    ("no ring", waker_dies),
    ("ring without wide", a_set_hears_of_a_death),
    ("member not noted", a_set_is_woken),
    ("sets not told of a repair", a_set_hears_of_a_threads_death),
    ("half a note stays", a_set_is_woken_after_a_threads_death),
    ("recovery skips an entry", lock_holder_dies),
    ("generation not bumped", record_reused),
    ("marks off", thread_dies),
    ("waits of the ended stay", thread_forgets),
];

/// Not noticed here, and why.
const EXEMPT: &[(&str, &str)] = &[
    ("no fence A", "the models under loom show it"),
    ("no fence B", "the models under loom show it"),
    ("notes taken after fence A", "the models under loom show it"),
    ("no fence in interrupt", "the models under loom show it"),
    ("no fence in listen", "the models under loom show it"),
    ("crowd not counted", "the models under loom show it"),
    ("lock without acquire", "the models under loom show it"),
    ("unlock without release", "the models under loom show it"),
    ("owner read without acquire", "the models under loom show it"),
    (
        "take-over drops waiters",
        "the models under loom show it; here a sleeper of the lock looks again after its slice",
    ),
    (
        "store and wake split",
        "a sleeper of the lock looks again after its slice: the kill enumeration shows it without slices",
    ),
    ("no slices", "a second defence, which the kill enumeration takes away to see the first"),
    ("one sleeper of a lock woken", "the kill enumeration shows it, without slices"),
    ("repair left out", "the kill enumeration shows it"),
    ("second round left out", "the kill enumeration shows it"),
    ("life words not set", "the kill enumeration shows it"),
    ("object published before it is written", "the kill enumeration shows it"),
    ("waiting lowered too early", "the entry that is not counted is the leaver's own, who evaluates no more"),
];

#[test]
fn role() {
    // Whoever is killed for hanging takes its children along: by a thread of theirs that does not end in a scenario.
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        // SAFETY: a number for this thread's process alone.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        ready.send(()).unwrap();
        std::thread::sleep(common::LIMIT);
    });
    is_ready.recv().unwrap();
    common::play(&[
        ("scenario", scenario),
        ("sleeper", sleeper),
        ("waker", waker),
        ("holder", holder),
        ("contender", contender),
    ]);
}

fn scenario(args: &[String]) {
    SCENARIOS.iter().find(|(name, _)| *name == args[0]).expect("a scenario").1();
    common::say("well");
}

#[test]
fn every_mutant_is_noticed() {
    let known = SCENARIOS.iter().map(|(name, _)| *name).chain(EXEMPT.iter().map(|(name, _)| *name));
    let known = known.map(str::to_owned).collect();
    let in_source = kill::names_in_source("mutant(");
    let missing: Vec<_> = in_source.difference(&known).collect();
    let stale: Vec<_> = known.difference(&in_source).collect();
    assert!(missing.is_empty() && stale.is_empty(), "no scenario: {missing:?}; no such mutant: {stale:?}");

    let mut jobs: Vec<(String, Box<dyn FnOnce() + Send>)> = Vec::new();
    for (name, _) in SCENARIOS {
        let play = |mutant| Child::start_with("scenario", &[name], &[("WAITQUEUE_MUTANT", mutant)]);
        let sound = move || {
            let mut child = play("");
            child.expect("well");
            child.end_well();
        };
        let mutated = move || {
            let (mut child, start) = (play(name), Instant::now());
            while !child.has_ended() && start.elapsed() < NOTICED {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(child.hear_now().is_none(), "nobody noticed");
        };
        jobs.push((format!("{name:?}, as the code is"), Box::new(sound)));
        jobs.push((format!("{name:?}, left out"), Box::new(mutated)));
    }
    kill::in_parallel(jobs, 24);
    EXEMPT.iter().for_each(|(name, why)| println!("exempt: {name:?}, since {why}"));
}

/// A region of its own, with a flag.
fn stage() -> (Name, World, Object<AtomicU32>) {
    let name = Name::new();
    let region = kill::small().create(&name.0).unwrap();
    let (world, flag) = (World::new(&region), region.object("flag").unwrap());
    (name, world, flag)
}

/// A thread that waits exclusively on `a` for the flag.
fn waiter(world: &World, flag: &Object<AtomicU32>) -> JoinHandle<()> {
    let (world, flag) = (world.clone(), flag.clone());
    std::thread::spawn(move || world.a.wait_event_exclusive(|| flag.load(Acquire) != 0).unwrap())
}

/// The wake comes after the waiter has looked and before it has gone to sleep.
fn woken_while_evaluating() {
    let (_name, world, flag) = stage();
    let (looking, looks) = channel();
    let (go_on, goes_on) = channel();
    let (a, seen_flag) = (world.a.clone(), flag.clone());
    let mut evaluations = 0;
    let waiter = std::thread::spawn(move || {
        a.wait_event_exclusive(|| {
            let seen = seen_flag.load(Acquire) != 0;
            evaluations += 1;
            // The first is before it has enrolled.
            if evaluations == 2 {
                looking.send(()).unwrap();
                goes_on.recv().unwrap();
            }
            seen
        })
        .unwrap();
    });
    looks.recv().unwrap();
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    go_on.send(()).unwrap();
    waiter.join().unwrap();
}

/// A thread ends with a wake that has chosen it, as one may in C: the next waiter gets it.
fn thread_forgets() {
    let (_name, world, flag) = stage();
    let a = world.a.clone();
    let forgetful = std::thread::spawn(move || {
        let mut waiting = a.begin_wait(&WaitOptions::new().exclusive());
        while !waiting.was_chosen() {
            waiting.next_condition().unwrap();
        }
        std::mem::forget(waiting);
    });
    until_asleep(&world.region, "a", 1);
    let next = waiter(&world, &flag);
    until_asleep(&world.region, "a", 2);
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    forgetful.join().unwrap();
    next.join().unwrap();
}

/// Chosen by one queue, satisfied by another: the first one's wake goes to the next.
fn sibling() {
    let (_name, world, flag) = stage();
    let (first, other) = (world.clone(), flag.clone());
    let both = std::thread::spawn(move || {
        let exclusive = WaitOptions::new().exclusive();
        wait_many(
            &mut [
                Source::with(&first.a, &exclusive, &mut || false),
                Source::with(&first.b, &exclusive, &mut || other.load(Acquire) != 0),
            ],
            &WaitOptions::new(),
        )
    });
    until_asleep(&world.region, "a", 1);
    let next = waiter(&world, &flag);
    until_asleep(&world.region, "a", 2);
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    assert_eq!(both.join().unwrap().unwrap(), 1);
    next.join().unwrap();
}

/// Interrupts the wait it belongs to, after each sleep.
struct InterruptAfterSleep(Interrupter);
impl Relock for InterruptAfterSleep {
    fn release(&mut self) {}
    fn retake(&mut self) -> Result<()> {
        self.0.interrupt();
        Ok(())
    }
}

/// Chosen, and leaves for another reason: the wake goes to the next.
fn leaver() {
    let (_name, world, flag) = stage();
    let a = world.a.clone();
    let leaver = std::thread::spawn(move || {
        let interrupter = Interrupter::new(a.region());
        let mut guard = InterruptAfterSleep(interrupter.clone());
        let options = WaitOptions::new().exclusive().interrupter(&interrupter);
        a.wait_event_locked(&options, &mut guard, |_| false)
    });
    until_asleep(&world.region, "a", 1);
    let next = waiter(&world, &flag);
    until_asleep(&world.region, "a", 2);
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    assert!(matches!(leaver.join().unwrap(), Err(Error::Interrupted { .. })));
    next.join().unwrap();
}

fn close() {
    let (_name, world, _flag) = stage();
    let waiting = world.clone();
    let waiter = std::thread::spawn(move || waiting.c.wait_event_exclusive(|| false));
    until_asleep(&world.region, "c", 1);
    world.c.close().unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(Error::Closed { .. })));
}

/// So many that one call is to wake them.
fn a_crowd() {
    let (_name, world, flag) = stage();
    let waiters: Vec<_> = (0..12)
        .map(|_| {
            let (world, flag) = (world.clone(), flag.clone());
            std::thread::spawn(move || world.a.wait_event(|| flag.load(Acquire) != 0).unwrap())
        })
        .collect();
    until_asleep(&world.region, "a", waiters.len());
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// Sleeps on `a` without a condition, for the keys of the second argument.
fn sleeper(args: &[String]) {
    let world = World::open(&args[0]);
    let options = WaitOptions::new().exclusive().key(args[1].parse().unwrap());
    world.a.wait_woken(&options).unwrap();
}

fn woken(world: &World, key: u32, report: &Sender<u32>) {
    let (world, report) = (world.clone(), report.clone());
    let options = WaitOptions::new().exclusive().key(key);
    std::thread::spawn(move || world.a.wait_woken(&options).map(|_| report.send(key)));
}

/// The chosen waiter is killed before it runs; nobody has a condition that a ring could make true.
fn hand_on() {
    let (name, world, _flag) = stage();
    let mut chosen = Child::start("sleeper", &[&name.0, "1"]);
    until_asleep(&world.region, "a", 1);
    let (report, reports) = channel();
    woken(&world, 1, &report);
    until_asleep(&world.region, "a", 2);
    chosen.stop();
    assert_eq!(world.a.wake_up().unwrap().exclusive, 1);
    chosen.kill();
    reports.recv().unwrap();
}

fn hand_on_with_key() {
    let (name, world, _flag) = stage();
    let mut chosen = Child::start("sleeper", &[&name.0, "3"]);
    until_asleep(&world.region, "a", 1);
    let (report, reports) = channel();
    for (others, key) in [(2, 2), (3, 1)] {
        woken(&world, key, &report);
        until_asleep(&world.region, "a", others);
    }
    chosen.stop();
    assert_eq!(world.a.wake_up_with(&WakeOptions::new().key(1)).unwrap().exclusive, 1);
    chosen.kill();
    assert_eq!(reports.recv().unwrap(), 1, "the hand-on went to one who waits for something else");
}

fn waker(args: &[String]) {
    let world = World::open(&args[0]);
    world.region.object::<AtomicU32>("flag").unwrap().store(args[1].parse().unwrap(), Release);
    world.a.wake_up().unwrap();
}

/// A waker dies after it has changed the condition, and before it has woken anybody.
fn waker_dies() {
    let (name, world, flag) = stage();
    let waiter = waiter(&world, &flag);
    until_asleep(&world.region, "a", 1);
    let crash = [("WAITQUEUE_CRASH", "wake: waiters seen, lock not taken")];
    Child::start_with("waker", &[&name.0, "1"], &crash).end_killed();
    waiter.join().unwrap();
}

/// A waker dies who had made a member's condition true; the set has already asked that member.
fn a_set_hears_of_a_death() {
    let (name, world, flag) = stage();
    let waiter = set_waiter(&world, &flag);
    until_asleep(&world.region, "a", 1);
    let crash = [("WAITQUEUE_CRASH", "wake: waiters seen, lock not taken")];
    Child::start_with("waker", &[&name.0, "1"], &crash).end_killed();
    waiter.join().unwrap();
}

/// One thread of a process dies when it has noted a member by half, which keeps others from noting it.
fn a_set_hears_of_a_threads_death() {
    let (name, world, flag) = stage();
    let waiter = set_waiter(&world, &flag);
    until_asleep(&world.region, "a", 1);
    let exit = [("WAITQUEUE_EXIT", "wake: member about to be noted")];
    let _lives_on = Child::start_with("waker", &[&name.0, "0"], &exit);
    let is_locked = |queue: &waitqueue::QueueInfo| queue.name == "a" && queue.lock_owner.is_some();
    common::until("it has the lock", || world.region.snapshot().queues.iter().any(is_locked));
    flag.store(1, Release);
    world.a.wake_up().unwrap(); // takes the lock over
    waiter.join().unwrap();
}

/// The same; and from then on the member is noted as before.
fn a_set_is_woken_after_a_threads_death() {
    let (name, world, flag) = stage();
    let (taker, taken) = (world.clone(), flag.clone());
    let waiter = std::thread::spawn(move || {
        let mut set = WaitSet::new(&taker.region).unwrap();
        let first = set.add(&taker.a, &WaitOptions::new()).unwrap();
        set.add(&taker.b, &WaitOptions::new()).unwrap();
        let take = |member| member == first && taken.swap(0, AcqRel) != 0;
        for _ in 0..3 {
            set.wait(&WaitOptions::new(), take).unwrap();
        }
    });
    until_asleep(&world.region, "a", 1);
    let exit = [("WAITQUEUE_EXIT", "wake: member about to be noted")];
    let _lives_on = Child::start_with("waker", &[&name.0, "0"], &exit);
    let is_locked = |queue: &waitqueue::QueueInfo| queue.name == "a" && queue.lock_owner.is_some();
    common::until("it has the lock", || world.region.snapshot().queues.iter().any(is_locked));
    for _ in 0..3 {
        until_asleep(&world.region, "a", 1);
        flag.store(1, Release);
        world.a.wake_up().unwrap();
        common::until("it is taken", || flag.load(Acquire) == 0);
    }
    waiter.join().unwrap();
}

/// A member is asked again because a wake has met it.
fn a_set_is_woken() {
    let (_name, world, flag) = stage();
    let waiter = set_waiter(&world, &flag);
    until_asleep(&world.region, "a", 1);
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    waiter.join().unwrap();
}

/// A thread that waits with a set on `a` for the flag.
fn set_waiter(world: &World, flag: &Object<AtomicU32>) -> JoinHandle<()> {
    let (world, flag) = (world.clone(), flag.clone());
    std::thread::spawn(move || {
        let mut set = WaitSet::new(&world.region).unwrap();
        set.add(&world.a, &WaitOptions::new()).unwrap();
        set.wait(&WaitOptions::new(), |_| flag.load(Acquire) != 0).map(drop).unwrap();
    })
}

/// A waker dies under the queue's lock; the list is made anew.
fn lock_holder_dies() {
    let (name, world, flag) = stage();
    let waiter = waiter(&world, &flag);
    until_asleep(&world.region, "a", 1);
    Child::start_with("waker", &[&name.0, "0"], &[("WAITQUEUE_CRASH", "lock: taken")]).end_killed();
    world.region.check().unwrap();
    flag.store(1, Release);
    world.a.wake_up().unwrap();
    waiter.join().unwrap();
}

/// A thread of its own takes the user lock; then that thread dies, or keeps it for ever.
fn holder(args: &[String]) {
    let world = World::open(&args[0]);
    let dies = args[1] == "dies";
    let (locked, locks) = channel();
    std::thread::spawn(move || {
        std::mem::forget(world.lock.lock().unwrap());
        // SAFETY: a number.
        locked.send(unsafe { libc::gettid() }).unwrap();
        if dies {
            // SAFETY: this thread alone ends, as if it were killed; nobody joins it.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        std::thread::sleep(common::LIMIT);
    });
    let thread = format!("/proc/self/task/{}", locks.recv().unwrap());
    // Whoever looked before its end would leave a trace in the lock.
    common::until("the thread's end", || !dies || !std::path::Path::new(&thread).exists());
    common::say("locked");
    common::listen();
}

fn contender(args: &[String]) {
    let world = World::open(&args[0]);
    common::say("attached");
    common::listen();
    drop(world.lock.lock().unwrap());
    common::say("locked");
}

/// Between a contender's look at a dead owner and its take-over, the owner's record gets a new owner, who has the lock.
fn record_reused() {
    let (name, world, _flag) = stage();
    let stop = [("WAITQUEUE_STOP", "lock: owner gone, not taken over")];
    let mut contender = Child::start_with("contender", &[&name.0], &stop);
    contender.expect("attached");
    world.region.check().unwrap();
    let before = kill::owned(&world.region.snapshot());
    let mut first = Child::start("holder", &[&name.0, "dies"]);
    first.expect("locked");
    contender.tell("go");
    contender.until_stopped();
    first.kill();
    kill::nothing_leaked(&world.region, before, "the first holder is gone");
    let mut second = Child::start("holder", &[&name.0, "keeps"]);
    second.expect("locked");
    contender.signal(libc::SIGCONT);
    assert!(contender.is_silent_for(NOTICED / 2), "two owners of one lock");
}

/// One thread of a living process dies with a lock.
fn thread_dies() {
    let (name, world, _flag) = stage();
    let mut holder = Child::start("holder", &[&name.0, "dies"]);
    holder.expect("locked");
    let guard = world.lock.lock_timeout(NOTICED / 2).unwrap();
    assert!(guard.owner_died());
    assert!(!holder.has_ended());
}
