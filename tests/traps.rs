//! Traps that are about single steps of a wake or a lock: what a stranger may do to our words meanwhile, and what a
//! waker may and may not rely on.
#![allow(unsafe_code)]

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Stage, bounded, thread, woken};
use common::{Child, Name, until};
use rustix::thread::futex::{self, Flags};
use waitqueue::{Region, WaitOptions};

#[test]
fn role() {
    common::play(&[("waker", waker)]);
}

/// Wakes the queue once, when told to.
fn waker(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    common::say("ready");
    common::listen();
    stage.set(1);
    stage.queue.wake_up_all().unwrap();
    common::say("woke");
}

/// The words of a region's entries, at which its threads sleep.
struct Words {
    bytes: memmap2::MmapRaw,
    entries: std::ops::Range<usize>,
}

impl Words {
    const ENTRY: usize = 128;
    const ASLEEP: u32 = 2;

    /// Of a region with these capacities, as the layout says.
    fn of(name: &Name, participants: usize, threads: usize, entries: usize) -> Words {
        let file =
            std::fs::File::options().read(true).write(true).open(format!("/dev/shm{}", name.0)).unwrap();
        let start = 4096 + participants * (64 + 128) + threads * 128;
        let bytes = memmap2::MmapRaw::map_raw(&file).unwrap();
        Words { bytes, entries: start..start + entries * Words::ENTRY }
    }

    fn iter(&self) -> impl Iterator<Item = &AtomicU32> {
        // SAFETY: inside the mapping and aligned, and an atomic whatever its bytes are.
        self.entries
            .clone()
            .step_by(Words::ENTRY)
            .map(|at| unsafe { AtomicU32::from_ptr(self.bytes.as_mut_ptr().add(at).cast()) })
    }
}

#[test]
fn trap_02_a_relaxed_store_and_a_wake_are_enough() {
    const ROUNDS: u32 = 20_000;
    let stage = Stage::new();
    let turn = stage.region.object::<AtomicU32>("turn").unwrap();
    let wait = |queue: &waitqueue::Queue, turn: &AtomicU32, value| {
        queue.wait_event_with(&bounded(), || turn.load(Relaxed) == value).unwrap();
    };
    let other = thread({
        let (stage, turn) = (stage.clone(), turn.clone());
        move || {
            for round in 0..ROUNDS {
                wait(&stage.queue, &turn, 2 * round + 1);
                turn.store(2 * round + 2, Relaxed);
                stage.queue.wake_up().unwrap();
            }
        }
    });
    for round in 0..ROUNDS {
        turn.store(2 * round + 1, Relaxed);
        stage.queue.wake_up().unwrap();
        wait(&stage.queue, &turn, 2 * round + 2);
    }
    other.join();
}

#[test]
fn trap_08_a_wake_changes_the_word_it_wakes() {
    let name = Name::new();
    let region = common::options().participants(4).threads(8).entries(8).create(&name.0).unwrap();
    let stage = Stage::of(region);
    let sleeper = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop)
    });
    stage.asleep(1);
    let words = Words::of(&name, 4, 8, 8);
    let word = words.iter().find(|word| word.load(Acquire) == Words::ASLEEP).expect("somebody sleeps");
    // Put off, the wake has marked its waiter and made no system call yet: were he on his way to sleep, he would stop.
    let ((), changed) = (stage.set(1), stage.queue.wake_up_sync(|| word.load(Acquire) != Words::ASLEEP));
    assert_eq!(changed, Ok((woken(0, 1), true)));
    sleeper.join().unwrap();
}

#[test]
fn trap_10_a_wake_that_comes_late_to_a_word_is_harmless_to_who_has_it_now() {
    let name = Name::new();
    let region = common::options().participants(4).threads(8).entries(8).create(&name.0).unwrap();
    let stage = Stage::of(region);
    let (words, over) = (Words::of(&name, 4, 8, 8), Arc::new(AtomicBool::new(false)));
    let stranger = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Relaxed) {
                for word in words.iter() {
                    let _ = futex::wake(word, Flags::empty(), u32::MAX >> 1);
                }
            }
        }
    });
    for _ in 0..200 {
        let woken_once = thread({
            let stage = stage.clone();
            move || stage.queue.wait_woken(&bounded().exclusive()).map(drop)
        });
        stage.asleep(1);
        assert_eq!(stage.queue.wake_up_nr(NonZeroU32::MIN), Ok(woken(1, 0)), "still the one waiter there is");
        woken_once.join().unwrap();
    }
    over.store(true, Relaxed);
    stranger.join().unwrap();
}

#[test]
fn trap_11_the_bytes_of_an_object_are_its_own_as_long_as_the_region_lives() {
    let name = Name::new();
    let mut places: Vec<(usize, String)> = Vec::new();
    for round in 0..3 {
        let region = name.region();
        let base = region.object::<AtomicU32>("first").unwrap();
        let offset = |queue: &str| {
            let address = region.object_address(queue, "waitqueue head", 64, 64).unwrap();
            address.as_ptr() as usize - &raw const *base as usize
        };
        for queue in 0..=round * 3 {
            let queue = format!("queue {queue}");
            let place = offset(&queue);
            match places.iter().find(|(known, _)| known.abs_diff(place) < 64) {
                Some((known, owner)) => assert_eq!((*known, owner), (place, &queue)),
                None => places.push((place, queue)),
            }
        }
    }
    assert_eq!(places.len(), 7);
}

#[test]
fn trap_18_a_wake_all_ends_though_the_woken_queue_again_at_once() {
    let stage = Stage::new();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let stage = stage.clone();
            thread(move || while !stage.is_set() && stage.queue.wait_woken(&bounded().exclusive()).is_ok() {})
        })
        .collect();
    for _ in 0..2_000 {
        let woken = stage.queue.wake_up_all().unwrap();
        assert!(woken.exclusive <= 4, "{woken:?}: somebody was met twice in one walk");
    }
    stage.set(1);
    // One may have looked at the flag before, and wait only now.
    for waiter in waiters {
        until("it goes", || {
            stage.queue.wake_up_all().unwrap();
            waiter.ends_within(Duration::from_millis(1)).is_some()
        });
    }
}

#[test]
fn trap_22_a_wake_is_a_hint_and_who_comes_first_may_take_the_item() {
    let stage = Stage::new();
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded().exclusive(), || stage.take()).map(drop)
    });
    stage.asleep(1);
    for _ in 0..100 {
        stage.set(1);
        // Put off until we have taken the item ourselves.
        let (woken_now, ()) =
            stage.queue.wake_up_sync(|| assert!(stage.take(), "nobody runs before us")).unwrap();
        assert_eq!(woken_now, woken(1, 0));
        stage.asleep(1);
    }
    stage.set(1);
    stage.queue.wake_up().unwrap();
    waiter.join().unwrap();
}

#[cfg(debug_assertions)]
#[test]
fn trap_27_the_system_calls_of_a_wake_are_made_without_the_lock() {
    let name = Name::new();
    let stage = Stage::of(name.region());
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop)
    });
    stage.asleep(1);
    let mut stopped = Child::start_with("waker", &[&name.0], &[("WAITQUEUE_STOP", "wake: some woken")]);
    stopped.expect("ready");
    stopped.tell("go");
    until("it stops before its system call", || state_of_process(stopped.pid()) == 'T');
    // The lock is free, and somebody else's wake reaches whom the stopped one has marked but not woken.
    stage.queue.wake_up().unwrap();
    waiter.join().unwrap();
    stage.region.check().unwrap();
}

#[cfg(debug_assertions)]
fn state_of_process(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
}

#[test]
fn trap_37_a_lock_without_owner_is_free_whatever_its_waiters_bit_says() {
    let region: Region = common::options().create_memfd("waiters bit").unwrap();
    let stage = Stage::of(region);
    let head = stage.region.object_address("queue", "waitqueue head", 64, 64).unwrap();
    // SAFETY: the lock word is the first of a head, and an atomic.
    let lock = unsafe { AtomicU32::from_ptr(head.as_ptr().cast()) };
    lock.store(1 << 31, Relaxed);
    let soon = WaitOptions::new().timeout(Duration::from_millis(1));
    assert!(matches!(stage.queue.wait_event_with(&soon, || false), Err(waitqueue::Error::TimedOut { .. })));
    assert_eq!(lock.load(Relaxed) & !(1 << 31), 0, "taken and released");
    stage.region.check().unwrap();
}

#[test]
fn trap_44_a_sleeper_that_a_stranger_moves_to_another_word_is_found_by_the_tick() {
    let name = Name::new();
    let options =
        Region::builder().participants(4).threads(8).entries(8).tick(Some(Duration::from_millis(50)));
    // Open to a group: only where strangers may open it is each sleep guarded against them.
    let options = options.mode(0o660).spin(Duration::ZERO);
    let stage = Stage::of(options.create(&name.0).unwrap());
    let words = Words::of(&name, 4, 8, 8);
    for _ in 0..20 {
        stage.set(0);
        let sleeper = thread({
            let stage = stage.clone();
            move || stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop)
        });
        stage.asleep(1);
        let elsewhere = words.iter().last().unwrap();
        for word in words.iter().filter(|word| word.load(Acquire) == Words::ASLEEP) {
            let _ = futex::requeue(word, Flags::empty(), 0, u32::MAX >> 1, elsewhere);
        }
        stage.set(1);
        stage.queue.wake_up().unwrap();
        sleeper.join().unwrap();
    }
}
