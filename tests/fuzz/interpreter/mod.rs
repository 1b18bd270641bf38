//! Runs an input: the only thing that may happen is that calls return. Included by the fuzz target, where the inputs come
//! from libFuzzer, and by `tests/fuzz_corpus.rs`, where they come from the corpus.
//!
//! One participant stays attached for all inputs, and one thread runs them all; before each, the bytes of the region are
//! made what they were. Attaching, and threads, cost a hundred times as much as any other step, so one target has them and
//! the other, which gets through many more inputs, has not.
#![allow(unsafe_code, unreachable_pub, dead_code, missing_docs)]

mod input;
mod run;
mod world;

use arbitrary::{Arbitrary, Unstructured};

pub use input::Input;

/// What the bytes mean; bytes that mean nothing are no input.
pub fn decode(bytes: &[u8]) -> Option<Input> {
    Input::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

/// In the thread of the first input. `others`: with steps that attach, and that run beside others.
pub fn run(bytes: &[u8], others: bool) {
    let world = world::World::get();
    let Some(input) = decode(bytes) else { return };
    world.restore(input.past);
    run::Run::new(world, &input.steps, others).all();
    world.check_canaries();
}
