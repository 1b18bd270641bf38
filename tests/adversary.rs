//! P7, live: honest processes do everything there is to do while hostile ones, with the same mapping, do what they like.
//! Every honest call ends within a bounded time with success or an error, and private memory is as it was.
//!
//! `WAITQUEUE_ADVERSARY_SECONDS` says how long (a few, if it does not); `WAITQUEUE_SEED` repeats the random choices.

#![allow(unsafe_code)]

mod common;
#[path = "adversary/honest.rs"]
mod honest;
#[path = "adversary/hostile.rs"]
mod hostile;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{Child, Name, say};
use waitqueue::{Error, Region, RegionBuilder};

#[test]
fn role() {
    common::play(&[("honest", honest::lives), ("hostile", hostile::lives), ("touches", touches)]);
}

/// Small, so that all of it is reached, and impatient.
fn options() -> RegionBuilder {
    let small = Region::builder().participants(8).threads(16).entries(48).objects(8).memory(2048);
    small.tick(Some(Duration::from_millis(20))).patience(Duration::from_millis(10))
}

fn seconds() -> u64 {
    std::env::var("WAITQUEUE_ADVERSARY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn p7_honest_processes_live_with_hostile_ones() {
    let seed = common::seed();
    let region = options().create_memfd("adversary").unwrap();
    let fd = region.try_clone_fd().unwrap();
    let start = |role, nth: u64| {
        Child::inheriting(role, fd.as_raw_fd(), &[&(seed.wrapping_add(nth * 0x9e37_79b9) | 1).to_string()])
    };
    let mut honest: Vec<_> = (0..2).map(|nth| start("honest", nth)).collect();
    honest.iter_mut().for_each(|child| child.expect("lives"));
    let mut hostile: Vec<_> = (2..4).map(|nth| start("hostile", nth)).collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut killed = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        // One that dies in the middle of it leaves whatever it has just written.
        hostile[killed % 2].kill();
        hostile[killed % 2] = start("hostile", 4 + killed as u64);
        killed += 1;
    }
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for child in &mut honest {
        child.tell("stop");
        loop {
            let line = child.hear();
            let Some((what, count)) = line.rsplit_once(' ') else { break };
            if what.starts_with("slowest") {
                println!("{line}");
            } else {
                *sums.entry(what.to_owned()).or_default() += count.parse::<u64>().unwrap();
            }
        }
        child.end_well();
    }
    println!("{killed} hostile processes killed; {sums:?}");
    assert!(sums["ok"] > 0 && sums["TimedOut"] > 0, "{sums:?}");
}

/// Opens the region and touches all of it until told to stop.
fn touches(args: &[String]) {
    let region = match args[0].parse() {
        // SAFETY: passed to this process, where nobody else owns it.
        Ok(number) => options().open_fd(unsafe { OwnedFd::from_raw_fd(number) }).unwrap(),
        Err(_) => options().open(&args[0]).unwrap(),
    };
    let queue = region.queue("queue").unwrap();
    say("touches");
    for _ in 0..50 {
        let _ = (region.snapshot(), queue.wake_up());
        std::thread::sleep(Duration::from_millis(2));
    }
    say("done");
}

#[test]
fn a_named_region_that_is_truncated_ends_those_who_touch_it_and_is_no_region_any_more() {
    let name = Name::new();
    drop(options().create(&name.0).unwrap()); // or this process would be among them
    let mut child = Child::start("touches", &[&name.0]);
    child.expect("touches");
    let path = format!("/dev/shm{}", name.0);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    // What no library can prevent without a handler that belongs to the whole process: see ARCHITECTURE.md.
    let size = file.metadata().unwrap().len();
    // SAFETY: numbers only.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) };
    assert_eq!((seals, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
    file.set_len(4096).unwrap();
    let status = child.end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGBUS), "{status}");
    for size in [4096, 4095, 0] {
        file.set_len(size).unwrap();
        let error = options().open(&name.0).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. } | Error::NotARegion { .. }), "{size}: {error}");
    }
    // Its space is gone, so it stays refused when its size is back.
    file.set_len(size).unwrap();
    let error = options().open(&name.0).unwrap_err().to_string();
    assert!(error.contains("sparse"), "{error}");
}

#[test]
fn a_sealed_memfd_cannot_be_truncated() {
    let region = options().create_memfd("sealed").unwrap();
    let fd = region.try_clone_fd().unwrap();
    let mut child = Child::inheriting("touches", fd.as_raw_fd(), &[]);
    child.expect("touches");
    let file = std::fs::File::from(fd);
    for size in [0, 4096, 1 << 20] {
        let error = file.set_len(size).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{size}");
    }
    // SAFETY: numbers only.
    let punched = unsafe {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        libc::fallocate(file.as_raw_fd(), mode, 0, 4096)
    };
    assert_eq!(punched, 0, "a hole is zeros, not a fault");
    child.expect("done");
    child.end_well();
}
