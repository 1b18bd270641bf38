//! P2, by enumeration: a process is killed before every instruction of every operation, and nobody else is harmed.
//!
//! ```text
//! record   the operation, one step at a time, in a child whose addresses are not randomised
//! for each instruction of the trace:
//!     a fresh region, others as the setting wants them, a fresh victim
//!     run to that instruction · the others act · SIGKILL
//!     the living get what they are owed, finish their own work, and find everything given back
//! ```
//!
//! The tick is off, so what is lost stays lost. Each setting runs twice: with the marks that the kernel makes at the
//! death of a lock holder, and without. The regions that victims leave behind are collected; those that differ are
//! then recovered by another victim, who is killed in turn.
//!
//! `KILL_EVERYWHERE=full` tries every instruction, else there is a sample of each trace. `KILL_EVERYWHERE=mutants`, in a
//! debug build, breaks one step of the protocol after the other, and wants each to be noticed. Words on the command
//! line select operations by their names.
#![allow(unsafe_code)]

mod common;
mod everywhere;
mod kill;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use everywhere::keeper::{Setting, keeper};
use everywhere::operations::{OPERATIONS, Operation, victim};
use everywhere::run::{Job, Keeper, Plan, Points, Tally};
use everywhere::trace::Traced;

/// What this is called among tests.
const NAME: &str = "p2_kill_everywhere";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("victim") => victim(&arguments[1..]),
        Some("keeper") => keeper(),
        Some("mutant") => everywhere::mutants::one(&arguments[1]),
        _ => enumerate(&arguments),
    }
}

/// The words by which the command line selects tests, as `cargo test` passes them to every program of tests; `None` if it
/// wants nothing run here.
fn selection(arguments: &[String]) -> Option<Vec<&str>> {
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--ignored") {
        return None;
    }
    if has("--list") {
        println!("{NAME}: test");
        return None;
    }
    let mut words = Vec::new();
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(rest.next()),
            option if option.starts_with('-') => {}
            word => words.push(word),
        }
    }
    Some(words)
}

fn enumerate(arguments: &[String]) {
    let Some(words) = selection(arguments) else { return };
    let names = |word: &&str, operation: &Operation| NAME.contains(word) || operation.name.contains(word);
    let wanted = |operation: &&Operation| words.is_empty() || words.iter().any(|word| names(word, operation));
    if !OPERATIONS.iter().any(|operation| wanted(&operation)) {
        return println!("no operation has {words:?} in its name");
    }
    if let Some(why) = Traced::refused() {
        return println!("skipped: {why}");
    }
    let extent = match std::env::var("KILL_EVERYWHERE").as_deref() {
        Ok("mutants") => return everywhere::mutants::all(),
        Ok("full") => FULL,
        Ok(other) => {
            println!("KILL_EVERYWHERE={other} is unknown: it can be full, mutants, or not set");
            std::process::exit(1);
        }
        Err(_) if cfg!(debug_assertions) => TASTE,
        Err(_) => SAMPLE,
    };
    let start = Instant::now();
    let mut plan = Plan {
        points: extent.points,
        patience: common::LIMIT * 2,
        stop_at_failure: false,
        verbose: std::env::var_os("KILL_EVERYWHERE_VERBOSE").is_some(),
        remains: Some(Mutex::default()),
    };
    let operations = OPERATIONS.iter().filter(wanted).enumerate();
    let in_settings = operations.flat_map(|(nth, operation)| {
        let mut jobs = jobs(operation);
        // In turn, so that every setting has its operations.
        let turn = nth % jobs.len();
        jobs.rotate_left(turn);
        jobs.truncate(extent.jobs);
        jobs
    });
    let mut tallies = run(in_settings.collect(), &plan);

    let mut remains: Vec<_> = plan.remains.take().unwrap().into_inner().unwrap().into_iter().collect();
    let found = remains.len();
    remains.sort_unstable_by_key(|(hash, _)| *hash);
    remains.truncate(extent.remains);
    let recoverers = remains.into_iter().map(|remains| Job {
        operation: None,
        setting: Setting::Recoverer,
        marks: remains.0 % 2 == 0,
        remains: Some(remains),
        share: (0, 1),
    });
    plan.points = Points::Some(extent.points_of_recoverer);
    tallies.extend(run(recoverers.collect(), &plan));
    println!("distinct regions that the dead left behind: {found}");
    report(&tallies, start.elapsed());
}

/// How much is tried.
struct Extent {
    points: Points,
    /// For each operation, in how many settings, with marks or without.
    jobs: usize,
    /// How many of the distinct regions that the dead left behind are recovered by a victim, and at how many points of
    /// that it dies; the points differ from region to region.
    remains: usize,
    points_of_recoverer: usize,
}

const FULL: Extent =
    Extent { points: Points::All, jobs: usize::MAX, remains: usize::MAX, points_of_recoverer: 30 };
const SAMPLE: Extent =
    Extent { points: Points::Some(24), jobs: usize::MAX, remains: 30, points_of_recoverer: 20 };
const TASTE: Extent = Extent { points: Points::Some(8), jobs: 2, remains: 4, points_of_recoverer: 8 };

/// Every setting that makes sense for an operation, with marks and without.
fn jobs(operation: &'static Operation) -> Vec<Job> {
    let makes_sense = |setting: &Setting| match setting {
        Setting::Alone | Setting::Barging => true,
        Setting::Sleeper | Setting::Busy => !operation.creates(),
        Setting::Interleaved => operation.has_condition(),
        Setting::Recoverer => false,
    };
    let settings = everywhere::keeper::SETTINGS.into_iter().filter(makes_sense);
    let mut jobs: Vec<Job> = settings
        .flat_map(|setting| [true, false].map(|marks| (setting, marks)))
        // Where nobody is killed there is nothing to mark.
        .filter(|(setting, marks)| *marks || *setting != Setting::Interleaved)
        .map(|(setting, marks)| Job {
            operation: Some(operation),
            remains: None,
            setting,
            marks,
            share: (0, 1),
        })
        .collect();
    let count = jobs.len();
    jobs.iter_mut().enumerate().for_each(|(nth, job)| job.share = (nth, count));
    jobs
}

fn run(jobs: Vec<Job>, plan: &Plan) -> BTreeMap<&'static str, Tally> {
    let tallies = Mutex::new(BTreeMap::<_, Tally>::new());
    everywhere::on_every_processor(jobs.into_iter(), Keeper::new, |keeper, job| {
        let tally = job.run(plan, keeper);
        tally.failures.iter().for_each(|failure| println!("FAILED {failure}"));
        if plan.verbose {
            println!("{}, {:?}, marks {}: {} kills", job.name(), job.setting, job.marks, tally.kills);
        }
        tallies.lock().unwrap().entry(job.name()).or_default().add(&tally);
    });
    tallies.into_inner().unwrap()
}

fn report(tallies: &BTreeMap<&'static str, Tally>, took: Duration) {
    println!(
        "{:<18} {:>12} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>7} {:>12}",
        "operation",
        "instructions",
        "states",
        "kills",
        "settings",
        "lost",
        "hung",
        "leaked",
        "missed",
        "slowest"
    );
    let mut total = Tally::default();
    let names = OPERATIONS.iter().map(|operation| operation.name).chain(["recovery"]);
    for (name, tally) in names.filter_map(|name| Some((name, tallies.get(name)?))) {
        println!(
            "{name:<18} {:>12} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>7} {:>9} us",
            tally.instructions,
            tally.states,
            tally.kills,
            tally.settings,
            tally.lost,
            tally.hung,
            tally.leaked,
            tally.missed,
            tally.slowest.as_micros()
        );
        total.add(tally);
    }
    println!(
        "total: {} kill points, {} lost, {} hung, {} leaked ({} not reached; {} s)",
        total.kills,
        total.lost,
        total.hung,
        total.leaked,
        total.missed,
        took.as_secs()
    );
    // What others do at the same time decides how many are not reached; but if it is most of them, nothing was shown.
    if total.failed() > 0 || total.missed > total.kills || total.kills == 0 {
        std::process::exit(1);
    }
}
