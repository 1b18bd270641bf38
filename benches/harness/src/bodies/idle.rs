//! What calls cost that have nothing to do, by criterion; and how many system calls they make, which should be none.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use criterion::Criterion;
use serde_json::{Value, json};
use waitqueue::Region;

use crate::gauge::{Gauge, counts_calls};
use crate::machine;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{folder, lines_of};

/// For each call counted.
const CALLS: u32 = 1000;

/// Waking nobody.
pub const WAKE: &str = "a wake of nobody";
/// Waiting for what is so.
pub const HOLDS: &str = "a wait whose condition holds";

/// Measures one call after the other.
pub struct Idle {
    bench: &'static str,
    options: Options,
    criterion: Criterion,
    lines: File,
    about: Value,
    panels: Vec<Panel>,
}

impl Idle {
    /// None yet.
    #[must_use]
    pub fn new(bench: &'static str) -> Idle {
        let options = Options::read();
        // (Asked here, before anything starts a thread: it forks.)
        if !counts_calls() {
            println!("system calls are not counted: that takes CAP_PERFMON and tracefs");
        }
        let about = json!({"machine": machine::describe(), "run": machine::this_run()});
        println!("{bench}: calls that have nothing to do\n{about}");
        let (warm, long) = if options.quick { (0.1, 0.3) } else { (1.0, 4.0) };
        let criterion = Criterion::default()
            .without_plots()
            .nresamples(20_000)
            .warm_up_time(Duration::from_secs_f64(warm))
            .measurement_time(Duration::from_secs_f64(long));
        Idle { bench, options, criterion, lines: lines_of(bench), about, panels: Vec::new() }
    }

    /// Measures one: of what kind it is, and whose.
    pub fn call<T>(&mut self, kind: &str, subject: &str, mut call: impl FnMut() -> T) {
        if !subject.contains(&self.options.only) && !subject.starts_with("waitqueue") {
            return;
        }
        let mut group = self.criterion.benchmark_group(kind);
        group.bench_function(subject, |bencher| bencher.iter(&mut call));
        group.finish();
        let mut gauge = Gauge::new(true);
        gauge.start();
        for _ in 0..CALLS {
            black_box(call());
        }
        let calls = gauge.stop().calls.map(|calls| calls as f64 / f64::from(CALLS));
        calls.inspect(|calls| println!("{:<24}system calls: {calls:.2}\n", ""));
        let (low, median, high) = estimate(kind, subject).unwrap_or_default();
        let line = json!({
            "bench": self.bench, "subject": subject, "policy": "", "case": {"call": kind},
            "p50_ns": median, "p50_from_ns": low, "p50_to_ns": high, "system_calls": calls,
            "machine": self.about["machine"], "run": self.about["run"],
        });
        writeln!(self.lines, "{line}").expect("a line");
        let bar = (subject.to_owned(), median, high);
        match self.panels.iter_mut().find(|panel| panel.title == kind) {
            Some(panel) => panel.bars.push(bar),
            None => self.panels.push(Panel { title: kind.to_owned(), bars: vec![bar] }),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let caption = Caption {
            title: "Calls that have nothing to do",
            about: "median, and the end of its interval of confidence; further left is better",
            x: ("", Unit::Time),
            y: ("", Unit::Time),
        };
        plot::bars(&folder().join(format!("{}.svg", self.bench)), &caption, &mut self.panels);
    }
}

/// The median that criterion has found, between the ends of its interval of confidence.
fn estimate(kind: &str, subject: &str) -> Option<(f64, f64, f64)> {
    let folder = folder().with_file_name("criterion").join(kind).join(subject);
    let text = fs::read_to_string(folder.join("new/estimates.json")).ok()?;
    let median = &serde_json::from_str::<Value>(&text).ok()?["median"];
    let bound = |which: &str| median["confidence_interval"][which].as_f64();
    Some((bound("lower_bound")?, median["point_estimate"].as_f64()?, bound("upper_bound")?))
}

/// waitqueue's calls, in a region of its own.
pub fn idle_waitqueue(idle: &mut Idle) {
    let region = Region::builder().create_memfd("bench").expect("a region");
    let queue = region.queue("queue").expect("a queue");
    let ready = region.object::<AtomicU32>("ready").expect("an object");
    ready.store(1, Release);
    idle.call(WAKE, "waitqueue, wake_up", || queue.wake_up().expect("wake"));
    idle.call(HOLDS, "waitqueue, wait_event", || {
        queue.wait_event(|| ready.load(Acquire) != 0).expect("wait");
    });
}
