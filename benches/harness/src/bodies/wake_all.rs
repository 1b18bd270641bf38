//! One wakes all: how long until the last of them runs, and until the waker can go on.
//!
//! The waker begins when all others have been seen asleep in `/proc`, which is in no figure. They are on all processors
//! in turn, his own included.

use std::sync::atomic::Ordering::*;

use serde_json::json;

use super::many::{Sleepers, among, merged, order};
use crate::cast::{await_word, tell};
use crate::crowds::{Crowd, Crowds};
use crate::machine::{Pinning, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, several_in_turns};
use crate::stage::{Performer, Role, Tally, play};

const WAITERS: [usize; 5] = [1, 4, 16, 64, 256];

/// What is measured, from just before the wake.
const UNTIL: [&str; 2] = ["the last one runs", "the waker is free"];

/// Measures it; the first is what the others are compared with.
pub fn wake_all(bench: &str, crowds: &Crowds) {
    let options = Options::read();
    let mut report = Report::new(bench, "one process wakes all others, which sleep on the same queue");
    let crowds = among(&options, crowds);
    let scores = WAITERS.map(|waiters| {
        let operations = options.operations((6400 / waiters as u32).clamp(40, 200));
        several_in_turns(&options, &crowds, |crowd, counted| play_once(*crowd, waiters, operations, counted))
    });
    let base = crowds[0].name();
    for (which, until) in UNTIL.into_iter().enumerate() {
        let mut curves: Vec<Curve> =
            crowds.iter().map(|crowd| Curve { name: crowd.name(), points: Vec::new() }).collect();
        for (waiters, scores) in WAITERS.into_iter().zip(&scores) {
            report.case(json!({"until": until, "waiters": waiters, "pinning": Pinning::TwoCpus.name()}));
            for (at, crowd) in crowds.iter().enumerate() {
                let (score, first) = (&scores[at][which], &scores[0][which]);
                let ratios = vec![(format!("÷ {base}"), score.to(first, |round| round.p50))];
                curves[at].points.push((waiters as f64, score.at(0.5)));
                let (subject, policy) = (crowd.name(), crowd.policy());
                report.row(&Row { subject, policy, note: "", score, ratios, more: json!({}) });
            }
        }
        report.case(json!({"until": until, "grows with": "waiters, from 16"}));
        for (crowd, curve) in crowds.iter().zip(&curves) {
            let from_sixteen: Vec<_> = curve.points.iter().copied().filter(|point| point.0 >= 16.0).collect();
            report.fact(&crowd.name(), crowd.policy(), json!({"order": order(&from_sixteen)}));
        }
        let title = format!("From a wake of all until {until}");
        let (x, y) = (("processes asleep", Unit::Count), ("from just before the wake", Unit::Time));
        let caption = Caption { title: &title, about: "median; lower is better", x, y };
        plot::curves(&report.picture(["", "waker"][which]), &caption, &curves);
    }
}

/// Words of a play: how often a call was heard, and when last.
const HEARD: usize = 0;
const LAST: usize = 8;
const WARM: u32 = 3;

/// Plays it once, and tells it twice: with the times of either kind.
fn play_once(crowd: &dyn Crowd, waiters: usize, operations: u32, counted: bool) -> [Vec<Tally>; 2] {
    let (words, all) = (&Words::new(16), waiters as u64);
    let ground = &crowd.create(&[0], waiters + 1);
    let waker = Role::new("waker", Pinning::TwoCpus.seat(0), move |me| {
        let mut member = ground.open();
        me.ready();
        let sleepers = Sleepers::of(me, 1..1 + waiters);
        me.begin();
        for round in 1..=WARM + operations {
            me.aside(|| sleepers.until_asleep());
            let start = now();
            member.call(0, round, waiters as u32);
            let free = now();
            me.aside(|| await_word(&words[HEARD], all * u64::from(round)));
            if round > WARM {
                me.sample(words[LAST].load(Acquire) - start);
                me.sample(free - start);
            }
        }
        me.end(u64::from(WARM + operations));
    });
    let waiter = |nth: usize| {
        let body = move |me: &mut Performer| {
            let mut member = ground.open();
            me.ready();
            me.begin();
            for round in 1..=WARM + operations {
                member.hear(0, round, nth);
                words[LAST].fetch_max(now(), AcqRel);
                // The last one says so: who waits for it sleeps until then.
                let heard = words[HEARD].fetch_add(1, AcqRel) + 1;
                if heard == all * u64::from(round) {
                    tell(&words[HEARD], heard);
                }
            }
            me.end(u64::from(WARM + operations));
        };
        Role::new("waiters", Pinning::TwoCpus.seat(nth + 1), body)
    };
    let roles = std::iter::once(waker).chain((0..waiters).map(waiter)).collect();
    let tallies = merged(play(counted, 2 * operations as usize, roles));
    [0, 1].map(|which| {
        let mut tallies = tallies.clone();
        tallies[0].samples = tallies[0].samples.iter().copied().skip(which).step_by(2).collect();
        tallies
    })
}
