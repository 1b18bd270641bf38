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

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("victim") => victim(&arguments[1..]),
        Some("keeper") => keeper(),
        Some("mutant") => everywhere::mutants::one(&arguments[1]),
        Some("--list") => println!("p2_kill_everywhere: test"),
        _ => enumerate(&arguments),
    }
}

fn enumerate(arguments: &[String]) {
    let chosen: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |operation: &&Operation| {
        chosen.is_empty()
            || chosen.iter().any(|part| operation.name.contains(part) || *part == "p2_kill_everywhere")
    };
    if let Some(why) = Traced::refused() {
        return println!("skipped: {why}");
    }
    let extent = match std::env::var("KILL_EVERYWHERE").as_deref() {
        Ok("mutants") => return everywhere::mutants::all(),
        Ok("full") => FULL,
        _ if cfg!(debug_assertions) => TASTE,
        _ => SAMPLE,
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
    let too_many_missed = total.missed * 20 > total.kills;
    if total.failed() > 0 || too_many_missed || total.kills == 0 {
        std::process::exit(1);
    }
}
