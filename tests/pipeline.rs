//! The examples, run as their users run them: as programs, in any order, while they are being killed.
#![allow(unsafe_code)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use common::{LIMIT, Name, until, until_asleep};
use waitqueue::{Error, Region};

/// A program that is killed when the test is over, or takes too long.
struct Program {
    process: std::process::Child,
    name: &'static str,
}

impl Program {
    fn start(name: &'static str, args: &[&str]) -> Program {
        let mut command = Command::new(example(name));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Program { process, name }
    }

    /// Waits until it ends. Its output is small enough for a pipe to hold.
    fn end(mut self) -> Output {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                break status;
            }
            assert!(start.elapsed() < 2 * LIMIT, "{} did not end within {:?}: hung", self.name, 2 * LIMIT);
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.process.stdout.take().expect("piped").read_to_end(&mut stdout).expect("readable");
        self.process.stderr.take().expect("piped").read_to_end(&mut stderr).expect("readable");
        Output { status, stdout, stderr }
    }

    /// Waits until it ends well, and returns what it said.
    fn end_well(self) -> String {
        let name = self.name;
        let output = self.end();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} ended with {}: {said}{complaint}", output.status);
        assert_eq!(complaint, "", "{name} complained");
        said
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child has not been reaped, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The example beside this test's program. `cargo test` has built it; `cargo test --test pipeline` has not.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a program");
        let profile = test.ancestors().nth(2).expect("target/profile/deps/test");
        let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--profile", if name == "debug" { "dev" } else { name }])
            .arg("--target-dir")
            .arg(profile.parent().expect("target/profile"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.expect("cargo runs").success(), "the examples cannot be built");
        profile.join("examples")
    });
    directory.join(name)
}

fn source() -> String {
    format!("{}/src", env!("CARGO_MANIFEST_DIR"))
}

/// What stands behind a word in the report.
fn reported(report: &str, what: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(what));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("no {what} in {report}"))
}

fn assert_exact(report: &str) {
    assert_eq!(report.lines().last(), Some("exact"), "{report}");
}

#[test]
fn p2_the_pipeline_is_exact_while_its_workers_are_killed() {
    let seed = common::seed();
    let mut kills = 0;
    for run in 0..6 {
        let seed = (seed + run).to_string();
        let mut args = vec!["--kill-every", "1", "--repeat", "10", "--seed", &seed];
        if run % 2 == 0 {
            args.push("--no-tick");
        }
        let source = source();
        args.push(&source);
        let report = Program::start("pipeline", &args).end_well();
        assert_exact(&report);
        kills += reported(&report, "kills");
    }
    assert!(kills > 20, "{kills} kills are too few to mean anything");
}

#[test]
fn the_pipeline_is_exact_without_kills_and_without_a_tick() {
    let report = Program::start("pipeline", &["--kill-every", "0", "--no-tick", "--repeat", "3", &source()])
        .end_well();
    assert_exact(&report);
    assert_eq!(reported(&report, "kills"), 0);
    assert_eq!(reported(&report, "handed on"), 0);
}

#[test]
fn the_pipeline_counts_words_that_are_longer_than_its_slots() {
    let directory = std::env::temp_dir().join(format!("waitqueue-pipeline-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let texts: [(&str, Vec<u8>, u64, u64); 6] = [
        ("empty", b"".to_vec(), 0, 0),
        ("no end of line", b"a b\nc".to_vec(), 2, 3),
        ("one word", b"x".repeat(100_000), 1, 1),
        ("words that end where slots do", [b"y".repeat(231), b" ".to_vec()].concat().repeat(100), 1, 100),
        ("words that begin there", [b"z".repeat(232), b" ".to_vec()].concat().repeat(500), 1, 500),
        ("not a text", (0..=255).cycle().take(10_000).collect(), 41, 0),
    ];
    for (name, text, lines, words) in &texts {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        let args = ["--repeat", "1", "--kill-every", "3", path.to_str().unwrap()];
        let report = Program::start("pipeline", &args).end_well();
        assert_exact(&report);
        assert_eq!(reported(&report, "lines"), *lines, "{name}");
        assert!(*words == 0 || reported(&report, "words") == *words, "{name}: {report}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Waits until text flows through a pipeline with a named region.
fn until_busy(name: &str) {
    until("a busy pipeline", || {
        let snapshot = Region::builder().inspect(name);
        snapshot.is_ok_and(|snapshot| {
            snapshot.queues.iter().any(|queue| queue.name == "results" && queue.wakes > 100)
        })
    });
}

#[test]
fn p10_a_pipeline_whose_parent_was_killed_can_be_started_again() {
    let name = Name::new();
    let mut killed = Program::start("pipeline", &["--name", &name.0, "--repeat", "1000000", &source()]);
    until_busy(&name.0);
    killed.kill();
    // Here the name is still there, slots are taken, and workers may not have noticed yet.
    let again = Program::start("pipeline", &["--name", &name.0, "--no-tick", "--repeat", "3", &source()]);
    assert_exact(&again.end_well());
    assert!(matches!(Region::open(&name.0), Err(Error::NoSuchRegion { .. })), "the region was left behind");
}

#[test]
fn p2_workers_end_when_their_parent_is_killed() {
    let name = Name::new();
    let args = ["--name", &name.0, "--no-tick", "--repeat", "1000000", &source()];
    let mut killed = Program::start("pipeline", &args);
    until_busy(&name.0);
    let region = name.region();
    assert!(region.participants().len() > 1);
    killed.kill();
    until("no workers", || region.participants().iter().all(|other| other.id == region.me() || !other.alive));
    region.check().unwrap();
}

#[test]
fn an_interrupted_pipeline_ends_with_its_workers_and_its_region() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let name = Name::new();
        let args = ["--name", &name.0, "--no-tick", "--repeat", "1000000", &source()];
        let pipeline = Program::start("pipeline", &args);
        until_busy(&name.0);
        let region = name.region();
        pipeline.signal(signal);
        let output = pipeline.end();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with("interrupted\n"));
        assert_eq!(region.participants().iter().filter(|other| other.alive).count(), 1);
        assert!(matches!(Region::open(&name.0), Err(Error::NoSuchRegion { .. })));
    }
}

#[test]
fn a_second_pipeline_in_a_region_is_refused() {
    let name = Name::new();
    let first = Program::start("pipeline", &["--name", &name.0, "--repeat", "1000000", &source()]);
    until_busy(&name.0);
    let refused = Program::start("pipeline", &["--name", &name.0, &source()]).end();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another pipeline"), "{refused:?}");
    drop(first);
}

#[test]
fn p10_waiter_and_waker_work_in_either_order_and_twice() {
    let name = Name::new();
    for _ in 0..2 {
        assert!(Program::start("waker", &[&name.0]).end_well().starts_with("woke"));
        assert_eq!(Program::start("waiter", &[&name.0]).end_well(), "ready\n");

        let waiter = Program::start("waiter", &[&name.0]);
        until("a waiter", || is_waited_for(&name.0));
        let said = Program::start("waker", &[&name.0]).end_well();
        assert!(said.contains("nonexclusive: 1"), "{said}");
        assert_eq!(waiter.end_well(), "ready\n");
    }
}

#[test]
fn p10_waiter_and_waker_work_after_one_was_killed() {
    let name = Name::new();
    for _ in 0..3 {
        let mut killed = Program::start("waiter", &[&name.0]);
        until("a waiter", || is_waited_for(&name.0));
        killed.kill();
        let waiter = Program::start("waiter", &[&name.0]);
        // Attaching cleans up after the dead, so that whoever waits now is the living one.
        until_asleep(&name.region(), "ready-queue", 1);
        Program::start("waker", &[&name.0]).end_well();
        assert_eq!(waiter.end_well(), "ready\n");
    }
    for _ in 0..20 {
        // Anywhere between its first instruction and its last.
        Program::start("waker", &[&name.0]).kill();
    }
    Program::start("waker", &[&name.0]).end_well();
    assert_eq!(Program::start("waiter", &[&name.0]).end_well(), "ready\n");
}

fn is_waited_for(name: &str) -> bool {
    let snapshot = Region::builder().inspect(name);
    snapshot.is_ok_and(|snapshot| snapshot.queues.iter().any(|queue| !queue.waiters.is_empty()))
}

#[test]
fn waiter_and_waker_are_twelve_lines() {
    for name in ["waiter", "waker"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//!")).count();
        assert!(lines <= 12, "{name} has {lines} lines");
    }
}

#[test]
fn the_semaphore_ends_by_itself() {
    let said = Program::start("semaphore", &[]).end_well();
    assert_eq!(said.lines().filter(|line| line.contains("has a permit")).count(), 12, "{said}");
    assert!(said.contains("the holder was killed: timed out"), "{said}");
}

#[test]
fn inspect_shows_a_region_without_attaching() {
    let name = Name::new();
    let waiter = Program::start("waiter", &[&name.0]);
    until("a waiter", || is_waited_for(&name.0));
    let pid = waiter.process.id();
    let said = Program::start("inspect", &[&name.0]).end_well();
    for text in [
        format!("region {}", name.0),
        format!("process {pid} thread {pid}"),
        "\"ready-queue\": 1 waiting".into(),
    ] {
        assert!(said.contains(&text), "no {text:?} in {said}");
    }
    assert_eq!(said.matches("participant").count(), 1, "it attached: {said}");

    let mut watching = Program::start("inspect", &["--watch", "--every", "10", &name.0]);
    let mut lines = BufReader::new(watching.process.stdout.take().unwrap()).lines().map_while(Result::ok);
    for _ in 0..3 {
        assert!(lines.any(|line| line.starts_with("region ")), "it does not go on");
    }
    watching.kill();

    Program::start("waker", &[&name.0]).end_well();
    waiter.end_well();
}

#[test]
fn inspect_says_what_is_not_there() {
    let output = Program::start("inspect", &["/waitqueue-test-no-such-region"]).end();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no region /waitqueue-test-no-such-region"), "{said}");
}
