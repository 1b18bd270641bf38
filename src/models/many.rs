//! One waiter on several queues: it uses up at most one wake, and passes on the others.

use std::rc::Rc;

use loom::thread::spawn;

use super::{Asked, Items, PLAIN, STUCK, World, models, queue, spot, wait_until, wake};
use crate::enrolled::{Enrolled, Start};
use crate::entry::claim_of;
use crate::head;
use crate::layout::{EXCLUSIVE, PERSISTENT};
use crate::pending::{Asking, Pending};
use crate::sleep::JustSleep;
use crate::thread::Thread;
use crate::wait::{Ended, wait_enrolled};

/// `wait_many` until one of two kinds of items can be taken, each announced on its own queue.
fn take_either(thread: Thread, a: &Items, b: &Items) {
    let spots = [spot(0, EXCLUSIVE), spot(1, EXCLUSIVE)];
    let mut either = || a.take().then_some(0).or_else(|| b.take().then_some(1));
    assert!(matches!(wait_until(thread, &spots, &PLAIN, &mut either), Ended::Fired(_)));
}

/// The same by a set that stays enrolled: its wait ends, it keeps its places, and then it is dropped.
fn take_either_by_set(thread: Thread, a: &Items, b: &Items) {
    let mut set = Enrolled::new(&Rc::new(thread), "", Start::Set).unwrap();
    for n in 0..2 {
        set.add(spot(n, EXCLUSIVE | PERSISTENT), "").unwrap().unwrap();
    }
    let mut either = || a.take().then_some(0).or_else(|| b.take().then_some(1));
    let mut either = Asked(&[], &mut either);
    let Ended::Fired(at) = wait_enrolled(&set, &PLAIN, &mut JustSleep, &mut either).unwrap() else {
        panic!("nothing else can end it");
    };
    set.settle(Some(at)).unwrap();
    assert_eq!(claim_of(set.word().load()), None, "dropping the set has nothing left to pass on");
}

/// One item on each queue, one waiter for either, one for those of queue 1, and a last item for who came too late: of
/// the three wakes none may vanish.
fn sibling(take_either: fn(Thread, &Items, &Items)) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(3, 3, 2);
        let (a, b) = (Items::new(), Items::new());
        let (thread, shared) = (world.thread(3), (a.clone(), b.clone()));
        let either = spawn(move || take_either(thread, &shared.0, &shared.1));
        let (thread, shared) = (world.thread(3), b.clone());
        let only_b = spawn(move || {
            wait_until(thread, &[spot(1, EXCLUSIVE)], &PLAIN, &mut || shared.take().then_some(0));
        });
        let waker = world.thread(0);
        b.put();
        wake(&waker, 1, 1);
        a.put();
        wake(&waker, 0, 1);
        either.join().unwrap();
        if a.take() {
            // `either` took the item that the other one waits for.
            b.put();
            wake(&waker, 1, 1);
        }
        only_b.join().unwrap();
    }
}

/// The same queue twice: two wakes must reach two waiters, not one of them twice.
fn twice() {
    let mut world = World::new(3, 2, 1);
    let items = Items::new();
    let waiters: Vec<_> = [2, 1]
        .into_iter()
        .map(|times| {
            let (thread, items) = (world.thread(2), items.clone());
            let spots = vec![spot(0, EXCLUSIVE); times];
            spawn(move || wait_until(thread, &spots, &PLAIN, &mut || items.take().then_some(0)))
        })
        .collect();
    let waker = world.thread(0);
    for _ in 0..2 {
        items.put();
        wake(&waker, 0, 1);
    }
    for waiter in waiters {
        assert!(matches!(waiter.join().unwrap(), Ended::Fired(_)));
    }
    head::lock(&waker, queue(0)).unwrap().check().unwrap();
}

/// A set on two queues finds what two wakers put at the same time, asking nobody whom they have not met.
fn set_of_two(flags: u32) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(3, 3, 2);
        let items = [Items::new(), Items::new()];
        let (thread, shared) = (world.thread(3), items.clone());
        let waiter = spawn(move || {
            let mut set = Enrolled::new(&Rc::new(thread), "", Start::Set).unwrap();
            let mut pending = Pending::default();
            for n in 0..2 {
                set.add(spot(n, flags | PERSISTENT), "").unwrap().unwrap();
                pending.add();
            }
            for _ in 0..2 {
                let ask = |at: usize| shared[at].take();
                let mut asking = Asking { enrolled: &set, pending: &mut pending, ask };
                let ended = wait_enrolled(&set, &PLAIN, &mut JustSleep, &mut asking).unwrap();
                let Ended::Fired(at) = ended else { panic!("nothing else can end it") };
                set.settle(Some(at)).unwrap();
            }
        });
        let (other, shared) = (world.thread(0), items[1].clone());
        let other = spawn(move || {
            shared.put();
            wake(&other, 1, 1);
        });
        items[0].put();
        wake(&world.thread(0), 0, 1);
        other.join().unwrap();
        waiter.join().unwrap();
    }
}

/// Two wakes of one queue, of which the second may find the member noted.
fn set_met_twice() {
    let mut world = World::new(2, 2, 1);
    let items = Items::new();
    let (thread, shared) = (world.thread(2), items.clone());
    let waiter = spawn(move || {
        let mut set = Enrolled::new(&Rc::new(thread), "", Start::Set).unwrap();
        let mut pending = Pending::default();
        set.add(spot(0, PERSISTENT), "").unwrap().unwrap();
        pending.add();
        let mut taken = 0;
        let ask = |_| {
            while shared.take() {
                taken += 1;
            }
            taken == 2
        };
        let mut asking = Asking { enrolled: &set, pending: &mut pending, ask };
        assert_eq!(wait_enrolled(&set, &PLAIN, &mut JustSleep, &mut asking).unwrap(), Ended::Fired(0));
    });
    let waker = world.thread(0);
    for _ in 0..2 {
        items.put();
        wake(&waker, 0, 1);
    }
    waiter.join().unwrap();
}

models! {
    a_sibling_claim_is_passed_on(3) = sibling(take_either),
        twin_sibling_claim_not_passed_on: "sibling claim not passed on" => STUCK,
        twin_claim_not_handed_on: "claim not handed on" => STUCK,
        twin_claim_without_its_key: "claim without its key" => STUCK;
    a_set_passes_on_what_it_did_not_use(3) = sibling(take_either_by_set),
        twin_set_keeps_sibling_claim: "claim not handed on" => STUCK;
    the_same_queue_twice(2) = twice;
    a_set_asks_whom_wakes_have_met(2) = set_of_two(0),
        twin_member_not_noted: "member not noted" => STUCK;
    a_set_asks_whom_it_is_claimed_for(2) = set_of_two(EXCLUSIVE);
    a_set_asks_again_whom_a_wake_finds_noted(4) = set_met_twice,
        twin_notes_taken_after_fence_a: "notes taken after fence A" => STUCK;
}
