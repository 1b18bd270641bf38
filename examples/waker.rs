//! Says that it is ready, and wakes the other program, `waiter`. Run both in any order.

use std::sync::atomic::{AtomicU32, Ordering::*};
use waitqueue::Region;

fn main() -> waitqueue::Result<()> {
    let region = Region::open_or_create("/demo")?;
    let ready = region.object::<AtomicU32>("ready")?;
    let queue = region.queue("ready-queue")?;
    ready.store(1, Release);
    println!("woke {:?}", queue.wake_up()?);
    Ok(())
}
