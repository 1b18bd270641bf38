//! Which files are counted, how they are cut into pieces, and the plain count to compare with.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::board::{Count, Piece, ROOM};

/// The bytes of all files, in the order of their names.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    if paths.is_empty() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from);
        find(&here, &mut files)?;
    }
    for path in paths {
        match path.is_dir() {
            true => find(path, &mut files).map_err(|error| format!("{}: {error}", path.display()))?,
            false => files.push(path.clone()),
        }
    }
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into());
    files.iter().map(read).collect()
}

/// Source and Markdown files below a directory; no hidden ones, no symbolic links, nothing that was built.
fn find(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, kind, name) = (entry.path(), entry.file_type()?, entry.file_name());
        let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") || name == "target" {
            continue;
        } else if kind.is_dir() {
            find(&path, files)?;
        } else if kind.is_file() && ["rs", "md", "toml", "c", "h"].contains(&extension) {
            files.push(path);
        }
    }
    Ok(())
}

/// Lines, cut where they are longer than a slot: anywhere, since a piece says if it begins inside a word.
pub(crate) fn pieces(text: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    text.split_inclusive(|byte| *byte == b'\n').flat_map(|line| {
        line.chunks(ROOM).enumerate().map(move |(index, text)| Piece {
            text,
            begins_line: index == 0,
            inside_word: index > 0 && !line[index * ROOM - 1].is_ascii_whitespace(),
        })
    })
}

/// The same by one process, in one go.
pub(crate) fn count_plainly(text: &[u8]) -> Count {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Count { lines: text.split_inclusive(|byte| *byte == b'\n').count() as u64, words: words.count() as u64 }
}
