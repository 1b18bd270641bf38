//! Writes `BENCHMARKS.md` and `benches/plots` from what the benches have left in `target/bench`:
//! `cargo run --release -p waitqueue-bench --bin report`
//!
//! What is said of a bench, the bars that it is held to, and why somebody else is faster, is in `chapters.rs`; whether
//! a bar is met and who is faster is computed. Nothing is run. Benches that have left nothing are named, and left out.

mod chapters;
mod judge;
mod machine;
mod tables;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use chapters::{CHAPTERS, Chapter};

#[derive(Parser)]
struct Arguments {
    /// Where the benches have left their lines and pictures; otherwise `bench`, beside the folder of this program.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where the page goes, and `benches/plots`; otherwise the repository.
    #[arg(long)]
    to: Option<PathBuf>,
}

/// What one bench has left.
struct Results {
    lines: Vec<Value>,
    pictures: Vec<PathBuf>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let myself = std::env::current_exe()?;
    let beside = || myself.ancestors().nth(2).expect("a target folder").join("bench");
    let from = arguments.from.unwrap_or_else(beside);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let to = arguments.to.unwrap_or_else(|| repository.clone());
    let results: Vec<Results> =
        CHAPTERS.iter().map(|chapter| gather(&from, chapter)).collect::<io::Result<_>>()?;
    let (played, not_played): (Vec<_>, Vec<_>) =
        CHAPTERS.iter().zip(&results).partition(|(_, results)| !results.lines.is_empty());
    if played.is_empty() {
        return Err(io::Error::other(format!("{}: no bench has left anything", from.display())));
    }
    let mut page = introduction(&played, &not_played);
    page += &played.iter().map(|(chapter, results)| chapter_of(chapter, results)).collect::<String>();
    page += HOW;
    page += &machine::describe(&repository, &played);
    fs::write(to.join("BENCHMARKS.md"), page.trim_end().to_owned() + "\n")?;
    copy(played.iter().flat_map(|(_, results)| &results.pictures), &to.join("benches/plots"))?;
    println!("{}", to.join("BENCHMARKS.md").display());
    Ok(())
}

/// The lines and pictures of a bench, and of what goes with it: `roundtrip`, `roundtrip-crates`.
fn gather(from: &Path, chapter: &Chapter) -> io::Result<Results> {
    let named = |error| io::Error::other(format!("{}: {error}", from.display()));
    let files = fs::read_dir(from).map_err(named)?;
    let mut files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| {
        let rest = stem(file).strip_prefix(chapter.bench);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    files.sort_by(|one, other| stem(one).cmp(stem(other)));
    let mut results = Results { lines: Vec::new(), pictures: Vec::new() };
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => results.pictures.push(file),
            Some("json") => {
                let text = fs::read_to_string(&file)?;
                let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
                results.lines.extend(lines.map_err(io::Error::other)?);
            }
            _ => {}
        }
    }
    Ok(results)
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// All pictures of the page, and no others.
fn copy<'a>(pictures: impl Iterator<Item = &'a PathBuf>, plots: &Path) -> io::Result<()> {
    fs::create_dir_all(plots)?;
    for old in fs::read_dir(plots)? {
        let old = old?.path();
        if old.extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(old)?;
        }
    }
    for picture in pictures {
        fs::copy(picture, plots.join(picture.file_name().expect("a file")))?;
    }
    Ok(())
}

fn introduction(played: &[(&Chapter, &Results)], not_played: &[(&Chapter, &Results)]) -> String {
    let ((bars, met), (faster, often)) = (judge::all_bars(played), judge::who_is_faster(played));
    let contents: String = played
        .iter()
        .map(|(chapter, _)| format!("- [{}](#{}): {}\n", chapter.title, anchor(chapter.title), chapter.about))
        .collect();
    let missing: Vec<&str> = not_played.iter().map(|(chapter, _)| chapter.title).collect();
    let missing = match missing.is_empty() {
        true => String::new(),
        false => format!("Not measured: {}.\n\n", missing.join(", ")),
    };
    format!(
        "# Benchmarks

What waiting and waking cost, beside what else there is for it on Linux: the kernel's own means, the C library's, and
other crates. Measured on {}. Ratios carry over to other machines better than times do.

{}## In short

{}
{met}; {often}. [How it is measured](#how-it-is-measured), [with what and when](#versions-and-runs).

{bars}{faster}## The benches

{contents}
{missing}",
        machine::in_short(played),
        machine::hurry(played),
        tables::in_short(played),
    )
}

const HOW: &str = "## How it is measured

All subjects of a bench play in turns, each time beginning with another, in processes that are forked anew for each play,
pinned, and begin together; every reply is checked. So whatever the machine does meanwhile meets all of them. A ratio is
taken within a round, and is the median over the rounds, with the tenth and the ninetieth of a hundred beside it. Times
are of all rounds together. CPU is processor time; it, sleeps and system calls are those of each role, for each of its
operations; system calls are counted in a play of their own, since counting takes time. *Pinning*: \"two CPUs\" puts the
processes on the processors in turn, \"one CPU\" puts all on the same. *Policy*: \"sleep\" never spins, \"spin\" never
sleeps, \"default\" is what one gets without asking.

`cargo bench` runs what the system has, `cargo bench -p waitqueue-peers` the crates; each takes less than a quarter of an
hour on two processors. This page is written by `cargo run --release -p waitqueue-bench --bin report` from what they leave
in `target/bench`, and is not to be edited.

";

fn chapter_of(chapter: &Chapter, results: &Results) -> String {
    /// So many pictures are shown, the others can be opened.
    const SHOWN: usize = 2;
    let show = |picture: &PathBuf| {
        let name = picture.file_name().expect("a file").to_string_lossy();
        format!("![{}](benches/plots/{name})\n\n", chapter.title)
    };
    let folded = |title: &str, text: String| match text.is_empty() {
        true => text,
        false => format!("<details><summary>{title}</summary>\n\n{text}</details>\n\n"),
    };
    let (shown, others) = results.pictures.split_at(results.pictures.len().min(SHOWN));
    let Chapter { title, about, how, command, .. } = chapter;
    [
        format!("## {title}\n\n{about}. {how}\n\n`{command}`\n\n"),
        shown.iter().map(show).collect(),
        folded("More pictures", others.iter().map(show).collect()),
        judge::bars_of(chapter, results),
        folded("All figures", tables::of(chapter, results)),
        machine::runs(results),
    ]
    .concat()
}

/// As GitHub makes them.
pub(crate) fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ' || *letter == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
