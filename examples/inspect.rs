//! Shows who is attached to a region and who waits where: `cargo run --example inspect -- /demo`.
//!
//! It only reads: it does not attach, takes no lock, and nobody in the region notices. So it also works where nothing
//! else does any more.

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use waitqueue::{Error, Region};

/// Shows a region: participants, queues and who waits on them, objects, and what has happened.
#[derive(Parser)]
struct Args {
    /// The region's name, such as /demo
    name: String,
    /// Show it again and again, until it is unlinked
    #[arg(long)]
    watch: bool,
    /// How long to wait between two looks
    #[arg(long, default_value_t = 500, value_name = "MS")]
    every: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let before = if args.watch && stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let mut looks = 0;
    loop {
        let shown = match Region::builder().inspect(&args.name) {
            Ok(snapshot) => writeln!(stdout(), "{before}{snapshot}"),
            Err(Error::NoSuchRegion { .. }) if looks > 0 => return ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("inspect: {error}");
                return ExitCode::FAILURE;
            }
        };
        // Whoever reads may have seen enough.
        if !args.watch || shown.is_err() {
            return ExitCode::SUCCESS;
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(args.every));
    }
}
