//! waitqueue beside what else there is: the same jobs, the same deaths, in one run.
//!
//! `cargo run --release -p waitqueue-peers --example crash_matrix` plays every scenario of [`scenarios`] with every
//! primitive of [`peers`]; `cargo bench -p waitqueue-peers --bench recovery` measures how soon a survivor goes on.
//!
//! A scenario is written once, over the trait [`Peer`](peers::Peer). Its actors are real processes, forked by a director who
//! has one thread and never uses the primitive himself: he looks at what they have done, on a page that all share, and
//! at whether they sleep, in `/proc`. So nothing is left to chance: he goes on when things are so, not after a while.
#![allow(clippy::missing_panics_doc)] // a stage that is broken panics, wherever that is

pub mod matrix;
pub mod peers;
pub mod scenarios;
pub mod subjects;
