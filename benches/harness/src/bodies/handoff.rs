//! A token that is passed round: whoever has it lays it down, and goes to wait for it again; it is taken by the one
//! who has waited longest. Nobody takes back what he laid down himself.
//!
//! A sample is the time from just before the token is laid down until the next one has it. How many waiters were woken
//! for each token is told by the queue itself, and by the kernel. How even it is, by the tokens of each process.

use std::cell::RefCell;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use serde_json::{Value, json};

use super::many::{among, merged};
use crate::crowds::{Crowd, Crowds};
use crate::machine::{Pinning, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Performer, Role, Tally, play};

const PROCESSES: [usize; 3] = [2, 8, 32];
/// How long it goes round to see how even it is.
const MINUTE: Duration = Duration::from_secs(60);
/// So many times round it goes before anything is counted.
const WARM: u64 = 8;
/// What a process samples at most.
const SAMPLES: usize = 50_000;

/// When it ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Tokens(u64),
    After(Duration),
}

/// What a play tells beside its tallies.
#[derive(Debug, Clone, Default)]
struct Extra {
    tokens: Vec<u64>,
    counted: Option<[u64; 4]>,
}

/// Measures it; the first is what the others are compared with.
pub fn handoff(bench: &str, crowds: &Crowds) {
    let options = Options::read();
    let mut report = Report::new(bench, "a token is laid down, and the next of those who wait for it has it");
    let crowds = among(&options, crowds);
    let mut panels = Vec::new();
    for processes in PROCESSES {
        let end = End::Tokens(u64::from(options.operations(20_000)));
        let (scores, extras) = measure(&options, &crowds, processes, end);
        let case = json!({"processes": processes, "pinning": Pinning::TwoCpus.name()});
        tell(&mut report, case, &crowds, &scores, &extras);
        let bar = |(crowd, score): (&&dyn Crowd, &Score)| (crowd.name(), score.at(0.5), score.at(0.99));
        panels.push(Panel {
            title: format!("{processes} processes"),
            bars: crowds.iter().zip(&scores).map(bar).collect(),
        });
    }
    let long = if options.quick { MINUTE / 60 } else { MINUTE };
    let mut once = options.clone();
    once.rounds = 1;
    for processes in PROCESSES {
        let (scores, extras) = measure(&once, &crowds[..2], processes, End::After(long));
        let case =
            json!({"processes": processes, "seconds": long.as_secs(), "pinning": Pinning::TwoCpus.name()});
        tell(&mut report, case, &crowds[..2], &scores, &extras);
    }
    let caption = Caption {
        title: "From the hand that lays a token down to the next",
        about: "median, and the bar to the slowest of a hundred; further left is better",
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut panels);
}

fn measure(
    options: &Options,
    crowds: &[&dyn Crowd],
    processes: usize,
    end: End,
) -> (Vec<Score>, Vec<Vec<Extra>>) {
    let extras = RefCell::new(vec![Vec::new(); crowds.len()]);
    let entrants: Vec<usize> = (0..crowds.len()).collect();
    let scores = in_turns(options, &entrants, |at, counted| {
        let (tallies, extra) = play_once(crowds[*at], processes, end, counted);
        if !counted {
            extras.borrow_mut()[*at].push(extra);
        }
        tallies
    });
    (scores, extras.into_inner())
}

fn tell(report: &mut Report, case: Value, crowds: &[&dyn Crowd], scores: &[Score], extras: &[Vec<Extra>]) {
    report.case(case);
    let base = crowds[0].name();
    for ((crowd, score), extras) in crowds.iter().zip(scores).zip(extras) {
        let ratios = vec![
            (format!("÷ {base}"), score.to(&scores[0], |round| round.p50)),
            (format!("time of a token ÷ {base}"), score.to(&scores[0], |round| round.mean())),
        ];
        let more = sum_up(score, extras);
        report.row(&Row { subject: crowd.name(), policy: crowd.policy(), score, ratios, more: more.clone() });
        println!("      {more}");
    }
}

/// What all rounds together say: the most uneven counts.
fn sum_up(score: &Score, extras: &[Extra]) -> Value {
    let uneven = extras.iter().map(|extra| spread(&extra.tokens)).fold(0.0, f64::max);
    let tokens: u64 = extras.iter().flat_map(|extra| &extra.tokens).sum();
    let for_each = |which: usize| {
        let of = |extra: &Extra| extra.counted.map(|counted| counted[which]);
        extras.iter().map(of).sum::<Option<u64>>().map(|sum| sum as f64 / tokens as f64)
    };
    json!({
        "spread": uneven, "tokens": tokens,
        "wakes_per_token": for_each(0), "claims_per_token": for_each(1), "hand_ons_per_token": for_each(2),
        "rescues_per_token": for_each(3), "sleeps_per_token": score.slept(0), "calls_per_token": score.calls(0),
    })
}

/// How much more than the mean anybody has, or less.
fn spread(tokens: &[u64]) -> f64 {
    let mean = tokens.iter().sum::<u64>() as f64 / tokens.len() as f64;
    tokens.iter().map(|tokens| (*tokens as f64 / mean - 1.0).abs()).fold(0.0, f64::max)
}

/// Words of a play: how often the token was taken, when it was laid down, whether it is over; what the queue had
/// counted at the beginning and has at the end, and each process's tokens.
const TAKEN: usize = 0;
const LAID: usize = 1;
const OVER: usize = 2;
const DEADLINE: usize = 3;
const COUNTED: usize = 8;
const TOKENS: usize = 64;

/// A process of the round.
struct Player<'a> {
    words: &'a Words,
    processes: usize,
    end: End,
}

fn play_once(crowd: &dyn Crowd, processes: usize, end: End, counted: bool) -> (Vec<Tally>, Extra) {
    let words = &Words::new(TOKENS + 8 * processes);
    let ground = &crowd.create(&[0], processes);
    let role = |at: usize| {
        let player = Player { words, processes, end };
        let body = move |me: &mut Performer| player.take_part(me, at, &mut *ground.open());
        Role::new("processes", Pinning::TwoCpus.seat(at), body)
    };
    let samples = match end {
        End::Tokens(tokens) => tokens as usize + processes,
        End::After(_) => SAMPLES,
    };
    let tallies = merged(play(counted, samples.min(SAMPLES), (0..processes).map(role).collect()));
    let tokens = (0..processes).map(|at| words[TOKENS + 8 * at].load(Acquire)).collect();
    let told = words[COUNTED + 8].load(Acquire) != 0;
    let since =
        |which: usize| words[COUNTED + 4 + which].load(Acquire) - words[COUNTED + which].load(Acquire);
    let extra = Extra { tokens, counted: told.then(|| [0, 1, 2, 3].map(since)) };
    (tallies, extra)
}

impl Player<'_> {
    fn take_part(&self, me: &mut Performer, at: usize, member: &mut dyn crate::crowds::Member) {
        let (words, name, warm) = (self.words, at as u32 + 1, WARM * self.processes as u64);
        me.ready();
        me.begin();
        if at == 0 {
            member.pass(0, name);
        }
        let (mut mine, mut sampled) = (0, 0);
        loop {
            member.receive(0, name);
            let time = now();
            if words[OVER].load(Acquire) != 0 {
                member.pass(0, name);
                break;
            }
            let taken = words[TAKEN].fetch_add(1, AcqRel) + 1;
            if taken == warm {
                self.note(member, 0);
                if let End::After(span) = self.end {
                    words[DEADLINE].store(now() + span.as_nanos() as u64, Release);
                }
            } else if taken > warm {
                mine += 1;
                if sampled < SAMPLES {
                    sampled += 1;
                    me.sample(time - words[LAID].load(Acquire));
                }
                if self.is_over(taken - warm, time) {
                    self.note(member, 4);
                    words[OVER].store(1, Release);
                    member.pass(0, name);
                    break;
                }
            }
            words[LAID].store(now(), Release);
            member.pass(0, name);
        }
        words[TOKENS + 8 * at].store(mine, Release);
        me.end(mine);
    }

    fn is_over(&self, taken: u64, time: u64) -> bool {
        match self.end {
            End::Tokens(tokens) => taken >= tokens,
            End::After(_) => time >= self.words[DEADLINE].load(Acquire),
        }
    }

    /// What the queue has counted so far.
    fn note(&self, member: &dyn crate::crowds::Member, at: usize) {
        if let Some(counts) = member.counts(0) {
            let all = [counts.wakes, counts.claims, counts.hand_ons, counts.rescues];
            all.iter()
                .enumerate()
                .for_each(|(which, count)| self.words[COUNTED + at + which].store(*count, Release));
            self.words[COUNTED + 8].store(1, Release);
        }
    }
}
