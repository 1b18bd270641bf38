//! Rounds in turns, what comes out of them, and how it is told.
//!
//! All subjects play one round, then all the next, each time beginning with another: what the machine does meanwhile
//! meets all of them. A ratio is taken within a round; it is the median of those, with the tenth and the ninetieth of a
//! hundred beside it. System calls are counted in a play of their own, since counting them takes time.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::gauge::counts_calls;
use crate::machine;
use crate::options::Options;
use crate::stage::Tally;

/// One round of one subject.
pub struct Round {
    /// The median of its samples, in nanoseconds.
    pub p50: f64,
    /// What its roles took; the samples are in the score.
    pub tallies: Vec<Tally>,
}

impl Round {
    /// Processor time of a role for each of its operations, in nanoseconds.
    #[must_use]
    pub fn cpu(&self, role: usize) -> f64 {
        let tally = &self.tallies[role];
        tally.usage.cpu as f64 / tally.operations.max(1) as f64
    }

    /// How often a role slept for each of its operations.
    #[must_use]
    pub fn slept(&self, role: usize) -> f64 {
        let tally = &self.tallies[role];
        tally.usage.slept as f64 / tally.operations.max(1) as f64
    }

    /// Processor time of all roles together, for each operation of the first.
    #[must_use]
    pub fn cpu_of_all(&self) -> f64 {
        let total: u64 = self.tallies.iter().map(|tally| tally.usage.cpu).sum();
        total as f64 / self.tallies[0].operations.max(1) as f64
    }

    /// Time for each operation of the first role, in nanoseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.tallies[0].elapsed as f64 / self.tallies[0].operations.max(1) as f64
    }
}

/// All rounds of one subject.
pub struct Score {
    /// In the order in which they were played.
    pub rounds: Vec<Round>,
    /// The samples of all of them.
    pub times: Histogram<u64>,
    counted: Vec<Tally>,
}

impl Score {
    /// Of one round only.
    #[must_use]
    pub fn of(tallies: Vec<Tally>) -> Score {
        let mut score = Score::new();
        score.add(tallies);
        score
    }

    fn new() -> Score {
        Score { rounds: Vec::new(), times: Histogram::new(3).expect("three digits"), counted: Vec::new() }
    }

    fn add(&mut self, mut tallies: Vec<Tally>) {
        let mut times = Histogram::<u64>::new(3).expect("three digits");
        for sample in tallies.iter_mut().flat_map(|tally| tally.samples.drain(..)) {
            times.record(sample).expect("it fits");
        }
        self.times.add(&times).expect("it fits");
        self.rounds.push(Round { p50: times.value_at_quantile(0.5) as f64, tallies });
    }

    /// So much of it for so much of the other, round by round.
    #[must_use]
    pub fn to(&self, other: &Score, what: impl Fn(&Round) -> f64) -> Ratio {
        Ratio::of(self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| what(ours) / what(theirs)))
    }

    /// The median over rounds.
    #[must_use]
    pub fn median(&self, what: impl Fn(&Round) -> f64) -> f64 {
        Ratio::of(self.rounds.iter().map(what)).median
    }

    /// Nanoseconds that so many of the samples do not exceed.
    #[must_use]
    pub fn at(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64
    }

    /// How many roles its plays have.
    #[must_use]
    pub fn roles(&self) -> usize {
        self.rounds[0].tallies.len()
    }

    /// How often a role slept for each of its operations.
    #[must_use]
    pub fn slept(&self, role: usize) -> f64 {
        self.per_operation(role, |tally| tally.usage.slept)
    }

    fn per_operation(&self, role: usize, what: impl Fn(&Tally) -> u64) -> f64 {
        let of = |what: &dyn Fn(&Tally) -> u64| -> u64 {
            self.rounds.iter().map(|round| what(&round.tallies[role])).sum()
        };
        of(&what) as f64 / of(&|tally| tally.operations).max(1) as f64
    }

    /// How many system calls a role made for each of its operations, if that could be counted.
    #[must_use]
    pub fn calls(&self, role: usize) -> Option<f64> {
        let tally = self.counted.get(role)?;
        Some(tally.usage.calls? as f64 / tally.operations.max(1) as f64)
    }
}

/// A figure of many rounds.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// Half of the rounds are below.
    pub median: f64,
    /// One in ten is below.
    pub low: f64,
    /// One in ten is above.
    pub high: f64,
}

impl Ratio {
    fn of(rounds: impl Iterator<Item = f64>) -> Ratio {
        let mut rounds: Vec<f64> = rounds.collect();
        rounds.sort_by(f64::total_cmp);
        let at = |part: f64| rounds[((rounds.len() - 1) as f64 * part).round() as usize];
        Ratio { median: at(0.5), low: at(0.1), high: at(0.9) }
    }
}

/// Plays all of `subjects` in turns; `play` is told whether system calls are counted this time.
pub fn in_turns<T>(options: &Options, subjects: &[T], play: impl Fn(&T, bool) -> Vec<Tally>) -> Vec<Score> {
    let scores = several_in_turns(options, subjects, |subject, counted| [play(subject, counted)]);
    scores.into_iter().map(|[score]| score).collect()
}

/// The same for plays in which several things are measured at once.
pub fn several_in_turns<T, const N: usize>(
    options: &Options,
    subjects: &[T],
    play: impl Fn(&T, bool) -> [Vec<Tally>; N],
) -> Vec<[Score; N]> {
    let mut all: Vec<[Score; N]> = subjects.iter().map(|_| [(); N].map(|()| Score::new())).collect();
    for round in 0..options.rounds {
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            let outcomes = play(&subjects[at], false);
            all[at].iter_mut().zip(outcomes).for_each(|(score, tallies)| score.add(tallies));
        }
    }
    if counts_calls() {
        for (subject, scores) in subjects.iter().zip(&mut all) {
            let outcomes = play(subject, true);
            scores.iter_mut().zip(outcomes).for_each(|(score, tallies)| score.counted = tallies);
        }
    }
    all
}

/// What one line of the table and of the file says.
pub struct Row<'a> {
    /// Who.
    pub subject: String,
    /// How it waited.
    pub policy: &'a str,
    /// What has to be said of it: "awake".
    pub note: &'a str,
    /// Its results.
    pub score: &'a Score,
    /// What they are to those of others: "÷ bare futex".
    pub ratios: Vec<(String, Ratio)>,
    /// Figures of this bench alone, in JSON.
    pub more: Value,
}

/// Where a bench tells what it has found: on the terminal, and in `target/bench/<bench>.json`, a line for each row.
pub struct Report {
    bench: String,
    folder: PathBuf,
    lines: File,
    machine: Value,
    run: Value,
    case: Map<String, Value>,
}

impl Report {
    /// Begins one; `about` says in a sentence what an operation is.
    #[must_use]
    pub fn new(bench: &str, about: &str) -> Report {
        let (machine, run) = (machine::describe(), machine::this_run());
        let folder = folder();
        println!("{bench}: {about}\n{machine}\n{run}");
        if !counts_calls() {
            println!("system calls are not counted: that takes CAP_PERFMON and tracefs");
        }
        let lines = lines_of(bench);
        Report { bench: bench.to_owned(), folder, lines, machine, run, case: Map::new() }
    }

    /// The rows that follow are about this: `{"pinning": "two CPUs"}`.
    pub fn case(&mut self, case: Value) {
        let Value::Object(case) = case else { panic!("a case is an object") };
        let text: Vec<String> = case.iter().map(|(what, value)| format!("{what} {}", plain(value))).collect();
        println!("\n{}", text.join(", "));
        println!(
            "  {:<28} {:<7} {:>8} {:>8} {:>8} {:>8}   {:<17} {:<11} {:<11}",
            "", "policy", "p50", "p99", "p99.9", "max", "CPU/op", "sleeps/op", "calls/op"
        );
        self.case = case;
    }

    /// One row.
    pub fn row(&mut self, row: &Row) {
        let Row { subject, policy, note, score, ratios, more } = row;
        let roles = || 0..score.roles();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| score.at(quantile));
        let max = score.times.max() as f64;
        let join = |texts: Vec<String>| texts.join(" + ");
        let cpu = |role: usize| score.median(|round| round.cpu(role));
        let ratio = |(to, ratio): &(String, Ratio)| {
            let whom = more["whom"][to].as_str().map(|whom| format!(" ({whom})")).unwrap_or_default();
            format!("{:.2} ({:.2}…{:.2}) {to}{whom}", ratio.median, ratio.low, ratio.high)
        };
        println!(
            "  {:<28} {policy:<7} {:>8} {:>8} {:>8} {:>8}   {:<17} {:<11} {:<11} {}",
            named(subject, note),
            nanos(p50),
            nanos(p99),
            nanos(p999),
            nanos(max),
            join(roles().map(|role| nanos(cpu(role))).collect()),
            join(roles().map(|role| format!("{:.2}", score.slept(role))).collect()),
            join(roles().filter_map(|role| Some(format!("{:.2}", score.calls(role)?))).collect()),
            ratios.iter().map(ratio).collect::<Vec<_>>().join("  "),
        );
        let role = |role: usize| {
            let tally = &score.rounds[0].tallies[role];
            let preempted = score.per_operation(role, |tally| tally.usage.preempted);
            json!({
                "role": tally.role, "cpu_ns": cpu(role), "slept": score.slept(role), "preempted": preempted,
                "system_calls": score.calls(role),
            })
        };
        let told = |(to, ratio): &(String, Ratio)| json!({"what": to, "median": ratio.median, "p10": ratio.low, "p90": ratio.high});
        let line = json!({
            "bench": self.bench, "subject": subject, "policy": policy, "note": note, "case": self.case,
            "rounds": score.rounds.len(), "samples": score.times.len(),
            "p50_ns": p50, "p99_ns": p99, "p999_ns": p999, "max_ns": max,
            "per_operation": roles().map(role).collect::<Vec<_>>(),
            "ratios": ratios.iter().map(told).collect::<Vec<_>>(),
            "more": more, "machine": self.machine, "run": self.run,
        });
        writeln!(self.lines, "{line}").expect("a line");
    }

    /// What was not measured round by round, about the present case: a size, an order of growth.
    pub fn fact(&mut self, subject: &str, policy: &str, more: Value) {
        println!("  {subject:<28} {more}");
        let line = json!({
            "bench": self.bench, "subject": subject, "policy": policy, "case": self.case, "more": more,
            "machine": self.machine, "run": self.run,
        });
        writeln!(self.lines, "{line}").expect("a line");
    }

    /// Where a picture of this bench goes.
    #[must_use]
    pub fn picture(&self, name: &str) -> PathBuf {
        let name = if name.is_empty() { self.bench.clone() } else { format!("{}-{name}", self.bench) };
        self.folder.join(format!("{name}.svg"))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        println!("\n{}", self.folder.join(format!("{}.json", self.bench)).display());
    }
}

/// The file for the lines of a bench, empty.
pub(crate) fn lines_of(bench: &str) -> File {
    let folder = folder();
    fs::create_dir_all(&folder).expect("target/bench");
    File::create(folder.join(format!("{bench}.json"))).expect("target/bench")
}

/// A subject with what has to be said of it.
#[must_use]
pub fn named(subject: &str, note: &str) -> String {
    if note.is_empty() { subject.to_owned() } else { format!("{subject} ({note})") }
}

/// `target/bench`: a bench is in `target/release/deps`.
pub(crate) fn folder() -> PathBuf {
    let myself = std::env::current_exe().expect("/proc");
    myself.ancestors().nth(3).expect("target").join("bench")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A time as people write it.
#[must_use]
pub fn nanos(time: f64) -> String {
    let (time, unit) = match time {
        time if time < 1e3 => (time, "ns"),
        time if time < 1e6 => (time / 1e3, "µs"),
        time if time < 1e9 => (time / 1e6, "ms"),
        time => (time / 1e9, "s"),
    };
    if time < 10.0 { format!("{time:.2} {unit}") } else { format!("{time:.0} {unit}") }
}
