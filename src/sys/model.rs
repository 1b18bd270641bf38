//! The kernel as a model checker sees it: futexes made of loom's own primitives, and nobody ever dies.

use loom::sync::{Condvar, Mutex};

use super::clock::Deadline;
use super::futex::Sleep;
use crate::atomic::{AtomicU32, Ordering};

/// Sleepers of all words. Waking is a broadcast: who is not meant finds its word unchanged and sleeps on.
pub(crate) struct Kernel {
    generation: Mutex<u64>,
    changed: Condvar,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel { generation: Mutex::new(0), changed: Condvar::new() };
}

/// A wake that the word did not ask for is allowed, a lost one is not: the word is compared under the lock under
/// which wakers broadcast, as the kernel compares it under its bucket's lock. Deadlines never pass.
pub(crate) fn wait(word: &AtomicU32, expected: u32, _deadline: Option<Deadline>) -> Sleep {
    let guard = KERNEL.generation.lock().unwrap();
    if word.load(Ordering::Relaxed) == expected {
        drop(KERNEL.changed.wait(guard).unwrap());
    }
    Sleep::Woken
}

pub(crate) fn wake(_word: &AtomicU32) {
    *KERNEL.generation.lock().unwrap() += 1;
    KERNEL.changed.notify_all();
}

pub(crate) fn clear_and_wake(word: &AtomicU32, _held: u32) {
    word.store(0, Ordering::Release);
    wake(word);
}

pub(crate) mod lease {
    pub(crate) struct Prober;
}

pub(crate) mod mark {
    use crate::atomic::AtomicU32;

    pub(crate) const OWNER_DIED: u32 = 0x4000_0000;

    pub(crate) struct Marker;

    #[derive(Clone, Copy)]
    pub(crate) struct Armed;

    impl Marker {
        pub(crate) fn arm(&self, _word: &AtomicU32) -> Armed {
            Armed
        }

        pub(crate) fn disarm(&self, _armed: Armed) {}
    }
}
