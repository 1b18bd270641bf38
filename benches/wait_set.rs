//! Waiting on 1 to 10,000 queues while staying enrolled: a `WaitSet` beside `epoll`.

use waitqueue_bench::{bodies, subjects};

fn main() {
    bodies::wait_set("wait_set", &subjects::enrolled());
}
