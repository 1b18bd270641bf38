//! The header by itself: good C and good C++, and true of the library that it describes.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{WARNINGS, here, run};

#[test]
fn the_header_is_good_c_and_good_cplusplus() {
    let header = here("include/waitqueue.h");
    for (compiler, language, standard) in
        [("cc", "c", "c11"), ("cc", "c", "c17"), ("c++", "c++", "c++11"), ("c++", "c++", "c++17")]
    {
        let standard = format!("-std={standard}");
        run(Command::new(compiler)
            .args(["-fsyntax-only", "-x", language, &standard])
            .args(WARNINGS)
            .arg(&header));
    }
}

#[test]
fn the_header_declares_what_the_library_defines() {
    let header = std::fs::read_to_string(here("include/waitqueue.h")).unwrap();
    // Declarations begin in the first column, with a type, and comments do not.
    let declared = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let is_declaration =
        |line: &&str| !["typedef", "static", "inline"].iter().any(|word| line.starts_with(word));
    let declared = declared.filter(is_declaration).filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        before.rsplit([' ', '*']).next().map(str::to_owned)
    });
    let mut defined = BTreeSet::new();
    for entry in std::fs::read_dir(here("src")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for abi in ["extern \"C\" fn wq_", "extern \"C-unwind\" fn wq_"] {
            for part in source.split(abi).skip(1) {
                defined.insert(format!("wq_{}", part.split('(').next().unwrap()));
            }
        }
    }
    assert_eq!(declared.collect::<BTreeSet<_>>(), defined);
}
