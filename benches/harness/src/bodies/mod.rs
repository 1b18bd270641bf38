//! What is measured: functions over a list of subjects.

mod attach;
mod contended;
mod enrol;
mod exchange;
mod growth;
mod handoff;
mod idle;
mod many;
mod mixed;
mod rebuild;
mod roundtrip;
mod spin;
mod wait_any;
mod wake_all;

pub use attach::attach;
pub use contended::contended;
pub use enrol::enrol_and_leave;
pub use growth::growth;
pub use handoff::handoff;
pub use idle::{HOLDS, Idle, WAKE, idle_waitqueue};
pub use mixed::mixed;
pub use rebuild::rebuild;
pub use roundtrip::round_trip;
pub use spin::round_trip_spinning;
pub use wait_any::{MANY, wait_many, wait_set};
pub use wake_all::wake_all;
