//! 2 to 16 processes that put and as many that take, over one pair of queues, or each two over a pair of their own.

use waitqueue_bench::{bodies, crowds};

fn main() {
    bodies::contended("contended", &crowds::items());
}
