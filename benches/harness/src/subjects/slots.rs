//! Shared memory for subjects that need a few words of it for each line.

use std::ops::Range;
use std::process::id;
use std::sync::atomic::{AtomicU64, Ordering::*};

use super::{Place, Post};
use crate::segment::{Name, Segment};

/// The bytes of a line: two cache lines, since processors fetch them in pairs.
pub const SLOT: usize = 128;

/// A segment of slots, and how it is opened.
pub struct Slots {
    name: Name,
    open: fn(Segment, Range<usize>) -> Box<dyn Post>,
}

impl Slots {
    /// Makes a segment with so many slots, each prepared by `prepare`, which is told its line.
    #[must_use]
    pub fn create(
        lines: usize,
        prepare: impl Fn(&Segment, usize),
        open: fn(Segment, Range<usize>) -> Box<dyn Post>,
    ) -> Box<dyn Place> {
        let name = Segment::create_sized(&unique_name(), lines * SLOT, |segment| {
            (0..lines).for_each(|line| prepare(segment, line));
        });
        Box::new(Slots { name, open })
    }
}

impl Place for Slots {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        (self.open)(Segment::open(&self.name), inbox)
    }
}

/// A name for something shared, which nobody else has.
#[must_use]
pub fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("/waitqueue-bench-{}-{}", id(), COUNT.fetch_add(1, Relaxed))
}
