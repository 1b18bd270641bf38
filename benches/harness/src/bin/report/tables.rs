//! The lines of a bench as tables.

use serde_json::Value;

use waitqueue_bench::report::{named, nanos};

use crate::Results;
use crate::chapters::{Chapter, Figure, Short};
use crate::judge::{beside_the_crates, case_of, figure, is_meant, is_time, written};
use crate::machine::plain;

/// The first figures that somebody wants to see.
pub(crate) fn in_short(played: &[(&Chapter, &Results)]) -> String {
    let row = |chapter: &Chapter, short: &Short, line: &Value| {
        let ratio = |what: &&'static str| {
            let ratio = figure(Figure::Ratio(what), line)?;
            let who = whom(line, what);
            Some(what.replacen('÷', &written(Figure::Ratio(what), ratio), 1) + &who)
        };
        let ratios: Vec<String> = short.ratios.iter().filter_map(ratio).collect();
        let value = figure(short.figure, line).map(|value| written(short.figure, value)).unwrap_or_default();
        let link = format!("[{}](#{})", short.says, crate::anchor(chapter.title));
        format!("| {link} | {value} | {} |\n", ratios.join(", "))
    };
    let mut text = String::from("| | waitqueue | beside others |\n|---|---|---|\n");
    for (chapter, results) in played {
        for short in chapter.short {
            let line = results.lines.iter().find(|line| is_meant(short.rows, line));
            text += &line.map(|line| row(chapter, short, line)).unwrap_or_default();
        }
    }
    text
}

/// A table for each case; for what grows, one of the orders of growth; otherwise the lines as they are.
pub(crate) fn of(chapter: &Chapter, results: &Results) -> String {
    let lines = &results.lines;
    if chapter.bench == "growth" {
        return orders(lines);
    }
    let alike = |one: &Value, other: &Value| one["case"] == other["case"] && one["bench"] == other["bench"];
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for line in lines {
        match groups.iter_mut().find(|group| alike(group[0], line)) {
            Some(group) => group.push(line),
            None => groups.push(vec![line]),
        }
    }
    let mut text = String::new();
    for group in groups {
        let case = [case_of(group[0]), beside_the_crates(group[0]).to_owned()].concat();
        if !case.is_empty() {
            text += &format!("**{case}**\n\n");
        }
        let (timed, plain): (Vec<&Value>, Vec<&Value>) =
            group.iter().partition(|line| line["per_operation"].is_array());
        text += &times(&timed);
        text += &as_they_are(&plain);
    }
    text
}

fn times(lines: &[&Value]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| | policy | p50 | p99 | p99.9 | max | CPU | sleeps | system calls | ratios | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let time = |key: &str| line[key].as_f64().map(nanos).unwrap_or_default();
        let of_roles = |key: &str, tell: fn(f64) -> String| {
            let roles = line["per_operation"].as_array().into_iter().flatten();
            roles.filter_map(|role| role[key].as_f64()).map(tell).collect::<Vec<_>>().join(" + ")
        };
        let count = |count: f64| format!("{count:.2}");
        let cells = [
            named(&plain(&line["subject"]), &plain(&line["note"])),
            plain(&line["policy"]),
            time("p50_ns"),
            time("p99_ns"),
            time("p999_ns"),
            time("max_ns"),
            of_roles("cpu_ns", nanos),
            of_roles("slept", count),
            of_roles("system_calls", count),
            ratios(line),
            details(&line["more"]),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text + "\n"
}

/// " (eventfd)", where a ratio is to the fastest of some.
fn whom(line: &Value, what: &str) -> String {
    line["more"]["whom"][what].as_str().map(|who| format!(" ({who})")).unwrap_or_default()
}

fn ratios(line: &Value) -> String {
    let ratio = |ratio: &Value| {
        let part = |key: &str| ratio[key].as_f64().unwrap_or(f64::NAN);
        let (median, low, high) = (part("median"), part("p10"), part("p90"));
        let what = plain(&ratio["what"]);
        format!("{median:.2} ({low:.2} … {high:.2}) {what}{}", whom(line, &what))
    };
    line["ratios"].as_array().into_iter().flatten().map(ratio).collect::<Vec<_>>().join("<br>")
}

/// What a bench tells beside times.
fn details(more: &Value) -> String {
    let told = |(what, value): (&String, &Value)| match value {
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
        _ => Some(format!("{} {}", title(what), said(what, value))),
    };
    more.as_object().into_iter().flatten().filter_map(told).collect::<Vec<_>>().join("<br>")
}

/// A key of JSON, as one writes it.
fn title(key: &str) -> String {
    key.trim_end_matches("_ns").trim_start_matches("ns_").replace("_ns_", "_").replace('_', " ")
}

fn said(what: &str, value: &Value) -> String {
    match value.as_f64() {
        Some(time) if is_time(what) => nanos(time),
        Some(number) if number.fract() != 0.0 => format!("{number:.3}"),
        Some(number) => format!("{number:.0}"),
        _ => plain(value),
    }
}

/// Lines without rounds: each of their scalars is a column, where they have the same.
fn as_they_are(lines: &[&Value]) -> String {
    let columns = |line: &Value| -> Vec<String> { scalars(line).into_iter().map(|(key, _)| key).collect() };
    let mut text = String::new();
    for alike in lines.chunk_by(|one, other| columns(one) == columns(other)) {
        let titles: Vec<String> = columns(alike[0]).iter().map(|key| title(key)).collect();
        text += &format!("| | {} |\n|---{}|\n", titles.join(" | "), "|---".repeat(titles.len()));
        for line in alike {
            let cells: Vec<String> = scalars(line).iter().map(|(key, value)| said(key, value)).collect();
            text += &format!("| {} | {} |\n", plain(&line["subject"]), cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

/// What a line says beside what is said elsewhere.
fn scalars(line: &Value) -> Vec<(String, Value)> {
    let own = line.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object());
    let is_told = |key: &str| !matches!(key, "bench" | "subject" | "policy");
    let more = line["more"].as_object().into_iter().flatten();
    let all = own.chain(more).filter(|(key, _)| is_told(key));
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Calls against what grows: the order, and the times at both ends.
fn orders(lines: &[Value]) -> String {
    let mut axes: Vec<String> = Vec::new();
    let mut calls: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line["case"]["grows with"].is_string()) {
        for (all, one) in [(&mut axes, &line["case"]["grows with"]), (&mut calls, &line["subject"])] {
            let one = plain(one);
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    let mut text = String::from(
        "The power with which a call's time grows: 0 is flat, 1 is proportional. Beside it the times at both ends.\n\n",
    );
    text += &format!("| | {} |\n|---{}|\n", axes.join(" | "), "|---".repeat(axes.len()));
    for call in &calls {
        let cell = |axis: &String| {
            let is_meant =
                |line: &&Value, key: &str| line["case"][key] == **axis && line["subject"] == **call;
            let order = lines.iter().find(|line| is_meant(line, "grows with"));
            let times: Vec<f64> = lines
                .iter()
                .filter(|line| is_meant(line, "growing"))
                .filter_map(|line| line["more"]["ns"].as_f64())
                .collect();
            let (Some(order), [first, .., last]) = (order, &times[..]) else { return String::new() };
            let order = order["more"]["order"].as_f64().unwrap_or(f64::NAN);
            format!("**{order:.2}** {} … {}", nanos(*first), nanos(*last))
        };
        text += &format!("| {call} | {} |\n", axes.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    text + "\n"
}
