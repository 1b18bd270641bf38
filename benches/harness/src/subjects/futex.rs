//! Bare shared futexes: the word is the value.
#![allow(unsafe_code)] // futex(2)

use std::ops::Range;
use std::ptr::null;
use std::sync::atomic::{AtomicU32, Ordering::*};

use super::slots::{SLOT, Slots};
use super::{Place, Post, Subject};
use crate::segment::Segment;

/// One word, slept on by `FUTEX_WAIT`.
pub struct Futex;

/// Up to 128 words, slept on by `futex_waitv`.
pub struct Waitv;

struct Words(Segment);

impl Words {
    fn word(&self, line: usize) -> &AtomicU32 {
        // SAFETY: an atomic.
        unsafe { self.0.at(line * SLOT) }
    }

    fn send(&self, line: usize, value: u32) {
        let word = self.word(line);
        word.store(value, Release);
        // SAFETY: a word that stays mapped.
        let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
        assert!(woken >= 0, "FUTEX_WAKE");
    }
}

struct One(Words, usize);

impl Subject for Futex {
    fn name(&self) -> String {
        "bare futex".into()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        Slots::create(lines, |_, _| {}, |segment, inbox| Box::new(One(Words(segment), inbox.start)))
    }
}

impl Post for One {
    fn send(&mut self, line: usize, value: u32) {
        self.0.send(line, value);
    }

    fn receive(&mut self) -> (usize, u32) {
        let word = self.0.word(self.1);
        loop {
            match word.swap(0, AcqRel) {
                // SAFETY: a word that stays mapped. Whatever it returns, the word decides.
                0 => unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        word.as_ptr(),
                        libc::FUTEX_WAIT,
                        0,
                        null::<libc::timespec>(),
                    );
                },
                value => return (self.1, value),
            }
        }
    }
}

/// The kernel's `struct futex_waitv`.
#[repr(C)]
pub struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    /// For a word that has to be zero.
    #[must_use]
    pub fn for_change_of(word: &AtomicU32) -> Waiter {
        /// A word of 32 bits, shared.
        const SIZE_U32: u32 = 2;
        Waiter { value: 0, address: word.as_ptr().addr() as u64, flags: SIZE_U32, reserved: 0 }
    }
}

struct Many {
    words: Words,
    inbox: Range<usize>,
    waiters: Vec<Waiter>,
}

impl Subject for Waitv {
    fn name(&self) -> String {
        "futex_waitv".into()
    }

    fn most(&self) -> usize {
        128
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        Slots::create(
            lines,
            |_, _| {},
            |segment, inbox| {
                let words = Words(segment);
                let waiters = inbox.clone().map(|line| Waiter::for_change_of(words.word(line))).collect();
                Box::new(Many { words, inbox, waiters })
            },
        )
    }
}

impl Post for Many {
    fn send(&mut self, line: usize, value: u32) {
        self.words.send(line, value);
    }

    fn receive(&mut self) -> (usize, u32) {
        let take = |line: usize| match self.words.word(line).load(Acquire) {
            0 => None,
            _ => Some((line, self.words.word(line).swap(0, AcqRel))),
        };
        if let Some(received) = self.inbox.clone().find_map(take) {
            return received;
        }
        loop {
            let (first, count, forever) =
                (self.waiters.as_ptr(), self.waiters.len(), null::<libc::timespec>());
            // SAFETY: so many waiters, whose words stay mapped.
            let woken = unsafe { libc::syscall(libc::SYS_futex_waitv, first, count, 0, forever, 0) };
            // Who was woken is told which word it was; who came too late is not.
            let hint = usize::try_from(woken).ok().and_then(|at| take(self.inbox.start + at));
            if let Some(received) = hint.or_else(|| self.inbox.clone().find_map(take)) {
                return received;
            }
        }
    }
}
