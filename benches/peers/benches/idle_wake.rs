//! The idle calls of `benches/idle_wake.rs`, with crates that work within one process only.
#![allow(unsafe_code)] // unpark_one, park

use std::sync::atomic::{AtomicU32, Ordering::*};

use event_listener::{Event, Listener};
use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, park, unpark_one};
use waitqueue_bench::bodies::{HOLDS, Idle, WAKE, idle_waitqueue};

fn main() {
    let mut idle = Idle::new("idle_wake-crates");
    idle_waitqueue(&mut idle);
    let word = AtomicU32::new(1);
    let key = word.as_ptr().addr();
    idle.call(WAKE, "parking_lot_core, unpark_one", || {
        // SAFETY: an address of our own; the callback neither panics nor parks.
        unsafe { unpark_one(key, |_| DEFAULT_UNPARK_TOKEN) }
    });
    let event = Event::new();
    idle.call(WAKE, "event-listener, notify", || event.notify(1));
    idle.call(HOLDS, "parking_lot_core, park", || {
        // SAFETY: an address of our own; the callbacks neither panic nor park.
        unsafe { park(key, || word.load(Acquire) == 0, || (), |_, _| (), DEFAULT_PARK_TOKEN, None) }
    });
    idle.call(HOLDS, "event-listener, a loaded word", || {
        if word.load(Acquire) == 0 {
            event.listen().wait();
        }
    });
}
