//! P8: waking an empty queue and waiting on a true condition make no system call; and of those that are made, every
//! futex is a shared one. A child does the calls under strace, between writes to no descriptor that mark the places.

#![allow(unsafe_code)]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::Child;
use common::stage::{Stage, bounded, thread, woken};
use waitqueue::{RobustLock, Source, WaitOptions, wait_many};

#[test]
fn role() {
    common::play(&[("idle", idle), ("busy", busy)]);
}

/// Shows up in the trace, and does nothing.
fn mark(text: &str) {
    // SAFETY: the kernel refuses the descriptor before it looks at the bytes.
    unsafe { libc::write(-1, text.as_ptr().cast(), text.len()) };
}

fn idle(_: &[String]) {
    let stage = Stage::new();
    let word = stage.region.object::<RobustLock>("lock").unwrap();
    let lock = stage.region.lock_at(&word).unwrap();
    let other = stage.region.queue("other").unwrap();
    let zero = WaitOptions::new().timeout(Duration::ZERO);
    drop(lock.lock().unwrap()); // what a thread does once, it has done
    stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap().finish();
    let calls: [(&str, &dyn Fn()); 13] = [
        ("wake_up", &|| assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)))),
        ("wake_up_all", &|| assert_eq!(stage.queue.wake_up_all(), Ok(woken(0, 0)))),
        ("wake_up_sync", &|| assert_eq!(stage.queue.wake_up_sync(|| 1), Ok((woken(0, 0), 1)))),
        ("wait_event", &|| stage.queue.wait_event(|| true).unwrap()),
        ("wait_event_timeout", &|| {
            stage.queue.wait_event_timeout(|| true, Duration::from_secs(1)).unwrap();
        }),
        ("wait_event_exclusive", &|| stage.queue.wait_event_exclusive(|| true).unwrap()),
        ("wait_event_interruptible", &|| stage.queue.wait_event_interruptible(|| true).unwrap()),
        ("wait_event_killable", &|| stage.queue.wait_event_killable(|| true).unwrap()),
        ("poll", &|| assert!(stage.queue.wait_event_with(&zero, || false).is_err())),
        ("wait_many", &|| {
            let (mut no, mut yes) = (|| false, || true);
            let mut sources = [Source::new(&stage.queue, &mut no), Source::new(&other, &mut yes)];
            assert_eq!(wait_many(&mut sources, &WaitOptions::new()), Ok(1));
        }),
        ("has_sleepers", &|| assert!(!stage.queue.has_sleepers() && !stage.queue.is_closed())),
        ("is_alive", &|| assert!(stage.region.is_alive(stage.region.me()))),
        ("lock", &|| drop(lock.lock().unwrap())),
    ];
    let entries = stage.region.snapshot().entries;
    for (name, call) in calls {
        mark(&format!("begin {name}"));
        for _ in 0..100 {
            call();
        }
        mark("end");
    }
    assert_eq!(stage.region.snapshot().entries, entries, "no entry was touched");
}

fn busy(_: &[String]) {
    let stage = Stage::new();
    let turn = stage.region.object::<AtomicU32>("turn").unwrap();
    let partner = thread({
        let (stage, turn) = (stage.clone(), turn.clone());
        move || stage.queue.wait_event_with(&bounded(), || turn.load(Acquire) != 0).map(drop)
    });
    stage.asleep(1);
    turn.store(1, Release);
    mark("begin wake");
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 1)));
    mark("end");
    partner.join().unwrap();
    let soon = WaitOptions::new().timeout(Duration::from_millis(1));
    assert!(stage.queue.wait_event_with(&soon, || false).is_err());
    mark("begin wait");
    assert!(stage.queue.wait_event_with(&soon, || false).is_err());
    mark("end");
}

/// What a role called between each pair of marks; `None` if it cannot be traced here.
fn trace(role: &str) -> Option<Vec<(String, Vec<String>)>> {
    let output = std::env::temp_dir().join(format!("waitqueue-trace-{}-{role}", std::process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(&output).arg(std::env::current_exe().unwrap());
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        println!("skipped: strace cannot be run here");
        return None;
    }
    let mut child = Child::start_command(strace, role, &[], &[]);
    child.end_well();
    let text = std::fs::read_to_string(&output).unwrap();
    std::fs::remove_file(&output).unwrap();
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside: Option<String> = None; // the thread that made the mark
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.starts_with("<...") {
            continue; // The second half of a line that another thread's interrupted.
        }
        if let Some(rest) = call.strip_prefix("write(-1, \"begin ") {
            sections.push((rest.split('"').next().unwrap().to_owned(), Vec::new()));
            inside = Some(thread.to_owned());
        } else if call.starts_with("write(-1, \"end") {
            inside = None;
        } else if inside.as_deref() == Some(thread) {
            sections.last_mut().unwrap().1.push(call.to_owned());
        }
    }
    Some(sections)
}

#[test]
fn p8_calls_with_nothing_to_do_make_no_system_call() {
    let Some(sections) = trace("idle") else { return };
    assert_eq!(sections.len(), 13);
    for (name, calls) in sections {
        assert_eq!(calls, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn trap_28_every_futex_of_a_region_is_a_shared_one_and_a_wake_is_one_call() {
    let Some(sections) = trace("busy") else { return };
    let [(_, wake), (_, wait)] = &sections[..] else { panic!("two sections: {sections:?}") };
    let calls = |calls: &[String]| calls.iter().filter(|call| call.starts_with("futex")).count();
    assert_eq!((wake.len(), calls(wake)), (1, 1), "{wake:?}");
    assert_eq!(calls(wait), 1, "{wait:?}");
    for call in wake.iter().chain(wait).filter(|call| call.starts_with("futex")) {
        assert!(call.contains("FUTEX_WA") && !call.contains("PRIVATE"), "{call}");
    }
}
