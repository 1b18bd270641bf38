//! Regions inside segments of the `shared_memory` crate (with the feature of that name).
#![cfg(feature = "shared_memory")]

mod common;

use common::stage::{Stage, bounded, woken};
use common::{Child, Name, options, say};
use shared_memory::{Shmem, ShmemConf};
use waitqueue::Error;

#[test]
fn role() {
    common::play(&[("adopts", adopts)]);
}

fn segment(name: &str, size: Option<usize>) -> Shmem {
    let conf = ShmemConf::new().os_id(name);
    match size {
        Some(size) => conf.size(size).create().unwrap(),
        None => conf.open().unwrap(),
    }
}

/// Private, as a region's file has to be.
fn private(name: &str) {
    let path = format!("/dev/shm{name}");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn adopts(args: &[String]) {
    let mut shmem = segment(&args[0], None);
    shmem.set_owner(false);
    let stage = Stage::of(options().entries(64).adopt(shmem).unwrap());
    say("adopted");
    stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()).unwrap();
    say("woken");
}

#[test]
fn a_segment_is_formatted_by_the_first_and_joined_by_the_others() {
    let name = Name::new();
    let shmem = segment(&name.0, Some(1 << 20));
    private(&name.0);
    let stage = Stage::of(options().entries(64).adopt(shmem).unwrap());
    let mut child = Child::start("adopts", &[&name.0]);
    child.expect("adopted");
    stage.asleep(1);
    assert_eq!(stage.set_and_wake(), woken(1, 0));
    child.expect("woken");
    child.end_well();
    assert_eq!(stage.region.participants().len(), 1);
    stage.region.check().unwrap();
}

#[test]
fn of_many_that_adopt_a_segment_one_formats_it() {
    let name = Name::new();
    let keep = segment(&name.0, Some(1 << 20));
    private(&name.0);
    let mut children: Vec<_> = (0..4).map(|_| Child::start("adopts", &[&name.0])).collect();
    children.iter_mut().for_each(|child| child.expect("adopted"));
    let stage = Stage::of(options().entries(64).adopt(keep).unwrap());
    stage.asleep(4);
    stage.set(4);
    assert_eq!(stage.queue.wake_up_all(), Ok(woken(4, 0)));
    children.iter_mut().for_each(|child| child.expect("woken"));
}

#[test]
fn a_segment_that_is_too_small_is_refused_with_both_numbers() {
    let name = Name::new();
    let shmem = segment(&name.0, Some(8192));
    private(&name.0);
    let error = options().adopt(shmem).unwrap_err();
    assert!(matches!(error, Error::TooSmall { what: "size", found: 8192, .. }), "{error}");
    assert!(error.to_string().contains("8192") && error.to_string().contains(&name.0), "{error}");
}
