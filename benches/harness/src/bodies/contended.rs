//! Many who put and as many who take, over one pair of queues, or each two over a pair of their own.
//!
//! A pair is a buffer: who puts waits for room, who takes waits for items. It has room for as many items as there are
//! on each side, so both sides sleep and are woken all the time. An operation is an item put; a sample is how long
//! that took the one who put it, his wait for room included. In the end all buffers have to be empty.

use std::sync::atomic::Ordering::*;

use serde_json::json;

use super::many::{among, merged};
use crate::crowds::{Crowd, Crowds, Member};
use crate::machine::{Pinning, now};
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Performer, Role, Tally, play};

const SIDES: [usize; 4] = [2, 4, 8, 16];
/// The word of a play in which its processes count themselves at their ends.
const ENDED: usize = 0;

/// One play's kind.
struct Entrant<'a> {
    crowd: &'a dyn Crowd,
    /// How many put, and how many take.
    side: usize,
    /// One pair for all, or one for each two.
    is_shared: bool,
}

/// Measures it; all are compared with the first, and with themselves when they are fewest.
pub fn contended(bench: &str, crowds: &Crowds) {
    let options = Options::read();
    let mut report = Report::new(bench, "an item is put into a buffer by one of many, and taken by another");
    let crowds = among(&options, crowds);
    for is_shared in [true, false] {
        let of = |side| crowds.iter().map(move |crowd| Entrant { crowd: *crowd, side, is_shared });
        let entrants: Vec<Entrant> = SIDES.into_iter().flat_map(of).collect();
        let operations = options.operations(8000).next_multiple_of(16);
        let scores = in_turns(&options, &entrants, |entrant, counted| entrant.play(operations, counted));
        for (turn, side) in SIDES.into_iter().enumerate() {
            let queues = if is_shared { "one pair" } else { "a pair for each two" };
            report.case(json!({"wakers": side, "waiters": side, "queues": queues, "pinning": Pinning::TwoCpus.name()}));
            let scores_of = |turn: usize| &scores[turn * crowds.len()..][..crowds.len()];
            for (at, (crowd, score)) in crowds.iter().zip(scores_of(turn)).enumerate() {
                let mut ratios: Vec<_> = (crowds.iter().zip(scores_of(turn)))
                    .filter(|(other, _)| {
                        matches!(other.name().as_str(), "glibc shared condvar" | "POSIX semaphore")
                    })
                    .map(|(other, theirs)| {
                        (format!("÷ {}", other.name()), score.to(theirs, |round| round.mean()))
                    })
                    .collect();
                let fewest = &scores_of(0)[at];
                ratios.push((format!("÷ with {}", SIDES[0]), score.to(fewest, |round| round.mean())));
                let more = json!({"mean_ns": score.median(|round| round.mean())});
                let (subject, policy) = (crowd.name(), crowd.policy());
                report.row(&Row { subject, policy, note: "", score, ratios, more });
            }
        }
        draw(&report, &crowds, &scores, is_shared);
    }
}

impl Entrant<'_> {
    fn play(&self, operations: u32, counted: bool) -> Vec<Tally> {
        let (side, is_shared) = (self.side, self.is_shared);
        let (pairs, each_room) = if is_shared { (1, side as u32) } else { (side, 1) };
        let counts: Vec<u32> = (0..pairs).flat_map(|_| [0, each_room]).collect();
        let ground = &self.crowd.create(&counts, 2 * side);
        let each = operations / side as u32;
        let role = |at: usize| {
            let pair = if is_shared { 0 } else { at % side };
            let (items, room) = (2 * pair, 2 * pair + 1);
            // (So that each two are on two processors.)
            let seat = Pinning::TwoCpus.seat(at + at / side);
            let check = move |me: &Performer, member: &dyn Member| {
                if me.word(ENDED).fetch_add(1, AcqRel) + 1 == 2 * side as u64 {
                    let left = |line| member.left(line);
                    assert!((0..pairs).all(|pair| (left(2 * pair), left(2 * pair + 1)) == (0, each_room)));
                }
            };
            let puts = move |me: &mut Performer| {
                let mut member = ground.open();
                me.ready();
                me.begin();
                for _ in 0..each {
                    let start = now();
                    member.take(room);
                    member.put(items);
                    me.sample(now() - start);
                }
                me.end(u64::from(each));
                check(me, &*member);
            };
            let takes = move |me: &mut Performer| {
                let mut member = ground.open();
                me.ready();
                me.begin();
                for _ in 0..each {
                    member.take(items);
                    member.put(room);
                }
                me.end(u64::from(each));
                check(me, &*member);
            };
            if at < side { Role::new("who put", seat, puts) } else { Role::new("who take", seat, takes) }
        };
        merged(play(counted, each as usize, (0..2 * side).map(role).collect()))
    }
}

fn draw(report: &Report, crowds: &[&dyn Crowd], scores: &[Score], is_shared: bool) {
    let curve = |(at, crowd): (usize, &&dyn Crowd)| {
        let mean = |turn: usize| scores[turn * crowds.len() + at].median(|round| round.mean());
        let points = SIDES.iter().enumerate().map(|(turn, side)| (*side as f64, mean(turn))).collect();
        Curve { name: crowd.name(), points }
    };
    let curves: Vec<Curve> = crowds.iter().enumerate().map(curve).collect();
    let (title, picture) = match is_shared {
        true => ("Many who put and take, over one pair of queues", ""),
        false => ("Many who put and take, each two over a pair of their own", "apart"),
    };
    let x = ("processes on each side", Unit::Count);
    let caption = Caption { title, about: "time of an item; lower is better", x, y: ("an item", Unit::Time) };
    plot::curves(&report.picture(picture), &caption, &curves);
}
