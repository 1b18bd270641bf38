//! How long a question and its reply take between two processes that sleep: waitqueue and what the kernel and the C
//! library have, on two processors, on one, and where the kernel likes.

use waitqueue_bench::{bodies, subjects};

fn main() {
    bodies::round_trip("roundtrip", &subjects::asleep());
}
