//! Fork, by libc and by the raw system call: the child never acts as its parent, and may attach for itself.
//! And what else an application may do to a process that is attached.

#![allow(unsafe_code)]

mod common;

use std::sync::atomic::Ordering::*;
use std::time::Duration;

use common::stage::{Stage, bounded, thread, woken};
use common::{Child, Name, listen, say};
use waitqueue::{Error, ParticipantId, RobustLock, Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[("forks", forks), ("changes", changes), ("second", second)]);
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
        // Newcomers and leavers make every bell look around.
        let mut other = Child::start("second", &[&name.0]);
        other.hear();
        other.kill();
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
