//! Regions that offer too little or are of another version: refused with both sides named, and replaced on request, but
//! never while somebody lives there. Which is P9's refusal and P10's replacement.

mod common;

use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::*};

use common::{Child, Name, listen, options, say};
use waitqueue::{Error, RegionBuilder};

#[test]
fn role() {
    common::play(&[("lives", lives), ("replaces", replaces)]);
}

fn lives(args: &[String]) {
    let _region = common::region(&args[0]);
    say("lives");
    listen();
}

/// A child that another test starts has copies of our descriptors until it becomes its program, and a region that was
/// just left looks inhabited as long: so these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Makes a region look as if another version had made it.
fn age(name: &str) {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm{name}")).unwrap();
    file.write_all_at(&77_u32.to_le_bytes(), 8).unwrap();
}

fn small() -> RegionBuilder {
    options().entries(16).memory(4096)
}

#[test]
fn p9_a_region_that_is_too_small_is_refused_with_both_numbers() {
    let _turn = TURN.lock();
    let name = Name::new();
    drop(small().participants(4).threads(8).objects(3).create(&name.0).unwrap());
    type More = fn(RegionBuilder) -> RegionBuilder;
    let table: [(&str, u64, u64, More); 5] = [
        ("participants", 4, 5, |b| b.participants(5)),
        ("threads", 8, 9, |b| b.threads(9)),
        ("entries", 16, 17, |b| b.entries(17)),
        ("objects", 3, 4, |b| b.objects(4)),
        ("memory", 4096, 4097, |b| b.memory(4097)),
    ];
    for (what, found, asked, more) in table {
        let error = more(options()).open_or_create(&name.0).unwrap_err();
        assert_eq!(error, Error::TooSmall { region: name.0[..].into(), what, found, asked });
        let text = error.to_string();
        assert!(
            text.contains(&format!("{what} = {found}, but {asked}")) && text.contains("unlink"),
            "{text}"
        );
        assert_eq!(error.errno(), libc::ERANGE);
    }
    drop(options().open_or_create(&name.0).expect("what was not asked for is not missed"));
    drop(small().open_or_create(&name.0).expect("exactly as much is enough"));
}

#[test]
fn p10_a_dead_region_of_another_version_or_too_small_is_replaced_on_request() {
    let _turn = TURN.lock();
    for too_small in [true, false] {
        let name = Name::new();
        let old = small().create(&name.0).unwrap();
        old.object::<AtomicU32>("mark").unwrap().store(1, Release);
        drop(old);
        if !too_small {
            age(&name.0);
        }
        let ask = || options().entries(64);
        assert!(ask().open_or_create(&name.0).is_err(), "only on request");
        assert!(ask().replace_dead().open(&name.0).is_ok() == too_small, "opening replaces nothing");
        let new = ask().replace_dead().open_or_create(&name.0).unwrap();
        assert_eq!(new.object::<AtomicU32>("mark").unwrap().load(Acquire), 0, "a new region");
        let again = ask().replace_dead().open_or_create(&name.0).unwrap();
        assert_eq!(again.participants().len(), 2, "which is not replaced in turn");
    }
}

#[test]
fn p10_a_region_in_which_somebody_lives_is_not_replaced() {
    let _turn = TURN.lock();
    let name = Name::new();
    drop(small().create(&name.0).unwrap());
    let mut child = Child::start("lives", &[&name.0]);
    child.expect("lives");
    let ask = || options().entries(64).replace_dead().open_or_create(&name.0);
    assert!(matches!(ask(), Err(Error::TooSmall { .. })));
    age(&name.0);
    assert!(matches!(ask(), Err(Error::WrongVersion { found: 77, expected: 4, .. })));
    child.signal(libc::SIGSTOP);
    assert!(ask().is_err(), "stopped is not dead");
    child.kill();
    common::until("it can be replaced", || ask().is_ok());
}

#[test]
fn what_is_not_a_region_is_not_replaced() {
    let _turn = TURN.lock();
    let name = Name::new();
    std::fs::write(format!("/dev/shm{}", name.0), vec![7; 8192]).unwrap();
    std::fs::set_permissions(
        format!("/dev/shm{}", name.0),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let error = options().replace_dead().open_or_create(&name.0).unwrap_err();
    assert!(matches!(error, Error::NotARegion { .. }), "{error}");
    assert_eq!(std::fs::read(format!("/dev/shm{}", name.0)).unwrap(), vec![7; 8192]);
}

/// Replaces what it finds and counts itself there.
fn replaces(args: &[String]) {
    listen();
    let region = options().entries(64).replace_dead().open_or_create(&args[0]).unwrap();
    region.object::<AtomicU32>("count").unwrap().fetch_add(1, AcqRel);
    say("counted");
    listen();
}

#[test]
fn p10_of_many_that_replace_a_region_all_end_up_in_the_same() {
    let _turn = TURN.lock();
    const RACERS: u32 = 6;
    for _ in 0..5 {
        let name = Name::new();
        drop(small().create(&name.0).unwrap());
        let mut racers: Vec<_> = (0..RACERS).map(|_| Child::start("replaces", &[&name.0])).collect();
        racers.iter_mut().for_each(|racer| racer.tell("go"));
        racers.iter_mut().for_each(|racer| racer.expect("counted"));
        let region = options().open(&name.0).unwrap();
        assert_eq!(region.object::<AtomicU32>("count").unwrap().load(Acquire), RACERS);
        racers.iter_mut().for_each(|racer| racer.tell("end"));
        racers.iter_mut().for_each(Child::end_well);
    }
}
