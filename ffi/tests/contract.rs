//! What the header promises, function by function, as programs in C and in C++ hear it.

mod common;

use common::{How, Program};

#[test]
fn of_the_library_regions_objects_and_snapshots() {
    Program::new("contract.c", How::C).plays_all();
}

#[test]
fn of_the_same_in_cplusplus() {
    Program::new("contract.c", How::Cplusplus).plays_all();
}

#[test]
fn of_the_same_with_the_shared_library() {
    Program::new("contract.c", How::SharedC).plays_all();
}

#[test]
fn of_waits_and_wakes() {
    Program::new("waits.c", How::C).plays_all();
}

#[test]
fn of_waits_and_wakes_in_cplusplus() {
    Program::new("waits.c", How::Cplusplus).plays_all();
}

#[test]
fn of_locks_capacities_and_forks() {
    Program::new("limits.c", How::C).plays_all();
}

#[test]
fn of_locks_capacities_and_forks_in_cplusplus() {
    Program::new("limits.c", How::Cplusplus).plays_all();
}
