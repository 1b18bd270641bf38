//! A process-shared POSIX semaphore, with the value beside it.
#![allow(unsafe_code)] // sem_t

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering::*};

use super::slots::{SLOT, Slots};
use super::{Place, Post, Subject};
use crate::segment::Segment;

/// One for each line.
pub struct Semaphore;

#[repr(C)]
struct Shared {
    semaphore: UnsafeCell<libc::sem_t>,
    value: AtomicU32,
}

struct Opened(Segment, usize);

fn shared(segment: &Segment, line: usize) -> &Shared {
    // SAFETY: valid when zero; the semaphore is only used by calls that are made for that.
    unsafe { segment.at(line * SLOT) }
}

impl Subject for Semaphore {
    fn name(&self) -> String {
        "POSIX semaphore".into()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        let prepare = |segment: &Segment, line| {
            // SAFETY: nobody else uses the memory yet.
            unsafe { libc::sem_init(shared(segment, line).semaphore.get(), 1, 0) };
        };
        Slots::create(lines, prepare, |segment, inbox| Box::new(Opened(segment, inbox.start)))
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        let shared = shared(&self.0, line);
        shared.value.store(value, Release);
        // SAFETY: initialised.
        assert_eq!(unsafe { libc::sem_post(shared.semaphore.get()) }, 0);
    }

    fn receive(&mut self) -> (usize, u32) {
        let shared = shared(&self.0, self.1);
        // SAFETY: initialised.
        while unsafe { libc::sem_wait(shared.semaphore.get()) } != 0 {}
        (self.1, shared.value.load(Acquire))
    }
}
