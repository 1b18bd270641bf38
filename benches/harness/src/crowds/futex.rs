//! A bare shared futex for each line: the number, and how many sleep, so that a wake without sleepers costs no call.
#![allow(unsafe_code)] // futex(2)

use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering::*};

use super::{Crowd, Ground, Member};
use crate::segment::{Name, Segment};
use crate::subjects::slots::{SLOT, unique_name};

/// One word and one count of sleepers.
pub struct Futex;

#[repr(C)]
struct Shared {
    number: AtomicU32,
    sleepers: AtomicU32,
}

struct Made(Name);
struct Opened(Segment);

fn shared(segment: &Segment, line: usize) -> &Shared {
    // SAFETY: atomics.
    unsafe { segment.at(line * SLOT) }
}

impl Crowd for Futex {
    fn name(&self) -> String {
        "bare futex".into()
    }

    fn create(&self, counts: &[u32], _processes: usize) -> Box<dyn Ground> {
        let name = Segment::create_sized(&unique_name(), counts.len() * SLOT, |segment| {
            let set = |(line, count): (usize, &u32)| shared(segment, line).number.store(*count, Release);
            counts.iter().enumerate().for_each(set);
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
    fn wake(&self, line: usize, count: i32) {
        let shared = shared(&self.0, line);
        if shared.sleepers.load(SeqCst) != 0 {
            // SAFETY: a word that stays mapped.
            unsafe { libc::syscall(libc::SYS_futex, shared.number.as_ptr(), libc::FUTEX_WAKE, count) };
        }
    }

    /// Waits until the number is as it should be, and changes it.
    fn wait(&self, line: usize, change: impl Fn(u32) -> Option<u32>) {
        let shared = shared(&self.0, line);
        while let Err(seen) = shared.number.fetch_update(SeqCst, SeqCst, &change) {
            shared.sleepers.fetch_add(1, SeqCst);
            let (word, forever) = (shared.number.as_ptr(), null::<libc::timespec>());
            // SAFETY: a word that stays mapped. Whatever it returns, the word decides.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, seen, forever) };
            shared.sleepers.fetch_sub(1, SeqCst);
        }
    }
}

impl Member for Opened {
    fn put(&mut self, line: usize) {
        shared(&self.0, line).number.fetch_add(1, SeqCst);
        self.wake(line, 1);
    }

    fn take(&mut self, line: usize) {
        self.wait(line, |count| count.checked_sub(1));
    }

    fn pass(&mut self, line: usize, me: u32) {
        shared(&self.0, line).number.store(me, SeqCst);
        self.wake(line, 1);
    }

    fn receive(&mut self, line: usize, me: u32) {
        self.wait(line, |token| (token != 0 && token != me).then_some(0));
    }

    fn call(&mut self, line: usize, round: u32, _waiters: u32) {
        shared(&self.0, line).number.store(round, SeqCst);
        self.wake(line, i32::MAX);
    }

    fn hear(&mut self, line: usize, round: u32, _nth: usize) {
        self.wait(line, |now| (now >= round).then_some(now));
    }

    fn left(&self, line: usize) -> u32 {
        shared(&self.0, line).number.load(SeqCst)
    }
}
