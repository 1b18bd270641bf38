//! A process-shared mutex and condition variable of the C library, with the value between them.
#![allow(unsafe_code)] // pthreads

use std::cell::UnsafeCell;

use super::slots::{SLOT, Slots};
use super::{Place, Post, Subject};
use crate::segment::Segment;

/// One of both for each line.
pub struct Condvar;

/// What lies in a line's slot.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) mutex: UnsafeCell<libc::pthread_mutex_t>,
    pub(crate) condition: UnsafeCell<libc::pthread_cond_t>,
    pub(crate) value: UnsafeCell<u32>,
}

impl Shared {
    pub(crate) fn at(segment: &Segment, line: usize) -> &Shared {
        const { assert!(size_of::<Shared>() <= SLOT) };
        // SAFETY: valid when zero; the first two are for several processes, the third is used with the mutex held.
        unsafe { segment.at(line * SLOT) }
    }

    /// Makes it usable, for one whom nobody shares it with yet.
    pub(crate) fn prepare(&self, value: u32) {
        // SAFETY: zero is a value of the attributes; nobody else uses the memory yet.
        unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut attributes);
            libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutex_init(self.mutex.get(), &raw const attributes);
            let mut attributes = std::mem::zeroed();
            libc::pthread_condattr_init(&raw mut attributes);
            libc::pthread_condattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_cond_init(self.condition.get(), &raw const attributes);
            *self.value.get() = value;
        }
    }
}

struct Opened(Segment, usize);

impl Subject for Condvar {
    fn name(&self) -> String {
        "glibc shared condvar".into()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        let prepare = |segment: &Segment, line| Shared::at(segment, line).prepare(0);
        Slots::create(lines, prepare, |segment, inbox| Box::new(Opened(segment, inbox.start)))
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        let shared = Shared::at(&self.0, line);
        // SAFETY: initialised; the value is written with the mutex held.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            *shared.value.get() = value;
            libc::pthread_mutex_unlock(shared.mutex.get());
            libc::pthread_cond_signal(shared.condition.get());
        }
    }

    fn receive(&mut self) -> (usize, u32) {
        let shared = Shared::at(&self.0, self.1);
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
