//! What the tests about death share: items that are taken exactly once whoever dies, and survivors who take them.
//!
//! ```text
//! item   EMPTY ── put ──► READY ── take: CAS ──► id of who works on it ── finish: CAS ──► DONE
//!                                                    └── its owner is dead: another takes it, by CAS ──┘
//! ```
//!
//! Every change is one compare-and-swap of one word, so there is no instruction at which a kill could lose or double
//! an item: what is neither EMPTY nor DONE in the end was lost by the library.
#![allow(dead_code, unreachable_pub)]

pub mod turns;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::thread::JoinHandle;
use std::time::Duration;

use waitqueue::{
    Lock, Object, ParticipantId, Queue, Region, RobustLock, Snapshot, Source, WaitOptions, WaitSet, wait_many,
};

use crate::common::{self, until};

pub const ITEMS: usize = 64;
/// The items that queue `a` and queue `b` announce.
pub const OF_A: Range<usize> = 0..32;
pub const OF_B: Range<usize> = 32..64;

const EMPTY: u64 = 0;
const READY: u64 = 1;
const DONE: u64 = u64::MAX;

/// The objects of a test region.
#[derive(Clone)]
pub struct World {
    pub region: Region,
    pub items: Object<[AtomicU64; ITEMS]>,
    pub stop: Object<AtomicU32>,
    pub a: Queue,
    pub b: Queue,
    pub c: Queue,
    pub lock: Lock,
}

impl World {
    pub fn new(region: &Region) -> World {
        World {
            region: region.clone(),
            items: region.object("items").unwrap(),
            stop: region.object("stop").unwrap(),
            a: region.queue("a").unwrap(),
            b: region.queue("b").unwrap(),
            c: region.queue("c").unwrap(),
            lock: region.lock_at(&region.object::<RobustLock>("lock").unwrap()).unwrap(),
        }
    }

    pub fn open(name: &str) -> World {
        World::new(&small().open(name).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Announces an item, without waking anybody.
    pub fn put(&self, item: usize) {
        self.items[item].compare_exchange(EMPTY, READY, AcqRel, Relaxed).expect("an item is put once");
    }

    /// Takes an item that nobody, or nobody alive, works on.
    pub fn take(&self, range: Range<usize>) -> Option<usize> {
        range.into_iter().find(|item| {
            let seen = self.items[*item].load(Acquire);
            let free = match seen {
                EMPTY | DONE => false,
                READY => true,
                owner => ParticipantId::new(owner).is_some_and(|owner| !self.region.is_alive(owner)),
            };
            free && self.items[*item].compare_exchange(seen, self.region.me().get(), AcqRel, Relaxed).is_ok()
        })
    }

    /// Takes an item and finishes it; false if there is none.
    pub fn work(&self, range: Range<usize>) -> bool {
        let Some(item) = self.take(range) else { return false };
        let me = self.region.me().get();
        self.items[item].compare_exchange(me, DONE, AcqRel, Relaxed).expect("an item has one owner");
        true
    }

    /// Whether the item was ever announced.
    pub fn is_put(&self, item: usize) -> bool {
        self.items[item].load(Acquire) != EMPTY
    }

    pub fn is_done(&self, item: usize) -> bool {
        self.items[item].load(Acquire) == DONE
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Acquire) != 0
    }

    /// Waits until all items that were put are done: by wakes alone, since the tick is off.
    pub fn settled(&self, what: &str) {
        until(&format!("{what}: all items done"), || {
            self.items.iter().all(|item| matches!(item.load(Acquire), EMPTY | DONE))
        });
    }

    /// Puts `count` items on each of the two queues that were never used, each followed by one wake.
    pub fn put_more(&self, count: usize) {
        for (queue, range) in [(&self.a, OF_A), (&self.b, OF_B)] {
            for item in range.filter(|item| self.items[*item].load(Relaxed) == EMPTY).take(count) {
                self.put(item);
                queue.wake_up().unwrap();
            }
        }
    }
}

/// The capacities of small regions.
pub const PARTICIPANTS: usize = 12;
pub const THREADS: usize = 96;
pub const ENTRIES: usize = 192;

/// A builder for small regions, which are made quickly.
pub fn small() -> waitqueue::RegionBuilder {
    let options = common::options().participants(PARTICIPANTS as u64).threads(THREADS as u64);
    options.entries(ENTRIES as u64).objects(32).memory(1 << 14)
}

/// Threads of this process that wait in every way there is, and take items.
pub struct Survivors {
    world: World,
    threads: Vec<JoinHandle<()>>,
}

/// How many entries the survivors have on queue `a` when all of them are asleep.
pub const ASLEEP_ON_A: usize = 5;

impl Survivors {
    pub fn start(world: &World) -> Survivors {
        let ways: [fn(&World); 5] = [exclusive, exclusive, many, set, shared];
        let threads = ways.map(|way| {
            let world = world.clone();
            std::thread::spawn(move || way(&world))
        });
        Survivors { world: world.clone(), threads: threads.into() }
    }

    /// Waits until all are asleep, with so many others.
    pub fn asleep(&self, others: usize) {
        common::until_asleep(&self.world.region, "a", ASLEEP_ON_A + others);
    }

    /// Ends them; each must end.
    pub fn stop(self, what: &str) {
        self.world.stop.store(1, Release);
        self.world.a.wake_up_all().unwrap();
        self.world.b.wake_up_all().unwrap();
        for thread in self.threads {
            until(&format!("{what}: a survivor ends"), || thread.is_finished());
            thread.join().unwrap();
        }
    }
}

fn exclusive(world: &World) {
    while !world.stopped() {
        world.a.wait_event_exclusive(|| world.stopped() || world.work(OF_A)).unwrap();
    }
}

fn shared(world: &World) {
    let count = || (0..ITEMS).filter(|item| world.is_done(*item)).count();
    while !world.stopped() {
        let seen = count();
        world.a.wait_event(|| world.stopped() || count() > seen).unwrap();
    }
}

fn many(world: &World) {
    let options = WaitOptions::new().exclusive();
    while !world.stopped() {
        wait_many(
            &mut [
                Source::with(&world.a, &options, &mut || world.stopped() || world.work(OF_A)),
                Source::with(&world.b, &options, &mut || world.stopped() || world.work(OF_B)),
            ],
            &WaitOptions::new(),
        )
        .unwrap();
    }
}

fn set(world: &World) {
    let options = WaitOptions::new().exclusive();
    let mut set = WaitSet::new(&world.region).unwrap();
    let a = set.add(&world.a, &options).unwrap();
    set.add(&world.b, &options).unwrap();
    while !world.stopped() {
        let range = |member| if member == a { OF_A } else { OF_B };
        set.wait(&WaitOptions::new(), |member| world.stopped() || world.work(range(member))).unwrap();
    }
}

/// What survivors own: entries, threads and participants in use.
pub fn owned(snapshot: &Snapshot) -> (u32, u32, usize) {
    (snapshot.entries.0, snapshot.threads.0, snapshot.participants.len())
}

/// Everything the dead owned is back, every list is whole, and no tick had to help.
pub fn nothing_leaked(region: &Region, before: (u32, u32, usize), what: &str) {
    given_back(region, before, what);
    let snapshot = region.snapshot();
    assert!(snapshot.queues.iter().all(|queue| queue.rescues == 0), "{what}: rescued by a tick:\n{snapshot}");
}

/// The same where ticks are on, and may be quicker than a wake on a busy machine.
pub fn given_back(region: &Region, before: (u32, u32, usize), what: &str) {
    // (Looking at the lists takes a thread record, which the caller has counted.)
    region.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    let start = std::time::Instant::now();
    while owned(&region.snapshot()) != before {
        assert!(
            start.elapsed() < common::LIMIT,
            "{what}: leaked; before (entries, threads, participants) {before:?}, now:\n{}",
            region.snapshot()
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    region.check().unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// All names in calls of the form `start"name"`, as in `crash_point!("name"`, of this crate's sources.
pub fn names_in_source(start: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut files: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for rest in line.split(start).skip(1) {
                    let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
                }
            }
        }
    }
    assert!(names.len() > 5, "found only {names:?}");
    names
}

/// Runs all jobs, so many at a time, and reports every failure.
pub fn in_parallel(jobs: Vec<(String, Box<dyn FnOnce() + Send>)>, at_a_time: usize) {
    let jobs = std::sync::Mutex::new(jobs.into_iter());
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let Some((name, job)) = jobs.lock().unwrap().next() else { break };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}
