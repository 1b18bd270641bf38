//! A queue, a flag and threads that wait: what most tests of single calls need.

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use waitqueue::{Object, Queue, Region, WaitOptions, WaiterState, Woken};

use super::{LIMIT, options, until};

/// What a wake returns.
pub fn woken(exclusive: u32, nonexclusive: u32) -> Woken {
    Woken { exclusive, nonexclusive }
}

/// Options that end a thread some time after its test has failed for being hung: a condition that is found true only
/// at the deadline must not pass for a wake.
pub fn bounded<'a>() -> WaitOptions<'a> {
    WaitOptions::new().timeout(BEYOND)
}

/// Longer than any test waits.
pub const BEYOND: Duration = Duration::from_secs(600);

/// A region with a queue named "queue" and a number named "flag".
#[derive(Clone, Debug)]
pub struct Stage {
    pub region: Region,
    pub queue: Queue,
    pub flag: Object<AtomicU32>,
}

impl Stage {
    /// In a memfd of its own.
    pub fn new() -> Stage {
        Stage::of(options().create_memfd("stage").unwrap())
    }

    pub fn of(region: Region) -> Stage {
        let (queue, flag) = (region.queue("queue").unwrap(), region.object("flag").unwrap());
        Stage { region, queue, flag }
    }

    pub fn is_set(&self) -> bool {
        self.flag.load(Acquire) != 0
    }

    /// Takes one of what the flag counts.
    pub fn take(&self) -> bool {
        self.flag.fetch_update(AcqRel, Acquire, |count| count.checked_sub(1)).is_ok()
    }

    pub fn set(&self, value: u32) {
        self.flag.store(value, Release);
    }

    pub fn set_and_wake(&self) -> Woken {
        self.set(1);
        self.queue.wake_up().unwrap()
    }

    /// Waits until exactly so many sleep on the queue.
    pub fn asleep(&self, count: usize) {
        asleep(&self.queue, count);
    }

    /// Labels and states of those on the queue, in order.
    pub fn waiters(&self) -> Vec<(String, WaiterState)> {
        waiters(&self.queue)
    }

    /// The labels of those on the queue, in order.
    pub fn labels(&self) -> Vec<String> {
        self.waiters().into_iter().map(|(label, _)| label).collect()
    }

    /// How often a wake was passed on.
    pub fn hand_ons(&self) -> u64 {
        self.info().hand_ons
    }

    pub fn info(&self) -> waitqueue::QueueInfo {
        info(&self.queue)
    }
}

pub fn info(queue: &Queue) -> waitqueue::QueueInfo {
    let name = queue.name().rsplit(':').next().unwrap_or_default().to_owned();
    let found = queue.region().snapshot().queues.into_iter().find(|info| info.name == name);
    found.unwrap_or_else(|| panic!("no queue {name} in the snapshot"))
}

pub fn waiters(queue: &Queue) -> Vec<(String, WaiterState)> {
    info(queue).waiters.into_iter().map(|waiter| (waiter.label, waiter.state)).collect()
}

/// Waits until exactly so many sleep on a queue.
pub fn asleep(queue: &Queue, count: usize) {
    until(&format!("{count} asleep on {}", queue.name()), || {
        waiters(queue).iter().filter(|(_, state)| *state == WaiterState::Asleep).count() == count
    });
}

/// A thread whose end is awaited for [`LIMIT`] at most.
#[derive(Debug)]
pub struct Thread<T>(Receiver<T>);

pub fn thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    let (sender, result) = channel();
    std::thread::spawn(move || sender.send(body()));
    Thread(result)
}

impl<T> Thread<T> {
    pub fn join(self) -> T {
        match self.0.recv_timeout(LIMIT) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("a thread did not end within {LIMIT:?}: hung"),
            Err(RecvTimeoutError::Disconnected) => panic!("a thread panicked"),
        }
    }

    /// Its result, if it ends within this time: for what must not happen.
    pub fn ends_within(&self, span: Duration) -> Option<T> {
        self.0.recv_timeout(span).ok()
    }
}

/// A gate that a test opens for a thread.
#[derive(Debug, Default)]
pub struct Gate(AtomicU32);

impl Gate {
    pub fn open(&self) {
        self.0.store(1, Release);
    }

    pub fn is_open(&self) -> bool {
        self.0.load(Acquire) != 0
    }

    pub fn pass(&self) {
        until("a gate opens", || self.is_open());
    }
}
