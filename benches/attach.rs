//! Creating a region, attaching to it, detaching; and how large regions are.

use waitqueue_bench::bodies;

fn main() {
    bodies::attach("attach");
}
