//! The primitives, each used for the same two jobs in the way it is meant to be: handing items to whoever waits for
//! one, and keeping others out.

mod condvar;
mod event;
mod eventfd;
mod semaphore;
mod waitqueue;
mod waitv;

pub use condvar::Condvar;
pub use event::Event;
pub use eventfd::Eventfd;
pub use semaphore::Semaphore;
pub use waitqueue::Waitqueue;
pub use waitv::Waitv;

use crate::scenarios::Scenario;

/// [`Peer::lacks`].
const KNOWS_NOBODY: &str = "it does not know who uses it";
/// [`Peer::lacks`].
const NO_LOCK: &str = "it is no lock";

/// What a primitive does.
pub trait Peer: Sized {
    /// As the head of a column.
    const NAME: &'static str;

    /// Where processes find it; it vanishes when this is dropped.
    type Place;

    /// Makes one that nobody uses yet.
    fn create(name: &str) -> Self::Place;

    /// Begins to use it, in an actor.
    fn open(place: &Self::Place) -> Self;

    /// Makes an item, and wakes one of those who wait for one.
    fn put(&self);

    /// Takes an item, sleeping until there is one.
    fn take(&self);

    /// Runs `inside` with the lock held; it is told whether the last owner died, and when it returns all is repaired.
    fn locked(&self, inside: impl FnOnce(bool));

    /// Who this process is to the others, if the primitive knows such a thing.
    fn me(&self) -> u64 {
        0
    }

    /// Sleeps until that process is dead.
    fn await_death(&self, _id: u64) {}

    /// Why a scenario has no meaning for it, if it has none.
    fn lacks(scenario: Scenario) -> Option<&'static str>;
}
