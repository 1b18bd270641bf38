//! Replies that take some time: is it better to sleep, or to spin, and does the default know?
//!
//! A phase has one reply time, for which the answerer works on its own processor, without sleeping. Before it come
//! fifty replies of the other kind, so that nothing learned earlier helps; then a hundred of its own, which are not
//! measured either. One run more has reply times at random, from the same range.

use serde_json::json;

use super::exchange::Exchange;
use crate::machine::{Pinning, work};
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::subjects::{Subject, Subjects};

/// Nanoseconds.
const DELAYS: [u64; 13] =
    [200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];
/// Replies shorter than this are followed by long ones, and the other way about.
const MIDDLE: u64 = 20_000;
const LONG: u64 = 300_000;
const OTHERS: u32 = 50;
const EXCLUDED: u32 = 100;
/// About so long is measured in a round.
const SPAN: u64 = 20_000_000;

/// Measures it with subjects of which the first always sleeps, the second always spins, and the others decide.
pub fn mixed(bench: &str, subjects: &Subjects) {
    let options = Options::read();
    let mut report = Report::new(bench, "a question and a reply that takes the answerer so long");
    let subjects = options.among(subjects);
    let mut times: Vec<Curve> = subjects.iter().map(|subject| curve(subject.name())).collect();
    let mut costs: Vec<Curve> = subjects.iter().map(|subject| curve(subject.name())).collect();
    for delay in DELAYS {
        let before = if delay < MIDDLE { LONG } else { DELAYS[0] };
        let operations = options.operations((SPAN / (delay + 25_000)).clamp(40, 1000) as u32);
        let scores = play(&options, &subjects, operations, |reply| {
            work(if reply <= OTHERS { before } else { delay });
        });
        report.case(json!({"reply_us": delay as f64 / 1e3, "pinning": Pinning::TwoCpus.name()}));
        tell(&mut report, &subjects, &scores);
        for (at, score) in scores.iter().enumerate() {
            let beyond = score.median(|round| round.p50) - delay as f64;
            times[at].points.push((delay as f64, beyond.max(10.0)));
            costs[at].points.push((delay as f64, score.median(|round| round.cpu(0))));
        }
    }
    let scores = play(&options, &subjects, options.operations(400), |reply| work(at_random(reply)));
    report.case(json!({"reply_us": "at random, 0.2 to 2000", "pinning": Pinning::TwoCpus.name()}));
    tell(&mut report, &subjects, &scores);
    draw(&report, &times, &costs);
}

fn play(
    options: &Options,
    subjects: &[&dyn Subject],
    operations: u32,
    reply: impl Fn(u32) + Copy,
) -> Vec<Score> {
    let exchange =
        Exchange { pinning: Pinning::TwoCpus, warm: OTHERS + EXCLUDED, operations, batch: 1, pause: 0 };
    in_turns(options, subjects, |subject, counted| exchange.play(*subject, counted, reply))
}

const BETTER: &str = "÷ the better of the first two";

/// Compared by the mean, in which a wrong decision shows even if it is rare.
fn tell(report: &mut Report, subjects: &[&dyn Subject], scores: &[Score]) {
    let mean = |score: &Score| score.median(|round| round.mean());
    let extremes = scores.iter().zip(subjects).take(2);
    let better = extremes.min_by(|one, other| mean(one.0).total_cmp(&mean(other.0)));
    let (better, best) = better.expect("a subject");
    for (subject, score) in subjects.iter().zip(scores) {
        let ratios = vec![
            (BETTER.to_owned(), score.to(better, |round| round.mean())),
            (format!("asker's CPU ÷ {}", subjects[0].name()), score.to(&scores[0], |round| round.cpu(0))),
        ];
        let more = json!({"mean_ns": mean(score), "whom": {BETTER: best.name()}});
        let (subject, policy) = (subject.name(), subject.policy());
        report.row(&Row { subject, policy, note: "", score, ratios, more });
    }
}

/// From 0.2 µs to 2 ms, every order of magnitude as often as the others; the same for every subject.
fn at_random(reply: u32) -> u64 {
    let mixed = u64::from(reply).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let part = (mixed >> 40) as f64 / f64::from(1 << 24);
    (200.0 * 10f64.powf(4.0 * part)) as u64
}

fn curve(name: String) -> Curve {
    Curve { name, points: Vec::new() }
}

fn draw(report: &Report, times: &[Curve], costs: &[Curve]) {
    let x = ("how long the answerer works on a reply", Unit::Time);
    let caption = Caption {
        title: "What waiting for a reply adds to it",
        about: "median over the reply's own time; lower is better",
        x,
        y: ("added to the reply", Unit::Time),
    };
    plot::curves(&report.picture(""), &caption, times);
    let caption = Caption {
        title: "Processor time of who waits for a reply",
        about: "for each reply; lower is better",
        x,
        y: ("processor time", Unit::Time),
    };
    plot::curves(&report.picture("cpu"), &caption, costs);
}
