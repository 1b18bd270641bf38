//! The column of this crate in the table of `crash_matrix`: every scenario ends well.

use std::time::Duration;

use waitqueue_peers::matrix::{Outcome, columns, play, show};

fn main() {
    let ours = &columns()[..1];
    assert_eq!(ours[0].name, "waitqueue");
    let table = play(ours, Duration::from_secs(30));
    let may_be = |outcome: &Outcome| matches!(outcome, Outcome::Ok | Outcome::Skipped);
    assert!(table.iter().flatten().all(may_be), "\n{}", show(ours, &table));
    println!("{}", show(ours, &table));
}
