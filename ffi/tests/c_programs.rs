//! Programs in C: compiled, run, killed, and talking to this process, which is one in Rust.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Instant;

use common::{LIMIT, Name, until, until_asleep};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command to its end, and returns what it said.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    said
}

/// The library that C programs are linked with, as new as this test.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a program");
        let profile = test.ancestors().nth(2).expect("target/profile/deps/test");
        let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        run(Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "waitqueue-ffi"])
            .args(["--profile", if name == "debug" { "dev" } else { name }])
            .arg("--target-dir")
            .arg(profile.parent().expect("target/profile"))
            .current_dir(env!("CARGO_MANIFEST_DIR")));
        profile.join("libwaitqueue_ffi.a")
    })
}

/// A compiled program, removed when dropped.
struct Program(PathBuf);

impl Program {
    fn compile(source: &str) -> Program {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("waitqueue-ffi-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let program = Program(std::env::temp_dir().join(name));
        run(Command::new("cc")
            .args(["-std=c11", "-D_GNU_SOURCE", "-O1", "-g"])
            .args(WARNINGS)
            .arg("-I")
            .arg(here("include"))
            .arg("-o")
            .arg(&program.0)
            .arg(here(source))
            .arg(library())
            .args(["-pthread", "-ldl", "-lm"]));
        program
    }

    fn start(&self, name: &Name) -> Running {
        let mut command = Command::new(&self.0);
        let process = command.arg(&name.0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running(Some(process.expect("it was just compiled")))
    }

    fn run(&self, name: &Name) -> String {
        self.start(name).end()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running program, killed when dropped.
struct Running(Option<Child>);

impl Running {
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
    let (waiter, waker) =
        (Program::compile("../examples/c/waiter.c"), Program::compile("../examples/c/waker.c"));
    let name = Name::new();
    let region = name.region();
    let ready = region.object::<AtomicU32>("ready").unwrap();
    let queue = region.queue("ready-queue").unwrap();
    for _ in 0..3 {
        // Rust wakes C, of which another was killed in its sleep.
        let killed = waiter.start(&name);
        until_asleep(&region, "ready-queue", 1);
        drop(killed);
        until("nobody waits", || !queue.has_sleepers());
        let waiting = waiter.start(&name);
        until_asleep(&region, "ready-queue", 1);
        ready.store(1, Release);
        assert_eq!(queue.wake_up().unwrap().nonexclusive, 1);
        assert_eq!(waiting.end(), "ready\n");

        // C wakes Rust, after others of its kind were killed somewhere between their first instruction and their last.
        for _ in 0..5 {
            drop(waker.start(&name));
        }
        ready.store(0, Release);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.wait_event_timeout(|| ready.swap(0, AcqRel) != 0, LIMIT));
            until_asleep(&region, "ready-queue", 1);
            assert_eq!(waker.run(&name), "woke 1\n");
            waiting.join().unwrap().unwrap();
        });
    }
    region.check().unwrap();
    assert_eq!(region.participants().iter().filter(|other| other.alive).count(), 1);
}

#[test]
fn p10_c_programs_work_in_either_order() {
    let (waiter, waker) =
        (Program::compile("../examples/c/waiter.c"), Program::compile("../examples/c/waker.c"));
    let name = Name::new();
    for _ in 0..2 {
        assert_eq!(waker.run(&name), "woke 0\n");
        assert_eq!(waiter.run(&name), "ready\n");
        let waiting = waiter.start(&name);
        until_asleep(&name.region(), "ready-queue", 1);
        assert_eq!(waker.run(&name), "woke 1\n");
        assert_eq!(waiting.end(), "ready\n");
    }
}

#[test]
fn the_header_keeps_its_promises() {
    let said = Program::compile("tests/c/contract.c").run(&Name::new());
    assert_eq!(said, "the contract holds\n");
}

#[test]
fn the_header_is_good_c_and_good_cplusplus() {
    let header = here("include/waitqueue.h");
    for (compiler, language, standard) in
        [("cc", "c", "c11"), ("cc", "c", "c17"), ("c++", "c++", "c++11"), ("c++", "c++", "c++17")]
    {
        let standard = format!("-std={standard}");
        run(Command::new(compiler)
            .args(["-fsyntax-only", "-x", language, &standard])
            .args(WARNINGS)
            .arg(&header));
    }
}

#[test]
fn the_header_declares_what_the_library_defines() {
    let header = std::fs::read_to_string(here("include/waitqueue.h")).unwrap();
    // Declarations begin in the first column, with a type, and comments do not.
    let declared = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let is_declaration =
        |line: &&str| !["typedef", "static", "inline"].iter().any(|word| line.starts_with(word));
    let declared = declared.filter(is_declaration).filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        before.rsplit([' ', '*']).next().map(str::to_owned)
    });
    let mut defined = BTreeSet::new();
    for entry in std::fs::read_dir(here("src")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for abi in ["extern \"C\" fn wq_", "extern \"C-unwind\" fn wq_"] {
            for part in source.split(abi).skip(1) {
                defined.insert(format!("wq_{}", part.split('(').next().unwrap()));
            }
        }
    }
    assert_eq!(declared.collect::<BTreeSet<_>>(), defined);
}
