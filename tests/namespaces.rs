//! P6: processes of different PID, user and mount namespaces share a region; no decision rests on a PID or TID.
//!
//! Each child is the first process of its own PID namespace, so that all of them are process 1, and their threads
//! have the same ids: what a kernel robust mutex takes for one thread (traps 14, 15). Where `unshare` is not
//! permitted, the tests say so and pass.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, SystemTime};

use common::{Child, LIMIT, Name, until, until_asleep};
use kill::turns::{id_of, kill_noticed};
use kill::{OF_A, World, nothing_leaked, small};
use waitqueue::{Error, ParticipantId};

#[test]
fn role() {
    common::play(&[
        ("echo", echo),
        ("holder", holder),
        ("contender", contender),
        ("sleeper", sleeper),
        ("twins", twins),
        ("other_time", other_time),
    ]);
}

/// A command that starts a program in namespaces of its own; `None`, said aloud, if that is not permitted.
fn unshare(options: &[&str]) -> Option<Command> {
    let mut command = Command::new("unshare");
    // (The killing of what `unshare` has forked goes with it.)
    command.args(options).args(["--kill-child=SIGKILL"]);
    let mut probe = Command::new("unshare");
    match probe.args(options).args(["--kill-child=SIGKILL", "true"]).output() {
        Ok(output) if output.status.success() => {
            command.arg(std::env::current_exe().unwrap());
            Some(command)
        }
        other => {
            println!("skipped: unshare {options:?} is not permitted here: {other:?}");
            None
        }
    }
}

/// A process that is number 1 of its own PID namespace.
fn first_process(role: &str, args: &[&str], environment: &[(&str, &str)]) -> Option<Child> {
    Some(Child::start_command(unshare(&["--pid", "--fork"])?, role, args, environment))
}

fn stage() -> (Name, World) {
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    (name, World::new(&region))
}

/// Takes one of two sides in turns; says its process and thread id before.
fn echo(args: &[String]) {
    let world = World::open(&args[0]);
    let turn = world.region.object::<AtomicU32>("turn").unwrap();
    let side: u32 = args[1].parse().unwrap();
    // SAFETY: a number.
    common::say(&format!("{} {}", std::process::id(), unsafe { libc::gettid() }));
    for round in 0..2000 {
        let mine = 2 * round + side;
        world.a.wait_event_exclusive(|| turn.load(Acquire) == mine).unwrap();
        turn.store(mine + 1, Release);
        // Both sleep on one queue: the one who is not meant passes by.
        world.a.wake_up_all().unwrap();
    }
    common::say("done");
}

fn take_turns(mut one: Child, mut other: Child) {
    let (first, second) = (one.hear(), other.hear());
    assert_eq!(first, second, "equal process and thread ids");
    one.expect("done");
    other.expect("done");
    one.end_well();
    other.end_well();
}

#[test]
fn p6_trap_14_two_processes_with_equal_ids_wait_for_and_wake_each_other() {
    let (name, world) = stage();
    let start = |side| first_process("echo", &[&name.0, side], &[]);
    if let (Some(one), Some(other)) = (start("0"), start("1")) {
        take_turns(one, other);
        nothing_leaked(&world.region, (0, 1, 1), "echo");
    }
}

#[test]
fn p6_user_and_mount_namespaces_of_their_own_share_a_region_too() {
    let (name, world) = stage();
    let start = |side| {
        let command = unshare(&["--user", "--map-root-user", "--mount", "--pid", "--fork"])?;
        Some(Child::start_command(command, "echo", &[&name.0, side], &[]))
    };
    if let (Some(one), Some(other)) = (start("0"), start("1")) {
        take_turns(one, other);
        nothing_leaked(&world.region, (0, 1, 1), "echo");
    }
}

/// Holds the lock, and dies when told.
fn holder(args: &[String]) {
    let world = World::open(&args[0]);
    let _guard = world.lock.lock().unwrap();
    common::say(&world.region.me().get().to_string());
    if common::listen() == "die" {
        // Nobody else's process of the same number is hit: it has its own namespace.
        std::process::abort();
    }
}

/// Contends with a holder of equal ids.
fn contender(args: &[String]) {
    let world = World::open(&args[0]);
    common::say("ready");
    let guard = world.lock.lock_timeout(LIMIT).unwrap();
    common::say(if guard.owner_died() { "owner died" } else { "owner lives" });
    guard.repaired();
    drop(guard);
    common::listen();
}

#[test]
fn p6_a_lock_held_by_a_living_owner_of_equal_ids_stays_held_and_a_dead_ones_is_taken_over() {
    for mutant in ["", "marks off"] {
        let (name, world) = stage();
        let environment = [("WAITQUEUE_MUTANT", mutant)];
        let start = |role| first_process(role, &[&name.0], &environment);
        let Some(mut holder) = start("holder") else { return };
        let id = ParticipantId::new(holder.hear().parse().unwrap()).unwrap();
        let mut contender = start("contender").unwrap();
        contender.expect("ready");
        assert!(contender.is_silent_for(std::time::Duration::from_millis(100)), "the owner lives");
        let waiting = world.clone();
        let sleeper = std::thread::spawn(move || waiting.a.wait_event(|| !waiting.region.is_alive(id)));
        until_asleep(&world.region, "a", 1);
        holder.tell("die");
        contender.expect("owner died");
        common::join("the death is noticed", sleeper).unwrap();
        contender.tell("end");
        contender.end_well();
    }
}

fn sleeper(args: &[String]) {
    let world = match args[1].parse::<i32>() {
        Ok(number) => {
            // SAFETY: the test lets us inherit this descriptor, and nobody else uses it here.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            World::new(&common::options().open_fd(fd).unwrap())
        }
        Err(_) => World::open(&args[0]),
    };
    common::say("attached");
    let _ = world.a.wait_event_exclusive(|| world.work(OF_A));
    common::listen();
}

#[test]
fn p6_the_chosen_waiter_of_another_namespace_is_killed_and_the_next_one_gets_it() {
    let (name, world) = stage();
    for item in 0..10 {
        let Some(mut chosen) = first_process("sleeper", &[&name.0, ""], &[]) else { return };
        chosen.expect("attached");
        until_asleep(&world.region, "a", 1);
        let mut next = first_process("sleeper", &[&name.0, ""], &[]).unwrap();
        next.expect("attached");
        until_asleep(&world.region, "a", 2);
        world.put(item);
        chosen.kill();
        world.a.wake_up().unwrap();
        world.settled("the next");
        next.tell("end");
        next.end_well();
    }
}

#[test]
fn p6_a_descriptor_that_is_inherited_proves_nobodys_life() {
    // Trap 41: both sides share the open file description that was passed, and yet each is known to live and to die.
    let region = small().create_memfd("inherited").unwrap();
    let world = World::new(&region);
    let fd = region.try_clone_fd().unwrap();
    // SAFETY: our own descriptor; the child is to inherit it.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    let number = fd.as_raw_fd().to_string();
    for item in 0..5 {
        let mut children: Vec<Child> = (0..2).map(|_| Child::start("sleeper", &["", &number])).collect();
        children.iter_mut().for_each(|child| child.expect("attached"));
        until_asleep(&region, "a", 2);
        let (mut killed, mut other) = (children.remove(0), children.remove(0));
        killed.kill();
        world.put(item);
        world.a.wake_up().unwrap();
        world.settled("the other");
        other.tell("end");
        other.end_well();
        nothing_leaked(&region, (0, 1, 1), "inherited");
    }
}

/// Process 1 of its namespace, like each of the two children that it makes by the system call alone.
fn twins(args: &[String]) {
    let world = World::open(&args[0]);
    let ids = world.region.object::<[AtomicU64; 2]>("twins").unwrap();
    common::say(&world.region.me().get().to_string());
    let [mut first, mut second] = [0, 1].map(|nth: usize| {
        let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
        // SAFETY: a fork without libc's handlers.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } as i32;
        assert!(child >= 0, "{}", std::io::Error::last_os_error());
        if child == 0 {
            let forked = |outcome| matches!(outcome, Err(Error::Forked { .. }));
            let equal = std::process::id() == 1;
            if equal && forked(world.a.wait_event(|| false)) && forked(world.region.check()) {
                let own = World::open(&args[0]);
                ids[nth].store(own.region.me().get(), Release);
                while own.a.wait_event_exclusive(|| own.work(OF_A)).is_ok() {}
            }
            // SAFETY: leaves without its parent's destructors.
            unsafe { libc::_exit(1) };
        }
        child
    });
    while common::listen() == "kill" {
        // SAFETY: our own children, by their numbers here.
        unsafe {
            assert_eq!(libc::kill(first, libc::SIGKILL), 0);
            assert_eq!(libc::waitpid(first, std::ptr::null_mut(), 0), first);
        }
        std::mem::swap(&mut first, &mut second);
        common::say("killed");
    }
}

#[test]
fn p6_trap_33_children_by_raw_clone_with_the_process_id_of_their_parent_are_not_their_parent() {
    let (name, world) = stage();
    let ids = world.region.object::<[AtomicU64; 2]>("twins").unwrap();
    let Some(mut parent) = first_process("twins", &[&name.0], &[]) else { return };
    let parents = id_of(&mut parent);
    let [first, second] = [0, 1].map(|nth: usize| {
        until("a twin attaches", || ids[nth].load(Acquire) != 0);
        ParticipantId::new(ids[nth].load(Acquire)).unwrap()
    });
    assert!(first != second && parents != first && parents != second);
    let processes =
        |id| world.region.participants().into_iter().find(|found| found.id == id).unwrap().process;
    assert_eq!([processes(parents), processes(first), processes(second)], [1, 1, 1]);
    until_asleep(&world.region, "a", 2);
    world.put(0);
    world.a.wake_up().unwrap();
    world.settled("both live");
    parent.tell("kill");
    parent.expect("killed");
    until("the death is noticed", || !world.region.is_alive(first));
    assert!(world.region.is_alive(second) && world.region.is_alive(parents));
    for item in 1..5 {
        world.put(item);
        world.a.wake_up().unwrap();
        world.settled("the other twin");
    }
    parent.tell("kill");
    parent.expect("killed");
    until("the death is noticed", || !world.region.is_alive(second));
    assert!(world.region.is_alive(parents));
    parent.tell("end");
    parent.end_well();
    nothing_leaked(&world.region, (0, 1, 1), "twins");
}

/// Waits with a deadline, with the lock, and dies asleep; everything by the clock of its own time namespace.
fn other_time(args: &[String]) {
    let world = World::open(&args[0]);
    common::say(&world.region.me().get().to_string());
    let outcome = world.a.wait_event_timeout(|| false, Duration::from_millis(20));
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    let left = world.a.wait_event_timeout(|| world.work(OF_A), LIMIT).unwrap();
    assert!(left > Duration::ZERO && left <= LIMIT, "{left:?}");
    common::say("in time");
    let guard = world.lock.lock_timeout(LIMIT).unwrap();
    common::say("locked");
    world.a.wait_event_timeout(|| false, 100 * LIMIT).unwrap_err();
    drop(guard);
}

#[test]
fn p6_processes_of_different_time_namespaces_share_deadlines_of_their_own_and_times_of_the_wall() {
    // A week ahead, an hour behind (the machine runs since some minutes at least), and here.
    let (name, world) = stage();
    for offset in ["604800", "-60"] {
        let clocks = ["--monotonic", offset, "--boottime", offset];
        let Some(command) = unshare(&[&["--time", "--fork"][..], &clocks].concat()) else { return };
        // (Times of the wall are some milliseconds out of date.)
        let start = SystemTime::now() - Duration::from_millis(20);
        let guard = world.lock.lock().unwrap();
        let mut child = Child::start_command(command, "other_time", &[&name.0], &[]);
        let id = id_of(&mut child);
        until_asleep(&world.region, "a", 1);
        world.put(if offset.starts_with('-') { 0 } else { 1 });
        world.a.wake_up().unwrap();
        child.expect("in time");
        let late = world.a.wait_event_timeout(|| false, Duration::from_millis(20));
        assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
        drop(guard);
        child.expect("locked");
        until_asleep(&world.region, "a", 1);
        let outcome = world.lock.lock_timeout(Duration::from_millis(1)).map(drop);
        assert!(matches!(outcome, Err(Error::LockStuck { .. })), "{outcome:?}");
        let snapshot = world.region.snapshot();
        let waiter = snapshot.queues.iter().find(|queue| queue.name == "a").unwrap().waiters[0].since;
        let peer = snapshot.participants.iter().find(|found| found.id == id).unwrap().since;
        let now = SystemTime::now();
        for since in [waiter, peer] {
            assert!(
                (start..=now).contains(&since),
                "{offset}: {since:?} is not within {start:?} and {now:?}"
            );
        }
        kill_noticed(&world, &mut child, id);
        assert!(world.lock.lock_timeout(LIMIT).unwrap().owner_died());
        // (This thread keeps the entry of its wait.)
        nothing_leaked(&world.region, (1, 1, 1), "another time");
    }
}
