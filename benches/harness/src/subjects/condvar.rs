//! A process-shared mutex and condition variable of the C library, with the value between them.
#![allow(unsafe_code)] // pthreads

use std::cell::UnsafeCell;

use super::slots::{SLOT, Slots};
use super::{Place, Post, Subject};
use crate::segment::Segment;

/// One of both for each line.
pub struct Condvar;

#[repr(C)]
struct Shared {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    condition: UnsafeCell<libc::pthread_cond_t>,
    value: UnsafeCell<u32>,
}

struct Opened(Segment, usize);

fn shared(segment: &Segment, offset: usize) -> &Shared {
    // SAFETY: valid when zero; the first two are for several processes, the third is used with the mutex held.
    unsafe { segment.at(offset) }
}

impl Subject for Condvar {
    fn name(&self) -> String {
        "glibc shared condvar".into()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        const { assert!(size_of::<Shared>() <= SLOT) };
        let prepare = |segment: &Segment, offset| {
            let shared = shared(segment, offset);
            // SAFETY: zero is a value of the attributes; nobody else uses the memory yet.
            unsafe {
                let mut attributes = std::mem::zeroed();
                libc::pthread_mutexattr_init(&raw mut attributes);
                libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_mutex_init(shared.mutex.get(), &raw const attributes);
                let mut attributes = std::mem::zeroed();
                libc::pthread_condattr_init(&raw mut attributes);
                libc::pthread_condattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_cond_init(shared.condition.get(), &raw const attributes);
            }
        };
        Slots::create(lines, prepare, |segment, inbox| Box::new(Opened(segment, inbox.start)))
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        let shared = shared(&self.0, line * SLOT);
        // SAFETY: initialised; the value is written with the mutex held.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            *shared.value.get() = value;
            libc::pthread_mutex_unlock(shared.mutex.get());
            libc::pthread_cond_signal(shared.condition.get());
        }
    }

    fn receive(&mut self) -> (usize, u32) {
        let shared = shared(&self.0, self.1 * SLOT);
        // SAFETY: initialised; the value is used with the mutex held, which it is also when the wait returns.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            while *shared.value.get() == 0 {
                libc::pthread_cond_wait(shared.condition.get(), shared.mutex.get());
            }
            let value = shared.value.get().replace(0);
            libc::pthread_mutex_unlock(shared.mutex.get());
            (self.1, value)
        }
    }
}
