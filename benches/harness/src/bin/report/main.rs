//! Writes `BENCHMARKS.md` and `benches/plots` from what the benches have left in `target/bench`:
//! `cargo run --release -p waitqueue-bench --bin report`
//!
//! What is said of a bench, the bars that it is held to, and why somebody else is faster, is in `chapters.rs`; whether
//! a bar is met and who is faster is computed. Nothing is run.

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
    let plots = to.join("benches/plots");
    fs::create_dir_all(&plots)?;
    let results: Vec<Results> =
        CHAPTERS.iter().map(|chapter| gather(&from, chapter)).collect::<io::Result<_>>()?;
    let played: Vec<(&Chapter, &Results)> =
        CHAPTERS.iter().zip(&results).filter(|(_, results)| !results.lines.is_empty()).collect();
    let mut page = introduction(&repository, &played);
    page += &judge::all_bars(&played);
    page += &judge::who_is_faster(&played);
    for (chapter, results) in &played {
        page += &chapter_of(chapter, results);
        for picture in &results.pictures {
            let name = picture.file_name().expect("a file");
            fs::copy(picture, plots.join(name))?;
        }
    }
    fs::write(to.join("BENCHMARKS.md"), page)?;
    println!("{}", to.join("BENCHMARKS.md").display());
    Ok(())
}

/// The lines and pictures of a bench, and of what goes with it: `roundtrip`, `roundtrip-crates`.
fn gather(from: &Path, chapter: &Chapter) -> io::Result<Results> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(from)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem.strip_prefix(chapter.bench).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    });
    files.sort();
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

fn introduction(repository: &Path, played: &[(&Chapter, &Results)]) -> String {
    let lines: Vec<&Value> = played.iter().flat_map(|(_, results)| &results.lines).collect();
    let machine = machine::describe(repository, &lines);
    let contents: String = played
        .iter()
        .map(|(chapter, _)| format!("- [{}](#{}): {}\n", chapter.title, anchor(chapter.title), chapter.about))
        .collect();
    format!(
        "# Benchmarks

Written by `cargo run --release -p waitqueue-bench --bin report` from what the benches have measured; not to be edited.

{machine}
How it is measured: all subjects of a bench play in turns, each time beginning with another, in processes that are
forked anew for each play and begin together. A ratio is taken within a round, and is the median over the rounds, with
the tenth and the ninetieth of a hundred beside it. CPU, sleeps and system calls are those of each role, for each
operation; system calls are counted in a play of their own. *Pinning*: \"two CPUs\" puts the processes on the processors
in turn; \"one CPU\" puts all on the same. *Policy*: sleep never spins, spin never sleeps, default is what one gets
without asking. Absolute times depend on the machine.

{contents}
"
    )
}

fn chapter_of(chapter: &Chapter, results: &Results) -> String {
    let mut text = format!("## {}\n\n{}.\n", chapter.title, chapter.about);
    text += &format!("`cargo bench --bench {}`\n\n", chapter.bench);
    for picture in &results.pictures {
        let name = picture.file_name().expect("a file").to_string_lossy();
        text += &format!("![{}](benches/plots/{name})\n\n", chapter.title);
    }
    text += &judge::bars_of(chapter, results);
    text += &tables::of(chapter, results);
    text
}

/// As GitHub makes them.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ' || *letter == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
