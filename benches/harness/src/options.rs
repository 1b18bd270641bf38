//! What a bench can be told on its command line.

use clap::Parser;

use crate::subjects::{Subject, Subjects};

/// `cargo bench --bench roundtrip -- --quick --only futex`; all benches take all of it, so that it can be told to all.
#[derive(Parser, Debug, Clone)]
pub struct Options {
    /// How often each subject has its turn.
    #[arg(long, default_value_t = 21)]
    pub rounds: usize,
    /// Few and short rounds: whether it works, not how fast it is.
    #[arg(long)]
    pub quick: bool,
    /// Only subjects whose name contains this; the one that the others are compared with is always played.
    #[arg(long, default_value = "")]
    pub only: String,
    /// How long tokens go round to see how even that is.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// What `cargo bench` passes on.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Those of the command line.
    #[must_use]
    pub fn read() -> Options {
        Options::parse().in_earnest_or_quick()
    }

    /// The same, for who has read them together with others.
    #[must_use]
    pub fn in_earnest_or_quick(mut self) -> Options {
        if self.quick {
            self.rounds = self.rounds.min(2);
            self.seconds = self.seconds.min(1);
        }
        self
    }

    /// How many operations a round has that in earnest has so many.
    #[must_use]
    pub fn operations(&self, earnest: u32) -> u32 {
        if self.quick { (earnest / 20).max(10) } else { earnest }
    }

    /// Those that are wanted.
    #[must_use]
    pub fn among<'a>(&self, subjects: &'a Subjects) -> Vec<&'a dyn Subject> {
        let is_wanted = |at: usize, name: String| at == 0 || name.contains(&self.only);
        let wanted = subjects.iter().enumerate().filter(|(at, subject)| is_wanted(*at, subject.name()));
        wanted.map(|(_, subject)| &**subject).collect()
    }
}
