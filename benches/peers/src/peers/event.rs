//! The event and the mutex of the crate `raw_sync`.
#![allow(unsafe_code)] // its constructors take memory

use std::ptr;

use raw_sync::Timeout;
use raw_sync::events::{Event as RawEvent, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex};

use super::{KNOWS_NOBODY, Peer};
use crate::scenarios::Scenario;
use waitqueue_bench::segment::{Name, Segment};

/// Where the mutex lies in the page; the event is at its beginning.
const MUTEX: usize = 2048;

/// An opened one.
pub struct Event {
    event: Box<dyn EventImpl>,
    mutex: Box<dyn LockImpl>,
    _segment: Segment,
}

impl Peer for Event {
    const NAME: &'static str = "raw_sync event";
    type Place = Name;

    fn create(name: &str) -> Name {
        Segment::create(name, |segment| {
            // SAFETY: zeroed memory of a page, which nobody else uses yet; both fit.
            unsafe {
                RawEvent::new(segment.bytes(0), true).expect("a new event");
                Mutex::new(segment.bytes(MUTEX), ptr::null_mut()).expect("a new mutex");
            }
        })
    }

    fn open(place: &Name) -> Self {
        let segment = Segment::open(place);
        // SAFETY: made by `create`, and mapped for as long as they are used.
        let (event, mutex) = unsafe {
            let event = RawEvent::from_existing(segment.bytes(0)).expect("the event").0;
            (event, Mutex::from_existing(segment.bytes(MUTEX), ptr::null_mut()).expect("the mutex").0)
        };
        Event { event, mutex, _segment: segment }
    }

    fn put(&self) {
        self.event.set(EventState::Signaled).expect("set");
    }

    fn take(&self) {
        self.event.wait(Timeout::Infinite).expect("wait");
    }

    fn locked(&self, inside: impl FnOnce(bool)) {
        let _guard = self.mutex.lock().expect("lock");
        inside(false);
    }

    fn lacks(scenario: Scenario) -> Option<&'static str> {
        (scenario == Scenario::Watched).then_some(KNOWS_NOBODY)
    }
}
