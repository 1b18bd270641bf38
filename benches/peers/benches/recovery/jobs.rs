//! The jobs: a survivor and a waker who stay, and a victim for each kill.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waitqueue::{QueueHead, WaitOptions};
use waitqueue_bench::cast::{Actor, Cast, LIMIT, await_word, shared_words, stay, tell, until, word_reaches};
use waitqueue_bench::gauge::usage_of;
use waitqueue_bench::machine::{Seat, now};
use waitqueue_bench::stage::Tally;
use waitqueue_bench::trace::Traced;
use waitqueue_peers::peers::{Condvar, Peer, Waitqueue};

use crate::victim::{Kind, THREADS};

/// What the victim is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    HandOn,
    Lock,
    Inside,
    Mutex,
}

impl Job {
    /// That which the others are compared with is the first.
    pub(crate) const ALL: [Job; 4] = [Job::Mutex, Job::Lock, Job::HandOn, Job::Inside];

    /// As in tables.
    pub(crate) fn subject(self) -> &'static str {
        match self {
            Job::HandOn => "waitqueue, hand-on",
            Job::Lock => "waitqueue, lock",
            Job::Inside => "waitqueue, inside",
            Job::Mutex => "glibc robust mutex",
        }
    }
}

/// What director and actors tell each other.
#[derive(Clone, Copy)]
struct Words {
    /// The round for which the survivor is to begin waiting.
    round: &'static AtomicU64,
    /// When it got what it waited for, and in which round.
    stamp: &'static AtomicU64,
    done: &'static AtomicU64,
    /// The round in which the waker is to wake.
    wake: &'static AtomicU64,
    /// The victim's threads may begin to be busy, and how many are.
    go: &'static AtomicU64,
    busy: &'static AtomicU64,
    /// The victim may go into the queue, whose head has this address there.
    enter: &'static AtomicU64,
    head: &'static AtomicU64,
}

impl Words {
    fn new() -> Words {
        let [round, stamp, done, wake, go, busy, enter, head, ..] = shared_words();
        Words { round, stamp, done, wake, go, busy, enter, head }
    }
}

/// What is of use for one job.
enum Place {
    Region(<Waitqueue as Peer>::Place),
    Page(<Condvar as Peer>::Place),
}

/// Those who play one job.
pub(crate) struct Troupe {
    job: Job,
    /// Where victims run.
    seat: Seat,
    words: Words,
    survivor: Actor,
    _waker: Actor,
    /// How many have been killed.
    round: u64,
    // Last, so that the actors are gone before their place is.
    place: Place,
}

impl Troupe {
    pub(crate) fn start(job: Job, seat: Seat) -> Troupe {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        let name = format!("/waitqueue-bench-{}-{now:x}", std::process::id());
        let place = match job {
            Job::Mutex => Place::Page(Condvar::create(&name)),
            _ => Place::Region(Waitqueue::create(&name)),
        };
        let words = Words::new();
        let mut cast = Cast::new(Duration::from_secs(60));
        let mut survivor = cast.start(|steps| {
            match &place {
                Place::Region(place) => survive(&Waitqueue::open(place), job, words, &|| steps.advance()),
                Place::Page(place) => survive_mutex(&Condvar::open(place), words, &|| steps.advance()),
            };
        });
        survivor.until(1);
        let mut waker = cast.start(|steps| {
            let Place::Region(place) = &place else { stay() };
            let peer = Waitqueue::open(place);
            steps.advance();
            for round in 1.. {
                await_word(words.wake, round);
                peer.put();
            }
        });
        if job != Job::Mutex {
            waker.until(1);
        }
        Troupe { job, seat, words, survivor, _waker: waker, round: 0, place }
    }

    /// So many victims; how long it took each time until the survivor went on, and what it took him.
    pub(crate) fn kill(&mut self, kind: Kind, kills: u32) -> Tally {
        let before = usage_of(self.survivor.pid());
        let samples: Vec<u64> = (0..kills).map(|_| self.kill_one(kind)).collect();
        let usage = usage_of(self.survivor.pid()).since(before);
        Tally { role: "survivor", operations: kills.into(), elapsed: samples.iter().sum(), usage, samples }
    }

    fn kill_one(&mut self, kind: Kind) -> u64 {
        self.round += 1;
        let (job, words, round) = (self.job, self.words, self.round);
        for word in [words.go, words.busy, words.enter] {
            word.store(0, Release);
        }
        let mut cast = Cast::new(Duration::from_secs(60));
        let mut victim = cast.start(|steps| {
            self.seat.take();
            match &self.place {
                Place::Region(place) => {
                    suffer(&Waitqueue::open(place), job, kind, words, &|| steps.advance())
                }
                Place::Page(place) => {
                    let peer = Condvar::open(place);
                    kind.fatten(words.go, words.busy);
                    peer.locked(|_| {
                        steps.advance();
                        stay()
                    });
                }
            };
        });
        victim.until(1);
        let traced = self.bring_into_place(&mut victim);
        tell(words.round, round);
        until("the survivor waits", || self.survivor.steps() > round && self.survivor.is_asleep());
        if kind == Kind::Busy {
            words.go.store(1, Release);
            until("all are busy", || words.busy.load(Acquire) == THREADS);
        }
        if job == Job::HandOn {
            tell(words.wake, round);
            until("the victim is chosen", || traced.as_ref().is_some_and(Traced::is_held));
        }
        // Not always at the same place in the survivor's sleep.
        sleep(Duration::from_millis(2 + round * 7919 % 40));
        let start = now();
        victim.shoot();
        assert!(word_reaches(words.done, round, LIMIT), "the survivor does not go on");
        victim.kill();
        words.stamp.load(Acquire) - start
    }

    /// To where it is to die.
    fn bring_into_place(&self, victim: &mut Actor) -> Option<Traced> {
        match self.job {
            Job::HandOn => {
                victim.until_asleep_at(1);
                Some(Traced::hold_at_wake(victim).expect("ptrace"))
            }
            Job::Inside => {
                let traced = Traced::stop(victim).expect("ptrace");
                self.words.enter.store(1, Release);
                let lock = self.words.head.load(Acquire) as usize;
                assert!(traced.step_until_set(lock).expect("ptrace"), "it never takes the lock");
                Some(traced)
            }
            Job::Lock | Job::Mutex => None,
        }
    }
}

/// A survivor's life: a step whenever it begins to wait.
fn survive(peer: &Waitqueue, job: Job, words: Words, step: &dyn Fn()) {
    step();
    for round in 1.. {
        await_word(words.round, round);
        step();
        match job {
            Job::HandOn => {
                peer.take();
                has_gone_on(words, round);
            }
            Job::Inside => {
                let enrolled = peer.queue.prepare_to_wait(&WaitOptions::new());
                has_gone_on(words, round);
                drop(enrolled);
            }
            Job::Lock | Job::Mutex => peer.locked(|died| {
                assert!(died);
                has_gone_on(words, round);
            }),
        }
    }
}

fn survive_mutex(peer: &Condvar, words: Words, step: &dyn Fn()) {
    step();
    for round in 1.. {
        await_word(words.round, round);
        step();
        peer.locked(|died| {
            assert!(died);
            has_gone_on(words, round);
        });
    }
}

fn has_gone_on(words: Words, round: u64) {
    words.stamp.store(now(), Release);
    tell(words.done, round);
}

/// A victim's life: a step when it is ready.
fn suffer(peer: &Waitqueue, job: Job, kind: Kind, words: Words, step: &dyn Fn()) {
    kind.fatten(words.go, words.busy);
    match job {
        Job::HandOn => {
            step();
            peer.take();
        }
        Job::Inside => {
            // The lock is a head's first word.
            words.head.store((&raw const peer.stage.queue).cast::<QueueHead>().addr() as u64, Release);
            step();
            while words.enter.load(Acquire) == 0 {
                spin_loop();
            }
            drop(peer.queue.prepare_to_wait(&WaitOptions::new().exclusive()));
            stay();
        }
        Job::Lock | Job::Mutex => peer.locked(|_| {
            step();
            stay()
        }),
    }
}
