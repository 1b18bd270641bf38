//! Who survives what: plays every scenario with this crate and with what else there is, and prints the table.
//!
//! `ok`: every survivor gets what it is owed. `lost`: one does not, until somebody does more than he should have to.
//! `hung`: one does not come back from a call. `–`: there is no such thing.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use waitqueue_peers::matrix::{Outcome, columns, play, show};
use waitqueue_peers::scenarios::Scenario;

#[derive(Parser)]
#[command(about = "Who survives what, played live")]
struct Arguments {
    /// Only primitives whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Play everything so often, and say which cells did not always end alike.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// How many seconds a survivor has for what it is owed.
    #[arg(long, default_value_t = 5)]
    patience: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut columns = columns();
    columns.retain(|column| column.name.contains(&arguments.only));
    let start = Instant::now();
    let tables: Vec<_> =
        (0..arguments.times).map(|_| play(&columns, Duration::from_secs(arguments.patience))).collect();
    let Some(first) = tables.first() else { return ExitCode::FAILURE };
    print!("{}", show(&columns, first));
    println!(
        "{} times in {:.1} s, each cell in processes of its own",
        tables.len(),
        start.elapsed().as_secs_f32()
    );

    let mut good = true;
    for (row, scenario) in Scenario::ALL.iter().enumerate() {
        for (at, column) in columns.iter().enumerate() {
            let outcomes: Vec<Outcome> = tables.iter().map(|table| table[row][at]).collect();
            if outcomes.iter().any(|outcome| *outcome != outcomes[0]) {
                println!("not always alike: {}, {}: {outcomes:?}", column.name, scenario.name());
            }
            let may_be = |outcome: &Outcome| matches!(outcome, Outcome::Ok | Outcome::Skipped);
            good &= column.name != "waitqueue" || outcomes.iter().all(may_be);
            good &= !outcomes.contains(&Outcome::Failed);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
