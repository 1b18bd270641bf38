//! The round trip of `benches/roundtrip.rs`, with the crates.

use waitqueue_bench::bodies;
use waitqueue_peers::subjects;

fn main() {
    bodies::round_trip("roundtrip-crates", &subjects::asleep());
}
