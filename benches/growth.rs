//! What calls cost against the number of waiters, queues, processes, entries and dead: a curve for each, and its order.

use waitqueue_bench::bodies;

fn main() {
    bodies::growth("growth");
}
