//! Every form of wake reaches whom it should, in the kernel's order, and no more of them than were asked for.

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Gate, Stage, Thread, bounded, thread, woken};
use waitqueue::{
    Error, Interrupter, PrepareToWait, Queue, Result, Source, WaitOptions, WaitSet, WakeOptions, Woken,
    class, wait_many,
};

fn nr(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// A thread that sleeps until a wake reaches it, labelled.
fn sleeper(stage: &Stage, label: &'static str, options: WaitOptions<'static>) -> Thread<Result<Duration>> {
    let (queue, before) = (stage.queue.clone(), stage.waiters().len());
    let sleeper = thread(move || queue.wait_woken(&options.label(label)));
    stage.asleep(before + 1);
    sleeper
}

type Wake = fn(&Queue) -> Result<Woken>;

#[test]
fn each_wake_reaches_all_nonexclusive_and_as_many_exclusive_waiters_as_asked() {
    let table: [(usize, usize, &str, Wake, Woken); 14] = [
        (0, 0, "wake_up", |q| q.wake_up(), woken(0, 0)),
        (2, 3, "wake_up", |q| q.wake_up(), woken(1, 2)),
        (0, 3, "wake_up", |q| q.wake_up(), woken(1, 0)),
        (3, 0, "wake_up", |q| q.wake_up(), woken(0, 3)),
        (1, 3, "wake_up_nr(2)", |q| q.wake_up_nr(nr(2)), woken(2, 1)),
        (1, 3, "wake_up_nr(9)", |q| q.wake_up_nr(nr(9)), woken(3, 1)),
        (2, 3, "wake_up_all", |q| q.wake_up_all(), woken(3, 2)),
        (2, 3, "wake_up_key", |q| q.wake_up_key(1 << 31), woken(1, 2)),
        (2, 3, "wake_up_key(0)", |q| q.wake_up_key(0), woken(0, 0)),
        (2, 2, "wake_up_interruptible", |q| q.wake_up_interruptible(), woken(0, 0)),
        (2, 2, "wake_up_interruptible_nr", |q| q.wake_up_interruptible_nr(nr(2)), woken(0, 0)),
        (2, 2, "wake_up_interruptible_all", |q| q.wake_up_interruptible_all(), woken(0, 0)),
        (1, 2, "with", |q| q.wake_up_with(&WakeOptions::new().class(class::NORMAL)), woken(1, 1)),
        (1, 2, "sync", |q| q.wake_up_sync(|| ()).map(|(woken, ())| woken), woken(1, 1)),
    ];
    for (nonexclusive, exclusive, name, wake, expected) in table {
        let stage = Stage::new();
        let mut sleepers = Vec::new();
        for _ in 0..exclusive {
            sleepers.push(sleeper(&stage, "x", bounded().exclusive()));
        }
        for _ in 0..nonexclusive {
            sleepers.push(sleeper(&stage, "n", bounded()));
        }
        assert_eq!(wake(&stage.queue), Ok(expected), "{name} with {nonexclusive} + {exclusive}");
        stage.asleep(nonexclusive + exclusive - (expected.exclusive + expected.nonexclusive) as usize);
        stage.queue.wake_up_all().unwrap();
        assert!(sleepers.into_iter().all(|sleeper| sleeper.join().is_ok()), "{name}");
        assert!(!stage.queue.has_sleepers(), "{name}");
    }
}

#[test]
fn trap_20_a_count_of_zero_cannot_be_said() {
    let _: fn(&Queue, NonZeroU32) -> Result<Woken> = Queue::wake_up_nr;
    let _: fn(&Queue, NonZeroU32) -> Result<Woken> = Queue::wake_up_interruptible_nr;
    let _: fn(WakeOptions, NonZeroU32) -> WakeOptions = WakeOptions::nr;
}

/// Entries that one thread enrols and does not wait with: their order can be looked at.
fn enrol<'a>(stage: &'a Stage, entries: &[(&'a str, WaitOptions<'a>)]) -> Vec<PrepareToWait<'a>> {
    entries
        .iter()
        .map(|(label, options)| stage.queue.prepare_to_wait(&options.label(label)).unwrap())
        .collect()
}

#[test]
fn trap_24_the_place_follows_from_the_flags_never_from_the_caller() {
    let stage = Stage::new();
    let (plain, exclusive) = (WaitOptions::new(), WaitOptions::new().exclusive());
    let priority = plain.priority();
    let mut held = enrol(&stage, &[("x1", exclusive), ("n1", plain), ("x2", exclusive), ("n2", plain)]);
    assert_eq!(
        stage.labels(),
        ["n2", "n1", "x1", "x2"],
        "non-exclusive newest first, exclusive oldest first"
    );
    held.extend(enrol(&stage, &[("p1", priority), ("n3", plain), ("p2", priority), ("x3", exclusive)]));
    assert_eq!(stage.labels(), ["p2", "p1", "n3", "n2", "n1", "x1", "x2", "x3"], "priority before all");
    stage.region.check().unwrap();
    drop(held.remove(2)); // x2, from the middle
    assert_eq!(stage.labels(), ["p2", "p1", "n3", "n2", "n1", "x1", "x3"]);
    stage.region.check().unwrap();
    drop(held);
    assert!(stage.labels().is_empty() && !stage.queue.has_sleepers());
}

#[test]
fn trap_24_a_nonexclusive_waiter_behind_an_exclusive_one_is_not_missed() {
    let stage = Stage::new();
    let first = sleeper(&stage, "x", bounded().exclusive());
    let second = sleeper(&stage, "n", bounded());
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 1)));
    assert!(first.join().is_ok() && second.join().is_ok());
}

#[test]
fn an_exclusive_priority_waiter_comes_first_and_is_the_only_one() {
    let stage = Stage::new();
    let ordinary = sleeper(&stage, "x", bounded().exclusive());
    let sole = sleeper(&stage, "p", bounded().exclusive().priority());
    assert_eq!(stage.labels(), ["p", "x"]);
    let refused = stage.queue.wait_woken(&WaitOptions::new().timeout(common::LIMIT).exclusive().priority());
    assert!(matches!(refused, Err(Error::PriorityTaken { .. })), "{refused:?}");
    assert_eq!(refused.unwrap_err().errno(), libc::EBUSY);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    assert!(sole.join().is_ok());
    assert_eq!(stage.labels(), ["x"]);
    stage.queue.wake_up().unwrap();
    assert!(ordinary.join().is_ok());
}

#[test]
fn trap_25_a_class_or_key_that_does_not_match_does_not_use_up_the_count() {
    let of_class = |mask| bounded().exclusive().class(mask);
    let of_key = |mask| bounded().exclusive().key(mask);
    // Two that must not be reached, then one that must.
    let table: [(&str, WaitOptions, WaitOptions, WakeOptions); 5] = [
        ("class", of_class(4), of_class(8), WakeOptions::new().class(8)),
        ("class mask", of_class(4), of_class(8 | 4), WakeOptions::new().class(8 | 16)),
        ("class 0", of_class(0), of_class(1), WakeOptions::new()),
        ("key", of_key(1), of_key(2), WakeOptions::new().key(2)),
        ("key 0", of_key(0), of_key(1), WakeOptions::new()),
    ];
    for (name, other, wanted, wake) in table {
        let stage = Stage::new();
        let handle = Interrupter::new(&stage.region);
        let others = [(); 2].map(|()| {
            let (queue, handle) = (stage.queue.clone(), handle.clone());
            let before = stage.waiters().len();
            let other = thread(move || queue.wait_woken(&other.interrupter(&handle)));
            stage.asleep(before + 1);
            other
        });
        let chosen = sleeper(&stage, "wanted", wanted);
        assert_eq!(stage.queue.wake_up_with(&wake), Ok(woken(1, 0)), "{name}");
        assert!(chosen.join().is_ok(), "{name}");
        assert_eq!(stage.labels(), ["", ""], "{name}");
        stage.queue.close().unwrap();
        for other in others {
            assert!(matches!(other.join(), Err(Error::Closed { .. })), "{name}");
        }
    }
}

#[test]
fn trap_25_interruptible_wakes_skip_the_uninterruptible_without_counting_them() {
    let stage = Stage::new();
    let deaf = sleeper(&stage, "u", bounded().exclusive());
    let open = sleeper(&stage, "i", bounded().exclusive().interruptible());
    assert_eq!(stage.queue.wake_up_interruptible(), Ok(woken(1, 0)));
    assert!(open.join().is_ok());
    assert_eq!(stage.labels(), ["u"]);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "wake_up reaches both classes");
    assert!(deaf.join().is_ok());
}

#[test]
fn trap_19_who_arrives_during_a_wake_all_is_not_woken_by_it() {
    // Each returns at once to the queue, so a wake that met newcomers would wake somebody twice, or never end.
    const THREADS: usize = 8;
    let stage = Stage::new();
    let returns = Arc::new(AtomicU32::new(0));
    let sleepers: Vec<_> = (0..THREADS)
        .map(|nth| {
            let (queue, returns) = (stage.queue.clone(), returns.clone());
            let options = if nth % 2 == 0 { bounded() } else { bounded().exclusive() };
            thread(move || {
                while queue.wait_woken(&options).is_ok() {
                    returns.fetch_add(1, AcqRel);
                }
            })
        })
        .collect();
    for round in 1..=50 {
        stage.asleep(THREADS);
        assert_eq!(stage.queue.wake_up_all(), Ok(woken(THREADS as u32 / 2, THREADS as u32 / 2)));
        common::until("all return", || returns.load(Acquire) == THREADS as u32 * round);
    }
    stage.asleep(THREADS);
    assert_eq!(stage.queue.close(), Ok(THREADS as u32));
    sleepers.into_iter().for_each(Thread::join);
    assert_eq!(returns.load(Acquire), 400);
}

#[test]
fn trap_31_wakes_coalesce_and_do_not_last() {
    let stage = Stage::new();
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)));
    let soon = WaitOptions::new().timeout(Duration::from_millis(5));
    let outcome = stage.queue.wait_woken(&soon);
    assert!(
        matches!(outcome, Err(Error::TimedOut { .. })),
        "a wake before the wait has no effect: {outcome:?}"
    );
    let mut wait = stage.queue.prepare_to_wait(&soon).unwrap();
    wait.prepare();
    for _ in 0..5 {
        stage.queue.wake_up().unwrap();
    }
    assert_eq!(wait.sleep(), Ok(()), "five wakes");
    wait.prepare();
    assert!(matches!(wait.sleep(), Err(Error::TimedOut { .. })), "are one");
}

#[test]
fn trap_23_a_woken_waiter_that_leaves_work_behind_wakes_the_next() {
    const ITEMS: u32 = 5;
    let stage = Stage::new();
    let workers: Vec<_> = (0..ITEMS)
        .map(|_| {
            let stage = stage.clone();
            thread(move || {
                stage.queue.wait_event_with(&bounded().exclusive(), || stage.take())?;
                stage.queue.wake_up().map(drop)
            })
        })
        .collect();
    stage.asleep(ITEMS as usize);
    stage.set(ITEMS);
    stage.queue.wake_up().unwrap(); // one wake for five items
    assert!(workers.into_iter().all(|worker| worker.join().is_ok()));
}

#[test]
fn trap_49_a_second_wake_during_an_evaluation_goes_to_the_next_sleeper() {
    let stage = Stage::new();
    let evaluating = Evaluating::start(&stage);
    let next = sleeper(&stage, "next", bounded().exclusive());
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    evaluating.entered.pass();
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "the sleeper gets the second");
    assert!(next.join().is_ok());
    stage.set(1);
    stage.queue.wake_up().unwrap();
    evaluating.end();
}

#[test]
fn trap_49_a_second_wake_that_finds_only_the_evaluator_makes_him_look_again() {
    let stage = Stage::new();
    let evaluating = Evaluating::start(&stage);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    evaluating.entered.pass();
    stage.set(1);
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)), "nobody is charged");
    evaluating.end(); // the evaluation under way is false: it must be followed by another
}

/// An exclusive waiter whose look after the first wake lasts until it is told to end, and is false whatever happened
/// meanwhile.
struct Evaluating {
    entered: Arc<Gate>,
    leave: Arc<Gate>,
    thread: Thread<Result<Duration>>,
}

impl Evaluating {
    fn start(stage: &Stage) -> Evaluating {
        let (entered, leave) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let thread = thread({
            let (stage, entered, leave) = (stage.clone(), entered.clone(), leave.clone());
            let mut looks = 0;
            move || {
                stage.queue.wait_event_with(&bounded().exclusive(), || {
                    looks += 1;
                    if looks == 3 {
                        entered.open();
                        leave.pass();
                        return false;
                    }
                    stage.is_set()
                })
            }
        });
        stage.asleep(1);
        Evaluating { entered, leave, thread }
    }

    fn end(self) {
        self.leave.open();
        assert!(self.thread.join().is_ok());
    }
}

#[test]
fn has_sleepers_tells_who_is_there() {
    let stage = Stage::new();
    let there = || (stage.queue.has_sleepers(), stage.queue.has_sleepers_without_fence());
    assert_eq!(there(), (false, false));
    let waiter = sleeper(&stage, "", bounded());
    assert_eq!(there(), (true, true));
    stage.queue.wake_up().unwrap();
    waiter.join().unwrap();
    assert_eq!(there(), (false, false));
}

#[test]
fn closing_ends_every_kind_of_wait_now_and_later() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let many = |stage: Stage, other: Queue| {
        move || {
            let (mut never, mut neither) = (|| false, || false);
            let (first, second) = (Source::new(&other, &mut never), Source::new(&stage.queue, &mut neither));
            wait_many(&mut [first, second], &bounded()).map(drop)
        }
    };
    let set = |stage: Stage| {
        move || {
            let mut set = WaitSet::new(&stage.region)?;
            set.add(&stage.queue, &WaitOptions::new().exclusive())?;
            set.wait(&bounded(), |_| false).map(drop)
        }
    };
    let plain = |stage: Stage| move || stage.queue.wait_event_with(&bounded(), || false).map(drop);
    let blind = |stage: Stage| move || stage.queue.wait_woken(&bounded().exclusive()).map(drop);
    let waiters = [
        thread(many(stage.clone(), other.clone())),
        thread(set(stage.clone())),
        thread(plain(stage.clone())),
        thread(blind(stage.clone())),
    ];
    stage.asleep(4);
    let mut by_hand = stage.queue.prepare_to_wait(&bounded()).unwrap();
    assert!(!stage.queue.is_closed());
    assert_eq!(stage.queue.close(), Ok(5));
    assert!(stage.queue.is_closed() && !other.is_closed());
    let outcomes: Vec<_> = waiters.into_iter().map(Thread::join).collect();
    by_hand.prepare();
    let later = [
        by_hand.sleep(),
        plain(stage.clone())(),
        blind(stage.clone())(),
        many(stage.clone(), other.clone())(),
        set(stage.clone())(),
        stage.queue.prepare_to_wait(&bounded()).map(drop),
        stage.queue.wait_event_timeout(|| false, Duration::ZERO).map(drop),
    ];
    for outcome in outcomes.into_iter().chain(later) {
        assert_eq!(
            outcome,
            Err(Error::Closed { queue: stage.queue.name().into() }),
            "it names the closed queue"
        );
    }
    drop(by_hand);
    assert_eq!(stage.queue.wait_event(|| true), Ok(()), "a true condition is none of its business");
    assert_eq!(stage.queue.wake_up(), Ok(woken(0, 0)));
    assert_eq!(stage.queue.close(), Ok(0), "twice");
    assert!(!stage.queue.has_sleepers() && !other.has_sleepers());
    stage.region.check().unwrap();
}

#[test]
fn a_condition_that_turned_true_beats_a_close() {
    let stage = Stage::new();
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded(), || stage.is_set())
    });
    stage.asleep(1);
    stage.set(1);
    stage.queue.close().unwrap();
    assert!(waiter.join().is_ok());
}
