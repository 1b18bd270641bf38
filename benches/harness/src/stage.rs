//! One play: processes that are forked, pinned, begin together and say what it took them.
//!
//! ```text
//! director    play(roles) forks one process for each role, then sleeps until all have ended
//! performer   opens what it needs · ready(): meets the others · warms up · begin() · samples … · end(operations)
//!             and between them aside(…): what belongs to the play, not to what is measured
//! ```

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use crate::cast::{Cast, all_end, await_word, tell};
use crate::gauge::{Gauge, Usage};
use crate::machine::{Seat, now, work};
use crate::memory::Words;

/// How long a play may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Words of a performer, before his samples.
/// In the first one's: how many are ready.
const ARRIVED: usize = 0;
const OPERATIONS: usize = 1;
const ELAPSED: usize = 2;
const CPU: usize = 3;
const SLEPT: usize = 4;
const PREEMPTED: usize = 5;
const CALLS: usize = 6;
const SAMPLED: usize = 7;
const PID: usize = 8;
const HEAD: usize = 16;
/// Words of the play, which bodies may use as they like.
const COMMON: usize = 64;

/// One process of a play.
pub struct Role<'a> {
    /// As in tables: "waker".
    pub name: &'static str,
    /// Where it runs.
    pub seat: Seat,
    /// What it does.
    pub body: Box<dyn FnOnce(&mut Performer) + 'a>,
}

impl<'a> Role<'a> {
    /// One that runs there.
    pub fn new(name: &'static str, seat: Seat, body: impl FnOnce(&mut Performer) + 'a) -> Role<'a> {
        Role { name, seat, body: Box::new(body) }
    }
}

/// A process of a play, as its own body sees it.
pub struct Performer<'a> {
    words: &'a Words,
    stride: usize,
    performers: usize,
    mine: usize,
    sampled: usize,
    started: u64,
    set_aside: u64,
    gauge: Gauge,
}

impl<'a> Performer<'a> {
    /// Says that all is opened, and waits until the others say so too.
    pub fn ready(&mut self) {
        let mine = self.own(HEAD..self.stride);
        // (So that no page of samples is touched for the first time while it is being measured.)
        mine.iter().step_by(64).for_each(|word| word.store(0, Relaxed));
        self.own(0..HEAD)[PID].store(u64::from(std::process::id()), Relaxed);
        let arrived = self.of(0, ARRIVED);
        // (Who is waited for is not kept from running by those who look whether he has come.)
        if arrived.fetch_add(1, AcqRel) + 1 == self.performers as u64 {
            tell(arrived, self.performers as u64);
        }
        await_word(arrived, self.performers as u64);
    }

    /// From here on it is measured.
    pub fn begin(&mut self) {
        self.gauge.start();
        self.started = now();
    }

    /// How long one operation took, in nanoseconds.
    #[inline]
    pub fn sample(&mut self, nanos: u64) {
        let at = COMMON + self.mine * self.stride + HEAD + self.sampled;
        assert!(HEAD + self.sampled < self.stride, "more samples than were promised");
        self.words[at].store(nanos, Relaxed);
        self.sampled += 1;
    }

    /// Does what does not count: its time, and what it uses, are in no figure.
    pub fn aside<T>(&mut self, body: impl FnOnce() -> T) -> T {
        self.gauge.suspend();
        let start = now();
        let outcome = body();
        self.set_aside += now() - start;
        self.gauge.resume();
        outcome
    }

    /// Works for so many nanoseconds, which do not count; returns how many they were, with the stopping of clocks.
    pub fn pause(&mut self, nanos: u64) -> u64 {
        let start = now();
        self.aside(|| work(nanos));
        now() - start
    }

    /// The end of what is measured: so many operations.
    pub fn end(&mut self, operations: u64) {
        let elapsed = now() - self.started - self.set_aside;
        let usage = self.gauge.stop();
        let head = self.own(0..HEAD);
        head[ELAPSED].store(elapsed, Relaxed);
        head[OPERATIONS].store(operations, Relaxed);
        head[CPU].store(usage.cpu, Relaxed);
        head[SLEPT].store(usage.slept, Relaxed);
        head[PREEMPTED].store(usage.preempted, Relaxed);
        head[CALLS].store(usage.calls.map_or(0, |calls| calls + 1), Relaxed);
        head[SAMPLED].store(self.sampled as u64, Release);
    }

    /// A word that all performers of the play share; zero at first. There are 64, each 8 bytes.
    #[must_use]
    pub fn word(&self, which: usize) -> &'a AtomicU64 {
        assert!(which < COMMON);
        &self.words[which]
    }

    /// The process that plays another role; once that is ready.
    #[must_use]
    pub fn pid_of(&self, role: usize) -> u64 {
        self.of(role, PID).load(Acquire)
    }

    fn of(&self, performer: usize, which: usize) -> &AtomicU64 {
        &self.words[COMMON + performer * self.stride + which]
    }

    fn own(&self, range: std::ops::Range<usize>) -> &[AtomicU64] {
        let start = COMMON + self.mine * self.stride;
        &self.words[start + range.start..start + range.end]
    }
}

/// What one role took.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Its name.
    pub role: &'static str,
    /// How many operations.
    pub operations: u64,
    /// Nanoseconds from `begin` to `end`.
    pub elapsed: u64,
    /// What it used between them.
    pub usage: Usage,
    /// What it recorded.
    pub samples: Vec<u64>,
}

/// Plays it; each performer records at most `samples` times, and `counted` says whether system calls are.
///
/// # Panics
///
/// If a performer does, or if it takes minutes.
pub fn play(counted: bool, samples: usize, roles: Vec<Role>) -> Vec<Tally> {
    let (stride, performers) = ((HEAD + samples).next_multiple_of(8), roles.len());
    let words = Words::new(COMMON + performers * stride);
    let names: Vec<&'static str> = roles.iter().map(|role| role.name).collect();
    let mut cast = Cast::new(PATIENCE);
    let mut actors = Vec::new();
    for (mine, role) in roles.into_iter().enumerate() {
        actors.push(cast.start(|_| {
            role.seat.take();
            let gauge = Gauge::new(counted);
            let words = &words;
            (role.body)(&mut Performer {
                words,
                stride,
                performers,
                mine,
                sampled: 0,
                started: 0,
                set_aside: 0,
                gauge,
            });
        }));
    }
    assert!(all_end(&mut actors, PATIENCE), "{names:?} have not all come to their ends within {PATIENCE:?}");
    names.iter().enumerate().map(|(at, name)| tally(name, &words[COMMON + at * stride..][..stride])).collect()
}

fn tally(role: &'static str, words: &[AtomicU64]) -> Tally {
    let load = |which: usize| words[which].load(Acquire);
    let samples = words[HEAD..][..load(SAMPLED) as usize].iter().map(|word| word.load(Relaxed)).collect();
    assert!(load(ELAPSED) > 0, "{role} was killed before its end");
    let calls = load(CALLS).checked_sub(1);
    let usage = Usage { cpu: load(CPU), slept: load(SLEPT), preempted: load(PREEMPTED), calls };
    Tally { role, operations: load(OPERATIONS), elapsed: load(ELAPSED), usage, samples }
}
