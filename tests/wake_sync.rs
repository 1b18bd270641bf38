//! `wake_up_sync`: waiters are chosen at once, the system call that gives them the processor comes later, but never
//! after the caller has begun to wait itself.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Stage, Thread, bounded, thread, woken};
use waitqueue::{Error, Source, WaitOptions, WaiterState, wait_many};

/// A waiter that answers: sets "answer" and wakes the queue "answers" after it was let through.
struct Partner {
    stage: Stage,
    answer: waitqueue::Object<AtomicU32>,
    answers: waitqueue::Queue,
    looks: Arc<AtomicU32>,
    thread: Option<Thread<()>>,
}

impl Partner {
    fn start(exclusive: bool) -> Partner {
        let stage = Stage::new();
        let answer = stage.region.object::<AtomicU32>("answer").unwrap();
        let answers = stage.region.queue("answers").unwrap();
        let looks = Arc::new(AtomicU32::new(0));
        let thread = thread({
            let (stage, answer, answers, looks) =
                (stage.clone(), answer.clone(), answers.clone(), looks.clone());
            move || {
                let options = if exclusive { bounded().exclusive() } else { bounded() };
                let condition = || {
                    looks.fetch_add(1, AcqRel);
                    stage.is_set()
                };
                stage.queue.wait_event_with(&options, condition).unwrap();
                answer.store(1, Release);
                answers.wake_up().unwrap();
            }
        });
        stage.asleep(1);
        // Asleep also in the kernel, so that only the system call can let it look.
        std::thread::sleep(Duration::from_millis(5));
        Partner { stage, answer, answers, looks, thread: Some(thread) }
    }

    fn has_answered(&self) -> bool {
        self.answer.load(Acquire) != 0
    }

    fn join(&mut self) {
        self.thread.take().unwrap().join();
    }
}

#[test]
fn marks_are_made_at_once_and_the_system_call_at_the_end() {
    for exclusive in [true, false] {
        let mut partner = Partner::start(exclusive);
        let before = partner.looks.load(Acquire);
        partner.stage.set(1);
        let (woke, looks) = partner
            .stage
            .queue
            .wake_up_sync(|| {
                if exclusive {
                    assert_eq!(partner.stage.info().waiters[0].state, WaiterState::Chosen);
                    assert_eq!(partner.stage.queue.wake_up(), Ok(woken(0, 0)), "nobody is left to choose");
                }
                std::thread::sleep(Duration::from_millis(30));
                partner.looks.load(Acquire)
            })
            .unwrap();
        assert_eq!(woke, if exclusive { woken(1, 0) } else { woken(0, 1) });
        assert_eq!(looks, before, "it has not run meanwhile");
        partner.join();
    }
}

#[test]
fn nobody_waits_while_a_wake_is_put_off() {
    type Sleep = fn(&Partner);
    let sleeps: [(&str, Sleep); 5] = [
        ("wait_event", |p| p.answers.wait_event(|| p.has_answered()).unwrap()),
        ("spin", |p| {
            let spin = bounded().spin(common::stage::BEYOND);
            p.answers.wait_event_with(&spin, || p.has_answered()).unwrap();
        }),
        ("wait_many", |p| {
            wait_many(&mut [Source::new(&p.answers, &mut || p.has_answered())], &bounded()).unwrap();
        }),
        ("set", |p| {
            let mut set = waitqueue::WaitSet::new(&p.stage.region).unwrap();
            set.add(&p.answers, &WaitOptions::new()).unwrap();
            set.wait(&bounded(), |_| p.has_answered()).unwrap();
        }),
        ("by hand", |p| {
            let mut wait = p.answers.prepare_to_wait(&bounded()).unwrap();
            loop {
                wait.prepare();
                if p.has_answered() {
                    break;
                }
                wait.sleep().unwrap();
            }
        }),
    ];
    for (name, sleep) in sleeps {
        for exclusive in [true, false] {
            let partner = Partner::start(exclusive);
            let turn = thread({
                move || {
                    partner.stage.set(1);
                    partner.stage.queue.wake_up_sync(|| sleep(&partner)).map(|(woken, ())| woken)?;
                    Ok::<_, Error>(partner)
                }
            });
            turn.ends_within(common::LIMIT).unwrap_or_else(|| panic!("{name}: hung")).unwrap().join();
        }
    }
}

#[test]
fn a_panic_in_the_body_makes_the_system_call() {
    let mut partner = Partner::start(true);
    partner.stage.set(1);
    let queue = partner.stage.queue.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| queue.wake_up_sync(|| panic!("on purpose")).map(drop)));
    assert!(outcome.is_err());
    partner.join();
    // And later wakes of this thread are not put off any more.
    let mut next = Partner::start(true);
    next.stage.set(1);
    next.stage.queue.wake_up().unwrap();
    next.join();
}

#[test]
fn scopes_nest() {
    let (mut outer, mut inner) = (Partner::start(true), Partner::start(true));
    outer.stage.set(1);
    inner.stage.set(1);
    let (_, (deeper, ())) =
        outer.stage.queue.wake_up_sync(|| inner.stage.queue.wake_up_sync(|| ()).unwrap()).unwrap();
    assert_eq!(deeper, woken(1, 0));
    outer.join();
    inner.join();
}

#[test]
fn scopes_nest_in_one_region() {
    let stage = Stage::new();
    let second = stage.region.queue("second").unwrap();
    let sleepers = [&stage.queue, &second].map(|queue| {
        let queue = queue.clone();
        thread(move || queue.wait_woken(&bounded().exclusive()).map(drop))
    });
    stage.asleep(1);
    common::stage::asleep(&second, 1);
    let (first, (nested, ())) = stage.queue.wake_up_sync(|| second.wake_up_sync(|| ()).unwrap()).unwrap();
    assert_eq!((first, nested), (woken(1, 0), woken(1, 0)));
    assert_eq!(sleepers.map(Thread::join), [Ok(()), Ok(())]);
}

#[test]
fn more_waiters_than_are_remembered_are_all_woken() {
    const WAITERS: u32 = 150;
    let stage = Stage::new();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let queue = stage.queue.clone();
            thread(move || queue.wait_woken(&bounded()).map(drop))
        })
        .collect();
    stage.asleep(WAITERS as usize);
    let (woke, ()) = stage.queue.wake_up_sync(|| ()).unwrap();
    assert_eq!(woke, woken(0, WAITERS));
    assert!(waiters.into_iter().all(|waiter| waiter.join() == Ok(())));
}

#[test]
fn with_nobody_there_the_body_runs() {
    let stage = Stage::new();
    assert_eq!(stage.queue.wake_up_sync(|| 7), Ok((woken(0, 0), 7)));
}
