//! A counting semaphore of a page, and processes that share one: `cargo run --example semaphore`.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::thread::sleep;
use std::time::Duration;

use waitqueue::{Object, Queue, QueueHead, Region};

waitqueue::shared_struct! {
    /// What lies in the region: all zero is a semaphore without permits.
    #[tag = "semaphore v1"]
    struct Shared {
        permits: AtomicU32,
        queue: QueueHead,
    }
}

/// So many permits, and whoever finds none sleeps until one is released.
struct Semaphore {
    shared: Object<Shared>,
    queue: Queue,
}

impl Semaphore {
    fn new(region: &Region, name: &str) -> waitqueue::Result<Semaphore> {
        let shared = region.object::<Shared>(name)?;
        let queue = region.queue_at(&shared.queue)?;
        Ok(Semaphore { shared, queue })
    }

    /// Takes a permit. Exclusive, because one permit is of use to one waiter only.
    fn acquire(&self) -> waitqueue::Result<()> {
        self.queue.wait_event_exclusive(|| self.take_one())
    }

    fn acquire_timeout(&self, timeout: Duration) -> waitqueue::Result<Duration> {
        let options = waitqueue::WaitOptions::new().exclusive().timeout(timeout);
        self.queue.wait_event_with(&options, || self.take_one())
    }

    /// Gives one back, also in the name of a holder who died. First the count, then the wake.
    fn release(&self) -> waitqueue::Result<()> {
        self.shared.permits.fetch_add(1, Release);
        self.queue.wake_up().map(drop)
    }

    /// A condition may take what it finds: once it has returned true it is not called again.
    fn take_one(&self) -> bool {
        let one_less = |permits: u32| permits.checked_sub(1);
        self.shared.permits.fetch_update(Acquire, Relaxed, one_less).is_ok()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(role) => child(&role),
        None => parent(),
    }
}

/// Two permits for four processes, and then a holder who is killed.
fn parent() -> Result<(), Box<dyn Error>> {
    let region = Region::builder().create_memfd("semaphore")?;
    let semaphore = Semaphore::new(&region, "semaphore")?;
    semaphore.release()?;
    semaphore.release()?;
    let mut children = (0..4).map(|_| start(&region, "worker")).collect::<Result<Vec<_>, _>>()?;
    for child in &mut children {
        assert!(child.wait()?.success(), "a worker failed");
    }

    // A permit is a number, not a possession: a holder who is killed takes it with him, as with sem_wait. Whoever
    // knows that he is dead gives it back. (If that should happen by itself, store `region.me()` with each permit,
    // and let the condition ask `is_alive`: the pipeline example does.)
    let mut holder = start(&region, "holder")?;
    let taken = region.object::<AtomicU32>("taken")?;
    region.queue("taken by the holder")?.wait_event(|| taken.load(Acquire) != 0)?;
    semaphore.acquire()?;
    holder.kill()?;
    holder.wait()?;
    let Err(late) = semaphore.acquire_timeout(Duration::from_millis(50)) else {
        panic!("there were two permits")
    };
    println!("the holder was killed: {late}");
    semaphore.release()?;
    semaphore.acquire()?;
    println!("given back in its name, and taken again");
    Ok(())
}

/// The region is this process's standard input.
fn child(role: &str) -> Result<(), Box<dyn Error>> {
    let region = Region::builder().open_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let semaphore = Semaphore::new(&region, "semaphore")?;
    if role == "holder" {
        semaphore.acquire()?;
        region.object::<AtomicU32>("taken")?.store(1, Release);
        region.queue("taken by the holder")?.wake_up()?;
        sleep(Duration::from_secs(60));
    }
    let inside = region.object::<AtomicU32>("inside")?;
    for turn in 1..=3 {
        semaphore.acquire()?;
        let together = inside.fetch_add(1, AcqRel) + 1;
        println!("process {} has a permit for the time {turn}, {together} inside", std::process::id());
        assert!(together <= 2, "there are two permits");
        sleep(Duration::from_millis(20));
        inside.fetch_sub(1, AcqRel);
        semaphore.release()?;
    }
    Ok(())
}

fn start(region: &Region, role: &str) -> Result<Child, Box<dyn Error>> {
    Ok(Command::new(std::env::current_exe()?).arg(role).stdin(region.try_clone_fd()?).spawn()?)
}
