//! The table: every scenario with every primitive, each in a process of its own, with a deadline.
#![allow(unsafe_code)] // waitpid and kill

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::peers::{Condvar, Event, Eventfd, Peer, Semaphore, Waitqueue, Waitv};
use crate::scenarios::{self, Scenario, Verdict};
use waitqueue_bench::cast::{Cast, Where, fork};

/// How long a cell may take: every wait inside it is much shorter.
const DEADLINE: Duration = Duration::from_secs(300);
/// How many cells run at a time. They sleep most of the time.
const AT_A_TIME: usize = 12;

/// One primitive.
#[derive(Clone, Copy)]
pub struct Column {
    /// What it is called.
    pub name: &'static str,
    lacks: fn(Scenario) -> Option<&'static str>,
    play: fn(Scenario, &str, &mut Cast) -> Verdict,
}

fn column<P: Peer>() -> Column {
    Column { name: P::NAME, lacks: P::lacks, play: scenarios::play::<P> }
}

/// All of them, this crate first.
#[must_use]
pub fn columns() -> Vec<Column> {
    vec![
        column::<Waitqueue>(),
        column::<Condvar>(),
        column::<Event>(),
        column::<Semaphore>(),
        column::<Eventfd>(),
        column::<Waitv>(),
    ]
}

/// How one cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// [`Verdict::Ok`].
    Ok,
    /// [`Verdict::Lost`].
    Lost,
    /// [`Verdict::Hung`].
    Hung,
    /// There is no such thing with this primitive.
    Absent(&'static str),
    /// [`Verdict::Skipped`]; the reason was printed.
    Skipped,
    /// The scenery broke; why was printed.
    Failed,
}

/// Outcomes by scenario and column.
pub type Table = Vec<Vec<Outcome>>;

/// Plays all scenarios with these primitives. This process must have one thread.
#[must_use]
pub fn play(columns: &[Column], patience: Duration) -> Table {
    let mut table = vec![vec![Outcome::Failed; columns.len()]; Scenario::ALL.len()];
    let mut waiting = Vec::new();
    for (row, scenario) in Scenario::ALL.into_iter().enumerate() {
        for (at, column) in columns.iter().enumerate() {
            match (column.lacks)(scenario) {
                Some(why) => table[row][at] = Outcome::Absent(why),
                None => waiting.push((row, at)),
            }
        }
    }
    let mut running: BTreeMap<i32, (usize, usize, Instant)> = BTreeMap::new();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < AT_A_TIME
            && let Some((row, at)) = waiting.pop()
        {
            let pid = fork(Where::Here, || cell(columns[at], Scenario::ALL[row], patience)).expect("fork");
            running.insert(pid, (row, at, Instant::now()));
        }
        running.retain(|pid, (row, at, since)| {
            let mut status = 0;
            // SAFETY: our own child.
            if unsafe { libc::waitpid(*pid, &raw mut status, libc::WNOHANG) } == *pid {
                table[*row][*at] = outcome(status);
                return false;
            }
            if since.elapsed() > DEADLINE {
                eprintln!("{}, {}: beyond its deadline", columns[*at].name, Scenario::ALL[*row].name());
                // SAFETY: it has not been waited for. Next time it has ended, by a signal; its actors die with it.
                unsafe { libc::kill(*pid, libc::SIGKILL) };
            }
            true
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    table
}

/// Plays one, as the whole life of a process.
fn cell(column: Column, scenario: Scenario, patience: Duration) -> i32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let name = format!("/waitqueue-peers-{}-{now:x}", std::process::id());
    match (column.play)(scenario, &name, &mut Cast::new(patience)) {
        Verdict::Ok => 0,
        Verdict::Lost => 1,
        Verdict::Hung => 2,
        Verdict::Skipped(why) => {
            eprintln!("{}, {}: skipped: {why}", column.name, scenario.name());
            3
        }
    }
}

fn outcome(status: i32) -> Outcome {
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Outcome::Ok,
        (true, 1) => Outcome::Lost,
        (true, 2) => Outcome::Hung,
        (true, 3) => Outcome::Skipped,
        (false, _) if libc::WTERMSIG(status) == libc::SIGKILL => Outcome::Hung,
        _ => Outcome::Failed,
    }
}

/// The table in the orientation of the README's, with the footnotes of what is absent.
#[must_use]
pub fn show(columns: &[Column], table: &Table) -> String {
    let mut notes: Vec<&str> = Vec::new();
    let mut rows = vec![vec!["when …".to_owned()]];
    rows[0].extend(columns.iter().map(|column| column.name.to_owned()));
    for (scenario, outcomes) in Scenario::ALL.iter().zip(table) {
        let mut row = vec![scenario.name().to_owned()];
        row.extend(outcomes.iter().map(|outcome| match outcome {
            Outcome::Ok => "ok".to_owned(),
            Outcome::Lost => "lost".to_owned(),
            Outcome::Hung => "hung".to_owned(),
            Outcome::Skipped => "skipped".to_owned(),
            Outcome::Failed => "failed".to_owned(),
            Outcome::Absent(why) => {
                let at = notes.iter().position(|note| note == why).unwrap_or_else(|| {
                    notes.push(why);
                    notes.len() - 1
                });
                format!("– [{}]", at + 1)
            }
        }));
        rows.push(row);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for (nth, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if nth == 0 {
            let line: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let _ = writeln!(text, "|{}|", line.join("|"));
        }
    }
    for (nth, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "[{}] {note}", nth + 1);
    }
    text
}
