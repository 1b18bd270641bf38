//! What must not allocate: a wait and a wake, for their cost, and the answer to a signal handler, which may have interrupted
//! the allocator.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use waitqueue::{Error, RobustLock, WaitOptions};

struct Counting;

thread_local! {
    /// By this thread: the harness and the bell have theirs.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, and a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `body` allocates.
fn allocations(body: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    body();
    ALLOCATIONS.get() - before
}

#[test]
fn waits_wakes_and_refusals_of_handlers_do_not_allocate() {
    let region = common::options().create_memfd("allocation").unwrap();
    let queue = region.queue("queue").unwrap();
    let lock = region.lock_at(&region.object::<RobustLock>("lock").unwrap()).unwrap();
    let wait = || {
        let mut evaluations = 0;
        let options = WaitOptions::new().spin(Duration::ZERO).label("one that does not sleep");
        let enough = || {
            evaluations += 1;
            evaluations == 2
        };
        queue.wait_event_with(&options, enough).unwrap();
    };
    // (The first of each makes what its thread keeps.)
    let enrolled = queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    wait();
    queue.wake_up().unwrap();
    assert_eq!(allocations(wait), 0, "a wait");
    assert_eq!(
        allocations(|| assert_eq!(queue.wake_up().unwrap().nonexclusive, 1)),
        0,
        "a wake that meets a waiter"
    );
    enrolled.finish();
    let guard = lock.lock().unwrap();
    let refused = allocations(|| assert!(matches!(lock.lock(), Err(Error::Reentered { .. }))));
    assert_eq!(refused, 0, "the refusal of a lock that the thread holds");
    drop(guard);
}
