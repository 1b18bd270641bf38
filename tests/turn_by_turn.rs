//! Waits whose conditions their user evaluates, wakes put off until a flush, and what a thread leaves behind at its end.

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Stage, Thread, bounded, thread, woken};
use waitqueue::{Error, Interrupter, Member, Result, WaitOptions, WaitSet, Waiting};

fn soon<'a>() -> WaitOptions<'a> {
    WaitOptions::new().timeout(Duration::from_millis(2))
}

/// Waits until the condition of a place is true, and returns the place.
fn turns(mut waiting: Waiting, mut condition: impl FnMut(usize) -> bool) -> Result<usize> {
    loop {
        let at = waiting.next_condition()?;
        if condition(at) {
            waiting.finish();
            return Ok(at);
        }
    }
}

/// Sleeps until a wake has chosen it.
fn until_chosen(waiting: &mut Waiting) {
    while !waiting.was_chosen() {
        waiting.next_condition().unwrap();
    }
}

/// A thread that takes one of what the flag counts, turn by turn.
fn taker(stage: &Stage, options: WaitOptions<'static>) -> Thread<Result<usize>> {
    let stage = stage.clone();
    thread(move || turns(stage.queue.begin_wait(&options), |_| stage.take()))
}

#[test]
fn p1_it_sleeps_until_its_condition() {
    for options in [bounded(), bounded().exclusive(), bounded().spin(Duration::from_millis(5))] {
        let stage = Stage::new();
        let waiter = taker(&stage, options);
        stage.asleep(1);
        stage.queue.wake_up().unwrap();
        stage.asleep(1);
        stage.set_and_wake();
        assert_eq!(waiter.join(), Ok(0));
        assert_eq!((stage.queue.has_sleepers(), stage.hand_ons()), (false, 0), "nothing to pass on");
    }
}

#[test]
fn trap_01_what_changes_once_it_is_enrolled_is_not_slept_over() {
    let stage = Stage::new();
    for options in [bounded(), bounded().exclusive()] {
        let mut waiting = stage.queue.begin_wait(&options);
        waiting.enrol().unwrap();
        assert!(waiting.was_first() && stage.queue.has_sleepers());
        for _ in 0..3 {
            stage.queue.wake_up().unwrap();
            assert_eq!(waiting.next_condition(), Ok(0), "evaluate again");
        }
        assert!(!waiting.was_chosen(), "who is awake cannot be chosen");
    }
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn it_spins_without_being_enrolled() {
    let stage = Stage::new();
    let mut waiting = stage.queue.begin_wait(&bounded().spin(common::LIMIT));
    for _ in 0..1000 {
        assert_eq!(waiting.next_condition(), Ok(0));
        assert!(!stage.queue.has_sleepers());
    }
    waiting.finish();
}

#[test]
fn the_condition_beats_a_close_that_a_timeout_and_that_an_interrupt() {
    let (stage, mut evaluations) = (Stage::new(), 0);
    let timed_out = turns(stage.queue.begin_wait(&soon()), |_| {
        evaluations += 1;
        false
    });
    assert!(matches!(timed_out, Err(Error::TimedOut { .. })));
    assert!(evaluations >= 2, "once enrolled, and once the time was over");

    let handle = Interrupter::new(&stage.region);
    handle.interrupt();
    let interrupted = || stage.queue.begin_wait(&bounded().interrupter(&handle));
    assert_eq!(turns(interrupted(), |_| true), Ok(0), "the interrupt is kept");
    assert!(matches!(turns(interrupted(), |_| false), Err(Error::Interrupted { .. })));
    handle.interrupt();
    let both =
        stage.queue.begin_wait(&WaitOptions::new().timeout(Duration::from_nanos(1)).interrupter(&handle));
    assert!(matches!(turns(both, |_| false), Err(Error::TimedOut { .. })));

    stage.queue.close().unwrap();
    assert!(matches!(turns(interrupted(), |_| false), Err(Error::Closed { .. })));
    assert_eq!(turns(interrupted(), |_| true), Ok(0));
}

#[test]
fn trap_05_a_poll_does_not_enrol_and_an_error_is_said_again() {
    let stage = Stage::new();
    let poll = WaitOptions::new().timeout(Duration::ZERO);
    let mut waiting = stage.queue.begin_wait(&poll);
    for _ in 0..2 {
        assert!(matches!(waiting.next_condition(), Err(Error::TimedOut { .. })));
    }
    stage.queue.close().unwrap();
    let mut waiting = stage.queue.begin_wait(&poll);
    assert_eq!(waiting.next_condition(), Ok(0), "it may have become true before it was closed");
    assert!(matches!(waiting.next_condition(), Err(Error::Closed { .. })));
}

#[test]
fn an_interrupter_of_another_region_is_an_error_of_the_wait() {
    let (stage, other) = (Stage::new(), Stage::new());
    let handle = Interrupter::new(&other.region);
    let mut waiting = stage.queue.begin_wait(&bounded().interrupter(&handle));
    let outcomes = [waiting.check(), waiting.enrol(), waiting.next_condition().map(drop)];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::ForeignObject { .. })), "{outcome:?}");
    }
}

#[test]
fn a_set_that_is_refused_another_regions_interrupter_does_not_take_it_from_the_wait_that_has_it() {
    let (stage, other) = (Stage::new(), Stage::new());
    let handle = Interrupter::new(&stage.region);
    let waiter = thread({
        let (stage, handle) = (stage.clone(), handle.clone());
        move || turns(stage.queue.begin_wait(&bounded().interrupter(&handle)), |_| false)
    });
    stage.asleep(1);
    let mut set = WaitSet::new(&other.region).unwrap();
    let mut refused = set.begin_wait(&bounded().interrupter(&handle));
    assert!(matches!(refused.check(), Err(Error::ForeignObject { .. })));
    drop(refused);
    handle.interrupt();
    assert!(matches!(waiter.join(), Err(Error::Interrupted { .. })));
}

#[test]
fn trap_48_of_many_queues_a_wake_of_another_is_passed_on() {
    let stage = Stage::new();
    let (other, second) =
        (stage.region.queue("other").unwrap(), stage.region.object::<AtomicU32>("second").unwrap());
    let both = thread({
        let (stage, other, second) = (stage.clone(), other.clone(), second.clone());
        move || {
            let sources = [(&stage.queue, bounded().exclusive()), (&other, bounded().exclusive())];
            let waiting = Waiting::on_many(&sources, &bounded())?;
            turns(waiting, |at| at == 1 && second.load(Acquire) != 0)
        }
    });
    stage.asleep(1);
    let next = taker(&stage, bounded().exclusive());
    stage.asleep(2);
    second.store(1, Release);
    stage.set(1);
    // It chooses the first, whose condition there is false, and who finds the other one true.
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    assert_eq!(both.join(), Ok(1));
    assert_eq!(next.join(), Ok(0));
}

#[test]
fn p4_dropping_it_passes_a_wake_on() {
    let stage = Stage::new();
    let chosen = thread({
        let stage = stage.clone();
        move || {
            let mut waiting = stage.queue.begin_wait(&bounded().exclusive());
            until_chosen(&mut waiting);
        }
    });
    stage.asleep(1);
    let next = taker(&stage, bounded().exclusive());
    stage.asleep(2);
    assert_eq!(stage.set_and_wake(), woken(1, 0));
    chosen.join();
    assert_eq!(next.join(), Ok(0));
    assert_eq!(stage.hand_ons(), 1);
}

#[test]
fn a_set_asks_whom_wakes_have_met_and_counts_by_number() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let members = [&stage.queue, &other].map(|queue| set.add(queue, &WaitOptions::new()).unwrap());
    let [first, second] = members.map(|member| member.number() as usize);
    let mut asked = Vec::new();
    let none = turns(set.begin_wait(&soon()), |at| {
        asked.push(at);
        false
    });
    assert!(matches!(none, Err(Error::TimedOut { .. })));
    assert_eq!(asked, [first, second, first, second], "the new, and all when the time was over");
    asked.clear();
    other.wake_up().unwrap();
    let fired = turns(set.begin_wait(&bounded()), |at| {
        asked.push(at);
        true
    });
    assert_eq!((fired, &asked[..]), (Ok(second), &[second][..]), "only whom the wake has met");
    assert_eq!(Member::new(second as u32), members[1]);
    // Given up in the middle, the wait leaves the set as it was.
    drop(set.begin_wait(&bounded()));
    assert_eq!(turns(set.begin_wait(&bounded()), |at| at == second), Ok(second));
}

#[test]
fn a_wait_that_is_over_names_no_condition_and_takes_nothing_off_what_its_set_is_to_ask() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let members = [&stage.queue, &other].map(|queue| set.add(queue, &WaitOptions::new()).unwrap());
    let mut waiting = set.begin_wait(&bounded());
    assert_eq!(waiting.next_condition(), Ok(members[0].number() as usize));
    waiting.finish();
    for _ in 0..3 {
        assert!(matches!(waiting.next_condition(), Err(Error::TimedOut { .. })));
    }
    drop(waiting);
    let second = members[1].number() as usize;
    assert_eq!(turns(set.begin_wait(&bounded()), |at| at == second), Ok(second), "still to be asked");
}

/// What a thread may forget.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forgotten {
    Prepared,
    Waiting,
    Many,
    Set,
    Lock,
}

waitqueue::shared_struct! {
    #[tag = "a lock"]
    struct Locked {
        lock: waitqueue::RobustLock,
    }
}

/// A thread that ends in the middle of something, as one does in C that is cancelled: nothing is dropped.
fn forgetful(stage: &Stage, what: Forgotten) -> Thread<()> {
    let stage = stage.clone();
    thread(move || {
        let exclusive = bounded().exclusive();
        let other = stage.region.queue("other").unwrap();
        match what {
            Forgotten::Prepared => std::mem::forget(stage.queue.prepare_to_wait(&exclusive).unwrap()),
            Forgotten::Waiting => {
                let mut waiting = stage.queue.begin_wait(&exclusive);
                until_chosen(&mut waiting);
                std::mem::forget(waiting);
            }
            Forgotten::Many => {
                let sources = [(&other, exclusive), (&stage.queue, exclusive)];
                let mut waiting = Waiting::on_many(&sources, &bounded()).unwrap();
                until_chosen(&mut waiting);
                std::mem::forget(waiting);
            }
            Forgotten::Set => {
                let mut set = WaitSet::new(&stage.region).unwrap();
                set.add(&other, &exclusive).unwrap();
                set.add(&stage.queue, &exclusive).unwrap();
                let mut waiting = set.begin_wait(&bounded());
                until_chosen(&mut waiting);
                std::mem::forget(waiting);
                std::mem::forget(set);
            }
            Forgotten::Lock => {
                let object = stage.region.object::<Locked>("lock").unwrap();
                let lock = Box::leak(Box::new(stage.region.lock_at(&object.lock).unwrap()));
                std::mem::forget(lock.lock().unwrap());
            }
        }
    })
}

#[test]
fn trap_35_what_a_thread_forgot_at_its_end_is_left_and_its_wake_goes_to_the_next() {
    for what in [Forgotten::Waiting, Forgotten::Many, Forgotten::Set] {
        let stage = Stage::new();
        let forgetful = forgetful(&stage, what);
        stage.asleep(1);
        let next = taker(&stage, bounded().exclusive());
        stage.asleep(2);
        assert_eq!(stage.set_and_wake(), woken(1, 0), "{what:?}");
        forgetful.join();
        assert_eq!(next.join(), Ok(0), "{what:?}");
        common::until("both have left", || !stage.queue.has_sleepers());
        stage.region.check().unwrap();
    }
}

#[test]
fn threads_that_end_in_the_middle_use_nothing_up() {
    let region = common::options().entries(24).threads(4).create_memfd("small").unwrap();
    let stage = Stage::of(region);
    for round in 0..100 {
        for what in [Forgotten::Prepared, Forgotten::Waiting, Forgotten::Many, Forgotten::Set] {
            let thread = forgetful(&stage, what);
            if what != Forgotten::Prepared {
                stage.asleep(1);
                stage.queue.wake_up().unwrap();
            }
            thread.join();
            common::until(&format!("round {round}: {what:?} has left"), || !stage.queue.has_sleepers());
        }
    }
    common::until("all threads are given back", || stage.region.snapshot().threads.0 <= 1);
    stage.region.check().unwrap();
}

#[test]
fn a_lock_that_a_thread_forgot_at_its_end_is_had_by_the_next_who_learns_of_it() {
    let stage = Stage::new();
    forgetful(&stage, Forgotten::Lock).join();
    let object = stage.region.object::<Locked>("lock").unwrap();
    let lock = stage.region.lock_at(&object.lock).unwrap();
    assert!(lock.lock().unwrap().owner_died());
}

#[test]
fn a_set_in_a_thread_local_may_be_dropped_after_what_the_thread_keeps() {
    thread_local! {
        static SET: RefCell<Option<WaitSet>> = const { RefCell::new(None) };
    }
    let stage = Stage::new();
    for _ in 0..20 {
        // Either may be destroyed first: the one that was used first is destroyed last.
        let ended = thread({
            let stage = stage.clone();
            move || {
                SET.with(|place| {
                    let mut set = WaitSet::new(&stage.region).unwrap();
                    set.add(&stage.queue, &WaitOptions::new().exclusive()).unwrap();
                    *place.borrow_mut() = Some(set);
                });
            }
        });
        ended.join();
        common::until("it has left", || !stage.queue.has_sleepers());
        let waiter = taker(&stage, bounded().exclusive());
        stage.asleep(1);
        stage.set_and_wake();
        assert_eq!(waiter.join(), Ok(0));
    }
    stage.region.check().unwrap();
}

#[test]
fn wakes_that_are_put_off_are_made_by_a_flush_the_next_wait_or_the_end_of_the_thread() {
    type Ending = fn(&Stage);
    let endings: [(&str, Ending); 3] = [
        ("a flush", |stage| stage.region.flush().unwrap()),
        ("a wait", |stage| {
            let other = stage.region.queue("other").unwrap();
            assert!(turns(other.begin_wait(&soon()), |_| false).is_err());
        }),
        ("the end of the thread", |_| ()),
    ];
    for (name, ending) in endings {
        let stage = Stage::new();
        let waiter = taker(&stage, bounded().exclusive());
        stage.asleep(1);
        let waker = thread({
            let stage = stage.clone();
            move || {
                stage.set(1);
                let woken = stage.queue.begin_wake_up_sync();
                // Chosen it is, but who sleeps does not notice.
                let still = stage.queue.has_sleepers() && stage.is_set();
                ending(&stage);
                (woken, still)
            }
        });
        assert_eq!(waker.join(), (Ok(woken(1, 0)), true), "{name}");
        assert_eq!(waiter.join(), Ok(0), "{name}");
    }
}
