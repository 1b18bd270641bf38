//! Ways in which processes wake each other, each used as it is meant to be.
//!
//! A subject has lines. A line carries one value at a time from whoever sends on it to the one process that has it in
//! its inbox: the value is what every receive is checked by.

mod atomics;
mod c;
pub(crate) mod condvar;
mod eventfd;
mod futex;
mod semaphore;
pub mod slots;
mod stream;
mod waitqueue;

use std::ops::Range;
use std::time::Duration;

pub use atomics::Atomics;
pub use c::FromC;
pub use condvar::Condvar;
pub use eventfd::{Eventfd, Look};
pub use futex::{Futex, Waiter, Waitv};
pub use semaphore::Semaphore;
pub use stream::{Kind, Stream};
pub use waitqueue::{Policy, Waitqueue, Way};

/// One of them.
pub trait Subject {
    /// As in tables.
    fn name(&self) -> String;

    /// How it waits, where that can be chosen.
    fn policy(&self) -> &'static str {
        "sleep"
    }

    /// How many lines one process can wait on at once.
    fn most(&self) -> usize {
        1
    }

    /// Makes so many lines, in the director, who never uses them himself.
    fn create(&self, lines: usize) -> Box<dyn Place>;
}

/// What a performer opens; gone when dropped.
pub trait Place {
    /// Begins to use it, in a performer; he receives what is sent on the lines of `inbox`, and nobody else does.
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post>;
}

/// An opened subject.
pub trait Post {
    /// Sends a value other than zero, on a line whose last value has been received, and wakes who waits for it.
    fn send(&mut self, line: usize, value: u32);

    /// Sleeps, or as its policy is, until there is a value on a line of the inbox; returns both.
    fn receive(&mut self) -> (usize, u32);
}

/// What is compared, the first with the others.
pub type Subjects = Vec<Box<dyn Subject>>;

/// Whether a name is one of waitqueue's.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with("waitqueue")
}

/// waitqueue, always asleep, and what the operating system has for one line.
#[must_use]
pub fn asleep() -> Subjects {
    vec![
        Box::new(Futex),
        Box::new(Waitqueue::new(Policy::Sleep, Way::Wait)),
        Box::new(FromC(Policy::Sleep)),
        Box::new(Waitv),
        Box::new(Semaphore),
        Box::new(Condvar),
        Box::new(Eventfd(Look::Read)),
        Box::new(Eventfd(Look::Epoll)),
        Box::new(Stream(Kind::Pipe)),
        Box::new(Stream(Kind::Socket)),
    ]
}

/// waitqueue's policies: always asleep, awake for as long as any reply takes, and what one gets without asking.
#[must_use]
pub fn policies() -> Subjects {
    let policies = [Policy::Sleep, Policy::Spin(Duration::from_secs(60)), Policy::Default];
    policies.map(|policy| Box::new(Waitqueue::new(policy, Way::Wait)) as Box<dyn Subject>).into()
}

/// For replies that come at once: bare atomics, and waitqueue's policies.
#[must_use]
pub fn awake() -> Subjects {
    let mut subjects = policies();
    subjects.insert(0, Box::new(Atomics));
    subjects.push(Box::new(FromC(Policy::Default)));
    subjects
}

/// For many lines that are named at each wait.
#[must_use]
pub fn many() -> Subjects {
    let ours = Waitqueue::new(Policy::Sleep, Way::Many);
    vec![Box::new(ours), Box::new(Waitv), Box::new(Eventfd(Look::Poll))]
}

/// For many lines on which one stays enrolled.
#[must_use]
pub fn enrolled() -> Subjects {
    vec![Box::new(Waitqueue::new(Policy::Sleep, Way::Set)), Box::new(Eventfd(Look::Epoll))]
}
