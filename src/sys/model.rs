//! The kernel as a model checker sees it: futexes and time made of loom's own primitives, and nobody ever dies.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};

use loom::sync::{Condvar, Mutex, MutexGuard};

use self::clock::Deadline;
use super::futex::Sleep;
use crate::atomic::{AtomicU32, Ordering};

/// The sleepers of one word. Their lock is the kernel's bucket lock: a sleeper compares the word under it, a waker
/// takes it, so that no wake falls between a comparison and the sleep that follows.
struct Bucket {
    /// Who sleeps on this word and on others, or is told apart by bits.
    lock: Mutex<Vec<Arc<Sleeper>>>,
    woken: Condvar,
}

/// One that sleeps on several words, or is told apart.
struct Sleeper {
    bits: u32,
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Sleeper {
    fn new(bits: u32) -> Arc<Sleeper> {
        Arc::new(Sleeper { bits, is_woken: Mutex::new(false), woken: Condvar::new() })
    }

    fn sleep(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap();
        }
    }
}

impl Bucket {
    fn wake(&self, mut sleepers: MutexGuard<'_, Vec<Arc<Sleeper>>>, bits: u32) {
        self.woken.notify_all();
        for sleeper in sleepers.extract_if(.., |sleeper| sleeper.bits & bits != 0) {
            *sleeper.is_woken.lock().unwrap() = true;
            sleeper.woken.notify_all();
        }
    }
}

#[derive(Default)]
struct Kernel {
    /// By the word's address. Not a lock of the model: nothing is interleaved while it is held.
    buckets: std::sync::Mutex<HashMap<usize, Arc<Bucket>>>,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel::default();
    static ref TIME_IS_UP: Mutex<bool> = Mutex::new(false);
}

impl Kernel {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Arc<Bucket>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self, word: &AtomicU32) -> Arc<Bucket> {
        let fresh = || Arc::new(Bucket { lock: Mutex::new(Vec::new()), woken: Condvar::new() });
        self.all().entry(std::ptr::from_ref(word).addr()).or_insert_with(fresh).clone()
    }
}

pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Sleep {
    let bucket = KERNEL.bucket(word);
    let guard = bucket.lock.lock().unwrap();
    if word.load(Ordering::Relaxed) != expected {
        return Sleep::Woken;
    }
    if deadline.is_some_and(Deadline::passed) {
        return Sleep::TimedOut;
    }
    drop(bucket.woken.wait(guard).unwrap());
    // The loops above ask the clock themselves before they believe this.
    Sleep::Woken
}

/// One word after the other is looked at, as in the kernel: a wake of the second is missed if it comes in between.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Option<Sleep> {
    let sleeper = Sleeper::new(u32::MAX);
    let mut sleeps = !deadline.is_some_and(Deadline::passed);
    for (word, expected) in words {
        let bucket = KERNEL.bucket(word);
        let mut sleepers = bucket.lock.lock().unwrap();
        sleeps &= word.load(Ordering::Relaxed) == *expected;
        if sleeps {
            sleepers.push(sleeper.clone());
        }
    }
    if sleeps {
        sleeper.sleep();
    }
    for (word, _) in words {
        let bucket = KERNEL.bucket(word);
        bucket.lock.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &sleeper));
    }
    Some(Sleep::Woken)
}

/// (With bits of its own never timed, in the models.)
pub(crate) fn wait_bitset(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Deadline>,
    bits: NonZeroU32,
) -> Sleep {
    if bits == NonZeroU32::MAX {
        return wait(word, expected, deadline);
    }
    let sleeper = Sleeper::new(bits.get());
    let bucket = KERNEL.bucket(word);
    let mut sleepers = bucket.lock.lock().unwrap();
    if word.load(Ordering::Relaxed) == expected {
        sleepers.push(sleeper.clone());
        drop(sleepers);
        sleeper.sleep();
    }
    Sleep::Woken
}

pub(crate) fn wake(word: &AtomicU32) {
    wake_bitset(word, NonZeroU32::MAX);
}

pub(crate) fn wake_bitset(word: &AtomicU32, bits: NonZeroU32) {
    let bucket = KERNEL.bucket(word);
    let sleepers = bucket.lock.lock().unwrap();
    bucket.wake(sleepers, bits.get());
}

pub(crate) fn wake_two(one: &AtomicU32, other: &AtomicU32) {
    wake(one);
    wake(other);
}

/// One system call: store and wake under the same bucket lock.
pub(crate) fn clear_and_wake(word: &AtomicU32, _held: u32, _sleepers: u32) {
    let bucket = KERNEL.bucket(word);
    let sleepers = bucket.lock.lock().unwrap();
    word.store(0, Ordering::Release);
    bucket.wake(sleepers, u32::MAX);
}

/// One instant per model, which a thread of the model decides to let pass.
pub(crate) mod clock {
    use std::time::Duration;

    use super::TIME_IS_UP;
    use crate::atomic::AtomicU32;

    /// The one instant.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Deadline;

    impl Deadline {
        /// Locks, ticks and spins never time out in a model.
        pub(crate) fn after(_span: Duration) -> Option<Deadline> {
            None
        }

        pub(crate) fn now() -> Deadline {
            Deadline
        }

        pub(crate) fn since(self, _earlier: Deadline) -> Duration {
            Duration::ZERO
        }

        pub(crate) fn passed(self) -> bool {
            *TIME_IS_UP.lock().unwrap()
        }
    }

    /// Lets the instant pass, and ends the sleep on a word that has it as its deadline.
    pub(crate) fn pass(word: &AtomicU32) {
        *TIME_IS_UP.lock().unwrap() = true;
        super::wake(word);
    }

    pub(crate) fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
        a.or(b)
    }

    pub(crate) fn wall_clock() -> u64 {
        0
    }
}

pub(crate) mod process {
    pub(crate) fn processor() -> u32 {
        0
    }
}

pub(crate) mod fork {
    pub(crate) fn current() -> u64 {
        0
    }
}

pub(crate) mod lease {
    pub(crate) struct Prober;
}

pub(crate) mod mark {
    use crate::atomic::AtomicU32;

    pub(crate) const OWNER_DIED: u32 = 0x4000_0000;

    pub(crate) struct Marker;

    #[derive(Clone, Copy, Default)]
    pub(crate) struct Armed(());

    impl Marker {
        pub(crate) fn arm(&self, _word: &AtomicU32) -> Armed {
            Armed(())
        }

        pub(crate) fn is_none(&self) -> bool {
            false
        }

        pub(crate) fn disarm(&self, _armed: Armed) {}
    }
}
