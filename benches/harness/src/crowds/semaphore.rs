//! A process-shared POSIX semaphore. It knows a count only: who passes a token on may take it back himself, and for a
//! call each who waits has a semaphore of his own, lest one hears for two.
#![allow(unsafe_code)] // sem_t

use std::cell::UnsafeCell;

use super::{Crowd, Ground, Member};
use crate::segment::{Name, Segment};
use crate::subjects::slots::{SLOT, unique_name};

/// One for each line, then one for each process.
pub struct Semaphore;

struct Made {
    name: Name,
    lines: usize,
}

struct Opened {
    segment: Segment,
    lines: usize,
}

fn semaphore(segment: &Segment, line: usize) -> *mut libc::sem_t {
    // SAFETY: valid when zero; only used by calls that are made for that.
    unsafe { segment.at::<UnsafeCell<libc::sem_t>>(line * SLOT) }.get()
}

impl Crowd for Semaphore {
    fn name(&self) -> String {
        "POSIX semaphore".into()
    }

    fn create(&self, counts: &[u32], processes: usize) -> Box<dyn Ground> {
        let name = Segment::create_sized(&unique_name(), (counts.len() + processes) * SLOT, |segment| {
            for (line, count) in counts.iter().chain(&vec![0; processes]).enumerate() {
                // SAFETY: nobody else uses the memory yet.
                unsafe { libc::sem_init(semaphore(segment, line), 1, *count) };
            }
        });
        Box::new(Made { name, lines: counts.len() })
    }
}

impl Ground for Made {
    fn open(&self) -> Box<dyn Member> {
        Box::new(Opened { segment: Segment::open(&self.name), lines: self.lines })
    }
}

impl Member for Opened {
    fn put(&mut self, line: usize) {
        // SAFETY: initialised.
        assert_eq!(unsafe { libc::sem_post(semaphore(&self.segment, line)) }, 0);
    }

    fn take(&mut self, line: usize) {
        // SAFETY: initialised.
        while unsafe { libc::sem_wait(semaphore(&self.segment, line)) } != 0 {}
    }

    fn pass(&mut self, line: usize, _me: u32) {
        self.put(line);
    }

    fn receive(&mut self, line: usize, _me: u32) {
        self.take(line);
    }

    fn call(&mut self, _line: usize, _round: u32, waiters: u32) {
        (0..waiters as usize).for_each(|nth| self.put(self.lines + nth));
    }

    fn hear(&mut self, _line: usize, _round: u32, nth: usize) {
        self.take(self.lines + nth);
    }

    fn left(&self, line: usize) -> u32 {
        let mut count = 0;
        // SAFETY: initialised.
        assert_eq!(unsafe { libc::sem_getvalue(semaphore(&self.segment, line), &raw mut count) }, 0);
        count as u32
    }
}
