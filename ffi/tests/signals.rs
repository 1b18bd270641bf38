//! Signals in waits of C programs, and what may be called from their handlers.

mod common;

use common::{How, Program};

#[test]
fn signals_end_the_waits_that_say_so() {
    Program::new("signals.c", How::C).plays_all();
}
