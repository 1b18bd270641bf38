//! A process-shared POSIX semaphore: its count is the items.
#![allow(unsafe_code)] // sem_t

use std::cell::UnsafeCell;

use super::{KNOWS_NOBODY, Peer};
use crate::scenarios::Scenario;
use waitqueue_bench::segment::{Name, Segment};

/// An opened one.
pub struct Semaphore(Segment);

impl Semaphore {
    fn semaphore(&self) -> *mut libc::sem_t {
        // SAFETY: initialised by `create`, for several processes.
        unsafe { self.0.at::<UnsafeCell<libc::sem_t>>(0) }.get()
    }
}

impl Peer for Semaphore {
    const NAME: &'static str = "POSIX semaphore";
    type Place = Name;

    fn create(name: &str) -> Name {
        Segment::create(name, |segment| {
            // SAFETY: nobody else uses the page yet.
            unsafe { libc::sem_init(segment.at::<UnsafeCell<libc::sem_t>>(0).get(), 1, 0) };
        })
    }

    fn open(place: &Name) -> Self {
        Semaphore(Segment::open(place))
    }

    fn put(&self) {
        // SAFETY: initialised.
        assert_eq!(unsafe { libc::sem_post(self.semaphore()) }, 0);
    }

    fn take(&self) {
        // SAFETY: initialised.
        while unsafe { libc::sem_wait(self.semaphore()) } != 0 {}
    }

    fn locked(&self, _inside: impl FnOnce(bool)) {}

    fn lacks(scenario: Scenario) -> Option<&'static str> {
        match scenario {
            Scenario::Holder | Scenario::Recoverer => {
                Some("a semaphore has no owner: used as a lock, it stays taken for ever")
            }
            Scenario::Watched => Some(KNOWS_NOBODY),
            _ => None,
        }
    }
}
