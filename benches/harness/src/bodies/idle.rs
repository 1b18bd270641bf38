//! What calls cost that have nothing to do, by criterion; and how many system calls they make, which should be none.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use criterion::Criterion;
use serde_json::{Value, json};

use crate::gauge::{Gauge, counts_calls};
use crate::machine;
use crate::report::folder;

/// For each call counted.
const CALLS: u32 = 1000;

/// Measures one call after the other.
pub struct Idle {
    bench: &'static str,
    criterion: Criterion,
    lines: File,
    machine: Value,
}

impl Idle {
    /// With criterion's command line.
    #[must_use]
    pub fn new(bench: &'static str) -> Idle {
        // (Asked here, before anything starts a thread: it forks.)
        if !counts_calls() {
            println!("system calls are not counted: that takes CAP_PERFMON and tracefs");
        }
        let folder = folder();
        fs::create_dir_all(&folder).expect("target/bench");
        let lines = File::create(folder.join(format!("{bench}.json"))).expect("target/bench");
        Idle {
            bench,
            criterion: Criterion::default().configure_from_args(),
            lines,
            machine: machine::describe(),
        }
    }

    /// Measures one.
    pub fn call<T>(&mut self, name: &str, mut call: impl FnMut() -> T) {
        self.criterion.bench_function(name, |bencher| bencher.iter(&mut call));
        let mut gauge = Gauge::new(true);
        gauge.start();
        for _ in 0..CALLS {
            black_box(call());
        }
        let calls = gauge.stop().calls.map(|calls| f64::from(calls as u32) / f64::from(CALLS));
        calls.inspect(|calls| println!("{:<24}system calls: {calls:.2}", ""));
        let (low, median, high) = estimate(name).unwrap_or_default();
        let line = json!({
            "bench": self.bench, "subject": name, "median_ns": median, "low_ns": low, "high_ns": high,
            "system_calls": calls, "machine": self.machine,
        });
        writeln!(self.lines, "{line}").expect("a line");
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.criterion.final_summary();
    }
}

/// The median that criterion has found, between the ends of its interval of confidence.
fn estimate(name: &str) -> Option<(f64, f64, f64)> {
    let folder = folder().with_file_name("criterion").join(name);
    let text = fs::read_to_string(Path::new(&folder).join("new/estimates.json")).ok()?;
    let median = &serde_json::from_str::<Value>(&text).ok()?["median"];
    let bound = |which: &str| median["confidence_interval"][which].as_f64();
    Some((bound("lower_bound")?, median["point_estimate"].as_f64()?, bound("upper_bound")?))
}

/// waitqueue's calls, in a region of its own.
pub fn idle_waitqueue(idle: &mut Idle) {
    use std::sync::atomic::{AtomicU32, Ordering::*};
    use waitqueue::Region;

    let region = Region::builder().create_memfd("bench").expect("a region");
    let queue = region.queue("queue").expect("a queue");
    let ready = region.object::<AtomicU32>("ready").expect("an object");
    ready.store(1, Release);
    idle.call("waitqueue, wake_up of nobody", || queue.wake_up().expect("wake"));
    idle.call("waitqueue, wait_event that holds", || {
        queue.wait_event(|| ready.load(Acquire) != 0).expect("wait");
    });
}
