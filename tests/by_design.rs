//! Traps that the types exclude: these tests are about what compiles, and what the sources say.

mod common;

use std::sync::atomic::AtomicU32;

use common::stage::{Stage, bounded, thread, woken};
use common::{Child, Name, say};
use waitqueue::{
    Error, Interrupter, Lock, Member, Object, ParticipantId, ParticipantInfo, Queue, QueueHead, QueueInfo,
    Region, RegionBuilder, RobustLock, Shared, Snapshot, WaitOptions, WakeOptions, Woken,
};

#[test]
fn role() {
    common::play(&[("leaves", leaves)]);
}

const fn goes_anywhere<T: Send + Sync + 'static>() {}
const _: () = {
    goes_anywhere::<Region>();
    goes_anywhere::<RegionBuilder>();
    goes_anywhere::<Queue>();
    goes_anywhere::<Object<AtomicU32>>();
    goes_anywhere::<Object<QueueHead>>();
    goes_anywhere::<Lock>();
    goes_anywhere::<Interrupter>();
    goes_anywhere::<WaitOptions<'static>>();
    goes_anywhere::<WakeOptions>();
    goes_anywhere::<(Member, ParticipantId, Woken)>();
    goes_anywhere::<(Snapshot, QueueInfo, ParticipantInfo)>();
    goes_anywhere::<Error>();
};

/// What may lie in a region; `bool`, `usize`, pointers, enums and plain numbers are not `Shared`, which the
/// documentation of `shared_struct!` shows with an example that does not compile.
const fn lies_in_a_region<T: Shared>(size: usize, align: usize) {
    assert!(size_of::<T>() == size && align_of::<T>() == align);
}
const _: () = {
    lies_in_a_region::<AtomicU32>(4, 4);
    lies_in_a_region::<[AtomicU32; 3]>(12, 4);
    lies_in_a_region::<QueueHead>(64, 64);
    lies_in_a_region::<RobustLock>(16, 16);
};

#[test]
fn trap_32_the_shared_layout_is_made_of_atomics_of_fixed_size() {
    let source = include_str!("../src/layout.rs");
    let source = source.split("mod assertions").next().unwrap();
    let mut fields = 0;
    let mut inside = false;
    for line in source.lines().map(str::trim) {
        match line {
            _ if line.contains("struct ") && line.ends_with('{') => inside = true,
            "}" => inside = false,
            _ if inside && !line.starts_with("//") => {
                let kind =
                    line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")).1.trim_end_matches(',');
                let kind = kind.trim_start_matches('[').split([';', '<']).next().unwrap();
                let known = ["AtomicU32", "AtomicU64", "Guarded32", "Guarded64", "LifeWord", "Text"];
                assert!(known.contains(&kind), "a field of kind {kind}");
                fields += 1;
            }
            _ => {}
        }
    }
    assert!(fields > 50, "the structs of layout.rs: {fields} fields");
}

#[test]
fn trap_30_whatever_was_got_from_a_region_keeps_it_mapped_and_attached() {
    let name = Name::new();
    let other = Stage::of(name.region());
    let region = name.region();
    let id = region.me();
    let (queue, object) = (region.queue("queue").unwrap(), region.object::<AtomicU32>("flag").unwrap());
    let lock = region.lock_at(&region.object::<RobustLock>("lock").unwrap()).unwrap();
    drop(region);
    assert!(other.region.is_alive(id));
    let waiter = thread({
        let (queue, object) = (queue.clone(), object.clone());
        move || {
            let flag = || object.load(std::sync::atomic::Ordering::Acquire) != 0;
            queue.wait_event_with(&bounded(), flag).map(drop)
        }
    });
    other.asleep(1);
    drop(queue);
    drop(object);
    assert_eq!(other.set_and_wake(), woken(0, 1));
    assert_eq!(waiter.join(), Ok(()));
    assert!(other.region.is_alive(id), "the lock still holds it");
    drop(lock.lock().unwrap());
    drop(lock);
    assert!(!other.region.is_alive(id), "the last handle has gone");
    assert_eq!(other.region.participants().len(), 1);
}

/// Ends while others of its threads wait: nothing tears the mapping from under them.
fn leaves(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    for _ in 0..3 {
        let stage = stage.clone();
        std::thread::spawn(move || stage.queue.wait_event(|| stage.is_set()));
    }
    stage.asleep(3);
    drop(stage);
    say("leaves");
}

#[test]
fn trap_30_a_process_may_end_while_its_threads_wait() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut child = Child::start("leaves", &[&name.0]);
    child.expect("leaves");
    child.end_well();
    common::until("its waiters are taken off", || !stage.queue.has_sleepers());
    stage.region.check().unwrap();
}

#[test]
fn trap_47_no_instant_is_stored() {
    for file in ["entry", "enrolled", "head", "layout", "list", "lock", "thread", "participant"] {
        let source =
            std::fs::read_to_string(format!("{}/src/{file}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            assert!(!line.contains("Instant"), "{file}.rs: {line}");
            let stores = line.contains(".store(") && line.contains("Deadline");
            assert!(!stores, "{file}.rs: {line}");
        }
    }
}
