//! Programs in C: compiled, run, killed, and talking to this process, which is one in Rust.

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Instant;

use common::process::{LIMIT, Name, until, until_asleep};
use common::{How, Program};

fn example(source: &str) -> Program {
    Program::new(&format!("../examples/c/{source}"), How::C)
}

/// A running program, killed when dropped.
struct Running(Option<Child>);

impl Running {
    fn of(program: &Program, name: &Name) -> Running {
        let mut command = Command::new(&program.0);
        let process = command.arg(&name.0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running(Some(process.expect("it was just compiled")))
    }

    /// Waits until it ends well, and returns what it said.
    fn end(mut self) -> String {
        let start = Instant::now();
        until("the end of a C program", || {
            self.0.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
        });
        let output = self.0.take().expect("running").wait_with_output().expect("it is our child");
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} after {:?}: {said}{complaint}", output.status, start.elapsed());
        assert!(start.elapsed() < LIMIT);
        said.into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn p9_rust_and_c_wake_each_other_also_after_one_was_killed() {
    let (waiter, waker) = (example("waiter.c"), example("waker.c"));
    let name = Name::new();
    let region = name.region();
    let ready = region.object::<AtomicU32>("ready").unwrap();
    let queue = region.queue("ready-queue").unwrap();
    for _ in 0..3 {
        // Rust wakes C, of which another was killed in its sleep.
        let killed = Running::of(&waiter, &name);
        until_asleep(&region, "ready-queue", 1);
        drop(killed);
        until("nobody waits", || !queue.has_sleepers());
        let waiting = Running::of(&waiter, &name);
        until_asleep(&region, "ready-queue", 1);
        ready.store(1, Release);
        assert_eq!(queue.wake_up().unwrap().nonexclusive, 1);
        assert_eq!(waiting.end(), "ready\n");

        // C wakes Rust, after others of its kind were killed somewhere between their first instruction and their last.
        for _ in 0..5 {
            drop(Running::of(&waker, &name));
        }
        ready.store(0, Release);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait_event_timeout(|| ready.swap(0, AcqRel) != 0, LIMIT));
            until_asleep(&region, "ready-queue", 1);
            assert_eq!(Running::of(&waker, &name).end(), "woke 1\n");
            waiting.join().unwrap().unwrap();
        });
    }
    region.check().unwrap();
    assert_eq!(region.participants().iter().filter(|other| other.alive).count(), 1);
}

#[test]
fn p10_c_programs_work_in_either_order() {
    let (waiter, waker) = (example("waiter.c"), example("waker.c"));
    let name = Name::new();
    for _ in 0..2 {
        assert_eq!(Running::of(&waker, &name).end(), "woke 0\n");
        assert_eq!(Running::of(&waiter, &name).end(), "ready\n");
        let waiting = Running::of(&waiter, &name);
        until_asleep(&name.region(), "ready-queue", 1);
        assert_eq!(Running::of(&waker, &name).end(), "woke 1\n");
        assert_eq!(waiting.end(), "ready\n");
    }
}
