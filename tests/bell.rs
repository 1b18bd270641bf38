//! The bell and the certificate under attack (traps 34, 51, 52): a filter that kills the bell's thread alone, closed
//! descriptors, `setuid`, a sibling inside a system call, strangers on our lock bytes, and no means to attach at all.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::*};
use std::sync::mpsc::channel;
use std::time::Duration;

use common::filter::{Whom, filter};
use common::{Child, Name, until, until_asleep};
use kill::turns::{bells, give_turns, id_of, kill_noticed, sleep_until_dead, stage, take_turns};
use kill::{OF_A, World, small};
use waitqueue::{Error, ParticipantId, Region};

#[test]
fn role() {
    common::play(&[
        ("half_killed", half_killed),
        ("half_leaver", half_leaver),
        ("half_closed", half_closed),
        ("framed", framed),
        ("dies_holding", dies_holding),
        ("closer", closer),
        ("setter", setter),
        ("reader", reader),
        ("idler", idler),
        ("filtered", filtered),
        ("changer", changer),
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

#[test]
fn a_bell_is_started_again_in_its_own_region_wherever_the_name_leads() {
    for what in ["unlinked", "made anew"] {
        let (name, world, turn) = stage();
        let mut child = Child::start("half_killed", &[&name.0]);
        let id = id_of(&mut child);
        let mut other = Child::start("idler", &[&name.0]);
        other.expect("attached");
        until("the bell's death", || bells(child.pid()) == 0);
        Region::unlink(&name.0).unwrap();
        let _another = (what == "made anew").then(|| small().create(&name.0).unwrap());
        other.tell("end");
        other.end_well();
        let file = world.region.try_clone_fd().unwrap();
        until(&format!("{what}: the bell is started again, with its lock byte"), || {
            give_turns(&world, &turn, &mut child, 1);
            bells(child.pid()) == 1 && is_locked(&file, second_byte(id))
        });
        kill_noticed(&world, &mut child, id);
        kill::nothing_leaked(&world.region, (0, 1, 1), what);
    }
}

/// Its bell dies as soon as there is another to watch. When that one has gone, it closes its descriptors.
fn half_closed(args: &[String]) {
    let world = World::open(&args[0]);
    filter(libc::SYS_futex_waitv, Some(2), libc::SECCOMP_RET_KILL_THREAD, Whom::All);
    common::say(&world.region.me().get().to_string());
    common::listen();
    // SAFETY: as in `closer`.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
    until("the bell is started again", || {
        world.a.wake_up_sync(|| ()).unwrap();
        bells(std::process::id()) == 1
    });
    common::say("started");
    common::listen();
}

#[test]
fn a_bell_is_started_again_without_descriptors_while_nobody_else_is_there() {
    let name = Name::new();
    drop(small().create(&name.0).unwrap());
    let mut child = Child::start("half_closed", &[&name.0]);
    let id = id_of(&mut child);
    let world = World::open(&name.0);
    until("the bell's death", || bells(child.pid()) == 0);
    drop(world);
    child.tell("close");
    let file = std::fs::File::options().read(true).write(true).open(format!("/dev/shm{}", name.0)).unwrap();
    child.expect("started");
    assert!(is_locked(&file, second_byte(id)));
    child.kill();
}

/// Its bell's half of the certificate.
fn second_byte(id: ParticipantId) -> libc::off_t {
    4096 + 64 * libc::off_t::from(id.get() as u32) + 1
}

fn is_locked(file: &impl AsRawFd, byte: libc::off_t) -> bool {
    // SAFETY: a plain structure; the descriptor is open.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as libc::c_short, byte, 1);
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock), 0);
        lock.l_type != libc::F_UNLCK as libc::c_short
    }
}

/// A peer writes into its life words, again and again, that its bell was killed. It attaches, acts and leaves.
fn framed(args: &[String]) {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm{}", args[0])).unwrap();
    let (me, died) = (std::process::id(), 0xffff_ffff_u32.to_le_bytes());
    let ours = std::sync::Arc::new(AtomicU32::new(1));
    std::thread::spawn({
        let ours = ours.clone();
        move || loop {
            let slot = 4096 + 64 * u64::from(ours.load(Acquire));
            (0..3).for_each(|nth| file.write_all_at(&died, slot + 8 + nth * 8).unwrap());
        }
    });
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let mut before = (0, 0);
    for round in 0..30 {
        if round == 5 {
            before = (count("fd"), mappings());
        }
        let world = World::open(&args[0]);
        ours.store(world.region.me().get() as u32, Release);
        for _ in 0..20 {
            world.a.wake_up_sync(|| ()).unwrap();
        }
        assert_eq!(bells(me), 1);
        drop(world);
        until("its bell ends with it", || bells(me) == 0);
    }
    // A thread that nobody has joined keeps its stack.
    let after = (count("fd"), mappings());
    assert!(after.0 <= before.0 && after.1 < before.1 + 10, "descriptors, mappings: {before:?}, {after:?}");
    common::say("left");
}

#[test]
fn a_death_that_a_peer_made_up_leaves_no_bell_behind() {
    let (name, world, _turn) = stage();
    let mut child = Child::start("framed", &[&name.0]);
    child.expect("left");
    child.end_well();
    assert!(world.region.is_alive(world.region.me()));
}

/// A filter that every bell inherits: none of them lives long while there are two others to watch.
fn filtered(args: &[String]) {
    filter(libc::SYS_futex_waitv, Some(3), libc::SECCOMP_RET_KILL_THREAD, Whom::ThisThread);
    let world = World::open(&args[0]);
    take_turns(&world);
}

#[test]
fn a_process_whose_bells_are_all_killed_is_right_without_one_and_harms_nobody() {
    let (name, world, turn) = stage();
    let mut other = Child::start("idler", &[&name.0]);
    other.expect("attached");
    let mut child = Child::start("filtered", &[&name.0]);
    let id = id_of(&mut child);
    for _ in 0..5 {
        until("the bell's death", || bells(child.pid()) == 0);
        give_turns(&world, &turn, &mut child, 4);
        assert!(world.region.is_alive(id));
    }
    // The one with a bell goes, which everybody notices; and now it has few enough to watch.
    other.kill();
    give_turns(&world, &turn, &mut child, 20);
    until("the bell is started again", || {
        give_turns(&world, &turn, &mut child, 1);
        bells(child.pid()) == 1
    });
    let mut other = Child::start("idler", &[&name.0]);
    other.expect("attached");
    until("the bell's death", || bells(child.pid()) == 0);
    kill_noticed(&world, &mut child, id);
    other.tell("end");
    other.end_well();
    kill::nothing_leaked(&world.region, (0, 1, 1), "filtered");
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

/// A thread is killed alone while it holds the lock, and two others sleep on it.
fn dies_holding(args: &[String]) {
    let world = World::open(&args[0]);
    let (taken, holds) = channel();
    let (go_on, goes_on) = channel::<()>();
    let holder = world.clone();
    std::thread::spawn(move || {
        let _guard = holder.lock.lock().unwrap();
        taken.send(()).unwrap();
        goes_on.recv().unwrap();
        // SAFETY: the filter kills this thread here.
        unsafe { libc::syscall(libc::SYS_getpriority, 0, 0) };
    });
    holds.recv().unwrap();
    let waiters = [(); 2].map(|()| {
        let (world, (here, is_here)) = (world.clone(), channel());
        let thread = std::thread::spawn(move || {
            // SAFETY: a number.
            here.send(unsafe { libc::gettid() }).unwrap();
            let guard = world.lock.lock_timeout(common::LIMIT * 10).unwrap();
            assert!(guard.owner_died());
        });
        let calls = format!("/proc/self/task/{}/syscall", is_here.recv().unwrap());
        let on_two_words = libc::SYS_futex_waitv.to_string();
        until("a waiter sleeps on the lock and the mark", || {
            std::fs::read_to_string(&calls).unwrap().split(' ').next() == Some(&on_two_words)
        });
        thread
    });
    filter(libc::SYS_getpriority, None, libc::SECCOMP_RET_KILL_THREAD, Whom::All);
    go_on.send(()).unwrap();
    waiters.into_iter().for_each(|waiter| common::join("the lock is taken over", waiter));
}

#[test]
fn those_who_wait_for_a_lock_are_woken_by_its_owners_mark_alone() {
    // SAFETY: no waiters, which is an error wherever there is such a call.
    let outcome = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    let error = std::io::Error::last_os_error();
    if outcome == 0 || error.raw_os_error() != Some(libc::EINVAL) {
        println!("skipped: no futex_waitv here: {error}");
        return;
    }
    let (name, _world, _turn) = stage();
    // No bell rings, since the process lives; and nobody looks around by himself.
    let alone = [("WAITQUEUE_MUTANT", "no slices")];
    Child::start_with("dies_holding", &[&name.0], &alone).end_well();
}

/// Closes every descriptor it does not know, and may get the numbers for files of its own.
fn closer(args: &[String]) {
    let world = World::open(&args[0]);
    // SAFETY: what an application may do, if it has nothing of its own there; the library has to bear it.
    unsafe {
        match args[1].as_str() {
            "at once" => assert_eq!(libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0), 0),
            _ => (3..1000).for_each(|number| assert!(libc::close(number) <= 0)),
        }
    }
    if args[1] == "for others" {
        // Where nobody holds a lock.
        let other = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        // SAFETY: a number that is open.
        (4..100).for_each(|number| assert_eq!(unsafe { libc::dup(other.as_raw_fd()) }, number));
        std::mem::forget(other);
    }
    let refused = world.region.try_clone_fd().map(drop);
    assert!(matches!(refused, Err(Error::System { errno: libc::EBADF, .. })), "{refused:?}");
    drop(small().open(&args[0]).unwrap());
    // Contend for a lock too, which asks who lives.
    let outcome = world.lock.lock_timeout(Duration::from_millis(20)).map(drop);
    assert!(matches!(outcome, Err(Error::LockStuck { .. })), "{outcome:?}");
    world.region.queue("made without a descriptor").unwrap();
    take_turns(&world);
}

#[test]
fn closing_all_descriptors_makes_nobody_look_dead() {
    for how in ["at once", "one by one", "for others"] {
        let (name, world, turn) = stage();
        let guard = world.lock.lock().unwrap();
        let mut child = Child::start("closer", &[&name.0, how]);
        let id = id_of(&mut child);
        drop(guard);
        give_turns(&world, &turn, &mut child, 5);
        // A death and an arrival make everybody look at everybody.
        let mut other = Child::start("idler", &[&name.0]);
        other.expect("attached");
        other.kill();
        drop(World::open(&name.0));
        assert!(world.region.is_alive(id), "{how}");
        give_turns(&world, &turn, &mut child, 5);
        kill_noticed(&world, &mut child, id);
        kill::nothing_leaked(&world.region, (0, 1, 1), how);
    }
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

/// Changes its ids again and again, while threads sleep, and bells come and go.
fn changer(args: &[String]) {
    let world = World::open(&args[0]);
    for _ in 0..3 {
        let world = world.clone();
        std::thread::spawn(move || while world.a.wait_event_exclusive(|| world.work(OF_A)).is_ok() {});
    }
    let name = args[0].clone();
    let attacher = std::thread::spawn(move || (0..30).for_each(|_| drop(small().open(&name).unwrap())));
    while !attacher.is_finished() {
        // SAFETY: libc interrupts every thread for each of these, those included that have just begun.
        unsafe {
            assert_eq!(libc::setuid(libc::getuid()), 0);
            assert_eq!(libc::setresgid(libc::getgid(), libc::getegid(), u32::MAX), 0);
        }
    }
    attacher.join().unwrap();
    // SAFETY: as above; a user who may not open the region any more, or the same one, if we are not root.
    unsafe { libc::setresuid(12345, 12345, 12345) };
    common::say(&world.region.me().get().to_string());
    common::listen();
}

#[test]
fn a_process_that_changes_its_user_while_its_threads_sleep_keeps_its_bell_and_their_wakes() {
    let (name, world, _turn) = stage();
    world.region.check().unwrap();
    let mut child = Child::start("changer", &[&name.0]);
    let id = id_of(&mut child);
    for item in 0..9 {
        until_asleep(&world.region, "a", 3);
        world.put(item);
        assert_eq!(world.a.wake_up().map(|woken| woken.exclusive), Ok(1));
        world.settled("a sleeper of another user");
    }
    assert_eq!(bells(child.pid()), 1);
    assert!(world.region.is_alive(id));
    kill_noticed(&world, &mut child, id);
    kill::nothing_leaked(&world.region, (0, 1, 1), "changer");
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
