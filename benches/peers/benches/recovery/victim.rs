//! What is killed: small, large, or busy.

use std::hint::{black_box, spin_loop};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;
use std::time::Duration;

/// How many threads a busy victim has beside its own.
pub(crate) const THREADS: u64 = 64;
const GIBIBYTE: usize = 1 << 30;

/// What kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    /// It has touched 1 GiB, which the kernel takes back at its death.
    Large,
    /// It has 64 threads that never rest, each of which has to die.
    Busy,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Small, Kind::Large, Kind::Busy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Small => "small",
            Kind::Large => "1 GiB",
            Kind::Busy => "64 threads",
        }
    }

    /// Makes the calling process one of this kind. The threads rest until `go`, and count themselves there.
    pub(crate) fn fatten(self, go: &'static AtomicU64, busy: &'static AtomicU64) {
        match self {
            Kind::Small => {}
            Kind::Large => {
                let mut memory = Vec::<u8>::with_capacity(GIBIBYTE);
                let pages = memory.spare_capacity_mut().iter_mut().step_by(4096);
                pages.for_each(|byte| *byte = MaybeUninit::new(1));
                std::mem::forget(black_box(memory));
            }
            Kind::Busy => (0..THREADS).for_each(|_| drop(thread::spawn(|| never_rest(go, busy)))),
        }
    }
}

fn never_rest(go: &AtomicU64, busy: &AtomicU64) {
    while go.load(Acquire) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    busy.fetch_add(1, AcqRel);
    loop {
        spin_loop();
    }
}
