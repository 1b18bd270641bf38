//! A process-shared mutex and condition variable of the C library, with the number between them.
#![allow(unsafe_code)] // pthreads

use std::cell::UnsafeCell;

use super::{Crowd, Ground, Member};
use crate::segment::{Name, Segment};
use crate::subjects::slots::{SLOT, unique_name};

/// One of both for each line.
pub struct Condvar;

#[repr(C)]
struct Shared {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    condition: UnsafeCell<libc::pthread_cond_t>,
    number: UnsafeCell<u32>,
}

struct Made(Name);
struct Opened(Segment);

fn shared(segment: &Segment, line: usize) -> &Shared {
    const { assert!(size_of::<Shared>() <= SLOT) };
    // SAFETY: valid when zero; the first two are for several processes, the third is used with the mutex held.
    unsafe { segment.at(line * SLOT) }
}

fn prepare(shared: &Shared, number: u32) {
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
        *shared.number.get() = number;
    }
}

impl Crowd for Condvar {
    fn name(&self) -> String {
        "glibc shared condvar".into()
    }

    fn create(&self, counts: &[u32], _processes: usize) -> Box<dyn Ground> {
        let name = Segment::create_sized(&unique_name(), counts.len() * SLOT, |segment| {
            counts.iter().enumerate().for_each(|(line, count)| prepare(shared(segment, line), *count));
        });
        Box::new(Made(name))
    }
}

impl Ground for Made {
    fn open(&self) -> Box<dyn Member> {
        Box::new(Opened(Segment::open(&self.0)))
    }
}

impl Opened {
    /// Changes the number, then wakes one or all.
    fn change(&self, line: usize, all: bool, change: impl FnOnce(&mut u32)) {
        let shared = shared(&self.0, line);
        // SAFETY: initialised; the number is written with the mutex held.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            change(&mut *shared.number.get());
            libc::pthread_mutex_unlock(shared.mutex.get());
            match all {
                true => libc::pthread_cond_broadcast(shared.condition.get()),
                false => libc::pthread_cond_signal(shared.condition.get()),
            };
        }
    }

    /// Waits until the number is as it should be, and changes it.
    fn wait(&self, line: usize, is_so: impl Fn(u32) -> bool, change: impl FnOnce(&mut u32)) {
        let shared = shared(&self.0, line);
        // SAFETY: initialised; the number is used with the mutex held, which it is also when the wait returns.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            while !is_so(*shared.number.get()) {
                libc::pthread_cond_wait(shared.condition.get(), shared.mutex.get());
            }
            change(&mut *shared.number.get());
            libc::pthread_mutex_unlock(shared.mutex.get());
        }
    }
}

impl Member for Opened {
    fn put(&mut self, line: usize) {
        self.change(line, false, |count| *count += 1);
    }

    fn take(&mut self, line: usize) {
        self.wait(line, |count| count > 0, |count| *count -= 1);
    }

    fn pass(&mut self, line: usize, me: u32) {
        self.change(line, false, |token| *token = me);
    }

    fn receive(&mut self, line: usize, me: u32) {
        self.wait(line, |token| token != 0 && token != me, |token| *token = 0);
    }

    fn call(&mut self, line: usize, round: u32, _waiters: u32) {
        self.change(line, true, |now| *now = round);
    }

    fn hear(&mut self, line: usize, round: u32, _nth: usize) {
        self.wait(line, |now| now >= round, |_| ());
    }
}
