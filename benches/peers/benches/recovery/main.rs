//! How soon a survivor goes on: from just before SIGKILL is sent until whoever was to come next runs.
//!
//! ```text
//! hand-on   the victim was chosen by a wake and has not run yet        the next exclusive waiter has the item
//! lock      the victim holds a robust lock of this crate               the next one has it
//! inside    the victim is in a queue, and holds the lock of its head   the next one has enrolled
//! mutex     the victim holds a robust mutex of the C library           the next one has it
//! ```
//!
//! The last is what the others are compared with, kill by kill in turns: absolute times depend on the machine. The victims
//! are small, or have touched 1 GiB, or have 64 threads that never rest.
//!
//! A survivor that the kernel puts behind the dying process, on the same processor, waits until that is preempted, some
//! milliseconds, whatever woke it. With `--apart` victims have a processor of their own, and everybody else another.

mod jobs;
mod victim;

use std::cell::RefCell;

use clap::Parser;
use serde_json::json;
use waitqueue_bench::machine::{Pinning, Seat};
use waitqueue_bench::options::Options;
use waitqueue_bench::plot::{self, Caption, Panel, Unit};
use waitqueue_bench::report::{Report, Row, in_turns};

use jobs::{Job, Troupe};
use victim::Kind;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// How many victims of each kind are killed in each job, in each round.
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// Victims on one processor, all others on another.
    #[arg(long)]
    apart: bool,
}

fn main() {
    let Arguments { options, kills, apart } = Arguments::parse();
    let options = options.in_earnest_or_quick();
    let kills = if options.quick { 2 } else { kills };
    let (pinning, others, victims) = match apart {
        true => ("victims apart", Pinning::TwoCpus.seat(0), Pinning::TwoCpus.seat(1)),
        false => (Pinning::Unpinned.name(), Seat::default(), Seat::default()),
    };
    let mut report = Report::new("recovery", "from SIGKILL until whoever is next runs");
    others.take();
    let is_wanted = |job: &Job| *job == Job::Mutex || job.subject().contains(&options.only);
    let jobs: Vec<Job> = Job::ALL.into_iter().filter(is_wanted).collect();
    let mut panels = Vec::new();
    for kind in Kind::ALL {
        let troupes: Vec<RefCell<Troupe>> =
            jobs.iter().map(|job| RefCell::new(Troupe::start(*job, victims))).collect();
        let scores = in_turns(&options, &troupes, |troupe, counted| match counted {
            true => Vec::new(),
            false => vec![troupe.borrow_mut().kill(kind, kills)],
        });
        report.case(json!({"victim": kind.name(), "pinning": pinning}));
        let mut panel = Panel { title: format!("victim: {}", kind.name()), bars: Vec::new() };
        for (job, score) in jobs.iter().zip(&scores) {
            let ratios =
                vec![(format!("÷ {}", Job::Mutex.subject()), score.to(&scores[0], |round| round.p50))];
            let subject = job.subject().to_owned();
            panel.bars.push((subject.clone(), score.at(0.5), score.at(0.99)));
            report.row(&Row { subject, policy: "", note: "", score, ratios, more: json!({}) });
        }
        panels.push(panel);
    }
    let caption = Caption {
        title: "From a kill until whoever is next runs",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut panels);
}
