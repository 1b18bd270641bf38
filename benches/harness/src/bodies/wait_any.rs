//! One waits on many lines, another sends on one of them, once it has seen in `/proc` that the first sleeps.
//!
//! A sample is the time from just before the send until the waiter has the value. Looking into `/proc` is in no figure.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread::yield_now;

use serde_json::json;

use crate::machine::{Pinning, now, work};
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Role, Tally, play};
use crate::subjects::{Subject, Subjects};

/// Told anew at every wait.
pub const MANY: [usize; 7] = [2, 8, 32, 128, 512, 1024, 4096];
/// Told once.
const ENROLLED: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// What `poll` and `futex_waitv` do. Says for each subject what a line more costs the waiter.
pub fn wait_many(bench: &str, subjects: &Subjects) {
    measure(bench, subjects, &MANY, "a wake of one of many queues, which are named at each wait");
}

/// What `epoll` does.
pub fn wait_set(bench: &str, subjects: &Subjects) {
    measure(bench, subjects, &ENROLLED, "a wake of one of many queues, on which the waiter stays enrolled");
}

/// A subject with so many lines.
type Entrant<'a> = (&'a dyn Subject, usize);

fn measure(bench: &str, subjects: &Subjects, counts: &[usize], about: &str) {
    let options = Options::read();
    let mut report = Report::new(bench, about);
    let subjects = options.among(subjects);
    let entrants: Vec<Entrant> = subjects
        .iter()
        .flat_map(|subject| counts.iter().map(move |count| (*subject, *count)))
        .filter(|(subject, count)| *count <= subject.most())
        .collect();
    // (All of them in turns, so that few lines can be compared with many, too.)
    let scores = in_turns(&options, &entrants, |(subject, lines), counted| {
        let operations = options.operations(if *lines < 1000 { 300 } else { 100 });
        play_once(*subject, *lines, operations, counted)
    });
    for count in counts {
        report.case(json!({"queues": count, "pinning": Pinning::TwoCpus.name()}));
        for (at, (subject, _)) in entrants.iter().enumerate().filter(|(_, entrant)| entrant.1 == *count) {
            let score = &scores[at];
            let fewest = entrants.iter().position(|other| other.0.name() == subject.name()).expect("itself");
            let fewest = (&scores[fewest], entrants[fewest].1);
            let mut ratios = vec![(format!("÷ with {}", fewest.1), score.to(fewest.0, |round| round.p50))];
            // The first is compared with each of the others, where they can have so many.
            for (other, theirs) in entrants.iter().zip(&scores) {
                if subject.name() == subjects[0].name()
                    && other.1 == *count
                    && other.0.name() != subject.name()
                {
                    let name = other.0.name();
                    ratios.push((format!("÷ {name}"), score.to(theirs, |round| round.p50)));
                    ratios.push((format!("CPU ÷ {name}"), score.to(theirs, |round| round.cpu(0))));
                }
            }
            let more = json!({"waiter_cpu_ns_per_queue": per_line(score, *count, fewest)});
            let (subject, policy) = (subject.name(), subject.policy());
            report.row(&Row { subject, policy, note: "", score, ratios, more });
        }
    }
    println!("\nprocessor time of the waiter for each line more");
    for (at, (subject, count)) in entrants.iter().enumerate() {
        let fewest = entrants.iter().position(|other| other.0.name() == subject.name()).expect("itself");
        if let Some(nanos) = per_line(&scores[at], *count, (&scores[fewest], entrants[fewest].1)) {
            println!("  {:<28} {count:>6}: {nanos:.1} ns", subject.name());
        }
    }
    draw(&report, &subjects, &entrants, &scores);
}

/// What each line costs the waiter for each wake, beyond what it is with the fewest.
fn per_line(score: &Score, count: usize, fewest: (&Score, usize)) -> Option<f64> {
    let cpu = |score: &Score| score.median(|round| round.cpu(0));
    (count > fewest.1).then(|| (cpu(score) - cpu(fewest.0)) / (count - fewest.1) as f64)
}

const WAITER: usize = 0;
/// The words of a play: how many wakes have been answered; when the last one was sent.
const ANSWERED: usize = 0;
const SENT: usize = 1;
const WARM: u32 = 20;
/// Nanoseconds from when the waiter says that it sleeps until it surely does.
const GRACE: u64 = 100_000;

fn play_once(subject: &dyn Subject, lines: usize, operations: u32, counted: bool) -> Vec<Tally> {
    let place = subject.create(lines);
    // Not in the order of memory, nor one that a waiter could learn.
    let line = |value: u32| (u64::from(value).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % lines;
    let waiter = Role::new("waiter", Pinning::TwoCpus.seat(0), |me| {
        let mut post = place.open(0..lines);
        me.ready();
        for value in 1..=WARM + operations {
            let received = post.receive();
            let end = now();
            assert_eq!(received, (line(value), value), "another wake");
            match value {
                ..WARM => {}
                WARM => me.begin(),
                _ => me.sample(end - me.word(SENT).load(Acquire)),
            }
            me.word(ANSWERED).store(u64::from(value), Release);
        }
        me.end(u64::from(operations));
    });
    let waker = Role::new("waker", Pinning::TwoCpus.seat(1), |me| {
        let mut post = place.open(0..0);
        me.ready();
        let state = File::open(format!("/proc/{}/stat", me.pid_of(WAITER))).expect("the waiter");
        for value in 1..=WARM + operations {
            let answered = me.word(ANSWERED);
            let wait = || until_asleep(answered, u64::from(value - 1), &state);
            match value {
                ..=WARM => wait(),
                _ => me.aside(wait),
            }
            me.word(SENT).store(now(), Release);
            post.send(line(value), value);
            if value == WARM {
                me.begin();
            }
        }
        me.end(u64::from(operations));
    });
    play(counted, operations as usize, vec![waiter, waker])
}

/// Waits until the waiter has answered so many, and sleeps.
fn until_asleep(answered: &AtomicU64, count: u64, state: &File) {
    while answered.load(Acquire) != count {
        yield_now();
    }
    let mut text = [0; 256];
    loop {
        let length = state.read_at(&mut text, 0).expect("stat");
        // "pid (name) state …"
        let rest = text[..length].rsplit(|byte| *byte == b')').next();
        if rest.is_some_and(|rest| rest.starts_with(b" S")) {
            // (In `futex_waitv` it counts as asleep while it still sets out to.)
            return work(GRACE);
        }
        work(2_000);
    }
}

fn draw(report: &Report, subjects: &[&dyn Subject], entrants: &[Entrant], scores: &[Score]) {
    let curves = |what: &dyn Fn(&Score) -> f64| -> Vec<Curve> {
        let of = |name: String| {
            let own = entrants.iter().zip(scores).filter(|(entrant, _)| entrant.0.name() == name);
            let points = own.map(|(entrant, score)| (entrant.1 as f64, what(score))).collect();
            Curve { name, points }
        };
        subjects.iter().map(|subject| of(subject.name())).collect()
    };
    let x = ("queues waited on", Unit::Count);
    let caption = Caption {
        title: "From a wake to the woken, who waits on many queues",
        about: "median; lower is better",
        x,
        y: ("from just before the wake", Unit::Time),
    };
    plot::curves(&report.picture(""), &caption, &curves(&|score| score.at(0.5)));
    let caption = Caption {
        title: "Processor time of a waiter on many queues",
        about: "for each wake; lower is better",
        x,
        y: ("processor time", Unit::Time),
    };
    plot::curves(&report.picture("cpu"), &caption, &curves(&|score| score.median(|round| round.cpu(0))));
}
