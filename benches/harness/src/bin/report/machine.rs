//! What it was measured on, when, and against which versions.

use std::fs;
use std::path::Path;

use serde_json::Value;
use waitqueue_bench::machine::said_by;

use crate::Results;
use crate::chapters::Chapter;

/// Crates that benches compare with.
const CRATES: [&str; 4] = ["raw_sync", "iceoryx2", "event-listener", "parking_lot_core"];
/// Fewer rounds than these are a try, not a measurement.
const IN_EARNEST: u64 = 21;

/// In a sentence.
pub(crate) fn in_short(played: &[(&Chapter, &Results)]) -> String {
    let kinds = different(played, |line| {
        let machine = &line["machine"];
        let kind = if machine["virtual"] == true { ", a virtual machine" } else { "" };
        let of = |key: &str| plain(&machine[key]);
        format!(
            "{}, {} processors{kind}, Linux {}, glibc {}",
            of("cpu"),
            of("cpus"),
            of("kernel"),
            of("libc")
        )
    });
    kinds.join("; or on ")
}

/// A warning, if some benches were run in a hurry.
pub(crate) fn hurry(played: &[(&Chapter, &Results)]) -> String {
    let is_hurried = |line: &Value| rounds(line).is_some_and(|rounds| rounds < IN_EARNEST);
    let hurried: Vec<&str> = played
        .iter()
        .filter(|(_, results)| results.lines.iter().any(is_hurried))
        .map(|(chapter, _)| chapter.bench)
        .collect();
    if hurried.is_empty() {
        return String::new();
    }
    let names = if hurried.len() == played.len() { "all of them".into() } else { hurried.join(", ") };
    format!(
        "> **Not in earnest.** Fewer than {IN_EARNEST} rounds, which say next to nothing, have: {names}.\n\n"
    )
}

/// The versions, and the runs.
pub(crate) fn describe(repository: &Path, played: &[(&Chapter, &Results)]) -> String {
    let of_machines = |key: &str| different(played, |line| plain(&line["machine"][key])).join("; ");
    let mut text = String::from("## Versions and runs\n\n| | |\n|---|---|\n");
    let mut row = |what: &str, value: String| text += &format!("| {what} | {value} |\n");
    row("processor", in_short(played).split(", Linux").next().unwrap_or_default().to_owned());
    row("futex, eventfd, epoll, pipe, socket", format!("Linux {}", of_machines("kernel")));
    row("condition variable, mutex, semaphore", format!("glibc {}", of_machines("libc")));
    row("compiler", said_by("rustc", &["--version"]));
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap_or_default();
    for name in ["waitqueue"].iter().chain(&CRATES) {
        if let Some(version) = version_in(&lock, name) {
            row(name, version);
        }
    }
    text += "\n| bench | run | state of the source | rounds | load before |\n|---|---|---|---|---|\n";
    for (_, results) in played {
        for run in runs_of(results) {
            let rounds = run.rounds.map_or_else(|| "criterion's".into(), |rounds| rounds.to_string());
            text += &format!("| {} | {} | {} | {rounds} | {} |\n", run.bench, run.at, run.commit, run.load);
        }
    }
    text + "\n"
}

/// Where the figures of a chapter are from.
pub(crate) fn runs(results: &Results) -> String {
    let tell = |run: Run| {
        let rounds = run.rounds.map(|rounds| format!(", {rounds} rounds")).unwrap_or_default();
        format!("{}: {}{rounds}", run.bench, run.at)
    };
    format!("*{}*\n\n", runs_of(results).into_iter().map(tell).collect::<Vec<_>>().join(" · "))
}

/// One run of one bench.
struct Run {
    bench: String,
    at: String,
    commit: String,
    load: String,
    rounds: Option<u64>,
}

/// Each file of lines is from one run.
fn runs_of(results: &Results) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for line in &results.lines {
        let (bench, of) = (plain(&line["bench"]), |key: &str| plain(&line["run"][key]));
        let at = runs.iter().position(|run| run.bench == bench).unwrap_or_else(|| {
            let (at, commit, load) = (of("at"), of("commit"), of("load"));
            runs.push(Run { bench, at, commit, load, rounds: None });
            runs.len() - 1
        });
        runs[at].rounds = runs[at].rounds.max(rounds(line));
    }
    runs
}

/// How often each subject had its turn; nothing where that is not how it was measured.
fn rounds(line: &Value) -> Option<u64> {
    let is_single = line.pointer("/case/seconds").is_some();
    line["rounds"].as_u64().filter(|_| !is_single)
}

/// What is said of all lines, once each.
fn different(played: &[(&Chapter, &Results)], tell: impl Fn(&Value) -> String) -> Vec<String> {
    let lines = played.iter().flat_map(|(_, results)| &results.lines);
    let mut all: Vec<String> = lines.filter(|line| line["machine"].is_object()).map(tell).collect();
    all.sort();
    all.dedup();
    all
}

fn version_in(lock: &str, name: &str) -> Option<String> {
    let package =
        lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').to_owned())
}

/// A value as one writes it in a table.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
