//! Waits that end without their condition: they swallow nothing, and nobody who should end sleeps on.

use std::rc::Rc;
use std::sync::Arc;

use loom::thread::spawn;

use super::{
    Items, PLAIN, STUCK, World, interruptible, let_time_pass, models, queue, spot, timed, wait_until,
    wait_woken, wake,
};
use crate::enrolled::{Enrolled, Start};
use crate::head;
use crate::layout::EXCLUSIVE;
use crate::sleep::InterruptWord;
use crate::thread::Thread;
use crate::wait::{Ended, sleep_once};

fn never() -> Option<usize> {
    None
}

/// Who takes the one item; the other waiter of each model gives up beside it.
fn heir(thread: Thread, items: &Items) {
    let ended = wait_until(thread, &[spot(0, EXCLUSIVE)], &PLAIN, &mut || items.take().then_some(0));
    assert_eq!(ended, Ended::Fired(0));
}

/// Time is up before the wake: a claim meets a waiter that will not answer it.
fn timeout_and_wake() {
    let mut world = World::new(3, 1, 1);
    let (thread, other) = (world.thread(1), world.thread(1));
    let waiter = spawn(move || wait_until(thread, &[spot(0, EXCLUSIVE)], &timed(), &mut never));
    let items = Items::new();
    let shared = items.clone();
    let heir = spawn(move || heir(other, &shared));
    let_time_pass(&world.space, 0);
    items.put();
    wake(&world.thread(0), 0, 1);
    assert_eq!(waiter.join().unwrap(), Ended::TimedOut);
    heir.join().unwrap();
}

/// A wait without a condition: it was woken, or timed out, but a claim is never both.
fn timeout_without_condition() {
    let mut world = World::new(2, 1, 1);
    let (thread, waker) = (world.thread(1), world.thread(0));
    let waiter = spawn(move || wait_woken(thread, 0, &timed()));
    let given = wake(&waker, 0, 1).exclusive;
    let_time_pass(&world.space, 0);
    let expected = if given == 1 { Ended::Fired(0) } else { Ended::TimedOut };
    assert_eq!(waiter.join().unwrap(), expected);
}

/// Sleeps once, and leaves without looking at anything: a guard that goes out of scope, or a panic.
fn drop_while_claimed() {
    let mut world = World::new(3, 1, 1);
    let handle = Arc::new(InterruptWord::default());
    let items = Items::new();
    let (thread, listening) = (world.thread(1), handle.clone());
    let leaver = spawn(move || {
        let mut enrolled = Enrolled::new(&Rc::new(thread), "", Start::Awake).unwrap();
        enrolled.add(spot(0, EXCLUSIVE), "").unwrap().unwrap();
        let _ = sleep_once(&enrolled, &interruptible(&listening)).unwrap();
    });
    let (thread, shared) = (world.thread(1), items.clone());
    let heir = spawn(move || heir(thread, &shared));
    let waker = world.thread(0);
    items.put();
    wake(&waker, 0, 1);
    handle.interrupt(&world.space);
    leaver.join().unwrap();
    heir.join().unwrap();
}

/// An interrupt is never missed, and a wake that came first counts.
fn interrupt_and_wake() {
    let mut world = World::new(2, 1, 1);
    let handle = Arc::new(InterruptWord::default());
    let (thread, listening) = (world.thread(1), handle.clone());
    let waiter = spawn(move || wait_woken(thread, 0, &interruptible(&listening)));
    let given = wake(&world.thread(0), 0, 1).exclusive;
    handle.interrupt(&world.space);
    let expected = if given == 1 { Ended::Fired(0) } else { Ended::Interrupted };
    assert_eq!(waiter.join().unwrap(), expected);
}

fn interrupt_of_a_condition() {
    let mut world = World::new(1, 1, 1);
    let handle = Arc::new(InterruptWord::default());
    let (thread, listening) = (world.thread(1), handle.clone());
    let waiter = spawn(move || wait_until(thread, &[spot(0, 0)], &interruptible(&listening), &mut never));
    handle.interrupt(&world.space);
    assert_eq!(waiter.join().unwrap(), Ended::Interrupted);
}

/// Whoever waits when a queue is closed, or begins to, learns it.
fn close(flags: u32, waiters: u32) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mut world = World::new(waiters + 1, 1, 1);
        let threads: Vec<_> = (0..waiters)
            .map(|_| {
                let thread = world.thread(1);
                spawn(move || wait_until(thread, &[spot(0, flags)], &PLAIN, &mut never))
            })
            .collect();
        let closer = world.thread(0);
        head::lock(&closer, queue(0)).unwrap().close();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Ended::Closed(0)));
        head::lock(&closer, queue(0)).unwrap().check().unwrap();
    }
}

models! {
    a_timed_out_claim_is_passed_on(3) = timeout_and_wake,
        twin_claim_of_a_leaver_not_passed_on: "claim of a leaver not passed on" => STUCK;
    a_claim_beats_a_timeout(5) = timeout_without_condition;
    a_dropped_claim_is_passed_on(3) = drop_while_claimed,
        twin_claim_of_a_guard_not_passed_on: "claim of a leaver not passed on" => STUCK;
    a_claim_beats_an_interrupt(5) = interrupt_and_wake,
        twin_no_fence_in_listen: "no fence in listen" => STUCK,
        twin_no_fence_in_interrupt: "no fence in interrupt" => STUCK;
    an_interrupt_reaches_a_condition(6) = interrupt_of_a_condition;
    a_close_reaches_a_waiter(5) = close(0, 1),
        twin_close_without_look: "close without look" => STUCK;
    a_close_reaches_two_exclusive_waiters(3) = close(EXCLUSIVE, 2);
}
