//! Fork, by libc and by the raw system call: the child never acts as its parent, and may attach for itself.
//! And what else an application may do to a process that is attached.

#![allow(unsafe_code)]

mod common;
mod kill;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Stage, bounded, thread, woken};
use common::{Child, LIMIT, Name, listen, say, until, until_asleep};
use kill::turns::{id_of, sleep_until_dead};
use kill::{ASLEEP_ON_A, OF_A, Survivors, World, nothing_leaked};
use waitqueue::{Error, ParticipantId, RobustLock, Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[
        ("forks", forks),
        ("parent", parent),
        ("spawner", spawner),
        ("changes", changes),
        ("second", second),
    ]);
}

/// Forks by libc, whose handlers run, or by the system call alone, where they do not.
fn fork(raw: bool) -> i32 {
    // SAFETY: the child of a process with several threads calls what it needs and leaves by `_exit`.
    unsafe {
        if raw { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32 } else { libc::fork() }
    }
}

/// The child's exit status.
fn reap(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// Everything that a child may try with what it inherited, while somebody sleeps on the queue; the number of the
/// first call that does not say `Forked`.
fn first_that_works(stage: &Stage, lock: &waitqueue::Lock, set: &mut WaitSet) -> i32 {
    let options = WaitOptions::new().timeout(Duration::from_nanos(1));
    let outcomes = [
        stage.queue.wake_up().map(drop),
        stage.queue.wait_event_with(&options, || false).map(drop),
        stage.queue.wait_woken(&options).map(drop),
        stage.queue.prepare_to_wait(&options).map(drop),
        wait_many(&mut [Source::new(&stage.queue, &mut || false)], &options).map(drop),
        set.wait(&options, |_| false).map(drop),
        stage.queue.wake_up_sync(|| ()).map(drop),
        stage.queue.close().map(drop),
        stage.region.queue("new").map(drop),
        stage.region.check(),
        lock.lock().map(drop),
        WaitSet::new(&stage.region).map(drop),
    ];
    let wrong = outcomes.iter().position(|outcome| !matches!(outcome, Err(Error::Forked { .. })));
    wrong.map_or(0, |at| at as i32 + 1)
}

/// Forks once in each way, then goes on as before.
fn forks(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    let word = stage.region.object::<RobustLock>("lock").unwrap();
    let lock = stage.region.lock_at(&word).unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    set.add(&stage.region.queue("set").unwrap(), &WaitOptions::new()).unwrap();
    let held = stage.region.object::<[RobustLock; 2]>("held").unwrap();
    let held = stage.region.lock_at(&held[0]).unwrap();
    say(&stage.region.me().get().to_string());
    listen();
    for raw in [false, true] {
        let guard = held.lock().unwrap();
        let mut by_hand = stage.queue.prepare_to_wait(&bounded().label("by hand")).unwrap();
        by_hand.prepare();
        stage.queue.wake_up().unwrap();
        let child = fork(raw);
        if child == 0 {
            by_hand.prepare();
            let slept = matches!(by_hand.sleep(), Err(Error::Forked { .. }));
            let wrong = first_that_works(&stage, &lock, &mut set);
            // Dropping what it inherited must not take it from the parent.
            guard.repaired();
            drop((by_hand, guard));
            drop((stage, lock, set, word));
            let wrong = if slept { wrong } else { 99 };
            // SAFETY: leaves without the parent's destructors.
            unsafe { libc::_exit(wrong) };
        }
        assert_eq!(reap(child), 0, "the number of the call that did not refuse, times 256");
        say("forked");
        listen();
        by_hand.sleep().expect("the wake before the fork is still there");
        drop((by_hand, guard));
        say("dropped");
        listen();
    }
    // With all memory of its parent, but attached for itself.
    let child = fork(false);
    if child == 0 {
        let own = Stage::of(common::region(&args[0]));
        let is_new = own.region.me() != stage.region.me() && own.region.is_alive(stage.region.me());
        own.set(2);
        let woke = own.queue.wake_up().is_ok();
        drop(own);
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(!(is_new && woke))) };
    }
    assert_eq!(reap(child), 0);
    stage.queue.wait_event_with(&bounded(), || stage.flag.load(Acquire) == 3).unwrap();
    drop(lock.lock().unwrap());
    say("done");
}

#[test]
fn trap_33_a_forked_child_is_not_its_parent() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut child = Child::start("forks", &[&name.0]);
    let id = ParticipantId::new(child.hear().parse().unwrap()).unwrap();
    let sleeper = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded(), || stage.flag.load(Acquire) >= 2).map(drop)
    });
    stage.asleep(1);
    let held = stage.region.object::<[RobustLock; 2]>("held").unwrap();
    let held = stage.region.lock_at(&held[0]).unwrap();
    child.tell("fork");
    for _ in 0..2 {
        child.expect("forked");
        assert!(stage.region.is_alive(id), "the parent lives on");
        assert_eq!(stage.labels(), ["by hand", ""], "its wait, and ours");
        let outcome = held.lock_timeout(Duration::ZERO).map(drop);
        assert!(matches!(outcome, Err(Error::LockStuck { .. })), "the parent has the lock: {outcome:?}");
        let set = stage.region.queue("set").unwrap();
        assert!(set.has_sleepers(), "the parent's set is still enrolled");
        assert_eq!(stage.region.participants().len(), 2, "the child took nothing");
        child.tell("drop");
        child.expect("dropped");
        assert!(!held.lock().unwrap().owner_died(), "released by the parent");
        child.tell("go on");
    }
    assert_eq!(sleeper.join(), Ok(()), "woken by the child that attached for itself");
    stage.asleep(1);
    stage.set(3);
    stage.queue.wake_up().unwrap();
    child.expect("done");
    child.end_well();
    stage.region.check().unwrap();
}

// What an orphan and the test tell each other in the region.
const REFUSED: u32 = 1;
const ATTACH: u32 = 2;
const GO: u32 = 3;
const WOKEN: u32 = 4;
const END: u32 = 5;

/// Forks with the lock in hand, while another thread sleeps, and is killed.
fn parent(args: &[String]) {
    let world = World::open(&args[0]);
    let state = world.region.object::<AtomicU32>("orphan").unwrap();
    let sleeper = world.clone();
    std::thread::spawn(move || sleeper.a.wait_event_exclusive(|| sleeper.work(OF_A)));
    until_asleep(&world.region, "a", ASLEEP_ON_A + 1);
    let guard = world.lock.lock().unwrap();
    let raw = args[1] == "raw";
    if fork(raw) == 0 {
        // SAFETY: a number: nobody has to look for this process after a failure.
        unsafe { libc::alarm(2 * LIMIT.as_secs() as u32) };
        let forked = |outcome| matches!(outcome, Err(Error::Forked { .. }));
        let refused = forked(world.a.wake_up().map(drop)) && forked(world.a.wait_event(|| false));
        guard.repaired();
        drop(guard);
        state.store(if refused { REFUSED } else { u32::MAX }, Release);
        let until_told = |what| {
            while state.load(Acquire) != what {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        if !raw {
            until_told(ATTACH);
            let own = World::open(&args[0]);
            own.c.wait_event(|| state.load(Acquire) == GO).unwrap();
            state.store(WOKEN, Release);
        }
        until_told(END);
        // SAFETY: leaves without the parent's destructors.
        unsafe { libc::_exit(0) };
    }
    say(&world.region.me().get().to_string());
    listen();
}

#[test]
fn trap_33_a_parent_that_dies_before_its_child_is_dead_and_the_child_may_attach_for_itself() {
    for way in ["libc", "raw"] {
        let (name, world, _turn) = kill::turns::stage();
        let state = world.region.object::<AtomicU32>("orphan").unwrap();
        let says = |what| until(&format!("{way}: the orphan says {what}"), || state.load(Acquire) == what);
        let survivors = Survivors::start(&world);
        survivors.asleep(0);
        let mut parent = Child::start("parent", &[&name.0, way]);
        let id = id_of(&mut parent);
        says(REFUSED);
        parent.kill();
        for item in OF_A.take(8) {
            world.put(item);
            world.a.wake_up().unwrap();
        }
        world.settled(way);
        if way == "raw" {
            // It has a copy of what proves its parent's life, which no handler could close.
            assert!(world.region.is_alive(id));
        } else {
            until("the parent's death is noticed", || !world.region.is_alive(id));
            state.store(ATTACH, Release);
            until_asleep(&world.region, "c", 1);
            state.store(GO, Release);
            world.c.wake_up().unwrap();
            says(WOKEN);
        }
        state.store(END, Release);
        until("the parent's death is noticed", || !world.region.is_alive(id));
        assert!(world.lock.lock_timeout(LIMIT).unwrap().owner_died(), "{way}");
        survivors.stop(way);
        nothing_leaked(&world.region, (0, 1, 1), way);
    }
}

/// Like vfork: the child has its parent's memory until it is another program.
fn vfork_and_exec() -> i32 {
    extern "C" fn child(_: *mut libc::c_void) -> i32 {
        let argv = [c"true".as_ptr(), std::ptr::null()];
        // SAFETY: strings that end, in an array that ends.
        unsafe {
            libc::execvp(argv[0], argv.as_ptr());
            libc::_exit(1)
        }
    }
    let mut stack = vec![0_u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack outlives the child's use of it, since the parent waits for the exec.
    unsafe { libc::clone(child, stack.as_mut_ptr_range().end.cast(), flags, std::ptr::null_mut()) }
}

/// Starts other programs from within a wait, with the lock, while another thread sleeps; the last of them stays.
fn spawner(args: &[String]) {
    let world = World::open(&args[0]);
    let sleeper = world.clone();
    std::thread::spawn(move || while sleeper.a.wait_event_exclusive(|| sleeper.work(OF_A)).is_ok() {});
    let guard = world.lock.lock().unwrap();
    let mut by_hand = world.c.prepare_to_wait(&bounded().exclusive()).unwrap();
    by_hand.prepare();
    until_asleep(&world.region, "a", 1);
    for _ in 0..20 {
        assert_eq!(reap(vfork_and_exec()), 0);
        assert!(Command::new("true").status().unwrap().success());
    }
    say(&world.region.me().get().to_string());
    listen();
    by_hand.sleep().expect("the test's wake");
    drop(by_hand);
    // It ends with our input: when the test does not need this process any more.
    let mut stays = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
    say("slept");
    let _ = stays.wait();
    drop(guard);
}

#[test]
fn trap_33_programs_that_a_participant_starts_take_nothing_from_it_and_do_not_keep_it_alive() {
    let (name, world, _turn) = kill::turns::stage();
    let mut child = Child::start("spawner", &[&name.0]);
    let id = id_of(&mut child);
    assert!(world.region.is_alive(id));
    let outcome = world.lock.lock_timeout(Duration::ZERO).map(drop);
    assert!(matches!(outcome, Err(Error::LockStuck { .. })), "it has the lock: {outcome:?}");
    for item in OF_A.take(4) {
        until_asleep(&world.region, "a", 1);
        world.put(item);
        world.a.wake_up().unwrap();
        world.settled("its sleeper");
    }
    assert_eq!(world.c.wake_up(), Ok(woken(0, 0)), "it has not committed to sleep yet");
    child.tell("sleep");
    child.expect("slept");
    let sleeper = sleep_until_dead(&world, id);
    child.signal(libc::SIGKILL);
    common::join("the death is noticed", sleeper);
    assert!(world.lock.lock_timeout(LIMIT).unwrap().owner_died());
    nothing_leaked(&world.region, (0, 1, 1), "spawner");
}

/// Attaches, does to itself what the test says, and waits.
fn changes(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    say(&stage.region.me().get().to_string());
    listen();
    // SAFETY: changes of this process that an application may make; nothing here uses the closed descriptors.
    let outcome = unsafe {
        match args[1].as_str() {
            "close_range" => libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) as i32,
            "setuid" => libc::setresgid(1234, 1234, 1234) | libc::setresuid(1234, 1234, 1234),
            "chdir" => libc::chdir(c"/".as_ptr()),
            other => panic!("no change {other}"),
        }
    };
    say(&outcome.to_string());
    stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()));
        other.join().unwrap().unwrap(); // a thread that is new to the region
    });
    let answers = stage.region.queue("answers").unwrap();
    stage.set(7);
    answers.wake_up().unwrap();
    say("answered");
    listen();
}

fn second(args: &[String]) {
    say(&common::region(&args[0]).me().get().to_string());
    listen();
}

#[test]
fn trap_51_an_application_that_closes_everything_or_changes_its_user_stays_alive_and_then_dies() {
    for change in ["close_range", "setuid", "chdir"] {
        let name = Name::new();
        let stage = Stage::of(name.region());
        let mut child = Child::start("changes", &[&name.0, change]);
        let id = ParticipantId::new(child.hear().parse().unwrap()).unwrap();
        child.tell("change");
        child.expect("0");
        // Newcomers and leavers make every bell look around, and ring every waiter, before they are gone.
        let mut other = Child::start("second", &[&name.0]);
        other.hear();
        other.kill();
        common::until("it is gone", || stage.region.participants().len() == 2);
        assert!(stage.region.is_alive(id), "{change}");
        let answers = stage.region.queue("answers").unwrap();
        for _ in 0..2 {
            stage.asleep(1);
            stage.set(1);
            assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "{change}");
            common::until("it took the token", || stage.flag.load(Acquire) != 1);
        }
        answers.wait_event_with(&bounded(), || stage.flag.load(Acquire) == 7).unwrap();
        child.expect("answered");
        assert!(stage.region.is_alive(id), "{change}");
        child.kill();
        common::until("its death is noticed", || !stage.region.is_alive(id));
        let mut next = Child::start("second", &[&name.0]);
        next.hear();
        stage.region.check().unwrap();
    }
}

#[test]
fn trap_51_a_stranger_that_locks_our_bytes_is_an_error_and_no_hang() {
    let name = Name::new();
    drop(name.region());
    let file =
        std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/shm{}", name.0)).unwrap();
    // A child that another test starts at this moment has copies of our descriptors until it becomes its program.
    common::until("all bytes are locked", || {
        // SAFETY: all zero is a valid lock: from the first byte to the last that can be.
        let outcome = unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as i16;
            libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_OFD_SETLK, &raw const lock)
        };
        outcome == 0
    });
    let error = common::options().open(&name.0).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    drop(file);
    drop(common::options().open(&name.0).expect("the stranger has gone"));
}
