//! A process-shared mutex and condition variable of the C library, with the number between them.
#![allow(unsafe_code)] // pthreads

use super::{Crowd, Ground, Member};
use crate::segment::{Name, Segment};
use crate::subjects::condvar::Shared;
use crate::subjects::slots::{SLOT, unique_name};

/// One of both for each line.
pub struct Condvar;

struct Made(Name);
struct Opened(Segment);

impl Crowd for Condvar {
    fn name(&self) -> String {
        "glibc shared condvar".into()
    }

    fn create(&self, counts: &[u32], _processes: usize) -> Box<dyn Ground> {
        let name = Segment::create_sized(&unique_name(), counts.len() * SLOT, |segment| {
            counts.iter().enumerate().for_each(|(line, count)| Shared::at(segment, line).prepare(*count));
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
        let shared = Shared::at(&self.0, line);
        // SAFETY: initialised; the number is written with the mutex held.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            change(&mut *shared.value.get());
            libc::pthread_mutex_unlock(shared.mutex.get());
            match all {
                true => libc::pthread_cond_broadcast(shared.condition.get()),
                false => libc::pthread_cond_signal(shared.condition.get()),
            };
        }
    }

    /// Waits until the number is as it should be, and changes it.
    fn wait(&self, line: usize, is_so: impl Fn(u32) -> bool, change: impl FnOnce(&mut u32)) {
        let shared = Shared::at(&self.0, line);
        // SAFETY: initialised; the number is used with the mutex held, which it is also when the wait returns.
        unsafe {
            libc::pthread_mutex_lock(shared.mutex.get());
            while !is_so(*shared.value.get()) {
                libc::pthread_cond_wait(shared.condition.get(), shared.mutex.get());
            }
            change(&mut *shared.value.get());
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

    fn left(&self, line: usize) -> u32 {
        // SAFETY: nobody else is about.
        unsafe { *Shared::at(&self.0, line).value.get() }
    }
}
