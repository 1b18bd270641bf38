//! The same with participants that attach to such a region and leave it, and with several threads. Slower.
#![no_main]

#[path = "../interpreter/mod.rs"]
mod interpreter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| interpreter::run(bytes, true));
