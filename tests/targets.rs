//! P9: one layout for processes of 32 and of 64 bits, and with another libc. This very file is built for another target
//! (without cargo's dependencies of tests, which take long), and its processes share a region with those of this one.
//! Where a target is not installed, or nothing can be linked for it, the tests say so and pass.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering::*};

use common::{Child, Name, listen, say};
use kill::turns::{give_turns, id_of, kill_noticed, member_of_two, stage, take_turns, two_members};
use kill::{OF_A, Survivors, World, nothing_leaked, small};

#[test]
fn role() {
    common::play(&[
        ("turns", |args| take_turns(&World::open(&args[0]))),
        ("member", |args| member_of_two(&World::open(&args[0]))),
        ("counter", counter),
        ("creator", creator),
        ("crasher", crasher),
    ]);
}

/// Runs a command to its end; what it said, if it failed.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output) } else { Err(format!("{command:?}: {}", said())) }
}

/// This file as a program for another target.
fn built_for(target: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target")).join(target);
    std::fs::create_dir_all(&folder).unwrap();
    let empty = folder.join("empty.rs");
    std::fs::write(&empty, "fn main() {}").unwrap();
    let rustc = || Command::new(option_env!("RUSTC").unwrap_or("rustc"));
    let links = run(rustc().args(["--target", target, "-o"]).arg(folder.join("empty")).arg(&empty))
        .and_then(|_| run(&mut Command::new(folder.join("empty"))));
    if let Err(why) = links {
        println!("skipped: no program for {target} can be built and run here: {why}");
        return None;
    }
    let library = run(Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(["build", "--offline", "--lib", "--features", "fault_injection", "--message-format=json"])
        .args(["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"])
        .args(["--target", target, "--target-dir"])
        .arg(&folder)
        .current_dir(here));
    let messages = String::from_utf8(library.unwrap_or_else(|why| panic!("{why}")).stdout).unwrap();
    let made = |name: &str| -> &str {
        let of_crate = |line: &&str| line.contains("compiler-artifact") && line.contains(name);
        let mut quoted = messages.lines().filter(of_crate).flat_map(|line| line.split('"'));
        quoted.rfind(|text| text.ends_with(".rlib")).unwrap_or_else(|| panic!("no {name}: {messages}"))
    };
    let program = folder.join(format!("targets-{}", std::process::id()));
    run(rustc()
        .args(["--edition", "2024", "--test", "--target", target, "tests/targets.rs", "-o"])
        .arg(&program)
        .args(["--extern", &format!("waitqueue={}", made("\"name\":\"waitqueue\""))])
        .args(["--extern", &format!("libc={}", made("\"name\":\"libc\""))])
        .arg("-L")
        .arg(format!("dependency={}", folder.join(target).join("debug/deps").display()))
        .env("CARGO_MANIFEST_DIR", here)
        .current_dir(here))
    .unwrap_or_else(|why| panic!("{why}"));
    Some(program)
}

/// Counts under the lock, in two steps that nobody else may come between.
fn counter(args: &[String]) {
    let world = World::open(&args[0]);
    say("attached");
    count(&world);
    say("done");
    listen();
}

const COUNTS: u64 = 2000;

fn count(world: &World) {
    let count = world.region.object::<AtomicU64>("count").unwrap();
    for _ in 0..COUNTS {
        let _guard = world.lock.lock().unwrap();
        count.store(count.load(Relaxed) + (1 << 32) + 1, Relaxed);
    }
}

fn creator(args: &[String]) {
    let world = World::new(&small().create(&args[0]).unwrap());
    take_turns(&world);
}

/// Dies on its way into a queue, at the point that its environment names.
fn crasher(args: &[String]) {
    let world = World::open(&args[0]);
    world.a.wait_event_exclusive(|| world.work(OF_A)).unwrap();
}

/// Everything that processes of two targets do with each other.
fn share_a_region(target: &str) {
    let Some(program) = built_for(target) else { return };
    let start = |role: &str, name: &Name, environment: &[(&str, &str)]| {
        Child::start_command(Command::new(&program), role, &[&name.0], environment)
    };
    // They wake each other and exclude each other.
    let (name, world, turn) = stage();
    let mut child = start("counter", &name, &[]);
    child.expect("attached");
    count(&world);
    child.expect("done");
    let count = world.region.object::<AtomicU64>("count").unwrap().load(Relaxed);
    assert_eq!(count, (COUNTS << 33) + 2 * COUNTS, "{target}");
    child.tell("end");
    child.end_well();
    let mut child = start("turns", &name, &[]);
    let id = id_of(&mut child);
    give_turns(&world, &turn, &mut child, 100);
    kill_noticed(&world, &mut child, id);
    nothing_leaked(&world.region, (0, 1, 1), target);
    // A region that they made is a region.
    let name = Name::new();
    let mut child = start("creator", &name, &[]);
    let id = id_of(&mut child);
    let world = World::open(&name.0);
    let turn = world.region.object("turn").unwrap();
    give_turns(&world, &turn, &mut child, 5);
    kill_noticed(&world, &mut child, id);
    // The one inherits the other's lock, alone with what it left.
    let native = |name: &Name| Child::start("member", &[&name.0]);
    let other = |name: &Name| start("member", name, &[]);
    two_members([&native, &other], &format!("{target} after native"));
    two_members([&other, &native], &format!("native after {target}"));
    two_members([&other, &other], target);
    // One is killed with a queue's lock in hand and its list in pieces.
    for point in ["lock: taken", "enrol: member, not linked", "unlock: not yet"] {
        let (name, world, _turn) = stage();
        let survivors = Survivors::start(&world);
        survivors.asleep(0);
        let mut child = start("crasher", &name, &[("WAITQUEUE_CRASH", point)]);
        child.end_killed();
        world.put_more(4);
        world.settled(point);
        survivors.stop(point);
        nothing_leaked(&world.region, (0, 1, 1), point);
    }
    let _ = std::fs::remove_file(program);
}

#[test]
fn p9_a_process_of_32_bits_shares_a_region_with_one_of_64() {
    share_a_region("i686-unknown-linux-gnu");
}

#[test]
fn p9_a_program_with_musl_shares_a_region_with_one_with_glibc() {
    share_a_region("x86_64-unknown-linux-musl");
}
