//! P1 and P2 under fire: eight processes that wait and wake in every way there is, thousands of which are killed.
//!
//! ```text
//! token   EMPTY(n) ── put ──► READY(n) ── take ──► TAKEN(n, owner) ── finish ──► EMPTY(n + 1)
//!                                                   └── owner dead: another takes it ──┘
//! ```
//!
//! State, owner and the count `n` of a token are one word, changed by compare-and-swap. What each process finishes it
//! also writes into a ledger of its slot, after the fact: so the ledgers may lag behind the tokens by one for each
//! kill, and by nothing else.
//!
//! Under fire nearly any lost wake is made good by somebody who happens to look. So every volley of kills is followed
//! by a trickle: all sleep exclusively and without a timeout, one token is put at a time, followed by one wake, and
//! often by one kill, and it has to be finished by those who are left. The tick is off.

mod common;
mod kill;

use std::num::NonZeroU32;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use common::{Child, Name, Random, until};
use waitqueue::{
    Error, Object, ParticipantId, Queue, Region, Source, WaitOptions, WaitSet, WakeOptions, wait_many,
};

const PROCESSES: usize = 8;
const TOKENS: usize = 6;
const OF_A: Range<usize> = 0..3;
const OF_B: Range<usize> = 3..6;
/// Kills between two trickles, and how many tokens have to be finished in one.
const VOLLEY: u32 = 40;
const TRICKLE: usize = 24;

const EMPTY: u64 = 0;
const READY: u64 = 1;
const TAKEN: u64 = 2;

/// `count << 40 | generation << 20 | slot << 4 | state`.
fn owner_of(word: u64) -> Option<ParticipantId> {
    ParticipantId::new((word >> 20 & 0xf_ffff) << 32 | word >> 4 & 0xffff)
}

fn taken_by(word: u64, owner: ParticipantId) -> u64 {
    let (slot, generation) = (owner.get() & 0xffff, owner.get() >> 32 & 0xf_ffff);
    word >> 40 << 40 | generation << 20 | slot << 4 | TAKEN
}

fn is_trickle(phase: u32) -> bool {
    phase & 1 != 0
}

#[derive(Clone)]
struct Storm {
    region: Region,
    tokens: Object<[AtomicU64; TOKENS]>,
    ledger: Object<[AtomicU64; 64]>,
    stop: Object<AtomicU32>,
    /// Changes whenever a trickle begins or ends; odd while it lasts.
    phase: Object<AtomicU32>,
    a: Queue,
    b: Queue,
    room: Queue,
}

impl Storm {
    fn new(region: Region) -> Storm {
        Storm {
            tokens: region.object("tokens").unwrap(),
            ledger: region.object("ledger").unwrap(),
            stop: region.object("stop").unwrap(),
            phase: region.object("phase").unwrap(),
            a: region.queue("a").unwrap(),
            b: region.queue("b").unwrap(),
            room: region.queue("room").unwrap(),
            region,
        }
    }

    fn change(&self, token: usize, from: u64, to: u64) -> bool {
        self.tokens[token].compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }

    fn put(&self) -> Option<usize> {
        (0..TOKENS).find(|token| {
            let word = self.tokens[*token].load(Acquire);
            word & 0xf == EMPTY && self.change(*token, word, word | READY)
        })
    }

    fn take(&self, range: Range<usize>) -> Option<usize> {
        range.into_iter().find(|token| {
            let word = self.tokens[*token].load(Acquire);
            let free = match word & 0xf {
                READY => true,
                TAKEN => owner_of(word).is_some_and(|owner| !self.region.is_alive(owner)),
                _ => false,
            };
            free && self.change(*token, word, taken_by(word, self.region.me()))
        })
    }

    fn finish(&self, token: usize) {
        let word = self.tokens[token].load(Acquire);
        assert_eq!(owner_of(word), Some(self.region.me()), "what we took is ours");
        assert!(self.change(token, word, ((word >> 40) + 1) << 40), "nobody takes from the living");
        self.ledger[self.region.me().get() as usize & 63].fetch_add(1, Relaxed);
        self.room.wake_up().unwrap();
    }

    fn all_empty(&self) -> bool {
        self.tokens.iter().all(|token| token.load(Acquire) & 0xf == EMPTY)
    }

    fn finished(&self) -> u64 {
        self.tokens.iter().map(|token| token.load(Acquire) >> 40).sum()
    }

    /// Begins a trickle, or ends it, and has everybody look.
    fn next_phase(&self) {
        self.phase.fetch_add(1, AcqRel);
        for queue in [&self.a, &self.b, &self.room] {
            queue.wake_up_all().unwrap();
        }
    }

    /// Waits until this is true, by wakes alone.
    fn by_wakes_alone(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            let lost = began.elapsed() > common::LIMIT;
            assert!(!lost, "{what}: not done, so a wake was lost\n{}", self.region.snapshot());
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Acquire) != 0
    }

    /// Waits in a way that chance chooses, and finishes what it got.
    fn consume(&self, random: &mut Random) {
        let mut got = None;
        let phase = self.phase.load(Acquire);
        let exclusive = WaitOptions::new().exclusive();
        let (queue, range) = if random.below(2) == 0 { (&self.a, OF_A) } else { (&self.b, OF_B) };
        let mut take = |range: Range<usize>| {
            got = self.take(range);
            got.is_some() || self.stopped() || self.phase.load(Acquire) != phase
        };
        let ways = if is_trickle(phase) { 4 } else { 6 };
        let outcome = match random.below(ways) {
            0 | 1 => queue.wait_event_with(&exclusive, || take(range.clone())).map(drop),
            4 => {
                let timeout = exclusive.timeout(Duration::from_micros(random.below(3000)));
                queue.wait_event_with(&timeout, || take(range.clone())).map(drop)
            }
            5 => queue.wait_event(|| take(range.clone())),
            2 => {
                let take = std::cell::RefCell::new(&mut take);
                wait_many(
                    &mut [
                        Source::with(&self.a, &exclusive, &mut || take.borrow_mut()(OF_A)),
                        Source::with(&self.b, &exclusive, &mut || take.borrow_mut()(OF_B)),
                    ],
                    &WaitOptions::new(),
                )
                .map(drop)
            }
            _ => return self.consume_by_set(random, phase),
        };
        assert!(matches!(outcome, Ok(()) | Err(Error::TimedOut { .. })), "{outcome:?}");
        if got.is_some() && is_trickle(phase) {
            // Time to be killed with it.
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
        got.into_iter().for_each(|token| self.finish(token));
    }

    fn consume_by_set(&self, random: &mut Random, phase: u32) {
        let exclusive = WaitOptions::new().exclusive();
        let mut set = WaitSet::new(&self.region).unwrap();
        let a = set.add(&self.a, &exclusive).unwrap();
        set.add(&self.b, &exclusive).unwrap();
        for _ in 0..random.below(8) {
            let mut got = None;
            set.wait(&WaitOptions::new(), |member| {
                got = self.take(if member == a { OF_A } else { OF_B });
                got.is_some() || self.stopped() || self.phase.load(Acquire) != phase
            })
            .unwrap();
            got.into_iter().for_each(|token| self.finish(token));
        }
    }

    fn produce(&self, random: &mut Random) {
        let mut put = None;
        let mut condition = || {
            put = if is_trickle(self.phase.load(Acquire)) { None } else { self.put() };
            put.is_some() || self.stopped()
        };
        self.room.wait_event_exclusive(&mut condition).unwrap();
        let Some(token) = put else { return };
        let queue = if OF_A.contains(&token) { &self.a } else { &self.b };
        match random.below(8) {
            0 => drop(queue.wake_up_all().unwrap()),
            1 => drop(queue.wake_up_nr(NonZeroU32::new(2).unwrap()).unwrap()),
            2 => drop(queue.wake_up_sync(|| ()).unwrap()),
            3 => drop(queue.wake_up_with(&WakeOptions::new().key(1 << 7)).unwrap()),
            _ => drop(queue.wake_up().unwrap()),
        }
    }
}

#[test]
fn role() {
    common::play(&[("worker", worker)]);
}

fn worker(args: &[String]) {
    let storm = Storm::new(builder().open(&args[0]).unwrap());
    let seed: u64 = args[1].parse().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let storm = storm.clone();
            scope.spawn(move || {
                let mut random = Random(seed ^ (thread + 1) << 32 | 1);
                while !storm.stopped() {
                    if thread == 0 { storm.produce(&mut random) } else { storm.consume(&mut random) }
                }
            });
        }
    });
}

fn builder() -> waitqueue::RegionBuilder {
    common::options().participants(64).threads(512).entries(512).objects(16).memory(1 << 13)
}

fn storm(kills_wanted: u32, mutant: &str) {
    let began = Instant::now();
    let mut random = Random(common::seed());
    let name = Name::new();
    let storm = Storm::new(builder().create(&name.0).unwrap());
    let points = Vec::from_iter(kill::names_in_source("crash_point!("));
    let start = |random: &mut Random, armed: bool| {
        let seed = random.next().to_string();
        // A kill from outside rarely hits the few instructions under a lock: half of them bring their own death along.
        let point = &points[random.below(points.len() as u64) as usize];
        let crash = format!("{point}@{}", 1 + random.below(300));
        let environment = [("WAITQUEUE_MUTANT", mutant), ("WAITQUEUE_CRASH", &*crash)];
        Child::start_with("worker", &[&name.0, &seed], &environment[..1 + usize::from(armed)])
    };
    let mut workers: Vec<Child> = (0..PROCESSES).map(|_| start(&mut random, false)).collect();
    let (mut kills, mut suicides, mut graves) = (0, 0, Vec::new());
    let mut next_trickle = VOLLEY;
    while kills < kills_wanted {
        let victim = random.below(PROCESSES as u64) as usize;
        match random.below(20) {
            // A stopped process is not dead, whatever happens around it.
            0 => {
                let stopped = (victim + 1) % PROCESSES;
                workers[stopped].signal(libc::SIGSTOP);
                workers[victim].signal(libc::SIGKILL);
                std::thread::sleep(Duration::from_micros(random.below(2000)));
                workers[stopped].signal(libc::SIGCONT);
            }
            // Two at once.
            1 => {
                let other = (victim + 1) % PROCESSES;
                workers[other].signal(libc::SIGKILL);
                workers[victim].signal(libc::SIGKILL);
                graves.push(std::mem::replace(&mut workers[other], start(&mut random, false)));
                kills += 1;
            }
            _ => workers[victim].signal(libc::SIGKILL),
        }
        graves.push(std::mem::replace(&mut workers[victim], start(&mut random, kills % 2 == 0)));
        kills += 1;
        // Dropping one waits for its end; nobody is to be waited for right after the kill.
        if graves.len() > PROCESSES {
            graves.drain(..PROCESSES / 2);
        }
        if kills >= next_trickle {
            for worker in &mut workers {
                if worker.has_ended() {
                    *worker = start(&mut random, false);
                    suicides += 1;
                }
            }
            storm.next_phase();
            storm.by_wakes_alone("what was put before the trickle", || storm.all_empty());
            for turn in 0..TRICKLE {
                let token = turn % TOKENS;
                let word = storm.tokens[token].load(Acquire);
                assert!(storm.change(token, word, word | READY));
                let queue = if OF_A.contains(&token) { &storm.a } else { &storm.b };
                queue.wake_up().unwrap();
                let victim = random.below(2 * PROCESSES as u64) as usize;
                if let Some(victim) = workers.get(victim) {
                    std::thread::sleep(Duration::from_micros(random.below(200)));
                    victim.signal(libc::SIGKILL);
                }
                storm.by_wakes_alone("a token of the trickle", || storm.all_empty());
                // Only now, since who starts looks at everything.
                if let Some(victim) = workers.get_mut(victim) {
                    *victim = start(&mut random, false);
                    kills += 1;
                }
            }
            storm.next_phase();
            next_trickle = kills + VOLLEY;
        }
        std::thread::sleep(Duration::from_micros(random.below(3000)));
    }
    until("what the dead had taken is taken again", || {
        let owners = storm.tokens.iter().filter_map(|token| owner_of(token.load(Acquire)));
        owners.into_iter().all(|owner| storm.region.is_alive(owner))
    });
    storm.stop.store(1, Release);
    for queue in [&storm.a, &storm.b, &storm.room] {
        queue.wake_up_all().unwrap();
    }
    for (at, worker) in workers.iter_mut().enumerate() {
        let status = worker.end();
        assert!(status.success() || status.signal() == Some(libc::SIGKILL), "worker {at}: {status}");
        suicides += u32::from(!status.success());
    }
    let snapshot = storm.region.snapshot();
    let sum = |what: fn(&waitqueue::QueueInfo) -> u64| snapshot.queues.iter().map(what).sum::<u64>();
    println!(
        "{kills} kills and {suicides} more in {:.1} s: {} tokens finished, {} wakes, {} claims, {} hand-ons, \
         {} recoveries, {} rescues, {} deaths seen",
        began.elapsed().as_secs_f64(),
        storm.finished(),
        sum(|queue| queue.wakes),
        sum(|queue| queue.claims),
        sum(|queue| queue.hand_ons),
        sum(|queue| queue.recoveries),
        sum(|queue| u64::from(queue.rescues)),
        snapshot.deaths,
    );
    let finished = storm.finished();
    let entered: u64 = storm.ledger.iter().map(|page| page.load(Relaxed)).sum();
    assert!(
        entered <= finished && finished <= entered + u64::from(kills + suicides),
        "{finished} finished, {entered} entered by those who did, {kills} killed"
    );
    until("deaths are counted", || storm.region.snapshot().deaths >= u64::from(kills) / 2);
    kill::nothing_leaked(&storm.region, (0, 1, 1), "storm");
}

#[test]
fn p2_trap_43_storm_of_kills() {
    storm(2000, "");
}

#[test]
fn p2_storm_of_kills_without_marks_where_the_certificate_alone_frees_locks() {
    storm(200, "marks off");
}
