//! The robust lock for users' data: one holder at a time over all processes, and a holder's death is learned of.

#![allow(unsafe_code)]

mod common;

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use common::stage::{Gate, bounded, thread};
use common::{Child, Name, listen, options, say};
use waitqueue::{Error, Lock, Object, QueueHead, Region, Relock, RobustLock, WaitOptions};

waitqueue::shared_struct! {
    #[tag = "account v1"]
    struct Account {
        lock: RobustLock,
        changed: QueueHead,
        left: AtomicU32,
        right: AtomicU32,
        more: [RobustLock; 8],
    }
}

struct Bank {
    region: Region,
    account: Object<Account>,
    lock: Lock,
}

fn bank(region: Region) -> Bank {
    let account = region.object::<Account>("account").unwrap();
    let lock = region.lock_at(&account.lock).unwrap();
    Bank { region, account, lock }
}

#[test]
fn role() {
    common::play(&[("clerk", clerk), ("holder", holder), ("execs", execs)]);
}

/// Moves one from left to right, without atomicity, so many times.
fn clerk(args: &[String]) {
    let bank = bank(common::region(&args[0]));
    for _ in 0..args[1].parse::<u32>().unwrap() {
        let _guard = bank.lock.lock().unwrap();
        let (left, right) = (bank.account.left.load(Relaxed), bank.account.right.load(Relaxed));
        std::hint::spin_loop();
        bank.account.left.store(left.wrapping_sub(1), Relaxed);
        bank.account.right.store(right + 1, Relaxed);
    }
}

/// Takes the lock and keeps it until told otherwise.
fn holder(args: &[String]) {
    let bank = bank(common::region(&args[0]));
    let guard = bank.lock.lock().unwrap();
    say(&format!("{} {}", bank.region.me().get(), guard.owner_died()));
    listen();
    drop(guard);
    say("released");
    listen();
}

/// Takes the lock and becomes another program.
fn execs(args: &[String]) {
    let bank = bank(common::region(&args[0]));
    let guard = bank.lock.lock().unwrap();
    say(&bank.region.me().get().to_string());
    listen();
    let error = std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("cat"));
    drop(guard);
    panic!("exec: {error}");
}

#[test]
fn one_process_at_a_time_holds_it() {
    const CLERKS: u32 = 4;
    const MOVES: u32 = 5000;
    let name = Name::new();
    let bank = bank(name.region());
    bank.account.left.store(CLERKS * MOVES, Relaxed);
    let mut clerks: Vec<_> =
        (0..CLERKS).map(|_| Child::start("clerk", &[&name.0, &MOVES.to_string()])).collect();
    clerks.iter_mut().for_each(Child::end_well);
    assert_eq!((bank.account.left.load(Acquire), bank.account.right.load(Acquire)), (0, CLERKS * MOVES));
}

#[test]
fn trap_42_every_owner_learns_of_a_death_until_somebody_has_repaired() {
    let name = Name::new();
    let bank = bank(name.region());
    assert!(!bank.lock.lock().unwrap().owner_died());
    let mut child = Child::start("holder", &[&name.0]);
    assert!(child.hear().ends_with("false"));
    child.kill();
    for _ in 0..2 {
        assert!(bank.lock.lock().unwrap().owner_died(), "until repaired");
    }
    let mut heir = Child::start("holder", &[&name.0]);
    assert!(heir.hear().ends_with("true"), "processes that come later learn of it too");
    heir.tell("release");
    heir.expect("released");
    let guard = bank.lock.lock().unwrap();
    guard.repaired();
    assert!(!guard.owner_died());
    drop(guard);
    assert!(!bank.lock.lock().unwrap().owner_died());
}

#[test]
fn a_waiter_for_the_lock_gets_it_when_its_owner_is_killed() {
    let name = Name::new();
    let bank = bank(name.region());
    let mut child = Child::start("holder", &[&name.0]);
    child.hear();
    let waiter = thread({
        let lock = bank.lock.clone();
        move || lock.lock_timeout(common::stage::BEYOND).map(|guard| guard.owner_died())
    });
    assert!(waiter.ends_within(Duration::from_millis(20)).is_none());
    child.kill();
    assert_eq!(waiter.join(), Ok(true));
}

#[test]
fn trap_13_an_owner_that_becomes_another_program_is_dead() {
    let name = Name::new();
    let bank = bank(name.region());
    let mut child = Child::start("execs", &[&name.0]);
    let id = waitqueue::ParticipantId::new(child.hear().parse().unwrap()).unwrap();
    assert!(bank.region.is_alive(id));
    child.tell("exec");
    let guard = bank.lock.lock_timeout(common::LIMIT).unwrap();
    assert!(guard.owner_died());
    drop(guard);
    common::until("it is known to be dead", || !bank.region.is_alive(id));
    assert!(child.is_silent_for(Duration::ZERO), "its process runs on");
}

#[test]
fn trap_34_a_stopped_owner_keeps_the_lock_and_is_named() {
    let name = Name::new();
    let bank = bank(options().patience(Duration::from_millis(50)).create(&name.0).unwrap());
    let mut child = Child::start("holder", &[&name.0]);
    let id = child.hear().split(' ').next().unwrap().parse::<u64>().unwrap();
    child.signal(libc::SIGSTOP);
    for error in [bank.lock.lock().unwrap_err(), bank.lock.lock_timeout(Duration::ZERO).unwrap_err()] {
        assert_eq!(error, Error::LockStuck { region: name.0[..].into(), owner: id, pid: child.pid() });
        let text = error.to_string();
        let parts = [&name.0, &format!("{id:#x}"), &child.pid().to_string(), "end that process"];
        assert!(parts.iter().all(|part| text.contains(*part)), "{text}");
        assert_eq!(error.errno(), libc::ETIME);
    }
    child.signal(libc::SIGCONT);
    child.tell("release");
    child.expect("released");
    assert!(!bank.lock.lock().unwrap().owner_died());
}

#[test]
fn a_wait_with_the_lock_gives_it_up_over_its_sleep() {
    let bank = bank(options().create_memfd("bank").unwrap());
    let changed = bank.region.queue_at(&bank.account.changed).unwrap();
    let waiter = thread({
        let (account, lock, changed) = (bank.account.clone(), bank.lock.clone(), changed.clone());
        move || {
            let mut guard = lock.lock()?;
            changed.wait_event_locked(&bounded(), &mut guard, |guard| {
                let another = std::thread::scope(|scope| {
                    scope.spawn(|| lock.lock_timeout(Duration::ZERO).is_err()).join().unwrap()
                });
                assert!(another && !guard.owner_died(), "held by every evaluation");
                account.left.load(Relaxed) == 7
            })?;
            account.right.store(7, Relaxed); // still held
            drop(guard);
            Ok::<(), Error>(())
        }
    });
    common::until("it sleeps", || {
        let queues = bank.region.snapshot().queues;
        queues.iter().flat_map(|q| &q.waiters).any(|w| w.state == waitqueue::WaiterState::Asleep)
    });
    let guard = bank.lock.lock().unwrap();
    bank.account.left.store(7, Relaxed);
    drop(guard);
    changed.wake_up().unwrap();
    assert_eq!(waiter.join(), Ok(()));
    assert_eq!(bank.account.right.load(Acquire), 7);
}

#[test]
fn a_lock_that_cannot_be_retaken_ends_the_wait_without_the_lock() {
    let name = Name::new();
    let bank = bank(options().patience(Duration::from_millis(20)).create(&name.0).unwrap());
    let changed = bank.region.queue_at(&bank.account.changed).unwrap();
    let mut guard = bank.lock.lock().unwrap();
    let waiter_options = WaitOptions::new();
    let mut child = None;
    let mut looks = 0;
    let outcome = changed.wait_event_locked(&waiter_options, &mut guard, |_| {
        looks += 1;
        if looks == 2 {
            // Will take the lock as soon as it is free, and be stopped with it.
            child = Some(Child::start("holder", &[&name.0]));
            let (lock, changed) = (bank.lock.clone(), changed.clone());
            let pid = child.as_ref().map_or(0, Child::pid);
            std::thread::spawn(move || {
                common::until("the child has the lock", || match lock.lock_timeout(Duration::ZERO) {
                    Err(Error::LockStuck { pid: owner, .. }) => owner == pid,
                    _ => false,
                });
                changed.wake_up().unwrap();
            });
        }
        false
    });
    assert!(matches!(outcome, Err(Error::LockStuck { .. })), "{outcome:?}");
    assert!(!changed.has_sleepers());
    drop(child);
    guard.retake().unwrap();
    assert!(guard.owner_died());
}

#[test]
fn a_thread_can_hold_seven_of_a_region() {
    let bank = bank(options().create_memfd("bank").unwrap());
    let locks: Vec<Lock> = bank.account.more.iter().map(|word| bank.region.lock_at(word).unwrap()).collect();
    let mut guards: Vec<_> = locks[..7].iter().map(|lock| lock.lock().unwrap()).collect();
    let error = locks[7].lock().unwrap_err();
    assert_eq!(error, Error::TooManyLocks { region: bank.region.name().into(), limit: 7 });
    assert!(error.to_string().contains("holds 7") && error.errno() == libc::ENOLCK, "{error}");
    drop(guards.swap_remove(3));
    guards.push(locks[7].lock().unwrap());
    bank.region.queue("queues still work").unwrap().prepare_to_wait(&WaitOptions::new()).unwrap().finish();
    let fourth = locks[3].clone();
    thread(move || drop(fourth.lock().unwrap())).join();
}

#[test]
fn relocking_by_the_same_thread_is_an_error_and_trying_does_not_wait() {
    let bank = bank(options().create_memfd("bank").unwrap());
    let guard = bank.lock.lock().unwrap();
    let start = Instant::now();
    assert!(matches!(bank.lock.lock(), Err(Error::Reentered { .. })));
    assert!(start.elapsed() < common::LIMIT);
    drop(guard);
    drop(bank.lock.lock_timeout(Duration::ZERO).expect("it is free"));
}

/// Without marks (a libc without a registered robust list) only the death of the process frees a forgotten lock.
fn has_marks() -> bool {
    let on = std::env::var("WAITQUEUE_MUTANT").as_deref() != Ok("marks off");
    if !on {
        println!("skipped: marks are off");
    }
    on
}

#[test]
fn a_guard_forgotten_by_a_thread_that_ends_is_like_a_death() {
    if !has_marks() {
        return;
    }
    let bank = bank(options().create_memfd("bank").unwrap());
    let lock = bank.lock.clone();
    std::thread::spawn(move || std::mem::forget(lock.lock().unwrap())).join().unwrap();
    let guard = bank.lock.lock_timeout(common::LIMIT).unwrap();
    assert!(guard.owner_died());
}

#[test]
fn trap_12_libcs_own_robust_mutexes_work_beside_ours() {
    if !has_marks() {
        return;
    }
    use std::cell::UnsafeCell;
    struct Mutex(UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a pthread mutex is made for sharing.
    unsafe impl Sync for Mutex {}
    let mutex: &'static Mutex = Box::leak(Box::new(Mutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))));
    // SAFETY: initialised once, before any use.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
        assert_eq!(libc::pthread_mutex_init(mutex.0.get(), &raw const attributes), 0);
    }
    let bank = bank(options().create_memfd("bank").unwrap());
    let (lock, both) = (bank.lock.clone(), std::sync::Arc::new(Gate::default()));
    std::thread::spawn({
        let both = both.clone();
        move || {
            let guard = lock.lock().unwrap();
            // SAFETY: an initialised mutex.
            assert_eq!(unsafe { libc::pthread_mutex_lock(mutex.0.get()) }, 0);
            std::mem::forget(guard);
            both.open();
        }
    })
    .join()
    .unwrap();
    assert!(both.is_open());
    // SAFETY: as above.
    assert_eq!(unsafe { libc::pthread_mutex_trylock(mutex.0.get()) }, libc::EOWNERDEAD);
    assert!(bank.lock.lock_timeout(common::LIMIT).unwrap().owner_died());
}

#[test]
fn a_patience_like_the_bells_makes_nobody_a_bell() {
    let region = common::options().patience(Duration::from_millis(20)).create_memfd("patience").unwrap();
    region.queue("queue").unwrap().wait_event_timeout(|| false, Duration::from_micros(1)).unwrap_err();
    assert_eq!(region.snapshot().threads.0, 1, "this thread has a record of its own");
}
