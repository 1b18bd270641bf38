//! P4: a waiter that gives up swallows nothing. A wake that chose it is passed on to the next, whatever way it leaves.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Gate, Stage, Thread, bounded, thread, woken};
use common::{Child, Name, listen, options, say};
use waitqueue::{Error, Interrupter, Relock, Result, Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[("timed", timed)]);
}

/// The one behind, which must get the wake that the first one does not use.
fn heir(stage: &Stage, options: WaitOptions<'static>) -> Thread<Result<Duration>> {
    let (queue, before) = (stage.queue.clone(), stage.waiters().len());
    let heir = thread(move || queue.wait_woken(&options.exclusive().label("heir")));
    stage.asleep(before + 1);
    heir
}

/// Wakes one, and expects that it was the first, who leaves, and that the heir is woken in the end.
fn wake_first(stage: &Stage, heir: Thread<Result<Duration>>, way: &str) {
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "{way}");
    assert!(heir.join().is_ok(), "{way}");
    assert_eq!(stage.hand_ons(), 1, "{way}");
    stage.region.check().unwrap();
}

/// Ways out of an exclusive wait whose looks are numbered from 1: the third is the first that a wake causes.
type Way = fn(&Stage, &AtomicU32);

fn look(looks: &AtomicU32) -> u32 {
    looks.fetch_add(1, AcqRel) + 1
}

struct Refuses;
impl Relock for Refuses {
    fn release(&mut self) {}
    fn retake(&mut self) -> Result<()> {
        Err(Error::Interrupted { queue: "by retake".into() })
    }
}

const WAYS: [(&str, Way); 8] = [
    ("panic of the condition", |stage, looks| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            stage.queue.wait_event_exclusive(|| {
                assert!(look(looks) < 3, "on purpose");
                false
            })
        }));
        assert!(outcome.is_err());
    }),
    ("interrupt", |stage, looks| {
        let handle = Interrupter::new(&stage.region);
        let outcome = stage.queue.wait_event_with(&bounded().exclusive().interrupter(&handle), || {
            if look(looks) == 3 {
                handle.interrupt();
            }
            false
        });
        assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    }),
    ("lock that cannot be retaken", |stage, _| {
        let outcome = stage.queue.wait_event_locked(&bounded().exclusive(), &mut Refuses, |_| false);
        assert_eq!(outcome, Err(Error::Interrupted { queue: "by retake".into() }));
    }),
    ("panic of a command", |stage, _| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            stage.queue.wait_event_exclusive_cmd(|| false, || {}, || panic!("on purpose"))
        }));
        assert!(outcome.is_err());
    }),
    ("drop of a prepared wait", |stage, _| {
        let mut wait = stage.queue.prepare_to_wait(&bounded().exclusive()).unwrap();
        wait.prepare();
        wait.sleep().unwrap();
        assert!(wait.was_chosen());
    }),
    ("panic beside a prepared wait", |stage, _| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut wait = stage.queue.prepare_to_wait(&bounded().exclusive()).unwrap();
            wait.prepare();
            wait.sleep().unwrap();
            panic!("on purpose");
        }));
        assert!(outcome.is_err());
    }),
    ("drop of a set", |stage, looks| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut set = WaitSet::new(&stage.region).unwrap();
            set.add(&stage.queue, &WaitOptions::new().exclusive()).unwrap();
            set.wait(&bounded(), |_| {
                assert!(look(looks) < 2, "on purpose");
                false
            })
        }));
        assert!(outcome.is_err());
    }),
    ("interrupt of a set", |stage, looks| {
        let handle = Interrupter::new(&stage.region);
        let mut set = WaitSet::new(&stage.region).unwrap();
        set.add(&stage.queue, &WaitOptions::new().exclusive()).unwrap();
        let outcome = set.wait(&bounded().interrupter(&handle), |_| {
            if look(looks) == 2 {
                handle.interrupt();
            }
            false
        });
        assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    }),
];

#[test]
fn trap_04_a_wake_is_passed_on_whatever_way_its_waiter_leaves() {
    for (way, leave) in WAYS {
        let stage = Stage::new();
        let leaver = thread({
            let stage = stage.clone();
            move || leave(&stage, &AtomicU32::new(0))
        });
        stage.asleep(1);
        let heir = heir(&stage, bounded());
        wake_first(&stage, heir, way);
        leaver.join();
        assert!(!stage.queue.has_sleepers(), "{way}");
    }
}

#[test]
fn p4_a_waiter_that_was_not_chosen_leaves_without_a_trace() {
    for (way, leave) in WAYS {
        let stage = Stage::new();
        let heir = heir(&stage, bounded());
        let leaver = thread({
            let stage = stage.clone();
            move || leave(&stage, &AtomicU32::new(0))
        });
        stage.asleep(2);
        assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)), "{way}: the heir was first");
        assert!(heir.join().is_ok());
        assert_eq!(stage.hand_ons(), 0, "{way}");
        stage.queue.wake_up_all().unwrap();
        leaver.join();
        assert!(!stage.queue.has_sleepers(), "{way}");
    }
}

#[test]
fn trap_50_a_wake_that_is_passed_on_keeps_its_key_and_class() {
    type Mark = fn(WaitOptions<'static>, u32) -> WaitOptions<'static>;
    let marks: [(&str, Mark); 2] = [("key", |o, mask| o.key(mask)), ("class", |o, mask| o.class(mask))];
    for (name, mark) in marks {
        let stage = Stage::new();
        let leaver = thread({
            let stage = stage.clone();
            move || {
                let mut wait = stage.queue.prepare_to_wait(&mark(bounded(), 1).exclusive()).unwrap();
                wait.prepare();
                wait.sleep().unwrap();
            }
        });
        stage.asleep(1);
        let stranger = heir(&stage, mark(bounded(), 2));
        let heir = heir(&stage, mark(bounded(), 1));
        let wake = waitqueue::WakeOptions::new();
        let wake = if name == "key" { wake.key(1) } else { wake.class(1) };
        assert_eq!(stage.queue.wake_up_with(&wake), Ok(woken(1, 0)));
        assert!(heir.join().is_ok(), "{name}");
        leaver.join();
        stage.asleep(1); // the stranger
        stage.queue.wake_up().unwrap();
        assert!(stranger.join().is_ok());
    }
}

/// Waits with a timeout, and says how it ended.
fn timed(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    let options = WaitOptions::new().exclusive().timeout(Duration::from_millis(args[2].parse().unwrap()));
    let outcome = match args[1].as_str() {
        "event" => stage.queue.wait_event_with(&options, || false).map(drop),
        "woken" => stage.queue.wait_woken(&options).map(drop),
        "many" => wait_many(&mut [Source::with(&stage.queue, &options, &mut || false)], &options).map(drop),
        "set" => {
            let mut set = WaitSet::new(&stage.region).unwrap();
            set.add(&stage.queue, &options).unwrap();
            set.wait(&options, |_| false).map(drop)
        }
        other => panic!("no form {other}"),
    };
    say(if outcome.is_ok() { "ok" } else { "timed out" });
    listen();
}

/// A waiter that is stopped while its deadline passes, and chosen after that, has both reasons to wake.
#[test]
fn trap_38_a_wake_that_races_with_a_timeout_is_used_or_passed_on() {
    const SPAN: u64 = 300;
    for (form, ending) in
        [("event", "timed out"), ("many", "timed out"), ("set", "timed out"), ("woken", "ok")]
    {
        let name = Name::new();
        let stage = Stage::of(name.region());
        let mut child = Child::start("timed", &[&name.0, form, &SPAN.to_string()]);
        stage.asleep(1);
        child.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(SPAN)); // its deadline was set before this began
        let heir = heir(&stage, bounded());
        if stage.queue.wake_up() != Ok(woken(1, 0))
            || stage.labels().first().is_none_or(|first| first == "heir")
        {
            println!("the child's deadline came before its stop: nothing to see this time");
        }
        child.signal(libc::SIGCONT);
        child.expect(ending);
        if ending == "ok" {
            assert_eq!(stage.hand_ons(), 0, "{form}: used, not passed on");
            stage.queue.wake_up().unwrap();
        }
        assert!(heir.join().is_ok(), "{form}");
        child.tell("end");
        child.end_well();
        assert!(!stage.queue.has_sleepers());
    }
}

#[test]
fn trap_35_a_thread_that_panics_while_enrolled_leaves_nothing_on_its_queues() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    for _ in 0..20 {
        let (stage, other) = (stage.clone(), other.clone());
        let thread = thread(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _guard = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
                let mut set = WaitSet::new(&stage.region).unwrap();
                set.add(&other, &WaitOptions::new().exclusive()).unwrap();
                let mut both = || panic!("on purpose");
                let _ = wait_many(&mut [Source::new(&stage.queue, &mut both)], &bounded());
            }));
        });
        thread.join();
    }
    assert!(!stage.queue.has_sleepers() && !other.has_sleepers());
    stage.region.check().unwrap();
}

thread_local! {
    static KEPT: RefCell<Option<WaitSet>> = const { RefCell::new(None) };
}

/// A set in a thread-local of the user is dropped when the thread ends, perhaps after the library's own.
#[test]
fn trap_35_a_thread_that_ends_with_a_set_leaves_its_queues_and_gives_its_entries_back() {
    const ENTRIES: u64 = 64;
    let region = options().entries(ENTRIES).create_memfd("small").unwrap();
    let stage = Stage::of(region);
    for round in 0..2 * ENTRIES {
        let stage = stage.clone();
        let ended = Arc::new(Gate::default());
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || {
                KEPT.with_borrow_mut(|kept| {
                    let mut set =
                        WaitSet::new(&stage.region).unwrap_or_else(|e| panic!("round {round}: {e}"));
                    set.add(&stage.queue, &WaitOptions::new().exclusive()).unwrap();
                    *kept = Some(set);
                });
                ended.open();
            }
        });
        thread.join().unwrap();
        assert!(ended.is_open());
    }
    assert!(!stage.queue.has_sleepers());
    assert!(stage.region.snapshot().entries.0 < ENTRIES as u32 / 2, "{:?}", stage.region.snapshot().entries);
    stage.region.check().unwrap();
}
