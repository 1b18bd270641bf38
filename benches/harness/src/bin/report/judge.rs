//! Whether the bars are met, and who is faster.

use serde_json::Value;

use waitqueue_bench::report::nanos;

use crate::Results;
use crate::chapters::{Bar, Chapter, Figure, Order};
use crate::machine::plain;

/// What a bench is held to, and what it came to.
struct Verdict {
    worst: f64,
    where_: String,
    met: usize,
    cases: usize,
}

/// All bars of all benches, those that are not met first.
pub(crate) fn all_bars(played: &[(&Chapter, &Results)]) -> String {
    let mut rows: Vec<(bool, String)> = Vec::new();
    for (chapter, results) in played {
        for bar in chapter.bars {
            let verdict = judge(bar, &results.lines);
            let is_met = verdict.as_ref().is_some_and(|verdict| verdict.met == verdict.cases);
            rows.push((is_met, format!("| {} {}", chapter.title, row(bar, verdict))));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|(is_met, _)| *is_met);
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("## Bars\n\n| bench | bar | the worst | met |\n|---|---|---|---|\n{rows}\n")
}

pub(crate) fn bars_of(chapter: &Chapter, results: &Results) -> String {
    if chapter.bars.is_empty() {
        return String::new();
    }
    let rows: String = chapter.bars.iter().map(|bar| row(bar, judge(bar, &results.lines))).collect();
    format!("| bar | the worst | met |\n|---|---|---|\n{rows}\n")
}

fn row(bar: &Bar, verdict: Option<Verdict>) -> String {
    let Some(Verdict { worst, where_, met, cases }) = verdict else {
        return format!("| {} | | not measured |\n", bar.says);
    };
    let worst = match bar.figure {
        Figure::Ratio(_) => format!("{worst:.2} ×"),
        Figure::At(pointer) if pointer.ends_with("_ns") => nanos(worst),
        Figure::At(_) => format!("{worst:.3}"),
    };
    let is_met = if met == cases { "yes".to_owned() } else { format!("**no**: {met} of {cases}") };
    format!("| {} | {worst}, {where_} | {is_met} |\n", bar.says)
}

fn judge(bar: &Bar, lines: &[Value]) -> Option<Verdict> {
    let is_meant = |line: &&Value| {
        let has =
            |(pointer, text): &(&str, &str)| line.pointer(pointer).is_some_and(|value| plain(value) == *text);
        bar.rows.iter().all(has)
    };
    let figures: Vec<(f64, &Value)> =
        lines.iter().filter(is_meant).filter_map(|line| Some((figure(bar.figure, line)?, line))).collect();
    let (worst, line) = figures.iter().max_by(|one, other| one.0.total_cmp(&other.0))?;
    let met = figures.iter().filter(|(figure, _)| *figure <= bar.at_most).count();
    Some(Verdict { worst: *worst, where_: place_of(line), met, cases: figures.len() })
}

fn figure(figure: Figure, line: &Value) -> Option<f64> {
    match figure {
        Figure::At(pointer) => line.pointer(pointer)?.as_f64(),
        Figure::Ratio(what) => {
            let ratios = line["ratios"].as_array()?;
            ratios.iter().find(|ratio| ratio["what"] == what)?["median"].as_f64()
        }
    }
}

/// Who and in which case.
fn place_of(line: &Value) -> String {
    let who = [&line["subject"], &line["job"]].into_iter().find_map(Value::as_str).unwrap_or_default();
    let case = [case_of(line), plain_or_none(&line["victim"])].concat();
    if case.is_empty() { who.to_owned() } else { format!("{who} ({case})") }
}

fn plain_or_none(value: &Value) -> String {
    if value.is_null() { String::new() } else { plain(value) }
}

/// As above a table.
pub(crate) fn case_of(line: &Value) -> String {
    let Some(case) = line["case"].as_object() else { return String::new() };
    case.iter().map(|(what, value)| format!("{what} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

/// A list of all cases in which one of the others takes less time than waitqueue, and why.
pub(crate) fn who_is_faster(played: &[(&Chapter, &Results)]) -> String {
    let mut text = String::from(
        "## Where somebody else is faster\n\nThan waitqueue with the same policy, in the same case.\n\n",
    );
    let mut nobody = true;
    for (chapter, results) in played {
        let faster = faster_in(chapter, &results.lines);
        if faster.is_empty() {
            continue;
        }
        nobody = false;
        text += &format!("**{}**\n\n", chapter.title);
        for (peer, cases) in faster {
            let why = chapter.why.iter().find(|(name, _)| peer.contains(name));
            let why = why.map_or("not explained", |(_, why)| *why);
            text += &format!("- {peer}: {why}\n");
            cases.iter().for_each(|case| text += &format!("  - {case}\n"));
        }
        text.push('\n');
    }
    if nobody {
        text += "Nowhere.\n\n";
    }
    text
}

/// Each of the others, in the order of appearance, with the cases in which it is faster.
fn faster_in(chapter: &Chapter, lines: &[Value]) -> Vec<(String, Vec<String>)> {
    let time = |line: &Value| match chapter.order {
        Order::Median => line["p50_ns"].as_f64(),
        Order::Mean => line.pointer("/more/mean_ns").and_then(Value::as_f64),
        Order::None => None,
    };
    let name = |line: &Value| line["subject"].as_str().unwrap_or_default().to_owned();
    let mut faster: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines.iter().filter(|line| !name(line).starts_with("waitqueue")) {
        let is_ours = |other: &&Value| {
            let same = |key: &str| other[key] == line[key];
            name(other).starts_with("waitqueue") && same("case") && same("policy") && same("bench")
        };
        let ours = lines.iter().filter(is_ours).filter_map(time).reduce(f64::min);
        let (Some(theirs), Some(ours)) = (time(line), ours) else { continue };
        if theirs < ours {
            let case =
                format!("{}: {} and {}, {:.2} ×", case_of(line), nanos(theirs), nanos(ours), theirs / ours);
            match faster.iter_mut().find(|(peer, _)| *peer == name(line)) {
                Some((_, cases)) => cases.push(case),
                None => faster.push((name(line), vec![case])),
            }
        }
    }
    faster
}
