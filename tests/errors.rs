//! Every error that can be provoked without a hostile peer says what happened, to what, with the values, and what to
//! do, and has the errno that the C interface promises.

#![allow(unsafe_code)]

mod common;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use common::stage::{Stage, thread};
use common::{Name, options};
use waitqueue::{Error, Interrupter, QueueHead, Region, RegionBuilder, RobustLock, WaitOptions};

/// What an error must contain.
fn check(case: &str, error: Error, errno: i32, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{case}: {text:?} lacks {part:?}");
    }
    assert_eq!(error.errno(), errno, "{case}: {text}");
    assert!(!text.contains('\n') && text.len() < 400, "{case}: {text}");
}

/// Writes into the file of a named region.
fn patch(name: &str, offset: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm{name}")).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn names_of_regions() {
    let long = "n".repeat(201);
    let table: [(&str, &str, i32); 8] = [
        ("", "empty", libc::EINVAL),
        ("/", "empty", libc::EINVAL),
        (".", "must not be", libc::EINVAL),
        ("/..", "must not be", libc::EINVAL),
        ("a/b", "slash", libc::EINVAL),
        ("//a", "slash", libc::EINVAL),
        ("nul\0", "NUL", libc::EINVAL),
        (&long, "200 bytes", libc::EINVAL),
    ];
    for (name, rule, errno) in table {
        let outcomes = [
            Region::create(name).map(drop),
            Region::open(name).map(drop),
            Region::open_or_create(name).map(drop),
            Region::unlink(name),
            options().inspect(name).map(drop),
        ];
        for outcome in outcomes {
            check(name, outcome.unwrap_err(), errno, &["region name", rule]);
        }
    }
    for good in [&"n".repeat(170)[..], "wärteschlange-日本", "with space", "...", "-"] {
        let name = Name(format!("/waitqueue-{}-{good}", std::process::id()));
        assert_eq!(name.region().name(), name.0);
        drop(options().open(name.0.trim_start_matches('/')).expect("the slash is optional"));
    }
}

#[test]
fn names_of_objects() {
    let region = options().create_memfd("names").unwrap();
    let (longest, too_long) = ("ä".repeat(31) + "x", "x".repeat(64));
    for name in ["", "nul\0nul", &too_long] {
        check(name, region.queue(name).unwrap_err(), libc::EINVAL, &["queue name", "1 to 63"]);
        let error = region.object::<AtomicU32>(name).unwrap_err();
        check(name, error, libc::EINVAL, &["object name", "1 to 63"]);
    }
    for name in [&longest, "a/b", "日本", "."] {
        region.queue(name).unwrap();
    }
    assert!(region.snapshot().queues.iter().any(|queue| queue.name == longest));
    assert!(options().create_memfd(&"m".repeat(201)).is_err() && options().create_memfd("nul\0").is_err());
    drop(options().create_memfd("").expect("a label may be empty"));
}

#[test]
fn paths() {
    let folder = std::env::temp_dir().join(format!("waitqueue-paths-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for path in ["", "/", ".."] {
        check(path, options().create_at(path).unwrap_err(), libc::EINVAL, &["region name"]);
    }
    let error = options().create_at(folder.join("missing/region")).unwrap_err();
    check("missing folder", error, libc::ENOENT, &["missing/region"]);
    check("folder", options().open_at(&folder).unwrap_err(), libc::EMEDIUMTYPE, &["directory"]);
    let path = folder.join("region");
    let region = options().create_at(&path).unwrap();
    assert_eq!(region.name(), path.to_str().unwrap());
    let again = options().open_at(&path).unwrap();
    assert_ne!(again.me(), region.me());
    check("again", options().create_at(&path).unwrap_err(), libc::EEXIST, &["exists already", "unlink"]);
    std::os::unix::fs::symlink(&path, folder.join("link")).unwrap();
    check("symlink", options().open_at(folder.join("link")).unwrap_err(), libc::EMEDIUMTYPE, &["symbolic"]);
    std::fs::hard_link(&path, folder.join("twin")).unwrap();
    check("hard link", options().open_at(&path).unwrap_err(), libc::EMEDIUMTYPE, &["2 names"]);
    std::fs::remove_file(folder.join("twin")).unwrap();
    drop(options().open_or_create_at(&path).unwrap());
    options().unlink_at(&path).unwrap();
    check("gone", options().unlink_at(&path).unwrap_err(), libc::ENOENT, &["open_or_create"]);
    check("device", options().open_at("/dev/null").unwrap_err(), libc::EMEDIUMTYPE, &["device"]);
    check("through a file", options().open_at("/dev/null/x").unwrap_err(), libc::ENOENT, &["no region"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn capacities() {
    type Set = fn(RegionBuilder, u64) -> RegionBuilder;
    let table: [(&str, Set, u64); 5] = [
        ("participants", |b, n| b.participants(n), 32_768),
        ("threads", |b, n| b.threads(n), 32_767),
        ("entries", |b, n| b.entries(n), 16_777_214),
        ("objects", |b, n| b.objects(n), 1_048_576),
        ("memory", |b, n| b.memory(n), 1 << 40),
    ];
    for (what, set, max) in table {
        for asked in
            [0, max + 1, 1 << 32 | 1, 1 << 63, u64::MAX].into_iter().filter(|n| !(1..=max).contains(n))
        {
            let name = Name::new();
            let parts = [what, &asked.to_string(), &max.to_string()];
            for outcome in [
                set(options(), asked).create(&name.0),
                set(options(), asked).open_or_create(&name.0),
                set(options(), asked).create_memfd("m"),
            ] {
                check(what, outcome.unwrap_err(), libc::EINVAL, &parts);
            }
            assert!(matches!(Region::open(&name.0), Err(Error::NoSuchRegion { .. })), "nothing is left");
        }
    }
    // The largest of what is cheap.
    drop(options().participants(32_768).threads(32_767).create_memfd("large").unwrap());
    let name = Name::new();
    let error = options().memory(1 << 40).create(&name.0).unwrap_err();
    check("a terabyte", error, libc::ENOSPC, &[&name.0, "bytes", "free space"]);
    assert!(matches!(Region::open(&name.0), Err(Error::NoSuchRegion { .. })));
}

#[test]
fn full_tables_name_what_is_full_and_how_to_raise_it() {
    let small = || options().participants(1).threads(2).entries(2).objects(2).memory(128);
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    let full = |what, error: Error, capacity: &str| {
        let raise = format!("larger {what}(");
        check(what, error, libc::ENOBUFS, &[&name.0, what, capacity, &raise]);
    };
    full("participants", options().open(&name.0).unwrap_err(), "1");
    let queue = region.queue("queue").unwrap();
    full("memory", region.object::<[AtomicU64; 9]>("large").unwrap_err(), "128");
    let _word = region.object::<AtomicU32>("word").unwrap();
    full("memory", region.queue("more").unwrap_err(), "128");
    let two = [(); 2].map(|()| queue.prepare_to_wait(&WaitOptions::new()).unwrap());
    full("entries", queue.prepare_to_wait(&WaitOptions::new()).unwrap_err(), "2");
    let third = std::thread::scope(|scope| scope.spawn(|| queue.wake_up()).join().unwrap());
    third.expect("a second thread: this one, and that; bells have their own");
    let (ready, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            queue.wake_up().unwrap();
            ready.wait();
            go.wait();
        });
        ready.wait();
        let fourth = scope.spawn(|| queue.wake_up()).join().unwrap();
        go.wait();
        holder.join().unwrap(); // a scope alone does not wait for thread-locals to be dropped
        full("threads", fourth.unwrap_err(), "2");
    });
    drop(two);
    drop(queue.prepare_to_wait(&WaitOptions::new()).expect("entries come back"));
    thread(move || queue.close().unwrap()).join();
    let tiny = Name::new();
    let region = options().threads(1).create(&tiny.0).unwrap();
    region.queue("queue").expect("the only thread, beside the bell");
    let error = thread(move || region.queue("other").unwrap_err()).join();
    check("one thread", error, libc::ENOBUFS, &["1 threads", "larger threads("]);
    let objects = options().objects(1).create_memfd("objects").unwrap();
    objects.queue("one").unwrap();
    check("objects", objects.queue("two").unwrap_err(), libc::ENOBUFS, &["1 objects", "larger objects("]);
}

#[test]
fn what_is_not_a_region_or_of_another_kind_is_refused() {
    let name = Name::new();
    let open = || options().open(&name.0).unwrap_err();
    check("nothing there", open(), libc::ENOENT, &[&name.0, "open_or_create"]);
    drop(options().create(&name.0).unwrap());
    check("twice", options().create(&name.0).unwrap_err(), libc::EEXIST, &[&name.0, "exists already"]);
    let original = std::fs::read(format!("/dev/shm{}", name.0)).unwrap();
    let size = original.len().to_string();
    /// What is damaged, where, with which bytes; the error number, and parts of the message.
    type Case = (&'static str, u64, &'static [u8], i32, &'static [&'static str]);
    let table: [Case; 12] = [
        ("magic", 0, b"WAITQUEU", libc::EMEDIUMTYPE, &["not a region", "use another name"]),
        ("version", 8, &[9, 0, 0, 0], libc::EPROTO, &["version 9", "speaks", "replace_dead"]),
        ("layout", 16, &[1; 8], libc::EPROTO, &["0x0101010101010101", "expects", "replace_dead"]),
        ("size", 24, &[0; 8], libc::EUCLEAN, &["damaged", "size", "0x18"]),
        ("participants", 32, &[0; 4], libc::EUCLEAN, &["participants", "0x20"]),
        ("participants", 32, &[1, 0, 1, 0], libc::EUCLEAN, &["participants", "0x10001"]),
        ("threads", 36, &[0xff; 4], libc::EUCLEAN, &["threads", "0x24"]),
        ("entries", 40, &[0xff; 4], libc::EUCLEAN, &["entries", "0x28"]),
        ("entries", 40, &[0, 0, 1, 0], libc::EUCLEAN, &["size", "damaged"]),
        ("objects", 12, &[0; 4], libc::EUCLEAN, &["objects", "0xc"]),
        ("memory", 48, &[0xff; 8], libc::EUCLEAN, &["memory", "0x30"]),
        ("memory", 48, &[0, 0, 0, 0, 0, 1, 0, 0], libc::EUCLEAN, &["size", "damaged"]),
    ];
    for (what, offset, bytes, errno, parts) in table {
        patch(&name.0, offset, bytes);
        check(what, open(), errno, &[parts, &[&name.0[..]]].concat());
        check(what, options().open_or_create(&name.0).unwrap_err(), errno, parts);
        check(what, options().inspect(&name.0).unwrap_err(), errno, parts);
        patch(&name.0, 0, &original[..4096]);
    }
    drop(options().open(&name.0).expect("repaired"));
    let path = format!("/dev/shm{}", name.0);
    for (length, errno) in [(4096, libc::EUCLEAN), (4095, libc::EMEDIUMTYPE), (0, libc::EMEDIUMTYPE)] {
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        check("truncated", open(), errno, &[&name.0]);
    }
    std::fs::write(&path, &original).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    check("grown, sparse", open(), libc::EMEDIUMTYPE, &["sparse", &size[..1]]);
}

#[test]
fn waits_and_locks_name_their_queue_or_region() {
    let stage = Stage::new();
    let queue = stage.queue.name();
    let wait = |options: &WaitOptions| stage.queue.wait_event_with(options, || false).unwrap_err();
    let soon = WaitOptions::new().timeout(Duration::from_nanos(1));
    check("timeout", wait(&soon), libc::ETIMEDOUT, &[queue, "timed out", "deadline"]);
    let handle = Interrupter::new(&stage.region);
    handle.interrupt();
    check("interrupt", wait(&WaitOptions::new().interrupter(&handle)), libc::EINTR, &[queue, "wait again"]);
    let sole = WaitOptions::new().exclusive().priority();
    let holder = stage.queue.prepare_to_wait(&sole).unwrap();
    check("priority", wait(&sole), libc::EBUSY, &[queue, "without priority"]);
    drop(holder);
    let other = Stage::new();
    let head = other.region.object::<QueueHead>("head").unwrap();
    let word = other.region.object::<RobustLock>("lock").unwrap();
    let region = stage.region.name();
    check("foreign head", stage.region.queue_at(&head).unwrap_err(), libc::EINVAL, &[region, "queue head"]);
    check("foreign lock", stage.region.lock_at(&word).unwrap_err(), libc::EINVAL, &[region, "robust lock"]);
    other.region.queue_at(&head).unwrap().wake_up().unwrap();
    let lock = other.region.lock_at(&word).unwrap();
    let guard = lock.lock().unwrap();
    check("relock", lock.lock().unwrap_err(), libc::EDEADLK, &[other.region.name(), "async-signal-safe"]);
    drop(guard);
    stage.queue.close().unwrap();
    check("closed", wait(&WaitOptions::new()), libc::ESHUTDOWN, &[queue, "closed", "stop using it"]);
}

#[test]
fn memfds_that_could_shrink_or_are_read_only_are_refused() {
    let memfd = |seals: i32| {
        let region = options().create_memfd("sealed").unwrap();
        let source = region.try_clone_fd().unwrap();
        let bytes = std::fs::read(format!("/proc/self/fd/{}", source.as_raw_fd())).unwrap();
        // SAFETY: a new descriptor that nobody else owns.
        let fd =
            unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"copy".as_ptr(), libc::MFD_ALLOW_SEALING)) };
        std::fs::File::from(fd.try_clone().unwrap()).write_all_at(&bytes, 0).unwrap();
        std::fs::File::from(fd.try_clone().unwrap())
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
        fd
    };
    for seals in [0, libc::F_SEAL_GROW, libc::F_SEAL_SHRINK, libc::F_SEAL_SEAL] {
        let error = options().open_fd(memfd(seals)).unwrap_err();
        check("seals", error, libc::EACCES, &["truncated", "sealed against shrinking and growing"]);
    }
    drop(options().open_fd(memfd(libc::F_SEAL_GROW | libc::F_SEAL_SHRINK)).expect("sealed"));
    let unwritable = memfd(libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE);
    assert!(options().open_fd(unwritable).is_err());
    let file = std::fs::File::open("/dev/null").unwrap();
    check("no memfd", options().open_fd(file.into()).unwrap_err(), libc::EMEDIUMTYPE, &["device"]);
}
