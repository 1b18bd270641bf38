//! Bare atomics, and processes that never sleep: what spinning costs at the least.
#![allow(unsafe_code)] // references into a mapping

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::*};

use super::slots::{SLOT, Slots};
use super::{Place, Post, Subject};
use crate::segment::Segment;

/// A word for each line.
pub struct Atomics;

struct Opened(Segment, usize);

impl Opened {
    fn word(&self, line: usize) -> &AtomicU32 {
        // SAFETY: an atomic.
        unsafe { self.0.at(line * SLOT) }
    }
}

impl Subject for Atomics {
    fn name(&self) -> String {
        "bare atomics".into()
    }

    fn policy(&self) -> &'static str {
        "spin"
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        Slots::create(lines, |_, _| {}, |segment, inbox: Range<usize>| Box::new(Opened(segment, inbox.start)))
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        self.word(line).store(value, Release);
    }

    fn receive(&mut self) -> (usize, u32) {
        let word = self.word(self.1);
        loop {
            // (Read before it is written, so that the line is not fought for.)
            if word.load(Acquire) != 0 {
                return (self.1, word.swap(0, AcqRel));
            }
            spin_loop();
        }
    }
}
