//! One line that changes, on a terminal; a line a second elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

pub(crate) struct Progress {
    on_terminal: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let mut progress = Progress { on_terminal: stdout().is_terminal(), next: Instant::now() };
        progress.next += progress.interval();
        progress
    }

    /// How long until there is something to show.
    pub(crate) fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// Shows the status if it is time.
    pub(crate) fn show(&mut self, status: impl FnOnce() -> String) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + self.interval();
        if self.on_terminal {
            let _ = write!(stdout(), "\r\x1b[K{} …", status());
            let _ = stdout().flush();
        } else {
            let _ = writeln!(stdout(), "{} …", status());
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(if self.on_terminal { 100 } else { 1000 })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on_terminal {
            let _ = write!(stdout(), "\r\x1b[K");
        }
    }
}
