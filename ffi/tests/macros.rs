//! Waiting for an expression: every form of the macro, and what may stand in one.

mod common;

use common::{How, Program};

#[test]
fn every_form_waits_as_its_name_says() {
    Program::new("macros.c", How::C).plays_all();
}

#[test]
fn every_form_waits_as_its_name_says_in_cplusplus() {
    Program::new("macros.c", How::Cplusplus).plays_all();
}
