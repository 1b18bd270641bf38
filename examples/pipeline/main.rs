//! Counts words with processes that are being killed: `cargo run --release --example pipeline`.
//!
//! A parent hands out the lines of text files through slots in shared memory. Workers, which are processes of this
//! same program, sleep exclusively on the work queue, take a line each and count its words. Every few milliseconds
//! the parent sends `SIGKILL` to one of them and starts another. The totals are exact every time.
//!
//! ```text
//!            room                    work                     results
//!   feeder ───────▶ FREE → FILLED ───────▶ TAKEN → DONE ───────▶ collector ──▶ FREE
//!   (parent)                      (workers, exclusively)         (parent, with control)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `board.rs` | the slots, and why a kill neither loses nor counts twice |
//! | `worker.rs` | what a worker does: fifteen lines |
//! | `parent.rs` | feeder, collector, and the keeper who kills and starts workers |
//! | `text.rs` | which files, and the plain count to compare with |
//! | `progress.rs`, `signals.rs` | what the user sees, and Ctrl-C |

mod board;
mod parent;
mod progress;
mod signals;
mod text;
mod worker;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use waitqueue::{Region, RegionBuilder};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Counts words with worker processes, kills them meanwhile, and compares the totals with a plain count.
#[derive(Parser)]
struct Args {
    /// Files, or directories to search for source and Markdown files [default: this repository]
    paths: Vec<PathBuf>,
    /// How many worker processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    workers: u16,
    /// Kill a random worker about every so many milliseconds; 0: never
    #[arg(long, default_value_t = 5, value_name = "MS")]
    kill_every: u64,
    /// How many times to count everything
    #[arg(long, default_value_t = 50)]
    repeat: u64,
    /// Seed of the choice of victims [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Use a named region, so that `cargo run --example inspect -- NAME --watch` can look on
    #[arg(long)]
    name: Option<String>,
    /// Sleep without a tick: nothing but wakes then ends a sleep
    #[arg(long, hide = true)]
    no_tick: bool,
    /// Be a worker of the run with this number
    #[arg(long, hide = true)]
    worker: Option<u64>,
}

impl Args {
    fn region(&self) -> RegionBuilder {
        let builder = Region::builder();
        if self.no_tick { builder.tick(None) } else { builder }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.worker {
        Some(run) => worker::work(&args, run).map(|()| ExitCode::SUCCESS),
        None => parent::count(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("pipeline: {error}");
        ExitCode::FAILURE
    })
}
