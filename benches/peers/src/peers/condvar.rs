//! A process-shared condition variable of the C library, with a process-shared robust mutex.
#![allow(unsafe_code)] // pthreads

use std::cell::UnsafeCell;

use super::{KNOWS_NOBODY, Peer};
use crate::scenarios::Scenario;
use waitqueue_bench::segment::{Name, Segment};

#[repr(C)]
struct Shared {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    condition: UnsafeCell<libc::pthread_cond_t>,
    items: UnsafeCell<u32>,
}

/// An opened one.
pub struct Condvar(Segment);

impl Condvar {
    fn shared(&self) -> &Shared {
        // SAFETY: initialised by `create`; the mutex and the condition are for several processes, the items are only
        // used with the mutex held.
        unsafe { self.0.at(0) }
    }

    /// Whether the last owner died.
    fn lock(&self) -> bool {
        // SAFETY: initialised.
        recovered(self.shared(), unsafe { libc::pthread_mutex_lock(self.shared().mutex.get()) }, false)
    }

    fn unlock(&self) {
        // SAFETY: held.
        unsafe { libc::pthread_mutex_unlock(self.shared().mutex.get()) };
    }
}

/// After a call that returns with the mutex held: whether its last owner died; if so, it may be made consistent at once.
fn recovered(shared: &Shared, outcome: i32, at_once: bool) -> bool {
    assert!(matches!(outcome, 0 | libc::EOWNERDEAD), "pthread: {outcome}");
    if outcome != 0 && at_once {
        // SAFETY: held.
        unsafe { libc::pthread_mutex_consistent(shared.mutex.get()) };
    }
    outcome != 0
}

impl Peer for Condvar {
    const NAME: &'static str = "glibc shared condvar";
    type Place = Name;

    fn create(name: &str) -> Name {
        Segment::create(name, |segment| {
            // SAFETY: zero is a value of the attributes; nobody else uses the page yet.
            unsafe {
                let shared: &Shared = segment.at(0);
                let mut attributes = std::mem::zeroed();
                libc::pthread_mutexattr_init(&raw mut attributes);
                libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
                libc::pthread_mutex_init(shared.mutex.get(), &raw const attributes);
                let mut attributes = std::mem::zeroed();
                libc::pthread_condattr_init(&raw mut attributes);
                libc::pthread_condattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_cond_init(shared.condition.get(), &raw const attributes);
            }
        })
    }

    fn open(place: &Name) -> Self {
        Condvar(Segment::open(place))
    }

    fn put(&self) {
        self.locked(|_| {
            // SAFETY: with the mutex held.
            unsafe { *self.shared().items.get() += 1 }
        });
        // SAFETY: initialised.
        unsafe { libc::pthread_cond_signal(self.shared().condition.get()) };
    }

    fn take(&self) {
        self.locked(|_| {
            let shared = self.shared();
            // SAFETY: with the mutex held, also when the wait returns.
            unsafe {
                while *shared.items.get() == 0 {
                    let outcome = libc::pthread_cond_wait(shared.condition.get(), shared.mutex.get());
                    recovered(shared, outcome, true);
                }
                *shared.items.get() -= 1;
            }
        });
    }

    fn locked(&self, inside: impl FnOnce(bool)) {
        let died = self.lock();
        inside(died);
        if died {
            recovered(self.shared(), libc::EOWNERDEAD, true);
        }
        self.unlock();
    }

    fn lacks(scenario: Scenario) -> Option<&'static str> {
        (scenario == Scenario::Watched).then_some(KNOWS_NOBODY)
    }
}
