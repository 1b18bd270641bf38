//! One process wakes 1 to 256 others, all of which sleep on the same queue: how long until the last one runs, and until
//! the waker is free.

use waitqueue_bench::{bodies, crowds};

fn main() {
    bodies::wake_all("wake_all", &crowds::broadcasts());
}
