//! How long a question and its reply take between two processes that spin, each on a processor of its own: what
//! waitqueue adds to the bare atomics below it.

use waitqueue_bench::{bodies, subjects};

fn main() {
    bodies::round_trip_spinning("roundtrip_spin", &subjects::awake());
}
