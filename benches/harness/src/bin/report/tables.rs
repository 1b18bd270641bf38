//! The lines of a bench as tables.

use serde_json::Value;

use waitqueue_bench::report::nanos;

use crate::Results;
use crate::chapters::Chapter;
use crate::judge::case_of;
use crate::machine::plain;

/// A table for each case; for what grows, one of the orders of growth; otherwise the lines as they are.
pub(crate) fn of(chapter: &Chapter, results: &Results) -> String {
    let lines = &results.lines;
    if chapter.bench == "growth" {
        return orders(lines);
    }
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        let alike = |line: &&Value| line["case"] == lines[at]["case"] && line["bench"] == lines[at]["bench"];
        let group: Vec<&Value> = lines[at..].iter().take_while(alike).collect();
        at += group.len();
        let case = case_of(group[0]);
        if !case.is_empty() {
            text += &format!("{}\n\n", case);
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
        "| | policy | p50 | p99 | p99.9 | max | CPU | sleeps | system calls | ratios | |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let time = |key: &str| line[key].as_f64().map(nanos).unwrap_or_default();
        let of_roles = |key: &str, tell: fn(f64) -> String| {
            let roles = line["per_operation"].as_array().into_iter().flatten();
            roles.filter_map(|role| role[key].as_f64()).map(tell).collect::<Vec<_>>().join(" + ")
        };
        let count = |count: f64| format!("{count:.2}");
        let cells = [
            plain(&line["subject"]),
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

fn ratios(line: &Value) -> String {
    let ratio = |ratio: &Value| {
        let part = |key: &str| ratio[key].as_f64().unwrap_or(f64::NAN);
        let (median, low, high) = (part("median"), part("p10"), part("p90"));
        format!("{median:.2} ({low:.2} … {high:.2}) {}", plain(&ratio["what"]))
    };
    line["ratios"].as_array().into_iter().flatten().map(ratio).collect::<Vec<_>>().join("<br>")
}

/// What a bench tells beside times.
fn details(more: &Value) -> String {
    let Some(more) = more.as_object() else { return String::new() };
    let told = more.iter().filter(|(_, value)| !value.is_null());
    told.map(|(what, value)| {
        format!("{} {}", what.trim_end_matches("_ns").replace('_', " "), figure(what, value))
    })
    .collect::<Vec<_>>()
    .join("<br>")
}

fn figure(what: &str, value: &Value) -> String {
    match value.as_f64() {
        Some(time) if what.ends_with("_ns") => nanos(time),
        Some(number) if number.fract() != 0.0 => format!("{number:.3}"),
        _ => plain(value),
    }
}

/// Lines without rounds: each of their scalars is a column.
fn as_they_are(lines: &[&Value]) -> String {
    let Some(first) = lines.first().and_then(|line| line.as_object()) else { return String::new() };
    let about = |value: &Value| {
        let more = value["more"].as_object().into_iter().flatten();
        let own = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object());
        let shown =
            |(key, _): &(&String, &Value)| !matches!(key.as_str(), "bench" | "load" | "subject" | "policy");
        own.chain(more).filter(shown).map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    let has_subject = first.contains_key("subject");
    if lines
        .iter()
        .any(|line| about(line).len() != about(lines[0]).len() || about(line)[0].0 != about(lines[0])[0].0)
    {
        return lines.iter().map(|line| as_they_are(&[line])).collect();
    }
    let columns: Vec<String> = about(lines[0]).into_iter().map(|(key, _)| key).collect();
    let title = |key: &String| key.trim_end_matches("_ns").replace('_', " ");
    let mut text = format!("| | {} |\n|---", columns.iter().map(title).collect::<Vec<_>>().join(" | "));
    text += &"|---".repeat(columns.len());
    text += "|\n";
    for line in lines {
        let name = if has_subject { plain(&line["subject"]) } else { String::new() };
        let cells: Vec<String> = about(line).iter().map(|(key, value)| figure(key, value)).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    text + "\n"
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
