//! Making a queue anew after a death under its lock, in a region of 65,536 entries.

use waitqueue_bench::bodies;

fn main() {
    bodies::rebuild("rebuild");
}
