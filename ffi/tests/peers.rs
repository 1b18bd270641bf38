//! Programs in C and programs in Rust in one region: they wake each other, and outlive each other.

mod common;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::*};

use common::process::{self, Child, LIMIT, Name, until, until_asleep};
use common::{EndsWell, How, Program};
use waitqueue::{
    Error, Object, Queue, Region, RobustLock, Shared, Source, WaitOptions, WaitSet, WakeOptions, wait_many,
};

/// The program in C, one for all tests of this file. (It is removed by the last test that has it.)
fn in_c() -> std::sync::Arc<Program> {
    static PROGRAM: OnceLock<std::sync::Mutex<std::sync::Weak<Program>>> = OnceLock::new();
    let mut program = PROGRAM.get_or_init(Default::default).lock().unwrap();
    program.upgrade().unwrap_or_else(|| {
        let made = std::sync::Arc::new(Program::new("peer.c", How::C));
        *program = std::sync::Arc::downgrade(&made);
        made
    })
}

/// A region with what both sides use.
struct World {
    name: Name,
    region: Region,
    queue: Queue,
    count: Object<AtomicU32>,
}

impl World {
    fn new() -> World {
        let name = Name::new();
        World::at(name)
    }

    fn at(name: Name) -> World {
        let region = name.region();
        let (queue, count) = (region.queue("queue").unwrap(), region.object("count").unwrap());
        World { name, region, queue, count }
    }

    fn take(&self) -> bool {
        self.count.fetch_update(AcqRel, Acquire, |count| count.checked_sub(1)).is_ok()
    }

    fn asleep(&self, count: usize) {
        until_asleep(&self.region, "queue", count);
    }

    /// All is as if nobody had ever been here but us.
    fn is_sound(&self) {
        until("nobody waits", || !self.queue.has_sleepers());
        self.region.check().unwrap();
        let alive = || self.region.participants().iter().filter(|other| other.alive).count();
        until("the others are gone", || alive() == 1);
        assert_eq!(self.count.load(Acquire), 0);
    }
}

/// The ways of waiting that both sides have, by the names that `peer.c` knows.
const WAYS: [&str; 9] =
    ["event", "function", "timeout", "interruptible", "many", "set", "turns", "woken", "key"];
const EXCLUSIVE: [&str; 7] = [
    "exclusive event",
    "exclusive function",
    "exclusive many",
    "exclusive set",
    "exclusive turns",
    "exclusive woken",
    "exclusive key",
];

/// The same as `waits` in `peer.c`.
fn wait(world: &World, way: &str) -> waitqueue::Result<()> {
    let (way, options) = match way.strip_prefix("exclusive ") {
        Some(way) => (way, WaitOptions::new().exclusive().label("in Rust")),
        None => (way, WaitOptions::new().label("in Rust")),
    };
    let other = world.region.queue("other").unwrap();
    let mut take = || world.take();
    match way {
        "timeout" => world.queue.wait_event_with(&options.timeout(LIMIT), take).map(drop),
        "interruptible" => world.queue.wait_event_interruptible(take),
        "many" => {
            let mut never = || false;
            let mut sources =
                [Source::new(&other, &mut never), Source::with(&world.queue, &options, &mut take)];
            wait_many(&mut sources, &WaitOptions::new()).map(|fired| assert_eq!(fired, 1))
        }
        "set" => {
            let mut set = WaitSet::new(&world.region)?;
            set.add(&other, &options)?;
            let member = set.add(&world.queue, &options)?;
            set.wait(&WaitOptions::new(), |asked| asked == member && take()).map(drop)
        }
        "turns" => {
            let mut waiting = world.queue.begin_wait(&options);
            while !take() {
                waiting.next_condition()?;
            }
            waiting.finish();
            Ok(())
        }
        "woken" => world.queue.wait_woken(&options).map(drop),
        "key" => world.queue.wait_event_with(&options.key(4), take).map(drop),
        _ => world.queue.wait_event_with(&options, take).map(drop),
    }
}

#[test]
fn role() {
    process::play(&[("waits", |args| waits(args)), ("holds", |args| holds(args))]);
}

/// A victim in Rust.
fn waits(args: &[String]) {
    // (Its name is the test's to remove.)
    let world = std::mem::ManuallyDrop::new(World::at(Name(args[0].clone())));
    wait(&world, &args[1]).unwrap();
    process::say("0");
}

fn holds(args: &[String]) {
    let region = process::region(&args[0]);
    let word = region.object::<RobustLock>("lock").unwrap();
    let lock = region.lock_at(&word).unwrap();
    let _guard = lock.lock().unwrap();
    process::say("held");
    process::listen();
}

#[test]
fn p9_rust_wakes_c_however_it_waits() {
    let (program, world) = (in_c(), World::new());
    for way in WAYS.into_iter().chain(EXCLUSIVE) {
        let mut waiter = program.start("waits", &[&world.name.0, way]);
        world.asleep(1);
        let seen = world.region.snapshot();
        let labelled =
            seen.queues.iter().flat_map(|queue| &queue.waiters).any(|waiter| waiter.label == "in C");
        assert!(labelled || ["interruptible", "many", "exclusive many"].contains(&way), "{way}: {seen}");
        world.count.store(1, Release);
        let key = WakeOptions::new().key(if way.ends_with("key") { 4 } else { u32::MAX });
        let woken = match way {
            "interruptible" => world.queue.wake_up_interruptible(),
            _ => world.queue.wake_up_with(&key),
        };
        let woken = woken.unwrap();
        assert_eq!(woken.exclusive, u32::from(way.starts_with("exclusive")), "{way}");
        assert_eq!(woken.exclusive + woken.nonexclusive, 1, "{way}");
        waiter.expect("0");
        waiter.ends_well(way);
        assert_eq!(world.count.swap(0, AcqRel), u32::from(way.ends_with("woken")), "{way}");
    }
    world.is_sound();
}

#[test]
fn p9_c_wakes_rust_however_it_waits() {
    let (program, world) = (in_c(), World::new());
    let pairs = [
        ("event", "one", 1),
        ("timeout", "all", 1),
        ("interruptible", "interruptible", 1),
        ("many", "one", 1),
        ("set", "sync", 1),
        ("turns", "one", 1),
        ("woken", "sync", 1),
        ("key", "key", 1),
        ("exclusive event", "one", 1),
        ("exclusive many", "sync", 1),
        ("exclusive set", "all", 1),
        ("exclusive woken", "one", 1),
        ("exclusive key", "key", 1),
    ];
    for (way, how, reached) in pairs {
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&world, way));
            world.asleep(1);
            let mut waker = program.start("wakes", &[&world.name.0, how]);
            waker.expect(&reached.to_string());
            until(&format!("{way}, woken by {how}"), || waiter.is_finished());
            waiter.join().unwrap().unwrap();
            waker.ends_well(how);
        });
        assert_eq!(world.count.swap(0, AcqRel), u32::from(way.ends_with("woken")), "{way}");
    }
    world.is_sound();
}

#[test]
fn p9_a_close_ends_the_waits_of_the_other_language() {
    let program = in_c();
    for way in ["event", "exclusive many", "set", "woken"] {
        let world = World::new();
        let mut waiter = program.start("waits", &[&world.name.0, way]);
        world.asleep(1);
        assert_eq!(world.queue.close().unwrap(), 1);
        waiter.expect(&format!("-{}", libc::ESHUTDOWN));
        waiter.ends_well(way);
        world.is_sound();
        let world = World::new();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&world, way));
            world.asleep(1);
            let mut closer = program.start("wakes", &[&world.name.0, "close"]);
            closer.expect("1");
            until(&format!("{way}, closed"), || waiter.is_finished());
            assert!(matches!(waiter.join().unwrap(), Err(Error::Closed { .. })), "{way}");
            closer.ends_well("close");
        });
        world.is_sound();
    }
}

#[test]
fn p3_a_wake_that_chose_a_killed_c_program_goes_to_a_waiter_in_rust() {
    let (program, world) = (in_c(), World::new());
    for way in EXCLUSIVE {
        let mut victim = program.start("waits", &[&world.name.0, way]);
        world.asleep(1);
        a_killed_waiters_wake_goes_on(&world, &mut victim, way, |world| {
            let survivor = || wait(world, "exclusive event").unwrap();
            std::thread::scope(|scope| scope.spawn(survivor).join().unwrap());
        });
    }
    world.is_sound();
}

#[test]
fn p3_a_wake_that_chose_a_killed_rust_program_goes_to_a_waiter_in_c() {
    let (program, world) = (in_c(), World::new());
    for (victim, survivor) in [
        ("exclusive event", "exclusive event"),
        ("exclusive set", "exclusive many"),
        ("exclusive many", "exclusive set"),
        ("exclusive woken", "exclusive function"),
        ("exclusive turns", "exclusive turns"),
    ] {
        let mut killed = Child::start("waits", &[&world.name.0, victim]);
        world.asleep(1);
        a_killed_waiters_wake_goes_on(&world, &mut killed, victim, |world| {
            let mut child = program.start("waits", &[&world.name.0, survivor]);
            child.expect("0");
            child.ends_well(survivor);
        });
    }
    world.is_sound();
}

/// Stops the victim, wakes it so that it is chosen and cannot know, and kills it: the survivor behind it gets the wake.
fn a_killed_waiters_wake_goes_on(
    world: &World,
    victim: &mut Child,
    way: &str,
    survive: impl FnOnce(&World) + Send,
) {
    std::thread::scope(|scope| {
        let survivor = scope.spawn(|| survive(world));
        world.asleep(2);
        victim.stop();
        world.count.store(1, Release);
        // (A key that reaches all of them.)
        assert_eq!(world.queue.wake_up().unwrap().exclusive, 1, "{way}");
        world.asleep(1);
        assert!(!survivor.is_finished(), "{way}: the victim is the older one");
        victim.kill();
        until(&format!("the next waiter after {way} was killed"), || survivor.is_finished());
        survivor.join().unwrap();
    });
    assert_eq!(world.count.load(Acquire), 0, "{way}");
    until(&format!("{way} is off its queue"), || !world.queue.has_sleepers());
}

#[test]
fn p2_killed_asleep_it_is_off_its_queues_and_wakes_are_not_its_own() {
    let (program, world) = (in_c(), World::new());
    for way in WAYS.into_iter().chain(EXCLUSIVE) {
        let mut victim = program.start("waits", &[&world.name.0, way]);
        world.asleep(1);
        victim.kill();
        until(&format!("{way} is off its queue"), || !world.queue.has_sleepers());
        assert_eq!(world.queue.wake_up().unwrap(), waitqueue::Woken::default(), "{way}");
    }
    assert!(!world.region.queue("other").unwrap().has_sleepers());
    world.is_sound();
}

#[test]
fn p6_the_next_owner_hears_that_a_holder_was_killed() {
    let (program, world) = (in_c(), World::new());
    let tag = <RobustLock as Shared>::TAG;
    let word = world.region.object::<RobustLock>("lock").unwrap();
    let lock = world.region.lock_at(&word).unwrap();

    // One in C dies inside: Rust hears of it, also if it has waited for the lock.
    let mut holder = program.start("holds", &[&world.name.0, tag]);
    holder.expect("held");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let guard = lock.lock().unwrap();
            assert!(guard.owner_died());
            guard.repaired();
        });
        assert!(matches!(lock.lock_timeout(std::time::Duration::ZERO), Err(Error::LockStuck { .. })));
        holder.kill();
        until("the lock of the dead is had", || next.is_finished());
        next.join().unwrap();
    });

    // One in Rust dies inside: C hears of it.
    for stopped in [false, true] {
        let mut holder = Child::start("holds", &[&world.name.0]);
        holder.expect("held");
        let mut next = program.start("takes_the_lock", &[&world.name.0, tag]);
        next.expect("tries");
        if stopped {
            holder.stop();
        }
        holder.kill();
        next.expect("1");
        next.ends_well("takes_the_lock");
    }

    // And one that lets go leaves nothing to hear.
    let mut holder = program.start("holds", &[&world.name.0, tag]);
    holder.expect("held");
    let mut next = program.start("takes_the_lock", &[&world.name.0, tag]);
    next.expect("tries");
    holder.tell("let go");
    next.expect("0");
    next.ends_well("takes_the_lock");
    holder.ends_well("holds");
    world.is_sound();
}
