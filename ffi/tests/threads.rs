//! Threads of C programs: cancelled, ending where they stand, and many at once.

mod common;

use std::process::Command;

use common::process::Name;
use common::{How, Program};

#[test]
fn p4_a_thread_that_ends_in_a_condition_leaves_its_queues() {
    Program::new("ending.c", How::C).plays_all();
}

#[test]
fn p4_also_where_its_frames_are_unwound() {
    Program::new("ending.c", How::UnwindingC).plays_all();
}

#[test]
fn p4_also_in_cplusplus() {
    Program::new("ending.c", How::Cplusplus).plays_all();
}

#[test]
fn p1_eight_threads_pass_on_all_that_there_is() {
    Program::new("hammer.c", How::C).plays_all();
    Program::new("hammer.c", How::Cplusplus).plays_all();
}

#[test]
fn valgrind_finds_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("there is no valgrind here: skipped");
        return;
    }
    let (program, name) = (Program::new("whole.c", How::C), Name::new());
    let output = Command::new("timeout")
        .args([
            "60",
            "valgrind",
            "--quiet",
            "--error-exitcode=9",
            "--leak-check=full",
            "--child-silent-after-fork=yes",
        ])
        .args(["--show-leak-kinds=all", "--errors-for-leak-kinds=all"])
        .arg(&program.0)
        .env("WAITQUEUE_TEST_ROLE", "whole")
        .env("WAITQUEUE_TEST_ARGS", &name.0)
        .output()
        .expect("valgrind is there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // An old valgrind does not know futex_waitv, and says so; the library then does without.
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<_> = complaints
        .lines()
        .filter(|line| {
            !["unhandled", "write your own", "README_MISSING", "consider this a bug", "bug_reports"]
                .iter()
                .any(|known| line.contains(known))
        })
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{}: {said}{}",
        output.status,
        complaints.join("\n")
    );
    assert_eq!(said, "> well\n");
}
