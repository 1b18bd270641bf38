//! Regions: many creators at once, objects made exactly once, descriptors passed on, names taken away, and starting
//! again after everybody was killed.

#![allow(unsafe_code)]

mod common;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use common::stage::{Stage, bounded, woken};
use common::{Child, Name, Random, listen, options, say};
use waitqueue::{Error, ParticipantId, Region, Shared};

#[test]
fn role() {
    common::play(&[
        ("racer", racer),
        ("namer", namer),
        ("inheritor", inheritor),
        ("receiver", receiver),
        ("sleeper", sleeper),
        ("keeper", keeper),
        ("attached", attached),
    ]);
}

/// Waits for the region of each round to be named, then opens it as all others do at that moment.
fn racer(args: &[String]) {
    let control = Stage::of(common::region(&args[0]));
    for round in 1..=args[2].parse::<u32>().unwrap() {
        control.queue.wait_event_with(&bounded(), || control.flag.load(Acquire) >= round).unwrap();
        let region = common::region(&format!("{}-{round}", args[1]));
        region.object::<AtomicU32>("count").unwrap().fetch_add(1, AcqRel);
        let everybody = control.region.object::<AtomicU32>("everybody").unwrap();
        everybody.fetch_add(1, AcqRel);
        control.region.queue("arrived").unwrap().wake_up().unwrap();
    }
}

#[test]
fn p10_of_many_that_open_or_create_one_creates() {
    const RACERS: u32 = 10;
    const ROUNDS: u32 = 12;
    let (control, prefix) = (Name::new(), Name::new());
    let stage = Stage::of(control.region());
    let everybody = stage.region.object::<AtomicU32>("everybody").unwrap();
    let arrived = stage.region.queue("arrived").unwrap();
    let mut racers: Vec<_> =
        (0..RACERS).map(|_| Child::start("racer", &[&control.0, &prefix.0, &ROUNDS.to_string()])).collect();
    stage.asleep(RACERS as usize);
    for round in 1..=ROUNDS {
        let name = Name(format!("{}-{round}", prefix.0));
        stage.set(round);
        stage.queue.wake_up_all().unwrap();
        arrived.wait_event_with(&bounded(), || everybody.load(Acquire) == round * RACERS).unwrap();
        let count = options().open(&name.0).unwrap().object::<AtomicU32>("count").unwrap().load(Acquire);
        assert_eq!(count, RACERS, "round {round}: all were in the same region");
    }
    racers.iter_mut().for_each(Child::end_well);
}

/// Opens a number of objects in its own order, and counts itself in each.
fn namer(args: &[String]) {
    let region = common::region(&args[0]);
    let mut random = Random(args[1].parse().unwrap());
    let mut names: Vec<u32> = (0..args[2].parse().unwrap()).collect();
    listen();
    while !names.is_empty() {
        let name = names.swap_remove(random.below(names.len() as u64) as usize);
        region.object::<AtomicU32>(&format!("object {name}")).unwrap().fetch_add(1, AcqRel);
    }
}

#[test]
fn a_named_object_is_created_exactly_once() {
    const NAMERS: u32 = 6;
    const NAMES: u32 = 100;
    let seed = common::seed();
    let name = Name::new();
    let region = name.region();
    let mut namers: Vec<_> = (0..NAMERS)
        .map(|nth| {
            Child::start("namer", &[&name.0, &(seed + u64::from(nth)).to_string(), &NAMES.to_string()])
        })
        .collect();
    namers.iter_mut().for_each(|namer| namer.tell("go"));
    namers.iter_mut().for_each(Child::end_well);
    let objects = region.snapshot().objects;
    assert_eq!(objects.len(), NAMES as usize);
    for (name, tag, size) in objects {
        assert_eq!((tag.as_str(), size), ("u32", 4), "{name}");
        assert_eq!(region.object::<AtomicU32>(&name).unwrap().load(Acquire), NAMERS, "{name}");
    }
}

waitqueue::shared_struct! {
    #[tag = "pair"]
    struct Loose { a: AtomicU32, b: AtomicU32 }
}
waitqueue::shared_struct! {
    #[tag = "pair"]
    struct Tight { both: AtomicU64 }
}

#[test]
fn an_object_of_another_shape_is_refused_with_both_named() {
    let region = options().create_memfd("shapes").unwrap();
    let _number = region.object::<AtomicU32>("number").unwrap();
    let _array = region.object::<[AtomicU32; 4]>("array").unwrap();
    let _pair = region.object::<Loose>("pair").unwrap();
    let _queue = region.queue("queue").unwrap();
    fn refused<T: Shared>(region: &Region, name: &str, what: &str, found: &str, asked: &str) {
        let error = region.object::<T>(name).unwrap_err();
        let text = error.to_string();
        for part in [what, found, asked, name, region.name(), "use another name"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        assert_eq!(error.errno(), libc::EEXIST);
    }
    refused::<AtomicU64>(&region, "number", "type tag", "\"u32\"", "\"u64\"");
    refused::<[AtomicU32; 5]>(&region, "array", "size", "16", "20");
    refused::<Tight>(&region, "pair", "alignment", "4", "8");
    refused::<AtomicU32>(&region, "queue", "type tag", "waitqueue head", "u32");
    let error = region.queue("number").unwrap_err();
    assert!(matches!(error, Error::ObjectMismatch { .. }), "{error}");
    assert_eq!(region.object::<AtomicU32>("number").unwrap().load(Acquire), 0, "as it was");
}

#[test]
fn a_region_is_as_large_as_the_readme_says_and_has_room_for_as_many_queues_as_objects() {
    let size = options().create_memfd("default").unwrap().snapshot().size;
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("128 KiB for them: {} KiB.", size >> 10)), "it has {size} bytes");
    assert_eq!(size % 1024, 0);
    // As large as 4,096 queues.
    let region = options().objects(4096).create_memfd("wide").unwrap();
    let _all = region.object::<[AtomicU64; 4096 * 8]>("all").unwrap();
    assert!(matches!(region.queue("more"), Err(Error::Full { what: "memory", .. })));
}

fn answer(fd: RawFd) {
    // SAFETY: the descriptor was passed to this process, and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let stage = Stage::of(options().open_fd(fd).unwrap());
    say("attached");
    stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()).unwrap();
    say("woken");
}

fn inheritor(args: &[String]) {
    answer(args[0].parse().unwrap());
}

/// Gets the descriptor through the socket it inherited.
fn receiver(args: &[String]) {
    let socket = args[0].parse::<RawFd>().unwrap();
    let mut byte = 0_u8;
    let mut control = [0_u64; 8];
    // SAFETY: all pointers lead to locals that outlive the call.
    let fd = unsafe {
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        assert_eq!(libc::recvmsg(socket, &raw mut message, 0), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        libc::CMSG_DATA(header).cast::<i32>().read_unaligned()
    };
    answer(fd);
}

fn send(socket: &UnixStream, fd: RawFd) {
    let mut byte = 1_u8;
    let mut control = [0_u64; 8];
    // SAFETY: as in `receiver`; the buffer has room for one header and one descriptor.
    unsafe {
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0), 1);
    }
}

#[test]
fn a_memfd_region_is_shared_by_inheritance_and_by_scm_rights() {
    for by_socket in [false, true] {
        let stage = Stage::new();
        let fd = stage.region.try_clone_fd().unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        let mut child = if by_socket {
            let child = Child::inheriting("receiver", there.as_raw_fd(), &[]);
            send(&here, fd.as_raw_fd());
            child
        } else {
            Child::inheriting("inheritor", fd.as_raw_fd(), &[])
        };
        child.expect("attached");
        stage.asleep(1);
        assert_eq!(stage.set_and_wake(), woken(1, 0));
        child.expect("woken");
        child.end_well();
    }
}

/// Sleeps for ever with a descriptor of somebody else's region.
fn keeper(_: &[String]) {
    say("kept");
    std::thread::sleep(common::LIMIT);
}

/// Attaches, passes its descriptor to a child of its own, and says who both are.
fn attached(args: &[String]) {
    let region = common::region(&args[0]);
    let fd = region.try_clone_fd().unwrap();
    let mut keeper = Child::inheriting("keeper", fd.as_raw_fd(), &[]);
    keeper.expect("kept");
    say(&region.me().get().to_string());
    say(&keeper.pid().to_string());
    listen();
}

#[test]
fn trap_41_who_has_a_copy_of_our_descriptor_does_not_keep_us_alive() {
    let name = Name::new();
    let region = name.region();
    let mut child = Child::start("attached", &[&name.0]);
    let id = ParticipantId::new(child.hear().parse().unwrap()).unwrap();
    assert!(region.is_alive(id));
    let keeper: i32 = child.hear().parse().unwrap();
    child.kill();
    common::until("it is known to be dead", || !region.is_alive(id));
    // SAFETY: numbers only; it runs, or ran until a moment ago, with nobody to reap it but init.
    assert_eq!(unsafe { libc::kill(keeper, libc::SIGKILL) }, 0, "the copy was there all the time");
}

#[test]
fn trap_15_a_slot_that_is_used_again_gets_an_id_of_its_own() {
    let name = Name::new();
    let region = options().participants(2).create(&name.0).unwrap();
    let mut seen = vec![region.me()];
    for _ in 0..5 {
        let mut child = Child::start("sleeper", &[&name.0]);
        let id = ParticipantId::new(child.hear().parse().unwrap()).unwrap();
        assert!(!seen.contains(&id), "{id} again");
        assert!(region.is_alive(id) && seen[1..].iter().all(|old| !region.is_alive(*old)));
        assert_eq!(ParticipantId::new(id.get()), Some(id));
        child.kill();
        common::until("it is known to be dead", || !region.is_alive(id));
        seen.push(id);
    }
    assert_eq!(ParticipantId::new(0), None);
}

/// Says its id and sleeps until the flag is set.
fn sleeper(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    say(&stage.region.me().get().to_string());
    stage.queue.wait_event_with(&bounded(), || stage.is_set()).unwrap();
    say("woken");
}

#[test]
fn p10_the_same_programs_start_again_after_everybody_was_killed() {
    let name = Name::new();
    for round in 0..5 {
        // Everything is scarce, so that what the dead had must come back.
        let open = || options().participants(4).threads(9).entries(8).open_or_create(&name.0).unwrap();
        let mine = (round % 2 == 0).then(open); // in another order each time
        let mut children: Vec<_> = (0..3).map(|_| Child::start("sleeper", &[&name.0])).collect();
        let ids: Vec<_> = children.iter_mut().map(Child::hear).collect();
        let stage = Stage::of(mine.unwrap_or_else(open));
        stage.asleep(3);
        stage.set_and_wake();
        children[0].expect("woken");
        stage.set(0);
        children.iter_mut().for_each(Child::kill);
        assert_eq!(ids.len(), 3);
        drop(stage); // nobody is left
    }
    let mut last: Vec<_> = (0..3).map(|_| Child::start("sleeper", &[&name.0])).collect();
    last.iter_mut().for_each(|child| drop(child.hear()));
    last.iter_mut().for_each(Child::kill); // with nobody there to notice
    let stage = Stage::of(name.region());
    assert!(!stage.queue.has_sleepers());
    assert_eq!(stage.region.participants().len(), 1);
    stage.region.check().unwrap();
}

#[test]
fn an_unlinked_region_goes_on_and_its_name_is_free() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut child = Child::start("sleeper", &[&name.0]);
    child.hear();
    stage.asleep(1);
    Region::unlink(&name.0).unwrap();
    assert_eq!(Region::unlink(&name.0), Err(Error::NoSuchRegion { region: name.0[..].into() }));
    let other = Stage::of(options().create(&name.0).unwrap());
    assert!(!other.queue.has_sleepers(), "another region");
    assert_eq!(stage.set_and_wake(), woken(0, 1));
    child.expect("woken");
    child.end_well();
}

#[test]
fn a_process_may_attach_twice() {
    let name = Name::new();
    let (first, second) = (Stage::of(name.region()), Stage::of(name.region()));
    let (one, two) = (first.region.me(), second.region.me());
    assert_ne!(one, two);
    let waiter = common::stage::thread({
        let second = second.clone();
        move || second.queue.wait_event_with(&bounded().exclusive(), || second.take()).map(drop)
    });
    first.asleep(1);
    assert_eq!(first.set_and_wake(), woken(1, 0));
    assert_eq!(waiter.join(), Ok(()));
    let mut third = Child::start("sleeper", &[&name.0]);
    third.hear();
    drop(second);
    assert!(first.region.is_alive(one) && !first.region.is_alive(two), "one leaves, the other stays");
    let seen = options().inspect(&name.0).unwrap().participants;
    assert!(seen.iter().any(|participant| participant.id == one && participant.alive));
    first.asleep(1);
    first.set_and_wake();
    third.end_well();
}
