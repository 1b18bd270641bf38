//! The corpus of the fuzz targets, without libFuzzer: every input that it found worth keeping, and every one that once
//! did harm, is run again. `WAITQUEUE_FUZZ_INPUT=file` runs that one alone and says what is in it.

#[path = "fuzz/interpreter/mod.rs"]
mod interpreter;

use std::path::Path;

#[test]
fn p7_every_input_of_the_corpus_is_survived() {
    if let Ok(file) = std::env::var("WAITQUEUE_FUZZ_INPUT") {
        let bytes = std::fs::read(file).unwrap();
        println!("{:#?}", interpreter::decode(&bytes));
        return interpreter::run(&bytes, true);
    }
    for (target, others) in [("region", false), ("attach", true)] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 100, "there are only {} inputs for {target}", files.len());
        for file in &files {
            println!("{}", file.display());
            interpreter::run(&std::fs::read(file).unwrap(), others);
        }
    }
}
