//! Ways in which many processes wait on the same line, each used as it is meant to be.
//!
//! ```text
//! put, take       a line is a count; who finds none waits, and each put lets one go on
//! pass, receive   a line holds one token, which nobody takes back that he passed on himself
//! call, hear      a line is a round; all wait for the next one
//! ```

mod condvar;
mod futex;
mod semaphore;
mod waitqueue;

pub use condvar::Condvar;
pub use futex::Futex;
pub use semaphore::Semaphore;
pub use waitqueue::Waitqueue;

use crate::subjects::Policy;

/// One of them.
pub trait Crowd {
    /// As in tables.
    fn name(&self) -> String;

    /// How it waits, where that can be chosen.
    fn policy(&self) -> &'static str {
        "sleep"
    }

    /// Makes a line for each of `counts`, with so much in it, for at most so many processes.
    fn create(&self, counts: &[u32], processes: usize) -> Box<dyn Ground>;
}

/// What a performer opens; gone when dropped.
pub trait Ground {
    /// Begins to use it.
    fn open(&self) -> Box<dyn Member>;
}

/// One process's own.
pub trait Member {
    /// One more, for one who waits.
    fn put(&mut self, line: usize);

    /// One less, as soon as there is one.
    fn take(&mut self, line: usize);

    /// Lays the token down; `me` is not zero, and is told from all others where the primitive permits that.
    fn pass(&mut self, line: usize, me: u32);

    /// Takes the token that another has laid down.
    fn receive(&mut self, line: usize, me: u32);

    /// Begins a round, for which so many wait.
    fn call(&mut self, line: usize, round: u32, waiters: u32);

    /// Waits until the round has begun, as the nth of those who do.
    fn hear(&mut self, line: usize, round: u32, nth: usize);

    /// How many there are, with nobody else about.
    fn left(&self, line: usize) -> u32;

    /// What the primitive itself has counted.
    fn counts(&self, _line: usize) -> Option<Counts> {
        None
    }
}

/// What a queue of waitqueue counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Wakes that found waiters.
    pub wakes: u64,
    /// Waiters that they chose.
    pub claims: u64,
    /// Wakes that were passed on.
    pub hand_ons: u64,
    /// Times that only the tick found a condition true.
    pub rescues: u64,
}

/// What is compared, the first with the others.
pub type Crowds = Vec<Box<dyn Crowd>>;

/// What one wakes all others with.
#[must_use]
pub fn broadcasts() -> Crowds {
    vec![Box::new(Condvar), Box::new(Waitqueue(Policy::Sleep)), Box::new(Futex), Box::new(Semaphore)]
}

/// What tokens are handed on with.
#[must_use]
pub fn tokens() -> Crowds {
    broadcasts()
}

/// What items are put and taken with, in a hurry: here it matters how one waits.
#[must_use]
pub fn items() -> Crowds {
    let mut crowds = broadcasts();
    crowds.insert(2, Box::new(Waitqueue(Policy::Default)));
    crowds
}
