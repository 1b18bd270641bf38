//! What the calls cost: with nobody waiting, and for a round trip between two processes that both sleep, beside the
//! same round trip over bare futexes.
//!
//! The two round trips are to be compared with each other, within one run; absolute times depend on the machine.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rustix::thread::futex::{Flags, wait, wake};
use waitqueue::{Queue, Region};

const ROLE: &str = "WAITQUEUE_BENCH_ECHO";

/// One side's turn ends with its word at 1; the other takes it back to 0.
struct Side {
    word: waitqueue::Object<AtomicU32>,
    queue: Queue,
}

impl Side {
    fn new(region: &Region, name: &str) -> Side {
        Side { word: region.object(name).unwrap(), queue: region.queue(&format!("{name} queue")).unwrap() }
    }

    fn give_by_queue(&self) {
        self.word.store(1, Release);
        self.queue.wake_up().unwrap();
    }

    fn take_by_queue(&self) {
        self.queue.wait_event(|| self.word.swap(0, AcqRel) != 0).unwrap();
    }

    fn give_by_futex(&self) {
        self.word.store(1, Release);
        wake(&self.word, Flags::empty(), 1).unwrap();
    }

    fn take_by_futex(&self) {
        while self.word.swap(0, AcqRel) == 0 {
            let _ = wait(&self.word, Flags::empty(), 0, None);
        }
    }
}

/// The other process: answers for ever, until it is killed.
fn echo(name: &str, by_queue: bool) {
    let region = Region::open_or_create(name).unwrap();
    let (ours, theirs) = (Side::new(&region, "pong"), Side::new(&region, "ping"));
    loop {
        if by_queue {
            theirs.take_by_queue();
            ours.give_by_queue();
        } else {
            theirs.take_by_futex();
            ours.give_by_futex();
        }
    }
}

fn start_echo(name: &str, way: &str) -> Child {
    let myself = std::env::current_exe().unwrap();
    Command::new(myself).env(ROLE, format!("{way} {name}")).spawn().unwrap()
}

fn round_trips(criterion: &mut Criterion, name: &str, region: &Region) {
    let (ours, theirs) = (Side::new(region, "ping"), Side::new(region, "pong"));
    let mut group = criterion.benchmark_group("round trip, both asleep");
    for (way, by_queue) in [("futex", false), ("queue", true), ("futex again", false), ("queue again", true)]
    {
        let mut child = start_echo(name, if by_queue { "queue" } else { "futex" });
        group.measurement_time(Duration::from_secs(3)).bench_function(way, |bencher| {
            bencher.iter_custom(|rounds| {
                let start = Instant::now();
                for _ in 0..rounds {
                    if by_queue {
                        ours.give_by_queue();
                        theirs.take_by_queue();
                    } else {
                        ours.give_by_futex();
                        theirs.take_by_futex();
                    }
                }
                start.elapsed()
            });
        });
        child.kill().unwrap();
        child.wait().unwrap();
        ours.word.store(0, Release);
        theirs.word.store(0, Release);
    }
    group.finish();
}

fn calls(criterion: &mut Criterion) {
    if let Ok(role) = std::env::var(ROLE) {
        let (way, name) = role.split_once(' ').unwrap();
        echo(name, way == "queue");
    }
    let name = format!("/waitqueue-bench-{}", std::process::id());
    let region = Region::create(&name).unwrap();
    let queue = region.queue("empty").unwrap();
    criterion.bench_function("wake_up, nobody waits", |bencher| bencher.iter(|| queue.wake_up().unwrap()));
    let ready = region.object::<AtomicU32>("ready").unwrap();
    ready.store(1, Release);
    criterion.bench_function("wait_event, condition holds", |bencher| {
        bencher.iter(|| queue.wait_event(|| ready.load(Acquire) != 0).unwrap());
    });
    round_trips(criterion, &name, &region);
    Region::unlink(&name).unwrap();
}

criterion_group!(benches, calls);
criterion_main!(benches);
