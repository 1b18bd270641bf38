//! The crates, as subjects of the benches.

mod iceoryx;
mod raw_sync;

pub use iceoryx::Iceoryx;
pub use raw_sync::RawSync;

use waitqueue_bench::subjects::{Futex, Policy, Subjects, Waitqueue, Way};

/// For one line: ours and the bare futex, between which they are to be placed.
#[must_use]
pub fn asleep() -> Subjects {
    let ours = Waitqueue::new(Policy::Sleep, Way::Wait);
    let (listener, set) = (Box::new(Iceoryx::Listener), Box::new(Iceoryx::WaitSet));
    vec![Box::new(Futex), Box::new(ours), listener, set, Box::new(RawSync)]
}

/// For many lines on which one stays enrolled.
#[must_use]
pub fn enrolled() -> Subjects {
    vec![Box::new(Waitqueue::new(Policy::Sleep, Way::Set)), Box::new(Iceoryx::WaitSet)]
}
