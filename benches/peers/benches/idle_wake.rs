//! What a wake costs that meets nobody, with the crates; those work within one process only.
#![allow(unsafe_code)] // unpark_one

use std::sync::atomic::AtomicU32;

use event_listener::Event;
use parking_lot_core::{DEFAULT_UNPARK_TOKEN, unpark_one};
use waitqueue_bench::bodies::{Idle, idle_waitqueue};

fn main() {
    let mut idle = Idle::new("idle_wake-crates");
    idle_waitqueue(&mut idle);
    let key = AtomicU32::new(0);
    idle.call("parking_lot_core, unpark_one of nobody", || {
        // SAFETY: an address of our own; the callback neither panics nor parks.
        unsafe { unpark_one(key.as_ptr().addr(), |_| DEFAULT_UNPARK_TOKEN) }
    });
    let event = Event::new();
    idle.call("event-listener, notify of nobody", || event.notify(1));
}
