//! The sets of `benches/wait_set.rs`, with the crates.

use waitqueue_bench::bodies;
use waitqueue_peers::subjects;

fn main() {
    bodies::wait_set("wait_set-crates", &subjects::enrolled());
}
