//! The bell and the certificate under attack (traps 34, 51, 52): a filter that kills the bell's thread alone, closed
//! descriptors, `setuid`, a sibling inside a system call, strangers on our lock bytes, and no means to attach at all.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::*};
use std::time::Duration;

use common::{Child, LIMIT, Name, until, until_asleep};
use kill::{World, small};
use waitqueue::{Error, Object, ParticipantId, Region};

#[test]
fn role() {
    common::play(&[
        ("half_killed", half_killed),
        ("half_leaver", half_leaver),
        ("framed", framed),
        ("closer", closer),
        ("setter", setter),
        ("reader", reader),
        ("idler", idler),
        ("starved", starved),
    ]);
}

fn stage() -> (Name, World, Object<AtomicU32>) {
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    let (world, turn) = (World::new(&region), region.object("turn").unwrap());
    (name, world, turn)
}

fn idler(args: &[String]) {
    let _world = World::open(&args[0]);
    common::say("attached");
    common::listen();
}

/// Says its id, then waits for each turn, and says so.
fn take_turns(world: &World) {
    let turn = world.region.object::<AtomicU32>("turn").unwrap();
    common::say(&world.region.me().get().to_string());
    for round in 1.. {
        world.a.wait_event(|| turn.load(Acquire) >= round).unwrap();
        common::say(&format!("turn {round}"));
    }
}

/// Gives turns until the child has had them, each by one wake.
fn give_turns(world: &World, turn: &AtomicU32, child: &mut Child, count: u32) {
    for _ in 0..count {
        until_asleep(&world.region, "a", 1);
        let round = turn.fetch_add(1, AcqRel) + 1;
        world.a.wake_up().unwrap();
        child.expect(&format!("turn {round}"));
    }
}

fn id_of(child: &mut Child) -> ParticipantId {
    ParticipantId::new(child.hear().parse().unwrap()).unwrap()
}

/// Sleeps until the peer is dead, woken by nothing but its death.
fn sleep_until_dead(world: &World, peer: ParticipantId) -> std::thread::JoinHandle<()> {
    let waiting = world.clone();
    let thread = std::thread::spawn(move || {
        waiting.b.wait_event(|| !waiting.region.is_alive(peer)).unwrap();
    });
    until_asleep(&world.region, "b", 1);
    thread
}

/// Installs a filter for all threads of this process: `action` where system call `number` has `first` as its second
/// argument (or always, if that is `None`).
fn filter(number: i64, first: Option<u32>, action: u32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![
        op(LOAD, 0, 0, 0),
        op(EQUAL, 0, 3, number as u32),
        // The low half of the second argument, on a little-endian machine.
        op(LOAD, 0, 0, 24),
        op(EQUAL, 0, 1, first.unwrap_or(0)),
        op(RETURN, 0, 0, action),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    if first.is_none() {
        program = vec![
            op(LOAD, 0, 0, 0),
            op(EQUAL, 0, 1, number as u32),
            op(RETURN, 0, 0, action),
            op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
    }
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a valid program; the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (set, all) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, all, &raw const fprog), 0);
    }
}

/// How many bells a process has.
fn bells(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    // (A thread that has just ended has no name.)
    let names = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")));
    names.filter(|comm| comm.contains("waitqueue-bell")).count()
}

/// Its bell dies as soon as there are two others to watch.
fn half_killed(args: &[String]) {
    let world = World::open(&args[0]);
    filter(libc::SYS_futex_waitv, Some(3), libc::SECCOMP_RET_KILL_THREAD);
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

/// Leaves in good order after its bell was killed, without a call in between that could start it again.
fn half_leaver(args: &[String]) {
    let world = World::open(&args[0]);
    filter(libc::SYS_futex_waitv, Some(3), libc::SECCOMP_RET_KILL_THREAD);
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
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32;
        filter(libc::SYS_clone3, None, refuse);
        filter(libc::SYS_clone, None, refuse);
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
