//! Says that it is ready, and wakes the other program, `waiter`. Run both in any order; the argument names the region.

use std::sync::atomic::{AtomicU32, Ordering::*};
use waitqueue::Region;

fn main() -> waitqueue::Result<()> {
    let name = std::env::args().nth(1).unwrap_or("/demo".into());
    let region = Region::open_or_create(&name)?;
    let ready = region.object::<AtomicU32>("ready")?;
    let queue = region.queue("ready-queue")?;
    ready.store(1, Release);
    println!("woke {:?}", queue.wake_up()?);
    Ok(())
}
