//! One wakes all: how long until the last of them runs, and until the waker can go on.
//!
//! The waker begins when all others have been seen asleep in `/proc`. They are on all processors in turn, his own
//! included. The two times are measured in plays of their own, which otherwise do the same.

use std::sync::atomic::Ordering::*;

use serde_json::json;

use super::many::{Sleepers, among, merged, order};
use crate::cast::{await_word, tell};
use crate::crowds::{Crowd, Crowds};
use crate::machine::{Pinning, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, in_turns};
use crate::stage::{Performer, Role, Tally, play};

const WAITERS: [usize; 5] = [1, 4, 16, 64, 256];

/// What a sample is, from just before the wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    LastRuns,
    WakerIsFree,
}

impl Until {
    const BOTH: [Until; 2] = [Until::LastRuns, Until::WakerIsFree];

    fn name(self) -> &'static str {
        match self {
            Until::LastRuns => "the last one runs",
            Until::WakerIsFree => "the waker is free",
        }
    }
}

/// One play's kind.
struct Entrant<'a> {
    crowd: &'a dyn Crowd,
    waiters: usize,
    until: Until,
}

/// Measures it; the first is what the others are compared with.
pub fn wake_all(bench: &str, crowds: &Crowds) {
    let options = Options::read();
    let mut report = Report::new(bench, "one process wakes all others, which sleep on the same queue");
    let crowds = among(&options, crowds);
    let name = crowds[0].name();
    for until in Until::BOTH {
        let mut curves: Vec<Curve> =
            crowds.iter().map(|crowd| Curve { name: crowd.name(), points: Vec::new() }).collect();
        for waiters in WAITERS {
            let entrants: Vec<Entrant> =
                crowds.iter().map(|crowd| Entrant { crowd: *crowd, waiters, until }).collect();
            let operations = options.operations((12_800 / waiters as u32).clamp(100, 400));
            let scores = in_turns(&options, &entrants, |entrant, counted| entrant.play(operations, counted));
            report
                .case(json!({"until": until.name(), "waiters": waiters, "pinning": Pinning::TwoCpus.name()}));
            for (at, (crowd, score)) in crowds.iter().zip(&scores).enumerate() {
                let ratios = vec![(format!("÷ {name}"), score.to(&scores[0], |round| round.p50))];
                curves[at].points.push((waiters as f64, score.at(0.5)));
                let more = json!({});
                report.row(&Row { subject: crowd.name(), policy: crowd.policy(), score, ratios, more });
            }
        }
        report.case(json!({"until": until.name(), "grows with": "waiters"}));
        for (crowd, curve) in crowds.iter().zip(&curves) {
            let from_sixteen: Vec<_> = curve.points.iter().copied().filter(|point| point.0 >= 16.0).collect();
            report.fact(&crowd.name(), crowd.policy(), json!({"order": order(&from_sixteen)}));
        }
        let title = format!("From a wake of all until {}", until.name());
        let (x, y) = (("processes asleep", Unit::Count), ("from just before the wake", Unit::Time));
        let caption = Caption { title: &title, about: "median; lower is better", x, y };
        plot::curves(&report.picture(if until == Until::LastRuns { "" } else { "waker" }), &caption, &curves);
    }
}

/// Words of a play: how often a call was heard, and when last.
const HEARD: usize = 0;
const LAST: usize = 8;
const WARM: u32 = 3;

impl Entrant<'_> {
    fn play(&self, operations: u32, counted: bool) -> Vec<Tally> {
        let (words, waiters, until) = (&Words::new(16), self.waiters, self.until);
        let ground = &self.crowd.create(&[0], waiters + 1);
        let waker = Role::new("waker", Pinning::TwoCpus.seat(0), move |me| {
            let mut member = ground.open();
            me.ready();
            let sleepers = Sleepers::of(me, 1..1 + waiters);
            for round in 1..=WARM + operations {
                await_word(&words[HEARD], waiters as u64 * u64::from(round - 1));
                sleepers.until_asleep();
                if round == WARM + 1 {
                    me.begin();
                }
                let start = now();
                member.call(0, round, waiters as u32);
                let free = now();
                await_word(&words[HEARD], waiters as u64 * u64::from(round));
                if round > WARM {
                    let end = if until == Until::LastRuns { words[LAST].load(Acquire) } else { free };
                    me.sample(end - start);
                }
            }
            me.end(u64::from(operations));
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
                    if heard == waiters as u64 * u64::from(round) {
                        tell(&words[HEARD], heard);
                    }
                }
                me.end(u64::from(WARM + operations));
            };
            Role::new("waiters", Pinning::TwoCpus.seat(nth + 1), body)
        };
        let roles = std::iter::once(waker).chain((0..waiters).map(waiter)).collect();
        merged(play(counted, operations as usize, roles))
    }
}
