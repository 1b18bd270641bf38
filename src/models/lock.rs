//! The robust lock: who holds it is alone, and sees what was done under it before.

use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::thread::{JoinHandle, spawn};

use super::{RACE, STUCK, World, claim, models, queue};
use crate::atomic::{Ordering, Ordering::*};
use crate::head::REGION_LOCK;
use crate::lock::{Grip, owner_bits};
use crate::sys::mark::OWNER_DIED;
use crate::thread::Thread;

/// What the lock of queue 0 guards. Not an atomic: loom reports any two accesses that the lock does not order.
#[derive(Default)]
struct Guarded(UnsafeCell<u32>);

// SAFETY: loom checks every access.
#[allow(unsafe_code)]
unsafe impl Sync for Guarded {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Send for Guarded {}

fn under_lock(thread: &Thread, guarded: &Guarded) -> Grip {
    let word = &thread.space().head(queue(0)).unwrap().lock;
    let grip = thread.locker().lock(word, queue(0), REGION_LOCK, Duration::MAX).unwrap();
    // SAFETY: we hold the lock; if not, loom says so.
    #[allow(unsafe_code)]
    guarded.0.with_mut(|count| unsafe { *count += 1 });
    thread.locker().unlock(word, REGION_LOCK);
    grip
}

fn adders(threads: u32, rounds: u32) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(threads, 0, 1);
        let guarded = Arc::new(Guarded::default());
        let mine = world.thread(0);
        let others: Vec<JoinHandle<()>> = (1..threads)
            .map(|_| {
                let (thread, guarded) = (world.thread(0), guarded.clone());
                spawn(move || {
                    (0..rounds).for_each(|_| assert_eq!(under_lock(&thread, &guarded), Grip::Clean))
                })
            })
            .collect();
        (0..rounds).for_each(|_| assert_eq!(under_lock(&mine, &guarded), Grip::Clean));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(under_lock(&mine, &guarded), Grip::Clean);
        guarded.0.with(|count| {
            // SAFETY: nobody else is left.
            #[allow(unsafe_code)]
            let count = unsafe { *count };
            assert_eq!(count, threads * rounds + 1);
        });
    }
}

/// A thread whose name is in the lock of queue 0, as if it held it.
fn holder(world: &mut World) -> Thread {
    let thread = world.thread(0);
    let record = thread.locker().record();
    let generation = world.space.records()[record as usize].generation.load(Relaxed);
    world.space.head(queue(0)).unwrap().lock.store(owner_bits(record, generation), Relaxed);
    thread
}

/// What the kernel does when it dies holding the lock.
fn die(holder: &Thread, ordering: Ordering) {
    holder.space().records()[holder.locker().record() as usize].mark.store(OWNER_DIED, ordering);
}

fn two_heirs() {
    let mut world = World::new(3, 0, 1);
    let dead = holder(&mut world);
    die(&dead, Relaxed);
    let guarded = Arc::new(Guarded::default());
    let (one, two) = (world.thread(0), world.thread(0));
    let shared = guarded.clone();
    let other = spawn(move || under_lock(&one, &shared));
    let grips = [under_lock(&two, &guarded), other.join().unwrap()];
    let repairs = grips.iter().filter(|grip| **grip == Grip::OwnerDied).count();
    assert_eq!(repairs, 1, "exactly one heir repairs");
}

/// One sleeps on the lock when its owner dies, which wakes nobody. In the model its slices never end, so the heir has
/// to wake it.
fn heir_wakes_the_sleeper() {
    let mut world = World::new(3, 0, 1);
    let dead = holder(&mut world);
    let guarded = Arc::new(Guarded::default());
    let (sleeper, heir) = (world.thread(0), world.thread(0));
    let shared = guarded.clone();
    let sleeper = spawn(move || under_lock(&sleeper, &shared));
    die(&dead, Release);
    under_lock(&heir, &guarded);
    sleeper.join().unwrap();
}

/// Both search a free record and a free entry at the same time.
fn two_newcomers() {
    let world = World::new(2, 1, 1);
    let space = world.space.clone();
    let other = spawn(move || {
        let thread = claim(&space, 1);
        let entry = thread.take_entry().unwrap();
        (thread, entry)
    });
    let thread = claim(&world.space, 2);
    let mine = thread.take_entry().unwrap();
    let (other, theirs) = other.join().unwrap();
    assert!(mine != theirs && thread.locker().record() != other.locker().record());
    assert_eq!(world.space.header().records_used.load(Relaxed), 2);
    assert_eq!(world.space.header().entries_used.load(Relaxed), 2);
}

models! {
    two_threads_exclude_each_other(5) = adders(2, 2),
        twin_lock_without_acquire: "lock without acquire" => RACE,
        twin_unlock_without_release: "unlock without release" => RACE;
    three_threads_exclude_each_other(3) = adders(3, 1),
        twin_owner_read_without_acquire: "owner read without acquire" => RACE;
    of_two_heirs_one_repairs(4) = two_heirs;
    an_heir_wakes_who_slept_before_him(4) = heir_wakes_the_sleeper,
        twin_take_over_drops_waiters: "take-over drops waiters" => STUCK;
    newcomers_share_nothing(5) = two_newcomers;
}
