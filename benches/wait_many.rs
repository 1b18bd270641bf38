//! Waiting on 2 to 4096 queues, named at each wait: `wait_many` beside `futex_waitv` and `poll`.

use waitqueue_bench::{bodies, subjects};

fn main() {
    bodies::wait_many("wait_many", &subjects::many());
    bodies::enrol_and_leave("wait_many-enrol", &bodies::MANY);
}
