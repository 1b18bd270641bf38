//! A token passed round between 2, 8 and 32 processes that wait for it exclusively: how soon, how many wakes for each, and
//! how evenly.

use waitqueue_bench::{bodies, crowds};

fn main() {
    bodies::handoff("handoff", &crowds::tokens());
}
