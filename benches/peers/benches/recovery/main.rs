//! How soon a survivor goes on: from just before SIGKILL is sent until whoever was to come next runs.
//!
//! ```text
//! hand-on   the victim was chosen by a wake and has not run yet        the next exclusive waiter has the item
//! lock      the victim holds a robust lock of this crate               the next one has it
//! inside    the victim is in a queue, and holds the lock of its head   the next one has enrolled
//! mutex     the victim holds a robust mutex of the C library           the next one has it
//! ```
//!
//! The last is what the others are compared with, within one run, kill by kill in turns: absolute times depend on the
//! machine. The victims are small, or have touched 1 GiB, or have 64 threads that never rest. One line of JSON for
//! each goes to `target/bench/recovery.json`.
//!
//! A survivor that the kernel puts behind the dying process, on the same processor, waits until that is preempted, some
//! milliseconds, whatever woke it. With `--apart` victims have a processor of their own, and everybody else another.

mod jobs;
mod victim;

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::json;

use jobs::{Job, Troupe};
use victim::Kind;
use waitqueue_bench::machine::{Pinning, Seat};

#[derive(Parser)]
struct Arguments {
    /// How many victims of each kind are killed in each job.
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Victims on one processor, all others on another.
    #[arg(long)]
    apart: bool,
    /// Only jobs and victims with this in "job, victim".
    #[arg(long, default_value = "")]
    only: String,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("bench");
    fs::create_dir_all(&folder).expect("target/bench");
    let mut lines = fs::File::create(folder.join("recovery.json")).expect("target/bench/recovery.json");
    let (others, victims) = match arguments.apart {
        true => (Pinning::TwoCpus.seat(0), Pinning::TwoCpus.seat(1)),
        false => (Seat::default(), Seat::default()),
    };
    others.take();
    println!("load at the beginning: {}", load());
    println!(
        "{:<10} {:<8} {:>9} {:>9} {:>9}   p50 and p99 ÷ mutex",
        "victim", "job", "p50 µs", "p99 µs", "max µs"
    );
    for kind in Kind::ALL {
        let is_wanted = |job: &Job| {
            // (The one to compare with is always played.)
            *job == Job::Mutex || format!("{}, {}", job.name(), kind.name()).contains(&arguments.only)
        };
        let jobs: Vec<Job> = Job::ALL.into_iter().filter(is_wanted).collect();
        if jobs.len() > 1 {
            let times = measure(kind, &jobs, victims, arguments.kills);
            let mutex = times.last().expect("the mutex");
            for (job, times) in jobs.iter().zip(&times) {
                writeln!(lines, "{}", report(kind, *job, times, mutex)).expect("a line");
            }
        }
    }
    println!("load at the end: {}", load());
}

/// Kills so many for each job, in turns; returns the times of each.
fn measure(kind: Kind, jobs: &[Job], seat: Seat, kills: u64) -> Vec<Histogram<u64>> {
    let mut troupes: Vec<Troupe> = jobs.iter().map(|job| Troupe::start(*job, seat)).collect();
    let mut times = vec![Histogram::new(3).expect("three digits"); jobs.len()];
    for round in 1..=kills {
        for (troupe, times) in troupes.iter_mut().zip(&mut times) {
            times.record(troupe.kill_one(kind, round)).expect("it fits");
        }
    }
    times
}

fn report(kind: Kind, job: Job, times: &Histogram<u64>, mutex: &Histogram<u64>) -> serde_json::Value {
    let at = |times: &Histogram<u64>, quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let (p50, p99, max) = (at(times, 0.5), at(times, 0.99), times.max() as f64 / 1e3);
    let (half, most) = (p50 / at(mutex, 0.5), p99 / at(mutex, 0.99));
    println!("{:<10} {:<8} {p50:>9.0} {p99:>9.0} {max:>9.0}   {half:.2} {most:.2}", kind.name(), job.name());
    json!({
        "bench": "recovery", "victim": kind.name(), "job": job.name(), "kills": times.len(),
        "p50_us": p50, "p99_us": p99, "max_us": max, "p50_to_mutex": half, "p99_to_mutex": most, "load": load(),
    })
}

/// How many processes were running, on average over the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
