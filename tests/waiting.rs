//! Every form of wait sleeps until its condition is true, and ends for the reason it should: condition before closed,
//! closed before timeout, timeout before interrupt.

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use common::LIMIT;
use common::stage::{BEYOND, Gate, Stage, bounded, thread};
use waitqueue::{Error, Interrupter, Relock, Result, Source, WaitOptions, WaitSet, wait_many};

type Form = fn(&Stage, &mut dyn FnMut() -> bool) -> Result<()>;

/// Every way to wait for a condition.
const FORMS: [(&str, Form); 15] = [
    ("wait_event", |s, c| s.queue.wait_event(c)),
    ("wait_event_timeout", |s, c| s.queue.wait_event_timeout(c, BEYOND).map(drop)),
    ("wait_event_interruptible", |s, c| s.queue.wait_event_interruptible(c)),
    ("wait_event_interruptible_timeout", |s, c| {
        s.queue.wait_event_interruptible_timeout(c, BEYOND).map(drop)
    }),
    ("wait_event_killable", |s, c| s.queue.wait_event_killable(c)),
    ("wait_event_killable_timeout", |s, c| s.queue.wait_event_killable_timeout(c, BEYOND).map(drop)),
    ("wait_event_exclusive", |s, c| s.queue.wait_event_exclusive(c)),
    ("wait_event_interruptible_exclusive", |s, c| s.queue.wait_event_interruptible_exclusive(c)),
    ("wait_event_cmd", |s, c| s.queue.wait_event_cmd(c, || {}, || {})),
    ("wait_event_exclusive_cmd", |s, c| s.queue.wait_event_exclusive_cmd(c, || {}, || {})),
    ("wait_event_locked", |s, c| s.queue.wait_event_locked(&bounded(), &mut NoLock, |_| c())),
    ("spin", |s, c| s.queue.wait_event_with(&bounded().spin(Duration::from_micros(50)), c).map(drop)),
    ("priority", |s, c| s.queue.wait_event_with(&bounded().priority().exclusive(), c).map(drop)),
    ("wait_many", |s, c| wait_many(&mut [Source::new(&s.queue, c)], &bounded()).map(drop)),
    ("WaitSet", |s, c| {
        let mut set = WaitSet::new(&s.region)?;
        set.add(&s.queue, &WaitOptions::new())?;
        set.wait(&bounded(), |_| c()).map(drop)
    }),
];

struct NoLock;
impl Relock for NoLock {
    fn release(&mut self) {}
    fn retake(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn p1_every_form_returns_when_its_condition_turns_true() {
    for (name, form) in FORMS {
        let stage = Stage::new();
        let waiter = thread({
            let stage = stage.clone();
            move || form(&stage, &mut || stage.is_set())
        });
        stage.asleep(1);
        let woken = stage.set_and_wake();
        assert_eq!(woken.exclusive + woken.nonexclusive, 1, "{name}");
        assert_eq!(waiter.join(), Ok(()), "{name}");
        assert!(!stage.queue.has_sleepers(), "{name} left its queue");
        stage.region.check().unwrap();
    }
}

#[test]
fn a_wake_without_the_condition_ends_no_form() {
    for (name, form) in FORMS {
        let stage = Stage::new();
        let looks = Arc::new(AtomicU32::new(0));
        let waiter = thread({
            let (stage, looks) = (stage.clone(), looks.clone());
            move || {
                form(&stage, &mut || {
                    looks.fetch_add(1, AcqRel);
                    stage.is_set()
                })
            }
        });
        stage.asleep(1);
        let before = looks.load(Acquire);
        stage.queue.wake_up().unwrap();
        common::until("another look", || looks.load(Acquire) > before);
        stage.asleep(1);
        stage.set_and_wake();
        assert_eq!(waiter.join(), Ok(()), "{name}");
    }
}

#[test]
fn p8_a_true_condition_is_evaluated_once_and_touches_no_entry() {
    for (name, form) in FORMS.into_iter().filter(|(name, _)| *name != "WaitSet") {
        let stage = Stage::new();
        let before = stage.region.snapshot().entries;
        let mut looks = 0;
        let outcome = form(&stage, &mut || {
            looks += 1;
            true
        });
        assert_eq!((outcome, looks), (Ok(()), 1), "{name}");
        assert_eq!(stage.region.snapshot().entries, before, "{name}");
    }
}

#[test]
fn a_condition_with_side_effects_is_not_asked_again_once_true() {
    for (name, form) in FORMS {
        let stage = Stage::new();
        let waiter = thread({
            let stage = stage.clone();
            move || form(&stage, &mut || stage.take())
        });
        stage.asleep(1);
        stage.set(3);
        stage.queue.wake_up().unwrap();
        assert_eq!(waiter.join(), Ok(()), "{name}");
        assert_eq!(stage.flag.load(Acquire), 2, "{name} took one");
    }
}

#[test]
fn trap_05_a_poll_evaluates_once() {
    let stage = Stage::new();
    let poll = WaitOptions::new().timeout(Duration::ZERO);
    for answer in [false, true] {
        let mut looks = 0;
        let mut condition = || {
            looks += 1;
            answer
        };
        let left = stage.queue.wait_event_with(&poll, &mut condition);
        let many = wait_many(&mut [Source::new(&stage.queue, &mut condition)], &poll);
        if answer {
            assert_eq!(left, Ok(Duration::from_nanos(1)), "at least 1 ns is left");
            assert_eq!(many, Ok(0));
        } else {
            assert!(matches!(left, Err(Error::TimedOut { .. })), "{left:?}");
            assert!(matches!(many, Err(Error::TimedOut { .. })), "{many:?}");
        }
        assert_eq!(looks, 2, "each of the two evaluated once");
        let mut looks = 0;
        let mut set = WaitSet::new(&stage.region).unwrap();
        let member = set.add(&stage.queue, &WaitOptions::new()).unwrap();
        let found = set.wait(&poll, |_| {
            looks += 1;
            answer
        });
        assert_eq!((found.ok(), looks), (answer.then_some(member), 1), "a set evaluates once");
    }
}

#[test]
fn trap_05_a_deadline_that_has_passed_still_evaluates() {
    let stage = Stage::new();
    let soon = Duration::from_nanos(1);
    let mut looks = 0;
    let outcome = stage.queue.wait_event_timeout(
        || {
            looks += 1;
            looks == 2
        },
        soon,
    );
    assert_eq!(outcome, Ok(soon), "true at the last evaluation, after the deadline");
}

#[test]
fn the_condition_beats_the_timeout() {
    let stage = Stage::new();
    let (start, span) = (Instant::now(), Duration::from_millis(30));
    // Becomes true as time passes, and nobody wakes: only the evaluation at the deadline can see it.
    let left = stage.queue.wait_event_timeout(|| start.elapsed() >= span, span);
    assert_eq!(left, Ok(Duration::from_nanos(1)));
}

#[test]
fn a_timeout_is_reported_and_never_early() {
    let stage = Stage::new();
    for span in [1_u64, 20_000, 3_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        let outcome = stage.queue.wait_event_timeout(|| false, span);
        assert!(start.elapsed() >= span);
        assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    }
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn what_is_left_of_a_timeout_is_returned() {
    let stage = Stage::new();
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_timeout(|| stage.is_set(), LIMIT)
    });
    stage.asleep(1);
    std::thread::sleep(Duration::from_millis(2));
    stage.set_and_wake();
    let left = waiter.join().unwrap();
    assert!(left > Duration::ZERO && left <= LIMIT - Duration::from_millis(2), "{left:?}");
}

#[test]
fn a_timeout_beyond_the_clock_is_no_timeout() {
    let stage = Stage::new();
    assert_eq!(stage.queue.wait_event_timeout(|| true, Duration::MAX), Ok(Duration::MAX));
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_timeout(|| stage.is_set(), Duration::MAX)
    });
    stage.asleep(1);
    stage.set_and_wake();
    assert!(waiter.join().unwrap() > Duration::from_secs(1 << 40));
}

#[test]
fn the_order_of_reasons_is_condition_closed_timeout_interrupt() {
    let stage = Stage::new();
    let handle = Interrupter::new(&stage.region);
    let soon = Duration::from_nanos(1);
    handle.interrupt();
    let options = WaitOptions::new().interrupter(&handle);
    let timed = options.timeout(soon);
    assert_eq!(stage.queue.wait_event_with(&options, || true), Ok(Duration::MAX));
    let outcome = stage.queue.wait_event_with(&timed, || false);
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "the timeout beats the interrupt: {outcome:?}");
    let outcome = stage.queue.wait_event_with(&options, || false);
    assert!(matches!(outcome, Err(Error::Interrupted { .. })), "kept until now: {outcome:?}");
    stage.queue.close().unwrap();
    let outcome = stage.queue.wait_event_with(&timed, || false);
    assert!(matches!(outcome, Err(Error::Closed { .. })), "closed beats the timeout: {outcome:?}");
    assert!(stage.queue.wait_event_with(&timed, || true).is_ok(), "the condition beats all");
}

#[test]
fn spinning_enrols_nobody() {
    let stage = Stage::new();
    let looks = Arc::new(AtomicU32::new(0));
    let waiter = thread({
        let (stage, looks) = (stage.clone(), looks.clone());
        move || {
            stage.queue.wait_event_with(&bounded().exclusive().spin(BEYOND), || {
                looks.fetch_add(1, AcqRel);
                stage.is_set()
            })
        }
    });
    common::until("a thousand looks", || looks.load(Acquire) > 1000);
    assert!(!stage.queue.has_sleepers());
    stage.set(1);
    assert!(waiter.join().is_ok());
}

#[test]
fn an_exclusive_spinner_does_not_overtake_a_sleeper() {
    let stage = Stage::new();
    let options = bounded().exclusive().spin(BEYOND);
    let sleeper = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded().exclusive(), || stage.take())
    });
    stage.asleep(1);
    let spinner = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&options, || stage.take())
    });
    stage.asleep(2); // not spinning
    stage.set(2);
    stage.queue.wake_up_all().unwrap();
    assert!(sleeper.join().is_ok() && spinner.join().is_ok());
}

#[test]
fn trap_26_a_condition_may_itself_wait() {
    let stage = Stage::new();
    let inner = stage.region.queue("inner").unwrap();
    let step = stage.region.object::<AtomicU32>("step").unwrap();
    let waiter = thread({
        let (stage, inner, step) = (stage.clone(), inner.clone(), step.clone());
        move || {
            stage.queue.wait_event_with(&bounded().exclusive(), || {
                // Asleep on another queue in the middle of an evaluation on this one.
                let level = stage.flag.load(Acquire);
                inner.wait_event_with(&bounded(), || step.load(Acquire) >= level).is_ok() && level == 2
            })
        }
    });
    stage.asleep(1);
    stage.set(1);
    stage.queue.wake_up().unwrap();
    common::stage::asleep(&inner, 1);
    // This wake meets a waiter that is asleep elsewhere, inside its evaluation.
    stage.set(2);
    assert_eq!(stage.queue.wake_up().unwrap().exclusive, 0);
    step.store(2, Release);
    inner.wake_up().unwrap();
    assert!(waiter.join().is_ok());
    assert!(!stage.queue.has_sleepers() && !inner.has_sleepers());
}

#[test]
fn commands_run_around_each_sleep_and_the_condition_after_them() {
    for exclusive in [false, true] {
        let stage = Stage::new();
        let log = Arc::new(Mutex::new(String::new()));
        let waiter = thread({
            let (stage, log) = (stage.clone(), log.clone());
            move || {
                let note = |letter| log.lock().unwrap().push(letter);
                let condition = || {
                    note('c');
                    stage.is_set()
                };
                if exclusive {
                    stage.queue.wait_event_exclusive_cmd(condition, || note('b'), || note('a'))
                } else {
                    stage.queue.wait_event_cmd(condition, || note('b'), || note('a'))
                }
            }
        });
        common::until("the first sleep", || log.lock().unwrap().ends_with('b'));
        stage.asleep(1);
        assert_eq!(stage.info().waiters[0].exclusive, exclusive);
        stage.queue.wake_up().unwrap();
        common::until("the second sleep", || log.lock().unwrap().matches('b').count() == 2);
        stage.set_and_wake();
        waiter.join().unwrap();
        let log = log.lock().unwrap();
        assert_eq!(log.trim_start_matches('c'), "bacbac", "the condition comes after the second command");
        assert!(log.starts_with('c'));
    }
}

/// A guard of std's mutex, as a user would wrap it.
struct StdGuard<'a>(&'a Mutex<u32>, Option<MutexGuard<'a, u32>>);
impl Relock for StdGuard<'_> {
    fn release(&mut self) {
        self.1 = None;
    }
    fn retake(&mut self) -> Result<()> {
        self.1 = Some(self.0.lock().unwrap());
        Ok(())
    }
}

#[test]
fn a_mutex_of_std_is_held_by_every_evaluation_and_free_over_each_sleep() {
    let stage = Stage::new();
    let mutex = Arc::new(Mutex::new(0));
    let waiter = thread({
        let (stage, mutex) = (stage.clone(), mutex.clone());
        move || {
            let mut guard = StdGuard(&mutex, Some(mutex.lock().unwrap()));
            stage.queue.wait_event_locked(&bounded(), &mut guard, |guard| {
                assert!(mutex.try_lock().is_err(), "the condition runs with the lock held");
                guard.1.as_deref() == Some(&7)
            })?;
            assert_eq!(guard.1.as_deref(), Some(&7), "held at the end");
            Ok::<(), Error>(())
        }
    });
    stage.asleep(1);
    *mutex.lock().unwrap() = 7; // blocks if the sleeper keeps the lock
    stage.queue.wake_up().unwrap();
    assert_eq!(waiter.join(), Ok(()));
}

#[test]
fn waits_and_labels_are_visible_while_they_last() {
    let stage = Stage::new();
    let gate = Arc::new(Gate::default());
    let long = "ä".repeat(40);
    let waiter = thread({
        let (stage, gate, long) = (stage.clone(), gate.clone(), long.clone());
        move || stage.queue.wait_event_with(&bounded().exclusive().key(6).label(&long), || gate.is_open())
    });
    stage.asleep(1);
    let seen = &stage.info().waiters[0];
    assert_eq!(seen.label, "ä".repeat(16), "cut at 32 bytes, at a character's boundary");
    assert_eq!((seen.exclusive, seen.priority, seen.persistent, seen.key), (true, false, false, 6));
    assert_eq!((seen.participant, seen.process), (stage.region.me(), std::process::id()));
    gate.open();
    stage.queue.wake_up().unwrap();
    assert!(waiter.join().is_ok());
}

#[test]
fn a_forgotten_wake_is_found_by_the_tick_and_counted() {
    let tick = || common::options().tick(Some(Duration::from_millis(20)));
    let name = common::Name::new();
    // In the first the bell ticks, in the second each sleep has a timer.
    for stage in
        [Stage::of(tick().create(&name.0).unwrap()), Stage::of(tick().create_memfd("stage").unwrap())]
    {
        for way in ["one", "many", "set"] {
            stage.set(0);
            let before = stage.info().rescues;
            let waiter = thread({
                let stage = stage.clone();
                move || match way {
                    "one" => stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop),
                    "many" => {
                        let (mut is_set, mut never) = (|| stage.is_set(), || false);
                        let first = Source::new(&stage.queue, &mut is_set);
                        let sources = &mut [first, Source::new(&stage.queue, &mut never)];
                        wait_many(sources, &bounded()).map(drop)
                    }
                    _ => {
                        let mut set = WaitSet::new(&stage.region)?;
                        set.add(&stage.queue, &WaitOptions::new())?;
                        set.wait(&bounded(), |_| stage.is_set()).map(drop)
                    }
                }
            });
            stage.asleep(1 + usize::from(way == "many"));
            stage.set(1);
            assert_eq!(waiter.join(), Ok(()), "{way}");
            assert!(stage.info().rescues > before, "{way}: {:?}", stage.info());
        }
    }
}

#[test]
fn a_spin_does_not_outlast_its_budget_where_the_condition_is_slow() {
    let region = waitqueue::Region::builder().tick(None).create_memfd("stage").unwrap();
    let queue = region.queue("queue").unwrap();
    let mut looks = 0;
    let slow = || {
        looks += 1;
        std::thread::sleep(Duration::from_millis(20));
        false
    };
    let outcome = queue.wait_event_timeout(slow, Duration::from_millis(30));
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    assert!(looks < 10, "{looks} evaluations, of which two outlast the timeout");
}
