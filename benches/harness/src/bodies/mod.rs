//! What is measured: functions over a list of subjects.

mod exchange;
mod roundtrip;

pub use roundtrip::round_trip;
