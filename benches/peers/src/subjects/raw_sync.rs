//! `raw_sync`'s event, with the value beside it.
#![allow(unsafe_code)] // its constructors take memory

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::*};

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use waitqueue_bench::segment::{Name, Segment};
use waitqueue_bench::subjects::slots::unique_name;
use waitqueue_bench::subjects::{Place, Post, Subject};

/// An event that resets itself, for each line.
pub struct RawSync;

/// Of each line.
const SIZE: usize = 4096;
/// Where the value lies in it.
const VALUE: usize = 2048;

struct Named(Name, usize);

impl Subject for RawSync {
    fn name(&self) -> String {
        "raw_sync event".into()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        let name = Segment::create_sized(&unique_name(), lines * SIZE, |segment| {
            for line in 0..lines {
                // SAFETY: zeroed memory, which nobody else uses yet, and more than it takes.
                unsafe { Event::new(segment.bytes(line * SIZE), true).expect("a new event") };
            }
        });
        Box::new(Named(name, lines))
    }
}

/// Dropped in this order.
struct Opened {
    events: HashMap<usize, Box<dyn EventImpl>>,
    segment: Segment,
    inbox: usize,
}

impl Place for Named {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        let segment = Segment::open(&self.0);
        // SAFETY: made by `create`, and mapped for as long as they are used.
        let event = |line: usize| unsafe { Event::from_existing(segment.bytes(line * SIZE)) };
        let events = (0..self.1).map(|line| (line, event(line).expect("the event").0)).collect();
        Box::new(Opened { events, segment, inbox: inbox.start })
    }
}

impl Opened {
    fn value(&self, line: usize) -> &AtomicU32 {
        // SAFETY: an atomic.
        unsafe { self.segment.at(line * SIZE + VALUE) }
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        self.value(line).store(value, Release);
        self.events[&line].set(EventState::Signaled).expect("set");
    }

    fn receive(&mut self) -> (usize, u32) {
        self.events[&self.inbox].wait(Timeout::Infinite).expect("wait");
        (self.inbox, self.value(self.inbox).swap(0, AcqRel))
    }
}
