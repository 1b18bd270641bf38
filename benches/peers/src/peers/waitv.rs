//! A bare futex word, slept on by `futex_waitv`: the word is the count of items.
#![allow(unsafe_code)] // futex(2)

use std::sync::atomic::{AtomicU32, Ordering::*};

use super::{KNOWS_NOBODY, NO_LOCK, Peer};
use crate::scenarios::Scenario;
use waitqueue_bench::segment::{Name, Segment};
use waitqueue_bench::subjects::Waiter;

/// An opened one.
pub struct Waitv(Segment);

impl Waitv {
    fn items(&self) -> &AtomicU32 {
        // SAFETY: an atomic.
        unsafe { self.0.at(0) }
    }
}

impl Peer for Waitv {
    const NAME: &'static str = "futex_waitv";
    type Place = Name;

    fn create(name: &str) -> Name {
        Segment::create(name, |_| {})
    }

    fn open(place: &Name) -> Self {
        Waitv(Segment::open(place))
    }

    fn put(&self) {
        self.items().fetch_add(1, AcqRel);
        // SAFETY: a word that stays mapped.
        let woken = unsafe { libc::syscall(libc::SYS_futex, self.items().as_ptr(), libc::FUTEX_WAKE, 1) };
        assert!(woken >= 0);
    }

    fn take(&self) {
        while self.items().fetch_update(AcqRel, Acquire, |items| items.checked_sub(1)).is_err() {
            let waiter = Waiter::for_change_of(self.items());
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: one waiter, whose word stays mapped. Whatever it returns, the count decides.
            unsafe { libc::syscall(libc::SYS_futex_waitv, &raw const waiter, 1, 0, forever, 0) };
        }
    }

    fn locked(&self, _inside: impl FnOnce(bool)) {}

    fn lacks(scenario: Scenario) -> Option<&'static str> {
        match scenario {
            Scenario::Holder | Scenario::Recoverer => Some(NO_LOCK),
            Scenario::Watched => Some(KNOWS_NOBODY),
            _ => None,
        }
    }
}
