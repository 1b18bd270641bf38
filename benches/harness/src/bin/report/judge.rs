//! Whether the bars are met, and who is faster.

use serde_json::Value;

use waitqueue_bench::report::nanos;
use waitqueue_bench::subjects::is_ours;

use crate::Results;
use crate::chapters::{Bar, Chapter, Figure, Rule};
use crate::machine::plain;

/// What a bench is held to, and what it came to.
struct Verdict {
    worst: f64,
    place: String,
    met: usize,
    cases: usize,
}

/// All bars of all benches, those that are not met first; and in a sentence how many are.
pub(crate) fn all_bars(played: &[(&Chapter, &Results)]) -> (String, String) {
    let mut rows: Vec<(usize, String)> = Vec::new();
    for (chapter, results) in played {
        for bar in chapter.bars {
            let verdict = judge(bar, &results.lines);
            let rank = match &verdict {
                Some(verdict) if verdict.met == verdict.cases => 2,
                Some(_) => 0,
                None => 1,
            };
            rows.push((rank, format!("| {} {}", chapter.title, row(bar, verdict))));
        }
    }
    rows.sort_by_key(|(rank, _)| *rank);
    let count = |which: usize| rows.iter().filter(|(rank, _)| *rank == which).count();
    let not_measured = match count(1) {
        0 => String::new(),
        some => format!(", {some} not measured"),
    };
    let sentence = format!("{} of {} [bars](#bars) are met{not_measured}", count(2), count(0) + count(2));
    let table: String = rows.into_iter().map(|(_, row)| row).collect();
    let text = format!(
        "## Bars\n\nWhat this crate is held to. The worst is that of all cases that a bar is about.\n\n\
         | bench | bar | the worst | met |\n|---|---|---|---|\n{table}\n"
    );
    (text, sentence)
}

pub(crate) fn bars_of(chapter: &Chapter, results: &Results) -> String {
    if chapter.bars.is_empty() {
        return String::new();
    }
    let rows: String = chapter.bars.iter().map(|bar| row(bar, judge(bar, &results.lines))).collect();
    format!("| bar | the worst | met |\n|---|---|---|\n{rows}\n")
}

fn row(bar: &Bar, verdict: Option<Verdict>) -> String {
    let Some(Verdict { worst, place, met, cases }) = verdict else {
        return format!("| {} | | not measured |\n", bar.says);
    };
    let worst = written(bar.figure, worst);
    let is_met = if met == cases { "yes".to_owned() } else { format!("**no**: {met} of {cases}") };
    format!("| {} | {worst}: {place} | {is_met} |\n", bar.says)
}

/// Whether a key of JSON, or a pointer to it, is that of nanoseconds.
pub(crate) fn is_time(pointer: &str) -> bool {
    let key = pointer.rsplit('/').next().unwrap_or_default();
    key == "ns" || key.starts_with("ns_per_") || key.contains("_ns_per_") || key.ends_with("_ns")
}

/// A figure as one writes it.
pub(crate) fn written(figure: Figure, value: f64) -> String {
    match figure {
        Figure::Ratio(_) => format!("{value:.2} ×"),
        Figure::At(pointer) if is_time(pointer) => nanos(value),
        Figure::At(pointer) if pointer.ends_with("bytes") => format!("{value:.0} bytes"),
        Figure::At(_) if value.fract() == 0.0 => format!("{value:.0}"),
        Figure::At(_) => format!("{value:.3}"),
    }
}

fn judge(bar: &Bar, lines: &[Value]) -> Option<Verdict> {
    let figures: Vec<(f64, &Value)> = lines
        .iter()
        .filter(|line| is_meant(bar.rows, line))
        .filter_map(|line| Some((figure(bar.figure, line)?, line)))
        .collect();
    let (worst, line) = figures.iter().max_by(|one, other| one.0.total_cmp(&other.0))?;
    let met = figures.iter().filter(|(figure, _)| *figure <= bar.at_most).count();
    Some(Verdict { worst: *worst, place: place_of(line), met, cases: figures.len() })
}

/// Whether all rules hold for a row.
pub(crate) fn is_meant(rules: &[Rule], line: &Value) -> bool {
    let text = |pointer: &str| line.pointer(pointer).map(plain);
    rules.iter().all(|rule| match rule {
        Rule::Is(pointer, wanted) => text(pointer).is_some_and(|text| text == *wanted),
        Rule::Among(pointer, wanted) => text(pointer).is_some_and(|text| wanted.contains(&&*text)),
        Rule::Over(pointer, least) => {
            line.pointer(pointer).and_then(Value::as_f64).is_some_and(|value| value > *least)
        }
        Rule::Ours => line["subject"].as_str().is_some_and(is_ours),
    })
}

/// A figure of a row, if it has that.
pub(crate) fn figure(figure: Figure, line: &Value) -> Option<f64> {
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
    let (who, case) = (plain(&line["subject"]), case_of(line));
    if case.is_empty() { who } else { format!("{who}, {case}{}", beside_the_crates(line)) }
}

/// Some cases are measured twice: beside what the system has, and beside crates.
pub(crate) fn beside_the_crates(line: &Value) -> &'static str {
    let is_so = line["bench"].as_str().is_some_and(|bench| bench.ends_with("-crates"));
    if is_so { " (beside the crates)" } else { "" }
}

/// In words: "two CPUs, 128 queues".
pub(crate) fn case_of(line: &Value) -> String {
    let said = |(what, value): (&String, &Value)| {
        let text = plain(value);
        match (&**what, value.is_number()) {
            ("reply_us", true) => format!("a reply of {text} µs"),
            ("reply_us", false) => format!("replies {text} µs"),
            ("grows with", _) => format!("against {text}"),
            ("until", _) => format!("until {text}"),
            ("victim", _) => format!("victim: {text}"),
            ("token", _) => format!("token {text}"),
            ("what", _) if text == "bytes" => String::new(),
            (_, true) => format!("{text} {what}"),
            (_, false) => text,
        }
    };
    let case = line["case"].as_object();
    let said = case.into_iter().flatten().map(said).filter(|text| !text.is_empty());
    said.collect::<Vec<_>>().join(", ")
}

/// A list of who takes less time than waitqueue, in which cases, and why; and in a sentence how often that is so.
pub(crate) fn who_is_faster(played: &[(&Chapter, &Results)]) -> (String, String) {
    const TITLE: &str = "Where somebody else is faster";
    let (mut list, mut slower, mut compared) = (String::new(), 0, 0);
    for (chapter, results) in played {
        let peers = peers_in(chapter, &results.lines);
        compared += peers.iter().map(|peer| peer.cases).sum::<usize>();
        slower += peers.iter().map(|peer| peer.faster.len()).sum::<usize>();
        let mut faster: Vec<&Peer> = peers.iter().filter(|peer| !peer.faster.is_empty()).collect();
        if !faster.is_empty() {
            faster.sort_by_key(|peer| std::cmp::Reverse(peer.faster.len()));
            list += &format!("**[{}](#{})**\n\n", chapter.title, crate::anchor(chapter.title));
            faster.iter().for_each(|peer| list += &peer.told(chapter));
            list.push('\n');
        }
    }
    let sentence =
        format!("[somebody else is faster](#{}) in {slower} of {compared} cases", crate::anchor(TITLE));
    let text = format!(
        "## {TITLE}\n\nThan waitqueue with the same policy, in the same case, by more than 2 %: its time for each of \
         waitqueue's.\n\n{}\n",
        if list.is_empty() { "Nowhere.\n" } else { &list }
    );
    (text, sentence)
}

/// So little, of the whole, is no difference.
const ALIKE: f64 = 0.02;

/// One of the others, and where it is faster.
struct Peer {
    name: String,
    cases: usize,
    /// How much of our time it takes, and where.
    faster: Vec<(f64, String)>,
}

impl Peer {
    fn told(&self, chapter: &Chapter) -> String {
        /// More than these are not of use to a reader.
        const MOST: usize = 4;
        let why = chapter.why.iter().find(|(name, _)| self.name.contains(name));
        let why = why.map_or("not explained", |(_, why)| *why);
        let mut faster: Vec<&(f64, String)> = self.faster.iter().collect();
        faster.sort_by(|one, other| one.0.total_cmp(&other.0));
        let cases = faster.iter().take(MOST).map(|(ratio, case)| format!("{ratio:.2} × ({case})"));
        let rest = if faster.len() > MOST { " and more" } else { "" };
        let cases = cases.collect::<Vec<_>>().join(", ");
        format!("- {}, in {} of {}: {cases}{rest}. Why: {why}.\n", self.name, faster.len(), self.cases)
    }
}

/// Each of the others, in the order of appearance, compared with the best of ours that waits alike.
fn peers_in(chapter: &Chapter, lines: &[Value]) -> Vec<Peer> {
    let Some(order) = chapter.order else { return Vec::new() };
    let time = |line: &Value| line.pointer(order).and_then(Value::as_f64);
    let name = |line: &Value| plain(&line["subject"]);
    let mut peers: Vec<Peer> = Vec::new();
    for line in lines.iter().filter(|line| !is_ours(&name(line))) {
        let is_meant = |other: &&Value| {
            let same = |key: &str| other[key] == line[key];
            is_ours(&name(other)) && same("case") && same("policy") && same("bench")
        };
        let ours = lines.iter().filter(is_meant).filter_map(time).reduce(f64::min);
        let (Some(theirs), Some(ours)) = (time(line), ours) else { continue };
        let name = name(line);
        let at = peers.iter().position(|peer| peer.name == name).unwrap_or_else(|| {
            peers.push(Peer { name, cases: 0, faster: Vec::new() });
            peers.len() - 1
        });
        peers[at].cases += 1;
        if theirs < ours * (1.0 - ALIKE) {
            peers[at].faster.push((theirs / ours, case_of(line)));
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{is_time, judge};
    use crate::chapters::{Bar, Figure, Rule};

    #[test]
    fn the_worst_of_the_rows_that_are_meant_is_what_counts() {
        let row = |subject: &str, queues: u32, median: f64| {
            let ratios = json!([{"what": "÷ other", "median": median}]);
            json!({"subject": subject, "case": {"queues": queues}, "ratios": ratios})
        };
        let lines: Vec<Value> = vec![
            row("waitqueue", 2, 9.0),
            row("waitqueue", 64, 1.0),
            row("waitqueue", 128, 1.2),
            row("other", 64, 9.0),
        ];
        let rows = &[Rule::Ours, Rule::Over("/case/queues", 2.0)];
        let bar = Bar { says: "", rows, figure: Figure::Ratio("÷ other"), at_most: 1.1 };
        let verdict = judge(&bar, &lines).expect("measured");
        assert_eq!((verdict.met, verdict.cases, verdict.worst), (1, 2, 1.2));
        assert_eq!(verdict.place, "waitqueue, 128 queues");
        assert!(judge(&Bar { figure: Figure::Ratio("÷ nobody"), ..bar }, &lines).is_none());
    }

    #[test]
    fn hand_ons_are_no_time() {
        assert!(is_time("/more/ns_per_queue") && is_time("/p50_ns") && is_time("waiter_cpu_ns_per_queue"));
        assert!(!is_time("/more/hand_ons_per_token"));
    }
}
