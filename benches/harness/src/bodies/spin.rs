//! A round trip between two processes, each on a processor of its own, whose replies come at once: what can be had
//! without sleeping.

use serde_json::json;

use super::exchange::Exchange;
use crate::machine::Pinning;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, in_turns};
use crate::subjects::Subjects;

/// A sample is the mean of so many: reading the clock takes about as long as a hop between processors.
const BATCH: u32 = 16;

/// Measures it; the first subject is what the others are compared with.
pub fn round_trip_spinning(bench: &str, subjects: &Subjects) {
    let options = Options::read();
    let about = "a question and its reply at once, between two processors (a sample is the mean of 16)";
    let mut report = Report::new(bench, about);
    let subjects = options.among(subjects);
    let pinning = Pinning::TwoCpus;
    let scores = in_turns(&options, &subjects, |subject, counted| {
        // (Who sleeps takes a hundred times as long.)
        let operations = if subject.policy() == "sleep" { 3200 } else { 32_000 };
        let operations = options.operations(operations).next_multiple_of(BATCH);
        Exchange { pinning, warm: 400, operations, batch: BATCH, pause: 0 }.play(*subject, counted, |_| ())
    });
    report.case(json!({"pinning": pinning.name()}));
    let mut panel = Panel { title: pinning.name().to_owned(), bars: Vec::new() };
    for (subject, score) in subjects.iter().zip(&scores) {
        let base = subjects[0].name();
        let ratios = vec![
            (format!("÷ {base}"), score.to(&scores[0], |round| round.p50)),
            (format!("CPU ÷ {base}"), score.to(&scores[0], |round| round.cpu_of_all())),
        ];
        panel.bars.push((subject.name(), score.at(0.5), score.at(0.99)));
        let more = json!({"mean_ns": score.median(|round| round.mean())});
        let (subject, policy) = (subject.name(), subject.policy());
        report.row(&Row { subject, policy, note: "", score, ratios, more });
    }
    let caption = Caption {
        title: "A round trip whose reply comes at once",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut [panel]);
}
