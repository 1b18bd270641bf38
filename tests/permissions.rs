//! Who may make and open a region: users, groups, modes, observers; and a file system without room. The tests that
//! need to be root, or a mount namespace, say so where they cannot run.

#![allow(unsafe_code)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::stage::{Stage, woken};
use common::{Child, Name, listen, options, say};
use waitqueue::{Error, RegionBuilder, WaitOptions};

#[test]
fn role() {
    common::play(&[("opens", opens), ("creates", creates), ("full", full)]);
}

fn is_root() -> bool {
    // SAFETY: no arguments.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: only root can become other users");
    }
    root
}

/// Becomes another user, before it attaches.
fn become_user(user: &str, group: &str) {
    let (user, group) = (user.parse().unwrap(), group.parse().unwrap());
    // SAFETY: numbers, and an empty list of groups.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(group, group, group), 0);
        assert_eq!(libc::setresuid(user, user, user), 0);
    }
}

/// "owner:5", "group:7" or "": whom to accept.
fn accepting(whom: &str) -> RegionBuilder {
    match whom.split_once(':') {
        Some(("owner", id)) => options().accept_owner(id.parse().unwrap()),
        Some(("group", id)) => options().accept_group(id.parse().unwrap()),
        _ => options(),
    }
}

/// Opens, says how that went, and if it went well waits to be woken.
fn opens(args: &[String]) {
    become_user(&args[1], &args[2]);
    match accepting(&args[3]).open(&args[0]) {
        Err(error) => say(&error.to_string()),
        Ok(region) => {
            say("ok");
            let stage = Stage::of(region);
            stage.queue.wait_event_with(&WaitOptions::new().exclusive(), || stage.take()).unwrap();
            say("woken");
        }
    }
}

fn creates(args: &[String]) {
    become_user(&args[1], &args[2]);
    let mode = u32::from_str_radix(&args[4], 8).unwrap();
    let region = accepting(&args[3]).mode(mode).create(&args[0]).unwrap();
    say("ok");
    listen();
    drop(region);
}

#[test]
fn a_region_is_opened_by_its_owner_and_by_whom_the_mode_and_the_opener_accept() {
    if !is_root() {
        return;
    }
    // Made by (user, group, accepts, mode); opened by (user, group, accepts); what the answer contains.
    type Who = (&'static str, &'static str, &'static str);
    let table: [(Who, &str, Who, &str); 10] = [
        (("1001", "1001", ""), "600", ("1001", "1001", ""), "ok"),
        (("1001", "1001", ""), "600", ("1002", "1001", ""), "keeps us out"),
        (("1001", "1001", ""), "600", ("1002", "1002", "owner:1001"), "keeps us out"),
        (("1001", "1001", ""), "600", ("0", "0", ""), "belongs to user 1001, group 1001, and we are user 0"),
        (("1001", "1001", ""), "600", ("0", "0", "owner:1001"), "ok"),
        (("1001", "1007", ""), "660", ("1002", "1007", ""), "accept that owner or group"),
        (("1001", "1007", ""), "660", ("1002", "1007", "group:1007"), "ok"),
        (("1001", "1007", ""), "660", ("1002", "1007", "owner:1001"), "ok"),
        (("1001", "1007", ""), "660", ("0", "0", "owner:1001"), "a group that is not ours"),
        (("0", "0", "group:1007"), "660", ("1002", "1007", "group:1007"), "ok"),
    ];
    for (maker, mode, opener, expected) in table {
        let name = Name::new();
        let mut creator = Child::start("creates", &[&name.0, maker.0, maker.1, maker.2, mode]);
        creator.expect("ok");
        let mut child = Child::start("opens", &[&name.0, opener.0, opener.1, opener.2]);
        let answer = child.hear();
        assert!(answer.contains(expected), "{maker:?} {mode}, then {opener:?}: {answer}");
        if expected == "ok" {
            let id = format!("owner:{}", maker.0);
            let mut builder = accepting(&id);
            if maker.1 != "0" || mode == "660" {
                builder = builder.accept_group(1007);
            }
            let stage = Stage::of(builder.open(&name.0).unwrap());
            stage.asleep(1);
            stage.set(1);
            assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
            child.expect("woken");
        }
        child.end_well();
    }
}

#[test]
fn a_region_is_never_open_to_all() {
    let name = Name::new();
    for mode in [0o666, 0o606, 0o000, 0o400, 0o060, 0o1600, 0o4600, 0o777, u32::MAX] {
        let error = options().mode(mode).create(&name.0).unwrap_err();
        assert!(matches!(error, Error::WrongMode { .. }), "{mode:o}: {error}");
        assert_eq!(error.errno(), libc::EACCES);
        assert!(matches!(options().open(&name.0), Err(Error::NoSuchRegion { .. })), "nothing is left");
    }
    let _region = name.region();
    let path = format!("/dev/shm{}", name.0);
    for mode in [0o606, 0o604, 0o601] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let error = options().open(&name.0).unwrap_err().to_string();
        assert!(error.contains(&name.0) && error.contains(&format!("{mode:04o}")), "{error}");
        assert!(error.contains("every user"), "{error}");
    }
}

#[test]
fn an_observer_sees_without_attaching() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let _wait = stage.queue.prepare_to_wait(&WaitOptions::new().label("seen")).unwrap();
    let seen = options().inspect(&name.0).unwrap();
    assert_eq!(seen.participants.len(), 1, "itself is not there");
    assert!(seen.participants[0].alive && seen.participants[0].id == stage.region.me());
    assert_eq!(seen.queues[0].waiters[0].label, "seen");
    assert_eq!(seen.objects, [("flag".to_owned(), "u32".to_owned(), 4)]);
    let text = seen.to_string();
    for part in [&name.0, "seen", "\"flag\"", "queue \"queue\": 1 waiting", "alive"] {
        assert!(text.contains(part), "{text}");
    }
}

/// In a mount namespace of its own: a tiny /dev/shm.
fn full(args: &[String]) {
    let target = c"/dev/shm".as_ptr();
    let size = c"size=256k".as_ptr().cast();
    // SAFETY: strings that end; nothing of this process lies in /dev/shm.
    let outcome = unsafe { libc::mount(c"tmpfs".as_ptr(), target, c"tmpfs".as_ptr(), 0, size) };
    if outcome != 0 {
        return say(&format!("skipped: mount: {}", std::io::Error::last_os_error()));
    }
    let left = || std::fs::read_dir("/dev/shm").unwrap().count();
    for _ in 0..3 {
        for outcome in [options().create(&args[0]), options().open_or_create(&args[0])] {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
            assert!(error.to_string().contains(&args[0]) && error.errno() == libc::ENOSPC, "{error}");
            assert_eq!(left(), 0);
        }
    }
    let small = options().participants(4).threads(8).entries(16).objects(4).memory(4096);
    let stage = Stage::of(small.create(&args[0]).unwrap());
    std::fs::write("/dev/shm/filler", vec![1; 1 << 20]).unwrap_err(); // and now it is full
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)));
    let _all = stage.region.object::<[std::sync::atomic::AtomicU64; 400]>("all").unwrap();
    _all.iter().for_each(|word| word.store(1, std::sync::atomic::Ordering::Relaxed)); // no SIGBUS
    say("ok");
}

#[test]
fn a_full_file_system_is_an_error_and_nothing_is_left_there() {
    let mut unshare = Command::new("unshare");
    unshare.arg("-m").arg(std::env::current_exe().unwrap());
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace here");
        return;
    }
    let mut child = Child::start_command(unshare, "full", &["/waitqueue-full"], &[]);
    let answer = child.hear();
    if answer.starts_with("skipped") {
        println!("{answer}");
    } else {
        assert_eq!(answer, "ok");
    }
    child.end_well();
}
