//! The bell and the certificate under attack (traps 34, 51, 52): a filter that kills the bell's thread alone, closed
//! descriptors, `setuid`, a sibling inside a system call, strangers on our lock bytes, and no means to attach at all.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering::*};
use std::time::Duration;

use common::filter::{Whom, filter, refuse};
use common::{Child, LIMIT, Name, until};
use kill::turns::{bells, give_turns, id_of, sleep_until_dead, stage, take_turns};
use kill::{World, small};
use waitqueue::{Error, Region};

#[test]
fn role() {
    common::play(&[
        ("half_killed", half_killed),
        ("half_leaver", half_leaver),
        ("closer", closer),
        ("setter", setter),
        ("reader", reader),
        ("idler", idler),
        ("starved", starved),
    ]);
}

fn idler(args: &[String]) {
    let _world = World::open(&args[0]);
    common::say("attached");
    common::listen();
}

/// Its bell dies as soon as there are two others to watch.
fn half_killed(args: &[String]) {
    let world = World::open(&args[0]);
    filter(libc::SYS_futex_waitv, Some(3), libc::SECCOMP_RET_KILL_THREAD, Whom::All);
    take_turns(&world);
}

#[test]
fn a_process_whose_bell_alone_is_killed_lives_on_and_starts_it_again() {
    let (name, world, turn) = stage();
    let mut child = Child::start("half_killed", &[&name.0]);
    let id = id_of(&mut child);
    give_turns(&world, &turn, &mut child, 3);
    assert_eq!(bells(child.pid()), 1);
    let mut other = Child::start("idler", &[&name.0]);
    other.expect("attached");
    until("the bell's death", || bells(child.pid()) == 0);
    // Not dead: it holds its half of the certificate, and gets its wakes.
    assert!(world.region.is_alive(id));
    other.tell("end");
    other.end_well();
    give_turns(&world, &turn, &mut child, 10);
    until("the bell is started again", || {
        give_turns(&world, &turn, &mut child, 1);
        bells(child.pid()) == 1
    });
    assert!(world.region.is_alive(id));
    give_turns(&world, &turn, &mut child, 10);
    let sleeper = sleep_until_dead(&world, id);
    child.kill();
    common::join("the death is noticed", sleeper);
    kill::nothing_leaked(&world.region, (0, 1, 1), "half killed");
}

/// Leaves in good order after its bell was killed, without a call in between that could start it again.
fn half_leaver(args: &[String]) {
    let world = World::open(&args[0]);
    filter(libc::SYS_futex_waitv, Some(3), libc::SECCOMP_RET_KILL_THREAD, Whom::All);
    common::say(&world.region.me().get().to_string());
    until("the bell's death", || bells(std::process::id()) == 0);
}

#[test]
fn a_process_whose_bell_alone_was_killed_can_leave() {
    let (name, world, _turn) = stage();
    let mut child = Child::start("half_leaver", &[&name.0]);
    let id = id_of(&mut child);
    let sleeper = sleep_until_dead(&world, id);
    let other = World::open(&name.0);
    child.end_well();
    common::join("the death is noticed", sleeper);
    drop(other);
    kill::nothing_leaked(&world.region, (0, 1, 1), "half leaver");
}

/// Closes every descriptor it does not know.
fn closer(args: &[String]) {
    let world = World::open(&args[0]);
    // SAFETY: what an application may do, if it has nothing of its own there; the library has to bear it.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
    // Contend for a lock too, which asks who lives.
    drop(world.lock.lock_timeout(LIMIT).unwrap());
    world.region.queue("made without a descriptor").unwrap();
    take_turns(&world);
}

#[test]
fn closing_all_descriptors_makes_nobody_look_dead() {
    let (name, world, turn) = stage();
    let mut child = Child::start("closer", &[&name.0]);
    let id = id_of(&mut child);
    give_turns(&world, &turn, &mut child, 5);
    // A death and an arrival make everybody look at everybody.
    let mut other = Child::start("idler", &[&name.0]);
    other.expect("attached");
    other.kill();
    drop(World::open(&name.0));
    assert!(world.region.is_alive(id));
    give_turns(&world, &turn, &mut child, 5);
    let sleeper = sleep_until_dead(&world, id);
    child.kill();
    common::join("the death is noticed", sleeper);
    kill::nothing_leaked(&world.region, (0, 1, 1), "closer");
}

fn setter(args: &[String]) {
    let world = World::open(&args[0]);
    // SAFETY: libc interrupts every thread for this, the bell included; the id stays what it is.
    assert_eq!(unsafe { libc::setuid(libc::getuid()) }, 0);
    take_turns(&world);
}

#[test]
fn setuid_returns_with_a_bell_running() {
    let (name, world, turn) = stage();
    let mut child = Child::start("setter", &[&name.0]);
    let _ = id_of(&mut child);
    give_turns(&world, &turn, &mut child, 3);
}

const ROOM: usize = 64 << 20;

/// A sibling thread is inside read(2) into the region nearly all the time.
fn reader(args: &[String]) {
    let region = common::options().open(&args[0]).unwrap();
    let room = region.object::<[AtomicU8; ROOM]>("room").unwrap();
    let into = room[0].as_ptr() as usize;
    let source = std::fs::File::open("/dev/urandom").unwrap();
    common::say(&region.me().get().to_string());
    loop {
        // SAFETY: the room is ours and made of atomics; that the kernel writes to it behind our back is the point.
        let read = unsafe { libc::read(source.as_raw_fd(), into as *mut libc::c_void, ROOM) };
        assert!(read > 0);
    }
}

#[test]
fn trap_52_nothing_is_written_after_a_peer_is_no_longer_alive() {
    let name = Name::new();
    let region = common::options().memory(ROOM as u64 + 4096).create(&name.0).unwrap();
    let room = region.object::<[AtomicU8; ROOM]>("room").unwrap();
    for _ in 0..3 {
        let mut child = Child::start("reader", &[&name.0]);
        let id = id_of(&mut child);
        room[ROOM / 2].store(0, Release);
        until("it reads", || room[ROOM / 2].load(Acquire) != 0 || room[ROOM / 4].load(Acquire) != 0);
        child.signal(libc::SIGKILL);
        until("the end of its memory", || !region.is_alive(id));
        let sum = || room.iter().map(|byte| u64::from(byte.load(Relaxed))).sum::<u64>();
        let before = sum();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(sum(), before, "the kernel went on writing for a peer that is not alive");
    }
}

#[test]
fn a_stranger_on_our_lock_bytes_keeps_newcomers_out_with_an_error_and_harms_nobody_inside() {
    let (name, world, turn) = stage();
    let mut child = Child::start("setter", &[&name.0]);
    let id = id_of(&mut child);
    let file = std::fs::File::options().read(true).write(true).open(format!("/dev/shm{}", name.0)).unwrap();
    // Behind the two slots in use (64 bytes each, from the second page on).
    let lock = |kind: i32| {
        // SAFETY: a plain structure; the descriptor is open.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = kind as libc::c_short;
            lock.l_start = 4096 + 128;
            assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock), 0);
        }
    };
    lock(libc::F_WRLCK);
    let outcome = small().open(&name.0).map(drop);
    assert!(matches!(outcome, Err(Error::Full { what: "participants", .. })), "{outcome:?}");
    give_turns(&world, &turn, &mut child, 3);
    lock(libc::F_UNLCK);
    drop(World::open(&name.0));
    let sleeper = sleep_until_dead(&world, id);
    child.kill();
    common::join("the death is noticed", sleeper);
    kill::nothing_leaked(&world.region, (0, 1, 1), "stranger");
}

/// Attaches without descriptors, or without threads, and says what came of it.
fn starved(args: &[String]) {
    if args[1] == "threads" {
        refuse(libc::SYS_clone3, libc::EAGAIN, Whom::All);
        refuse(libc::SYS_clone, libc::EAGAIN, Whom::All);
        report(small().open(&args[0]));
        return;
    }
    // Every limit from none to just enough.
    let mut outcomes = Vec::new();
    for more in 0..8 {
        // SAFETY: plain numbers.
        let limit = unsafe {
            let free = libc::dup(0);
            libc::close(free);
            libc::rlimit { rlim_cur: (free + more) as u64, rlim_max: 1024 }
        };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        outcomes.push(small().open(&args[0]).map(drop));
    }
    assert!(outcomes[0].is_err() && outcomes[7].is_ok(), "{outcomes:?}");
    for outcome in outcomes.into_iter().filter(|outcome| outcome.is_err()) {
        let clear = matches!(&outcome, Err(Error::System { errno: libc::EMFILE, .. }));
        assert!(clear, "{outcome:?}");
    }
    common::say("clear");
}

fn report(outcome: waitqueue::Result<Region>) {
    let clear =
        matches!(&outcome, Err(Error::System { call, errno: libc::EAGAIN, .. }) if call.contains("clone"));
    assert!(clear, "{outcome:?}");
    common::say("clear");
}

#[test]
fn attaching_without_descriptors_or_threads_is_a_clear_error_and_leaves_nothing() {
    let (name, world, _turn) = stage();
    for what in ["descriptors", "threads"] {
        let mut child = Child::start("starved", &[&name.0, what]);
        child.expect("clear");
        child.end_well();
        drop(World::open(&name.0));
        kill::nothing_leaked(&world.region, (0, 1, 1), what);
    }
}
