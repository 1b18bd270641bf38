//! Steps of the protocol that are left out, each of which the enumeration must notice.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::keeper::Setting;
use super::operations::OPERATIONS;
use super::run::{Job, Keeper, Plan, Points};

/// How long the living may take beside a broken protocol, until that counts as noticed.
const NOTICED: Duration = Duration::from_secs(4);

struct Mutant {
    /// What is left out; what is before it in the list only takes a second defence away, and must go unnoticed.
    name: &'static str,
    /// Where it shows.
    operation: &'static str,
    setting: Setting,
    /// Whether the kernel marks the victim, which is a second defence too.
    marks: bool,
}

const fn mutant(name: &'static str, operation: &'static str, setting: Setting) -> Mutant {
    Mutant { name, operation, setting, marks: true }
}

const MUTANTS: &[Mutant] = &[
    Mutant { marks: false, ..mutant("no slices,store and wake split", "lock, wanted", Setting::Alone) },
    Mutant {
        marks: false,
        ..mutant("no slices,one sleeper of a lock woken", "lock, wanted", Setting::Alone)
    },
    mutant("claim not handed on", "wait_woken", Setting::Sleeper),
    mutant("no ring", "wake_up", Setting::Sleeper),
    mutant("recovery skips an entry", "wait_many, 2", Setting::Sleeper),
    mutant("repair left out", "wait", Setting::Sleeper),
    mutant("second round left out", "enrol", Setting::Sleeper),
    mutant("life words not set", "wake_up", Setting::Sleeper),
    mutant("claim of an evaluating waiter", "wait", Setting::Interleaved),
    mutant("no look for the awake", "wait", Setting::Interleaved),
    mutant("commit by store", "wait", Setting::Interleaved),
    mutant("close without look", "wait, closed", Setting::Interleaved),
    mutant("object published before it is written", "object", Setting::Alone),
];

/// Steps that it cannot miss, and why.
const UNNOTICED: &[(&str, &str)] = &[
    (
        "waiting lowered too early",
        "the entry that is not counted any more is the leaver's own, who evaluates no more",
    ),
    (
        "generation not bumped",
        "it takes somebody who was stopped between two steps, not killed: `mutants.rs` shows it",
    ),
];

/// Tries every mutant in a process of its own, and each defence that was taken away alone.
pub fn all() {
    if !cfg!(debug_assertions) {
        println!("mutants exist in debug builds only");
        std::process::exit(1);
    }
    let unnoticed = Mutex::new(Vec::new());
    super::on_every_processor(
        MUTANTS.iter().enumerate(),
        || (),
        |(), (index, mutant)| {
            let noticed = is_noticed(index, mutant.name);
            let weaker = mutant.name.rsplit_once(',').is_some_and(|(before, _)| is_noticed(index, before));
            let outcome = match (noticed, weaker) {
                (true, false) => "noticed",
                (false, _) => "NOT NOTICED",
                (true, true) => "noticed, but also WITHOUT IT",
            };
            let setting = format!("{:?}", mutant.setting);
            println!("{:<42} {:<14} {setting:<12} {outcome}", mutant.name, mutant.operation);
            if !noticed || weaker {
                unnoticed.lock().unwrap().push(mutant.name);
            }
        },
    );
    UNNOTICED.iter().for_each(|(name, why)| println!("{name:<42} left out, since {why}"));
    let unnoticed = unnoticed.into_inner().unwrap();
    println!("{} mutants, {} not noticed", MUTANTS.len(), unnoticed.len());
    if !unnoticed.is_empty() {
        std::process::exit(1);
    }
}

fn is_noticed(index: usize, name: &str) -> bool {
    let status = Command::new(std::env::current_exe().expect("a test has a program"))
        .args(["mutant", &index.to_string()])
        .env("WAITQUEUE_MUTANT", name)
        .stderr(Stdio::null())
        .status()
        .expect("this program starts");
    !status.success()
}

/// In a process of its own, whose environment names the mutant: fails as soon as something is wrong.
pub fn one(index: &str) {
    let mutant = &MUTANTS[index.parse::<usize>().expect("a number")];
    let operation = OPERATIONS.iter().find(|operation| operation.name == mutant.operation);
    let job = Job { operation, remains: None, setting: mutant.setting, marks: mutant.marks, share: (0, 1) };
    let plan = Plan {
        points: Points::States,
        patience: NOTICED,
        stop_at_failure: true,
        verbose: false,
        remains: None,
    };
    let tally = job.run(&plan, &mut Keeper::new());
    if tally.failed() > 0 {
        tally.failures.iter().for_each(|failure| println!("    {failure:.200}"));
        std::process::exit(1);
    }
}
