//! The core itself under the model checker loom: every interleaving of a few threads, and every value that the
//! memory orderings allow them to read, up to a bound on preemptions.
//!
//! What is checked is the code of `lock`, `head`, `entry`, `enrolled`, `thread` and `wait`, with the kernel and the clock
//! of `sys/model.rs` below it. A lost wakeup shows as a deadlock, because in a model no sleep ever times out by itself.
//! Fields that one lock guards are plain atomics here (see `atomic.rs`): that the lock really excludes and publishes is
//! checked by the model of the lock, with loom's `UnsafeCell`. Deaths, and many more steps under sequential
//! consistency, are in `tests/waiter_word_model.rs`.
//!
//! Each model stands beside its twins: the same model with one fence or step left out, which must fail, in a process
//! of its own, because a failed model may leave threads that cannot be unwound.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --lib -p waitqueue models
//! ```
//!
//! Bounds: the number beside each model is how often the scheduler may take a thread's turn away: at most 2 in models of
//! four threads, 3 of three, 4 and more of two. Two find every twin. `LOOM_MAX_PREEMPTIONS` overrides them all.

mod leaving;
mod lock;
mod many;
mod waking;

use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::AtomicU32;

use crate::enrolled::Spot;
use crate::head::{self, ALL, Enrolment, Wake, Woken};
use crate::layout::EXCLUSIVE;
use crate::offset::Space;
use crate::sleep::{InterruptWord, JustSleep, Manner, Signals};
use crate::sys::clock::Deadline;
use crate::sys::futex;
use crate::sys::lease::Prober;
use crate::sys::mark::Marker;
use crate::thread::{Myself, Thread};
use crate::wait::{self, Conditions, Ended, Sources};

/// Explores a model; the scheduler may take a thread's turn away so many times.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Runs the model of the test `path` with the step `mutant` left out: it must fail, saying `symptom`.
fn must_fail(path: &str, mutant: &str, symptom: &str) {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([path, "--exact", "--nocapture", "--test-threads=1"]).env("WAITQUEUE_MUTANT", mutant);
    let output = test.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no test {path}: {said}");
    assert!(!output.status.success(), "{path} does not notice \"{mutant}\"");
    assert!(said.contains(symptom), "{path} fails with \"{mutant}\", but not by \"{symptom}\": {said}");
}

/// What loom says when nobody can run any more: a wakeup was lost.
const STUCK: &str = "deadlock";
/// What loom says when two threads touch an `UnsafeCell` and neither access happens before the other.
const RACE: &str = "Causality violation";

/// Models, each with its twins: `name, preemptions, body; twin: "mutant", symptom; …`
macro_rules! models {
    ($($(#[$doc:meta])* $name:ident($preemptions:expr) = $body:expr
        $(, $twin:ident: $mutant:literal => $symptom:expr)*;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                $crate::models::explore($preemptions, $body);
            }
            $(
                #[test]
                fn $twin() {
                    let path = concat!(module_path!(), "::", stringify!($name));
                    let (_, path) = path.split_once("::").unwrap();
                    $crate::models::must_fail(path, $mutant, $symptom);
                }
            )*
        )*
    };
}
use models;

/// A region of the model.
struct World {
    space: Arc<Space>,
    claimed: u64,
}

impl World {
    /// For so many threads with so many entries each, and so many queues.
    fn new(threads: u32, entries: u32, queues: u32) -> World {
        World { space: Arc::new(Space::new(threads, threads * entries, queues)), claimed: 0 }
    }

    /// A thread of a process of its own, with entries in hand, so that the search for free ones is not interleaved.
    fn thread(&mut self, entries: u32) -> Thread {
        self.claimed += 1;
        let thread = claim(&self.space, self.claimed);
        let taken: Vec<u32> = (0..entries).map(|_| thread.take_entry().unwrap()).collect();
        taken.into_iter().rev().for_each(|index| thread.give_entry(index));
        thread
    }
}

fn claim(space: &Arc<Space>, participant: u64) -> Thread {
    let myself = Myself { marker: Marker, mark: 1, tid: 1, is_bell: false };
    Thread::claim(space, &Arc::new(Prober), myself, participant, Duration::MAX, Arc::default()).unwrap()
}

/// The offset of the n-th queue.
const fn queue(n: u64) -> u64 {
    64 * (n + 1)
}

fn spot(n: u64, flags: u32) -> Spot {
    Spot { queue: queue(n), enrolment: Enrolment { flags, class: ALL, key: ALL } }
}

const PLAIN: Manner<'static> = Manner {
    deadline: None,
    signals: Signals::None,
    handle: None,
    tick: None,
    spin: Duration::ZERO,
    pace: None,
    label: "",
    bell: None,
};

fn timed() -> Manner<'static> {
    Manner { deadline: Some(Deadline), ..PLAIN }
}

fn interruptible(handle: &InterruptWord) -> Manner<'_> {
    Manner { handle: Some(handle), ..PLAIN }
}

/// Spots, and all of their conditions in one.
struct Asked<'a>(&'a [Spot], &'a mut dyn FnMut() -> Option<usize>);

impl Conditions for Asked<'_> {
    fn evaluate(&mut self) -> Option<usize> {
        (self.1)()
    }
}

impl Sources for Asked<'_> {
    fn spots(&self) -> impl Iterator<Item = Spot> {
        self.0.iter().copied()
    }
}

/// As `Queue::wait_event_with` and `wait_many`: the condition first.
fn wait_until(
    thread: Thread,
    spots: &[Spot],
    manner: &Manner,
    condition: &mut dyn FnMut() -> Option<usize>,
) -> Ended {
    let mut sources = Asked(spots, condition);
    if let Some(at) = sources.evaluate() {
        return Ended::Fired(at);
    }
    wait::wait(&Rc::new(thread), &mut sources, manner, &mut JustSleep).unwrap()
}

/// As `Queue::wait_woken`.
fn wait_woken(thread: Thread, n: u64, manner: &Manner) -> Ended {
    wait::wait_woken(&Rc::new(thread), spot(n, EXCLUSIVE), manner, &mut JustSleep).unwrap()
}

/// As `Queue::wake_up_nr`.
fn wake(thread: &Thread, n: u64, count: u32) -> Woken {
    if !head::has_sleepers(thread.space().head(queue(n)).unwrap()) {
        return Woken::default();
    }
    head::lock(thread, queue(n)).unwrap().wake(Wake { count, class: ALL, key: ALL })
}

/// Something to wait for that can be taken: each item by one waiter. Relaxed, so that the order of condition and wait
/// rests on the fences alone.
struct Items(AtomicU32);

impl Items {
    fn new() -> Arc<Items> {
        Arc::new(Items(AtomicU32::new(0)))
    }

    fn put(&self) {
        use loom::sync::atomic::Ordering::Relaxed;
        self.0.fetch_add(1, Relaxed);
    }

    fn take(&self) -> bool {
        use loom::sync::atomic::Ordering::Relaxed;
        let mut seen = self.0.load(Relaxed);
        while seen > 0 {
            match self.0.compare_exchange(seen, seen - 1, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }
}

/// Lets the deadline pass for the wait that entry `lead` leads, asleep or not. The first thread's is entry 0.
fn let_time_pass(space: &Space, lead: usize) {
    crate::sys::clock::pass(&space.entries()[lead].word);
}

#[test]
fn a_futex_wakes_its_own_word_only() {
    explore(5, || {
        let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let shared = words.clone();
        let sleeper = loom::thread::spawn(move || {
            futex::wait(&shared[0], 0, None);
            assert_eq!(shared[0].load(loom::sync::atomic::Ordering::Relaxed), 1);
        });
        futex::wake(&words[1]);
        words[0].store(1, loom::sync::atomic::Ordering::Relaxed);
        futex::wake(&words[0]);
        sleeper.join().unwrap();
    });
}
