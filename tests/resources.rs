//! What a system may withhold: descriptors, threads, memory, /proc, the system calls of newer kernels. A call that
//! cannot do without is a clear error and leaves nothing behind; the others work in another way.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::io::Read;
use std::process::Command;

use common::filter::{Whom, refuse};
use common::{Child, Name, options, say};
use kill::turns::{give_turns, id_of, kill_noticed, member_of_two, stage, take_turns, two_members};
use kill::{World, nothing_leaked, small};
use waitqueue::{Error, Region, Result};

#[test]
fn role() {
    common::play(&[
        ("few_descriptors", few_descriptors),
        ("few_threads", few_threads),
        ("little_memory", little_memory),
        ("member", member),
    ]);
}

#[cfg(target_env = "gnu")]
type Limit = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Limit = libc::c_int;

fn set_limit(what: Limit, limit: u64) {
    // SAFETY: plain numbers.
    unsafe {
        let mut now = std::mem::zeroed();
        assert_eq!(libc::getrlimit(what, &raw mut now), 0);
        now.rlim_cur = (limit as libc::rlim_t).min(now.rlim_max);
        assert_eq!(libc::setrlimit(what, &raw const now), 0);
    }
}

/// Calls with every limit from 0 until it succeeds; returns how often it failed. Each failure must be `clear`, and leave
/// no descriptor open.
fn until_it_works(
    what: Limit,
    call: impl Fn() -> Result<()>,
    clear: impl Fn(&Error) -> bool,
    after: impl Fn(u64),
) -> u64 {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for limit in 0..100 {
        set_limit(what, limit);
        let outcome = call();
        set_limit(what, u64::MAX);
        match outcome {
            Ok(()) => return limit,
            Err(error) => assert!(clear(&error), "limit {limit}: {error:?}"),
        }
        assert_eq!(descriptors(), before, "limit {limit}");
        after(limit);
    }
    panic!("it never works");
}

fn few_descriptors(args: &[String]) {
    let [old, new] = [args[0].as_str(), args[1].as_str()];
    let memfd = small().create_memfd("few").unwrap();
    let calls: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("open", &|| small().open(old).map(drop)),
        ("inspect", &|| small().inspect(old).map(drop)),
        ("create", &|| small().create(new).map(drop)),
        ("open_or_create", &|| small().open_or_create(new).map(drop)),
        ("create_memfd", &|| small().create_memfd("few").map(drop)),
        ("open_fd", &|| small().open_fd(memfd.try_clone_fd()?).map(drop)),
    ];
    for (name, call) in calls {
        let clear = |error: &Error| matches!(error, Error::System { errno: libc::EMFILE, .. });
        // What was created complete may stay, for whoever opens it; here it is to be created again.
        let unlink = |_| drop(Region::unlink(new));
        let failures = until_it_works(libc::RLIMIT_NOFILE, call, clear, unlink);
        assert!(failures > 3, "{name} has failed {failures} times");
        let _ = Region::unlink(new);
    }
    assert_eq!(memfd.participants().len(), 1);
    // Who is attached needs no more.
    let world = World::open(old);
    set_limit(libc::RLIMIT_NOFILE, 0);
    take_turns(&world);
}

#[test]
fn without_descriptors_every_call_is_a_clear_error_and_who_is_attached_goes_on() {
    let (name, world, turn) = stage();
    let new = Name::new();
    let mut child = Child::start("few_descriptors", &[&name.0, &new.0]);
    let id = id_of(&mut child);
    assert_eq!(world.region.participants().len(), 2, "the failed are not there");
    give_turns(&world, &turn, &mut child, 5);
    kill_noticed(&world, &mut child, id);
    nothing_leaked(&world.region, (0, 1, 1), "few descriptors");
}

fn few_threads(args: &[String]) {
    // The limit counts the threads of a user, and not for root: so another user, that nobody else is.
    let user = 200_000 + std::process::id();
    // SAFETY: numbers.
    if unsafe { libc::setresuid(user, user, user) } != 0 {
        return say("skipped: only root can become another user");
    }
    let region = small().create(&args[0]).unwrap();
    region.check().unwrap();
    let clear = |error: &Error| matches!(error, Error::System { call: "clone", errno: libc::EAGAIN, .. });
    let unharmed = |limit: u64| nothing_leaked(&region, (0, 1, 1), &format!("{limit} threads"));
    let call = || small().open(&args[0]).map(drop);
    assert!(until_it_works(libc::RLIMIT_NPROC, call, clear, unharmed) > 0);
    unharmed(u64::MAX);
    say("clear");
}

#[test]
fn without_threads_attaching_is_a_clear_error_and_nothing_is_left_of_it() {
    let name = Name::new();
    let mut child = Child::start("few_threads", &[&name.0]);
    match child.hear().as_str() {
        "clear" => child.end_well(),
        other => println!("{other}"),
    }
}

/// Attaches in children of its own, each with a little more room in its address space.
fn little_memory(args: &[String]) {
    const STEP: u64 = 64 << 10;
    let (mut clear, mut aborted) = (0, 0);
    for step in 0..400 {
        // SAFETY: the child leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
            set_limit(libc::RLIMIT_AS, pages * 4096 + step * STEP);
            let outcome = options().open(&args[0]);
            let code = match &outcome {
                Ok(region) => {
                    2 * i32::from(region.check().inspect_err(|error| eprintln!("{error}")).is_err())
                }
                Err(Error::System { errno: libc::ENOMEM | libc::EAGAIN, .. }) => 1,
                Err(error) => {
                    eprintln!("{error}");
                    2
                }
            };
            drop(outcome);
            // SAFETY: as said.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        match status {
            0 => return say(&format!("clear {clear} aborted {aborted}")),
            256 => clear += 1,
            // The standard library gives a new thread no chance where its signal stack has no room.
            libc::SIGABRT => aborted += 1,
            other => panic!("with {step} steps of memory: {other:#x}"),
        }
    }
    panic!("it never works");
}

#[test]
fn without_memory_attaching_is_a_clear_error_and_harms_nobody() {
    let name = Name::new();
    let region = options().entries(1 << 14).create(&name.0).unwrap();
    let world = World::new(&region);
    world.region.check().unwrap();
    let mut child = Child::start("little_memory", &[&name.0]);
    let answer = child.hear();
    println!("{answer}");
    let counts: Vec<u32> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(counts[0] > 10 && counts[1] < 4, "{answer}");
    child.end_well();
    nothing_leaked(&world.region, (0, 1, 1), "little memory");
}

/// "proc", how and when it goes, or "call" with its name and the error number.
fn withhold(what: &[&str]) {
    let call = |name| match name {
        "futex_waitv" => libc::SYS_futex_waitv,
        "close_range" => libc::SYS_close_range,
        "unshare" => libc::SYS_unshare,
        "get_robust_list" => libc::SYS_get_robust_list,
        "set_robust_list" => libc::SYS_set_robust_list,
        "statx" => libc::SYS_statx,
        "clone3" => libc::SYS_clone3,
        "madvise" => libc::SYS_madvise,
        other => panic!("no call {other}"),
    };
    let (source, target) = (c"none".as_ptr(), c"/proc".as_ptr());
    // SAFETY: strings that end, in a mount namespace of our own.
    let outcome = unsafe {
        match what {
            ["call", name, errno] => {
                refuse(call(name), errno.parse().unwrap(), Whom::ThisThread);
                0
            }
            ["proc", "unmounted"] => libc::umount2(target, libc::MNT_DETACH),
            ["proc", "covered"] => libc::mount(source, target, c"tmpfs".as_ptr(), 0, std::ptr::null()),
            ["proc", "read-only"] => {
                let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
                libc::mount(source, target, source, flags, std::ptr::null())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outcome, 0, "{what:?}: {}", std::io::Error::last_os_error());
}

/// Attaches where something is withheld, now or from before; then holds the lock, or waits for the end of who does.
fn member(args: &[String]) {
    let what: Vec<&str> = args[1].split(':').collect();
    let late = args[2] == "late";
    if !late {
        withhold(&what);
    }
    let (mut reader, writer) = std::io::pipe().unwrap();
    let world = match small().open(&args[0]) {
        Ok(region) => World::new(&region),
        Err(error) => return say(&error.to_string()),
    };
    if late {
        withhold(&what);
    }
    if what[0] == "proc" && what[1] != "read-only" {
        let refused = small().create_memfd("no").map(drop);
        assert!(
            matches!(&refused, Err(Error::Unsupported { what, .. }) if what.contains("/proc")),
            "{refused:?}"
        );
    }
    // The bell has its own table of descriptors, and must not keep what was open when it was made.
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the pipe has ended");
    member_of_two(&world);
}

#[test]
fn without_the_calls_of_newer_kernels_everything_works_in_another_way() {
    for call in ["futex_waitv", "close_range", "unshare", "get_robust_list", "statx"] {
        // As an old kernel answers, and as container runtimes do.
        for errno in [libc::ENOSYS, libc::EPERM] {
            let what = format!("call:{call}:{errno}");
            let start = |name: &Name| Child::start("member", &[&name.0, &what, ""]);
            two_members([&start, &start], &what);
        }
    }
}

#[test]
fn without_a_call_that_has_no_other_way_attaching_is_a_clear_error() {
    let (name, world, _turn) = stage();
    world.region.check().unwrap();
    for (call, errno, expected) in [
        ("set_robust_list", libc::ENOSYS, "set_robust_list"),
        ("clone3", libc::EPERM, "clone"),
        ("madvise", libc::EINVAL, "MADV_WIPEONFORK"),
        ("madvise", libc::EPERM, "madvise"),
    ] {
        let what = format!("call:{call}:{errno}");
        let mut child = Child::start("member", &[&name.0, &what, ""]);
        let answer = child.hear();
        assert!(answer.contains(expected), "{what}: {answer}");
        child.end_well();
        nothing_leaked(&world.region, (0, 1, 1), &what);
    }
}

#[test]
fn without_proc_named_regions_work_and_memfds_say_what_they_need() {
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace here");
        return;
    }
    for how in ["read-only", "unmounted", "covered"] {
        for when in ["early", "late"] {
            let what = format!("proc:{how}");
            let start = |name: &Name| {
                let mut command = Command::new("unshare");
                command.arg("-m").arg(std::env::current_exe().unwrap());
                Child::start_command(command, "member", &[&name.0, &what, when], &[])
            };
            two_members([&start, &start], &format!("{what} {when}"));
        }
    }
}
