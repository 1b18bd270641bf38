//! A child that is forked in the middle of its parent's waits, and goes on with its copies of what the parent uses: it gets
//! errors, and the parent loses nothing.

#![allow(unsafe_code)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use common::Name;
use waitqueue::{Error, Region, WaitOptions, WaitSet};

/// Long enough for what comes at once.
const LONG: Duration = Duration::from_secs(10);

fn long<'a>() -> WaitOptions<'a> {
    WaitOptions::new().timeout(LONG)
}

fn reap(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

/// Waits until the parent has got what its child must not have taken.
fn got(what: &AtomicBool) {
    common::until("the parent is woken", || what.load(Acquire));
}

#[test]
fn trap_33_a_child_that_removes_a_member_takes_nothing_from_its_parent() {
    let name = Name::new();
    let region = name.region();
    let (a, b) = (region.queue("a").unwrap(), region.queue("b").unwrap());
    let mut set = WaitSet::new(&region).unwrap();
    let one = set.add(&a, &WaitOptions::new()).unwrap();
    let two = set.add(&b, &WaitOptions::new()).unwrap();
    // Both have been asked and said no: `one` here, `two` in the wait below.
    assert_eq!(set.wait(&long(), |member| member == two), Ok(two));
    let flag = Arc::new(AtomicU32::new(1));
    a.wake_up().unwrap(); // notes `one`
    // SAFETY: the child calls one function and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = set.remove(two);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(reap(child), 0);
    let start = Instant::now();
    assert_eq!(set.wait(&long(), |member| member == one && flag.load(Acquire) != 0), Ok(one));
    assert!(start.elapsed() < LONG, "only the deadline made it ask the member that was woken");
}

#[test]
fn trap_33_a_child_forked_by_a_condition_that_spins_does_not_touch_its_parents_entry() {
    let name = Name::new();
    let region = Region::builder().tick(None).create(&name.0).unwrap(); // spins by default
    let queue = region.queue("q").unwrap();
    let (flag, child) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let waiter = std::thread::spawn({
        let (queue, flag, child, done) = (queue.clone(), flag.clone(), child.clone(), done.clone());
        let fresh = region.queue("q").unwrap();
        move || {
            // So that there is a spare entry.
            let _ = queue.wait_event_timeout(|| false, Duration::from_millis(1));
            let queue = fresh; // has learned nothing: it spins
            let (mut calls, mut is_child) = (0, false);
            let ended = queue.wait_event(|| {
                calls += 1;
                if calls == 2 {
                    // SAFETY: the child leaves by `_exit`.
                    let forked = unsafe { libc::fork() };
                    if forked == 0 {
                        is_child = true;
                        std::thread::sleep(Duration::from_millis(300));
                    } else {
                        child.store(forked, Release);
                    }
                }
                !is_child && flag.load(Acquire)
            });
            if is_child {
                // SAFETY: as above.
                unsafe { libc::_exit(i32::from(!matches!(ended, Err(Error::Forked { .. })))) };
            }
            done.store(true, Release);
        }
    });
    common::until("the child is there", || child.load(Acquire) != 0);
    assert_eq!(reap(child.load(Acquire)), 0);
    flag.store(true, Release);
    queue.wake_up().unwrap();
    got(&done);
    waiter.join().unwrap();
}

#[test]
fn trap_33_a_child_that_adds_a_member_does_not_touch_its_parents_entry() {
    let name = Name::new();
    let region = name.region();
    let (a, b) = (region.queue("a").unwrap(), region.queue("b").unwrap());
    let flag = Arc::new(AtomicBool::new(false));
    let (child, done) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
    let waiter = std::thread::spawn({
        let (flag, child, done) = (flag.clone(), child.clone(), done.clone());
        let (region, a) = (region.clone(), a.clone());
        move || {
            let mut set = WaitSet::new(&region).unwrap();
            let _ = a.wait_event_timeout(|| false, Duration::from_millis(1)); // a spare entry
            // SAFETY: the child leaves by `_exit`.
            let forked = unsafe { libc::fork() };
            if forked == 0 {
                std::thread::sleep(Duration::from_millis(300));
                let _ = set.add(&b, &WaitOptions::new());
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            child.store(forked, Release);
            a.wait_event(|| flag.load(Acquire)).unwrap();
            done.store(true, Release);
        }
    });
    common::until("the child is there", || child.load(Acquire) != 0);
    assert_eq!(reap(child.load(Acquire)), 0);
    flag.store(true, Release);
    a.wake_up().unwrap();
    got(&done);
    waiter.join().unwrap();
}
