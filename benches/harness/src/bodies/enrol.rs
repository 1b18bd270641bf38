//! Enrolling on many queues and leaving them again, with nobody else there: `wait_many` does just that where the last
//! condition is true when it is evaluated again.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use waitqueue::{Queue, Region, Source, WaitOptions, wait_many};

use crate::machine::{Pinning, now};
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, in_turns};
use crate::stage::{Performer, Role, play};

/// A sample is the mean of so many, because reading the clock would show.
const BATCH: u32 = 10;

/// Measures it, for so many queues each.
pub fn enrol_and_leave(bench: &str, counts: &[usize]) {
    let options = Options::read();
    let mut report = Report::new(bench, "enrolling on all of so many queues, and leaving them");
    let scores = in_turns(&options, counts, |count, counted| {
        let operations = options.operations((50_000 / *count as u32).clamp(10, 1000));
        let body = |me: &mut Performer| enrol(me, *count, operations);
        let role = Role::new("waiter", Pinning::TwoCpus.seat(0), body);
        play(counted, operations as usize, vec![role])
    });
    let mut curve = Curve { name: "waitqueue, wait_many".into(), points: Vec::new() };
    for (count, score) in counts.iter().zip(&scores) {
        report.case(json!({"queues": count}));
        let per_queue = score.at(0.5) / *count as f64;
        let more = json!({"ns_per_queue": per_queue});
        let subject = "waitqueue, wait_many".to_owned();
        report.row(&Row { subject, policy: "sleep", note: "", score, ratios: Vec::new(), more });
        println!("  {per_queue:.1} ns for each queue");
        curve.points.push((*count as f64, per_queue));
    }
    let caption = Caption {
        title: "Enrolling on many queues, and leaving them",
        about: "median; lower is better, and flat is linear",
        x: ("queues", Unit::Count),
        y: ("for each queue", Unit::Time),
    };
    plot::curves(&report.picture(""), &caption, &[curve]);
}

fn enrol(me: &mut Performer, count: usize, operations: u32) {
    let capacity = count as u64;
    let builder = Region::builder().entries(capacity + 64).objects(capacity + 1).memory(capacity * 64);
    let region = builder.create_memfd("bench").expect("a region");
    let queue = |at: usize| region.queue(&at.to_string()).expect("a queue");
    let queues: Vec<Queue> = (0..count).map(queue).collect();
    let (last, again) = (count - 1, Cell::new(false));
    let is_true = |at: usize| at == last && again.replace(!again.get());
    let mut conditions: Vec<_> = (0..count).map(|at| move || is_true(at)).collect();
    let mut sources: Vec<_> =
        queues.iter().zip(&mut conditions).map(|(queue, condition)| Source::new(queue, condition)).collect();
    let sleep = WaitOptions::new().spin(Duration::ZERO);
    let mut once = || assert_eq!(wait_many(&mut sources, &sleep), Ok(last));
    me.ready();
    (0..5).for_each(|_| once());
    me.begin();
    for _ in 0..operations {
        let start = now();
        (0..BATCH).for_each(|_| once());
        me.sample((now() - start) / u64::from(BATCH));
    }
    me.end(u64::from(operations * BATCH));
}
