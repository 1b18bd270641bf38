//! Bytes of a region changed by a hostile peer, between and inside the calls of an honest participant.
#![no_main]

#[path = "../interpreter/mod.rs"]
mod interpreter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| interpreter::run(bytes, false));
