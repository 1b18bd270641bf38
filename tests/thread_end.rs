//! What a thread has left behind at its end meets what comes later: destructors, a detach.

mod common;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use common::stage::{Stage, bounded, thread};
use waitqueue::{Region, WaitOptions, WaitSet};

/// A set that is dropped after the thread's own things, and what it is told then.
struct Late(Option<(WaitSet, waitqueue::Queue)>);
static LATE: AtomicU32 = AtomicU32::new(0);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some((set, queue)) = &mut self.0 {
            // A set is not usable any more: it must say so.
            let outcome = set.add(queue, &WaitOptions::new().exclusive());
            LATE.store(if outcome.is_ok() { 1 } else { 2 }, Release);
        }
    }
}

#[test]
fn a_set_in_a_thread_local_refuses_to_grow_after_its_thread_has_ended() {
    thread_local! {
        static SET: RefCell<Late> = const { RefCell::new(Late(None)) };
    }
    let stage = Stage::new();
    let ended = thread({
        let stage = stage.clone();
        move || {
            SET.with(|place| {
                // (Its place was used first, and is destroyed last.)
                let set = WaitSet::new(&stage.region).unwrap();
                place.borrow_mut().0 = Some((set, stage.queue.clone()));
            });
        }
    });
    ended.join();
    common::until("the destructor has run", || LATE.load(Acquire) != 0);
    assert_eq!(
        LATE.load(Acquire),
        2,
        "it acted by a record that was given back: {}",
        stage.region.snapshot()
    );
}

#[test]
fn a_thread_that_ends_while_its_process_detaches_is_not_taken_for_gone() {
    let survivors =
        common::options().entries(2000).threads(8).participants(4).create_memfd("shared").unwrap();
    let stage = Stage::of(survivors);
    let stop = Arc::new(AtomicBool::new(false));
    // Somebody of another process wakes all the time.
    let waker = std::thread::spawn({
        let (stage, stop) = (stage.clone(), stop.clone());
        move || {
            while !stop.load(Acquire) {
                stage.queue.wake_up().unwrap();
            }
        }
    });
    for round in 0..40 {
        let other: Region = common::options().open_fd(stage.region.try_clone_fd().unwrap()).unwrap();
        let (ready, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let forgets = std::thread::spawn({
            let (ready, go, other) = (ready.clone(), go.clone(), other.clone());
            move || {
                let queue = other.queue("queue").unwrap();
                for _ in 0..500 {
                    std::mem::forget(queue.prepare_to_wait(&bounded()).unwrap());
                }
                drop((queue, other));
                ready.store(true, Release);
                while !go.load(Acquire) {
                    std::thread::yield_now();
                }
            }
        });
        common::until("forgotten", || ready.load(Acquire));
        go.store(true, Release);
        drop(other); // the last: detaches
        forgets.join().unwrap();
        assert_eq!(stage.info().recoveries, 0, "round {round}: a lock was taken from a living thread");
    }
    stop.store(true, Release);
    waker.join().unwrap();
    stage.region.check().unwrap();
}
