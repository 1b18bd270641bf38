//! Waiters and wakers of one queue: no wakeup is lost, and exclusive ones go to one each.

use loom::thread::spawn;

use super::{Items, PLAIN, STUCK, World, models, spot, wait_until, wait_woken, wake};
use crate::head::{self, ALL};
use crate::layout::EXCLUSIVE;
use crate::thread::Thread;
use crate::wait::Ended;

fn take(thread: Thread, items: &Items, flags: u32) {
    let ended = wait_until(thread, &[spot(0, flags)], &PLAIN, &mut || items.take().then_some(0));
    assert_eq!(ended, Ended::Fired(0));
}

/// Each waiter takes one item, each waker brings some and wakes as many.
fn takers(flags: u32, waiters: u32, bring: &'static [u32]) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(waiters + bring.len() as u32, 1, 1);
        let items = Items::new();
        let mut threads = Vec::new();
        for _ in 0..waiters {
            let (thread, items) = (world.thread(1), items.clone());
            threads.push(spawn(move || take(thread, &items, flags)));
        }
        let mut wakers: Vec<_> = bring.iter().map(|_| world.thread(0)).collect();
        let mine = wakers.pop().unwrap();
        for (thread, count) in wakers.into_iter().zip(&bring[1..]) {
            let items = items.clone();
            threads.push(spawn(move || bring_and_wake(&thread, &items, *count)));
        }
        bring_and_wake(&mine, &items, bring[0]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!items.take());
        let head = head::lock(&mine, super::queue(0)).unwrap();
        head.check().unwrap();
        drop(head);
        assert_eq!(wake(&mine, 0, ALL), head::Woken::default());
    }
}

fn bring_and_wake(thread: &Thread, items: &Items, count: u32) {
    for _ in 0..count {
        items.put();
        wake(thread, 0, 1);
    }
}

/// Waits without a condition: each exclusive wake that was given out returns from exactly one of them.
fn woken_waits(waiters: u32, wakes: u32) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(waiters + 1, 1, 1);
        let threads: Vec<_> = (0..waiters)
            .map(|_| {
                let thread = world.thread(1);
                spawn(move || wait_woken(thread, 0, &PLAIN))
            })
            .collect();
        let waker = world.thread(0);
        let given: u32 = (0..wakes).map(|_| wake(&waker, 0, 1).exclusive).sum();
        head::lock(&waker, super::queue(0)).unwrap().close();
        let ends: Vec<Ended> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(ends.iter().all(|end| matches!(end, Ended::Fired(0) | Ended::Closed(0))), "{ends:?}");
        assert_eq!(ends.iter().filter(|end| **end == Ended::Fired(0)).count(), given as usize);
    }
}

/// The waker of a `wake_up_sync` waits for an answer itself: what it put off is made up for before it sleeps.
fn put_off() {
    let mut world = World::new(3, 1, 2);
    let (asked, answered) = (Items::new(), Items::new());
    let (thread, waker) = (world.thread(1), world.thread(0));
    let shared = (asked.clone(), answered.clone());
    let other = spawn(move || {
        take(thread, &shared.0, 0);
        shared.1.put();
        wake(&waker, 1, 1);
    });
    let mine = world.thread(1);
    assert!(mine.defer().unwrap());
    asked.put();
    wake(&mine, 0, 1);
    let ended = wait_until(mine, &[spot(1, 0)], &PLAIN, &mut || answered.take().then_some(0));
    assert_eq!(ended, Ended::Fired(0));
    other.join().unwrap();
}

models! {
    trap_01_a_waker_and_a_waiter(6) = takers(0, 1, &[1]),
        twin_no_fence_a: "no fence A" => STUCK,
        trap_03_twin_no_fence_b: "no fence B" => STUCK,
        twin_commit_by_store: "commit by store" => STUCK,
        twin_crowd_not_woken: "crowd not woken" => STUCK,
        twin_crowd_not_counted: "crowd not counted" => STUCK;
    a_waker_and_an_exclusive_waiter(6) = takers(EXCLUSIVE, 1, &[1]),
        twin_no_look_for_the_awake: "no look for the awake" => STUCK,
        twin_claim_of_an_evaluating_waiter: "claim of an evaluating waiter" => STUCK;
    two_wakes_for_two_exclusive_waiters(3) = takers(EXCLUSIVE, 2, &[2]);
    two_wakers_and_two_exclusive_waiters(2) = takers(EXCLUSIVE, 2, &[1, 1]);
    two_wakers_and_two_waiters(2) = takers(0, 2, &[1, 1]);
    a_wait_without_condition(5) = woken_waits(1, 1);
    two_waits_without_condition(3) = woken_waits(2, 1);
    a_wake_put_off(5) = put_off;
}
