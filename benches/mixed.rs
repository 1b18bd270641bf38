//! Replies that take from 0.2 µs to 2 ms: always asleep, always awake, and the default, which has to find out.

use waitqueue_bench::{bodies, subjects};

fn main() {
    bodies::mixed("mixed", &subjects::policies());
}
