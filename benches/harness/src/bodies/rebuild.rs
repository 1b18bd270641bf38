//! What it takes to make a queue anew, when somebody is killed who held the lock of its head.
//!
//! ```text
//! after a kill      from just before SIGKILL until the next one, who sleeps for that lock, has enrolled
//! a broken link     the same work without a death: an enrolment that finds the list broken
//! ```
//!
//! Both in a region with next to nothing in it, and in one of 65,536 entries, all but a few of them enrolled, 256 of
//! those asleep on the queue, in threads of one process. What a kill costs there beyond what it costs in the other is
//! the rebuilding; the ring, which lets everybody evaluate, is apart: it is in the processor time of those who sleep.
#![allow(unsafe_code)] // a link is broken

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::json;
use waitqueue::{Object, Queue, QueueHead, Region, WaitOptions, WaitSet};

use crate::cast::{Actor, Cast, LIMIT, await_word, stay, tell, until, word_reaches};
use crate::gauge::{Usage, usage_of};
use crate::machine::{Pinning, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Performer, Role, Tally, play};
use crate::subjects::slots::unique_name;
use crate::trace::Traced;

const ENTRIES: usize = 65_536;
const ASLEEP: usize = 256;
/// Entries for those who come and go.
const ROOM: usize = 64;
/// Time for everybody to have done what follows a death.
const REST: Duration = Duration::from_millis(50);

waitqueue::shared_struct! {
    /// The queue that is rebuilt, and a number.
    #[tag = "bench rebuild"]
    struct Stage {
        queue: QueueHead,
        number: AtomicU32,
        rest: [AtomicU32; 15],
    }
}

/// Measures it, by kills and without.
pub fn rebuild(bench: &str) {
    let options = Options::read();
    let mut report = Report::new(bench, "a queue is made anew by whoever comes next");
    let regions = [Filled::new(0, 0), Filled::new(ENTRIES - ASLEEP - ROOM, ASLEEP)];
    let kills = if options.quick { 3 } else { 10 };
    let scores = in_turns(&options, &[0, 1], |at, counted| match counted {
        true => Vec::new(),
        false => regions[*at].killed(kills),
    });
    let what = ["after a kill", "a broken link"];
    report.case(json!({"what": what[0]}));
    report_on(&mut report, &regions, &scores);
    let beyond = scores[1].median(|round| round.p50) - scores[0].median(|round| round.p50);
    report.fact("the difference", "", json!({"rebuild_ns": beyond}));
    let calls = options.operations(200);
    let without = in_turns(&options, &[0, 1], |at, counted| regions[*at].broken(calls, counted));
    report.case(json!({"what": what[1]}));
    report_on(&mut report, &regions, &without);
    let panel = |(what, scores): (&str, &Vec<Score>)| {
        let bar = |(region, score): (&Filled, &Score)| (region.about(), score.at(0.5), score.at(0.99));
        Panel { title: what.into(), bars: regions.iter().zip(scores).map(bar).collect() }
    };
    let mut panels: Vec<Panel> = what.into_iter().zip([&scores, &without]).map(panel).collect();
    let caption = Caption {
        title: "Until the next one is on the queue",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut panels);
}

fn report_on(report: &mut Report, regions: &[Filled], scores: &[Score]) {
    for (region, score) in regions.iter().zip(scores) {
        let ratios = vec![("÷ the small region".into(), score.to(&scores[0], |round| round.p50))];
        let subject = region.about();
        report.row(&Row { subject, policy: "sleep", note: "", score, ratios, more: json!({}) });
    }
}

/// A region with those who fill it and one who survives all kills.
struct Filled {
    name: String,
    enrolled: usize,
    asleep: usize,
    words: Words,
    filler: Option<Actor>,
    survivor: Option<Actor>,
}

/// Words of a region: the death for which the survivor is to enrol; when he had, and for which; the victim may go in,
/// and where the head lies for him.
const ROUND: usize = 0;
const STAMP: usize = 1;
const DONE: usize = 2;
const ENTER: usize = 3;
const HEAD: usize = 4;

struct Open {
    region: Region,
    stage: Object<Stage>,
    queue: Queue,
}

impl Open {
    fn new(name: &str) -> Open {
        let region = Region::open(name).expect("the region");
        let stage: Object<Stage> = region.object("stage").expect("memory");
        let queue = region.queue_at(&stage.queue).expect("a queue");
        Open { region, stage, queue }
    }

    fn enrol_and_leave(&self) {
        drop(self.queue.prepare_to_wait(&WaitOptions::new().exclusive()).expect("an entry"));
    }
}

impl Filled {
    fn new(enrolled: usize, asleep: usize) -> Filled {
        let name = unique_name();
        let entries = (enrolled + asleep + ROOM) as u64;
        drop(Region::builder().entries(entries).create(&name).expect("a new region"));
        let words = Words::new(8);
        let mut filled = Filled { name, enrolled, asleep, words, filler: None, survivor: None };
        let mut cast = Cast::new(Duration::from_secs(60));
        filled.filler = (asleep != 0).then(|| cast.start(|steps| filled.fill(&|| steps.advance())));
        filled.filler.iter_mut().for_each(|filler| filler.until(1));
        filled.survivor = Some(cast.start(|steps| filled.survive(&|| steps.advance())));
        filled.survivor.iter_mut().for_each(|survivor| survivor.until(1));
        filled
    }

    fn about(&self) -> String {
        match self.asleep {
            0 => "waitqueue, a small region".into(),
            asleep => format!("waitqueue, {ENTRIES} entries, {asleep} asleep"),
        }
    }

    /// Threads that sleep on the queue, and a set that stays enrolled on another.
    fn fill(&self, step: &dyn Fn()) {
        let open: &Open = Box::leak(Box::new(Open::new(&self.name)));
        for _ in 0..self.asleep {
            spawn(|| {
                let wait = WaitOptions::new().spin(Duration::ZERO);
                open.queue.wait_event_with(&wait, || open.stage.number.load(Acquire) != 0)
            });
        }
        let is_asleep = || {
            let queues = open.region.snapshot().queues;
            queues.iter().any(|queue| queue.waiters.len() == self.asleep)
        };
        until("all threads sleep", is_asleep);
        let elsewhere = open.region.queue("elsewhere").expect("memory");
        let mut set = WaitSet::new(&open.region).expect("a set");
        for _ in 0..self.enrolled {
            set.add(&elsewhere, &WaitOptions::new()).expect("an entry");
        }
        step();
        stay()
    }

    fn survive(&self, step: &dyn Fn()) {
        let open = Open::new(&self.name);
        open.enrol_and_leave();
        step();
        for round in 1.. {
            await_word(&self.words[ROUND], round);
            step();
            open.enrol_and_leave();
            self.words[STAMP].store(now(), Release);
            tell(&self.words[DONE], round);
        }
    }

    /// So many are killed under the lock. What follows from a death for the others is theirs.
    fn killed(&self, kills: usize) -> Vec<Tally> {
        let survivor = self.survivor.as_ref().expect("started");
        let used = |actor: Option<&Actor>| actor.map_or_else(Usage::default, |actor| usage_of(actor.pid()));
        let used = || [Some(survivor), self.filler.as_ref()].map(used);
        let before = used();
        let mut samples = Vec::new();
        for _ in 0..kills {
            samples.push(self.kill_one(survivor));
            sleep(REST);
        }
        let after = used();
        let tally = |role, which: usize, samples: Vec<u64>| Tally {
            role,
            operations: kills as u64,
            elapsed: samples.iter().sum(),
            usage: after[which].since(before[which]),
            samples,
        };
        vec![tally("survivor", 0, samples), tally("those who sleep", 1, Vec::new())]
    }

    fn kill_one(&self, survivor: &Actor) -> u64 {
        let words = &self.words;
        words[ENTER].store(0, Release);
        let mut cast = Cast::new(Duration::from_secs(60));
        let mut victim = cast.start(|steps| {
            let open = Open::new(&self.name);
            open.enrol_and_leave();
            words[HEAD].store((&raw const open.stage.queue).addr() as u64, Release);
            steps.advance();
            while words[ENTER].load(Acquire) == 0 {
                std::hint::spin_loop();
            }
            open.enrol_and_leave();
            stay();
        });
        victim.until(1);
        let traced = Traced::stop(&victim).expect("ptrace");
        words[ENTER].store(1, Release);
        let lock = words[HEAD].load(Acquire) as usize;
        assert!(traced.step_until_set(lock).expect("ptrace"), "it never takes the lock");
        let round = words[ROUND].load(Acquire) + 1;
        tell(&words[ROUND], round);
        until("the survivor waits", || survivor.steps() > round && survivor.is_asleep());
        let start = now();
        victim.shoot();
        assert!(word_reaches(&words[DONE], round, LIMIT), "the survivor goes on");
        victim.kill();
        words[STAMP].load(Acquire) - start
    }

    /// So many enrolments that find the last link broken.
    fn broken(&self, calls: u32, counted: bool) -> Vec<Tally> {
        /// Where in a head its last link is.
        const LAST: usize = 12;
        let body = |me: &mut Performer| {
            let open = Open::new(&self.name);
            open.enrol_and_leave();
            // SAFETY: an atomic of the region, which everybody may change at any time.
            let last = unsafe {
                AtomicU32::from_ptr((&raw const open.stage.queue).byte_add(LAST).cast_mut().cast())
            };
            me.ready();
            me.begin();
            for _ in 0..calls {
                last.store(u32::MAX, Release);
                let start = now();
                let enrolled = open.queue.prepare_to_wait(&WaitOptions::new().exclusive());
                me.sample(now() - start);
                drop(enrolled.expect("an entry"));
            }
            me.end(u64::from(calls));
        };
        play(counted, calls as usize, vec![Role::new("caller", Pinning::TwoCpus.seat(1), body)])
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        (self.filler, self.survivor) = (None, None);
        Region::unlink(&self.name).expect("it was created");
    }
}
