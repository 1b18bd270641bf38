//! The stage that the benches play on. How one is written:
//!
//! ```text
//! subjects   ways in which processes wake each other, behind one trait: `Subject`, `Place`, `Post`
//! crowds     the same for many processes on one line: `Crowd`, `Ground`, `Member`
//! bodies     what is measured: a function over a list of subjects, for the benches of this crate and those of others
//! stage      one play: forked processes that are pinned, begin together, and say what it took them
//! trace      a process is kept from running at an exact place
//! gauge      what a process used: processor time, context switches, system calls
//! report     rounds in turns, ratios round by round, the table, and the lines of JSON
//! plot       the same as pictures
//! ```
//!
//! A bench is a file of three lines that gives a body its subjects: `benches/roundtrip.rs`, and with the crates
//! `benches/peers/benches/roundtrip.rs`. What it can be told is in `options`; what it finds goes to `target/bench`.
//!
//! The director has one thread, and forks all processes of a play anew: nothing is left over from the play before, and
//! where things happen to lie in memory differs from round to round.
#![cfg(not(loom))] // under which there are no processes
#![allow(clippy::missing_panics_doc)] // a stage that is broken panics, wherever that is

pub mod bodies;
pub mod cast;
pub mod crowds;
pub mod gauge;
pub mod machine;
pub mod memory;
pub mod options;
pub mod plot;
pub mod report;
pub mod segment;
pub mod stage;
pub mod subjects;
pub mod trace;
