//! Programs in C++, by `waitqueue.hpp`.

mod common;
mod running;

use std::process::Command;

use common::process::{Name, until};
use common::{How, Program, WARNINGS, here, run};
use running::Running;

/// Those of the compilers that are here.
fn compilers() -> impl Iterator<Item = &'static str> {
    let is_here = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok();
    ["c++", "clang++"].into_iter().filter(is_here)
}

#[test]
fn the_header_keeps_its_promises_in_cplusplus() {
    let program = Program::new("tests/cpp/contract.cpp", How::Cplusplus);
    assert_eq!(Running::start(&program, &Name::new(), &[]).end(), "the contract holds\n");
}

#[test]
fn the_header_is_good_cplusplus() {
    for (compiler, standard) in compilers().flat_map(|compiler| ["c++17", "c++20"].map(|it| (compiler, it))) {
        // With programs that use it, because most of it is templates.
        for source in ["tests/cpp/contract.cpp", "../examples/cpp/hello.cpp"] {
            run(Command::new(compiler)
                .arg(format!("-std={standard}"))
                .args(["-fsyntax-only", "-Wshadow", "-x", "c++"])
                .args(WARNINGS)
                .arg("-I")
                .arg(here("include"))
                .arg(here(source)));
        }
    }
}

#[test]
fn greetings_arrive_though_a_listener_was_killed() {
    let (hello, name) = (Program::new("../examples/cpp/hello.cpp", How::Cplusplus), Name::new());
    let region = name.region();
    let until_waiting = |count| {
        let waiting = || region.snapshot().queues.iter().map(|queue| queue.waiters.len()).sum::<usize>();
        until("a listener waits", || waiting() == count);
    };
    let killed = Running::start(&hello, &name, &["wait", "1"]);
    until_waiting(1);
    let mut listener = Running::start(&hello, &name, &["wait", "2"]);
    until_waiting(2);
    drop(killed);
    for _ in 0..2 {
        assert_eq!(Running::start(&hello, &name, &["say"]).end(), "");
        assert_eq!(listener.hear(), "hello");
    }
    assert_eq!(listener.end(), "");
}
