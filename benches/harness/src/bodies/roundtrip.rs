//! A round trip between two processes that both sleep until it is their turn.
//!
//! Where each has a processor of its own, it pauses before it sends, so that the other has time to fall asleep: without
//! that, a reply often comes while the asker is still in its call to wake, and nobody sleeps. Elsewhere who is woken does
//! not take the processor from its waker before that sleeps; beside it stands what happens if it may. Whether they have
//! slept shows in their context switches, and a subject of which that is not true is marked.

use serde_json::json;

use super::exchange::Exchange;
use crate::machine::Pinning;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, in_turns, named};
use crate::subjects::{Subjects, is_ours};

/// Long enough to fall asleep, in nanoseconds.
const PAUSE: u64 = 50_000;
/// A little less than once for each turn: an interrupt may come in between.
const ASLEEP: f64 = 0.98;

/// Measures it; the first subject is what the others are compared with.
pub fn round_trip(bench: &str, subjects: &Subjects) {
    let options = Options::read();
    let mut report = Report::new(bench, "a question and its reply, between two processes that sleep");
    let subjects = options.among(subjects);
    let mut panels = Vec::new();
    for pinning in Pinning::all() {
        let pause = if pinning == Pinning::TwoCpus { PAUSE } else { 0 };
        let operations = options.operations(if pause > 0 { 1000 } else { 2000 });
        let exchange = Exchange { pinning, warm: 100, operations, batch: 1, pause };
        let scores =
            in_turns(&options, &subjects, |subject, counted| exchange.play(*subject, counted, |_| ()));
        report.case(json!({"pinning": pinning.name()}));
        let fastest = |among: &dyn Fn(usize) -> bool| {
            let median = |at: &usize| scores[*at].median(|round| round.p50);
            let others = (0..subjects.len()).filter(|at| !is_ours(&subjects[*at].name()) && among(*at));
            others.min_by(|one, other| median(one).total_cmp(&median(other)))
        };
        // (The bare futex has a bar of its own.)
        let (of_all, of_others) = (fastest(&|_| true), fastest(&|at| at != 0));
        let name = |at: Option<usize>| at.map(|at| subjects[at].name());
        let (first, next) = ("÷ the fastest peer", "÷ the fastest but the futex");
        let mut panel = Panel { title: pinning.name().to_owned(), bars: Vec::new() };
        for (subject, score) in subjects.iter().zip(&scores) {
            // (In most rounds: in some the machine is busy with something else.)
            let slept = score.median(|round| round.slept(0).min(round.slept(1))) >= ASLEEP;
            let note = if slept { "" } else { "awake" };
            let to = |what: &str, at: usize| (what.to_owned(), score.to(&scores[at], |round| round.p50));
            let mut ratios = vec![to(&format!("÷ {}", subjects[0].name()), 0)];
            let mut more = json!({"both_slept": slept});
            if is_ours(&subject.name()) {
                ratios.extend(of_all.map(|at| to(first, at)));
                ratios.extend(of_others.map(|at| to(next, at)));
                more["whom"] = json!({first: name(of_all), next: name(of_others)});
            }
            panel.bars.push((named(&subject.name(), note), score.at(0.5), score.at(0.99)));
            let (subject, policy) = (subject.name(), subject.policy());
            report.row(&Row { subject, policy, note, score, ratios, more });
        }
        panels.push(panel);
    }
    let caption = Caption {
        title: "A round trip between two sleeping processes",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut panels);
}
