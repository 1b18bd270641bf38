//! What is measured: functions over a list of subjects.

mod enrol;
mod exchange;
mod idle;
mod mixed;
mod roundtrip;
mod spin;
mod wait_any;

pub use enrol::enrol_and_leave;
pub use idle::{Idle, idle_waitqueue};
pub use mixed::mixed;
pub use roundtrip::round_trip;
pub use spin::round_trip_spinning;
pub use wait_any::{MANY, wait_many, wait_set};
