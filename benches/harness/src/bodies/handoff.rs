//! A token that goes round among processes that wait for it exclusively.
//!
//! ```text
//! dispensed   one process hands the token out, and gets it back before it does so again: whoever has waited longest has it
//! passed on   whoever has it lays it down for the others, and waits for it again: who is awake may be quicker than who
//!             was woken
//! ```
//!
//! A sample is the time from just before the token is laid down until somebody has it. How many waiters were woken for
//! each token is told by the queue itself, and by the kernel. How even it is, by the tokens of each process.

use std::cell::RefCell;
use std::sync::atomic::Ordering::*;

use serde_json::{Value, json};

use super::many::{among, merged};
use crate::crowds::{Crowd, Crowds, Member};
use crate::machine::{Pinning, Seat, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Performer, Role, Tally, play};
use crate::subjects::is_ours;

const PROCESSES: [usize; 3] = [2, 8, 32];
/// So many are looked at for a minute.
const EVEN: usize = 8;
/// So many times round it goes before anything is counted.
const WARM: u64 = 8;
/// What a process samples at most.
const SAMPLES: usize = 50_000;

/// When it ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Tokens(u64),
    /// So many seconds.
    After(u64),
}

/// Who lays it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Dispensed,
    PassedOn,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Dispensed => "dispensed",
            Mode::PassedOn => "passed on",
        }
    }
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
    for mode in [Mode::Dispensed, Mode::PassedOn] {
        for processes in PROCESSES {
            let round = Round { mode, processes, end: End::Tokens(u64::from(options.operations(3000))) };
            let (scores, extras) = round.measure(&options, &crowds);
            let case = json!({"token": mode.name(), "waiters": processes});
            tell(&mut report, case, &crowds, &scores, &extras);
            let bar = |(crowd, score): (&&dyn Crowd, &Score)| (crowd.name(), score.at(0.5), score.at(0.99));
            let bars = crowds.iter().zip(&scores).map(bar).collect();
            panels.push(Panel { title: format!("{processes} waiters, {}", mode.name()), bars });
        }
    }
    let even = Round { mode: Mode::Dispensed, processes: EVEN, end: End::After(options.seconds) };
    for crowd in crowds.iter().filter(|crowd| is_ours(&crowd.name())) {
        let (tallies, extra) = even.play(*crowd, false);
        let case = json!({"token": even.mode.name(), "waiters": EVEN, "seconds": options.seconds});
        tell(&mut report, case, &[*crowd], &[Score::of(tallies)], &[vec![extra]]);
    }
    let caption = Caption {
        title: "From the hand that lays a token down to the next",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut panels);
}

/// What is played.
#[derive(Debug, Clone, Copy)]
struct Round {
    mode: Mode,
    processes: usize,
    end: End,
}

impl Round {
    fn measure(self, options: &Options, crowds: &[&dyn Crowd]) -> (Vec<Score>, Vec<Vec<Extra>>) {
        let extras = RefCell::new(vec![Vec::new(); crowds.len()]);
        let entrants: Vec<usize> = (0..crowds.len()).collect();
        let scores = in_turns(options, &entrants, |at, counted| {
            let (tallies, extra) = self.play(crowds[*at], counted);
            if !counted {
                extras.borrow_mut()[*at].push(extra);
            }
            tallies
        });
        (scores, extras.into_inner())
    }

    fn play(self, crowd: &dyn Crowd, counted: bool) -> (Vec<Tally>, Extra) {
        let Round { mode, processes, end } = self;
        let words = &Words::new(TOKENS + 8 * processes);
        let ground = &crowd.create(&[0, 0], processes + 1);
        let player = Player { words, processes, end };
        let mut roles = Vec::new();
        if mode == Mode::Dispensed {
            let body = move |me: &mut Performer| player.dispense(me, &mut *ground.open());
            roles.push(Role::new("dispenser", Pinning::TwoCpus.seat(0), body));
        }
        for at in 0..processes {
            let body = move |me: &mut Performer| match mode {
                Mode::Dispensed => player.take_and_return(me, at, &mut *ground.open()),
                Mode::PassedOn => player.take_and_pass_on(me, at, &mut *ground.open()),
            };
            // (Who is woken does not take the processor from one who is about to line up again.)
            let seat = match mode {
                Mode::Dispensed => Seat { is_batch: true, ..Pinning::TwoCpus.seat(1) },
                Mode::PassedOn => Pinning::TwoCpus.seat(at),
            };
            roles.push(Role::new("waiters", seat, body));
        }
        let samples = match end {
            End::Tokens(tokens) => tokens as usize + processes,
            End::After(_) => SAMPLES,
        };
        let tallies = merged(play(counted, samples.min(SAMPLES), roles));
        let tokens = (0..processes).map(|at| words[TOKENS + 8 * at].load(Acquire)).collect();
        let told = words[COUNTED + 8].load(Acquire) != 0;
        let since =
            |which: usize| words[COUNTED + 4 + which].load(Acquire) - words[COUNTED + which].load(Acquire);
        (tallies, Extra { tokens, counted: told.then(|| [0, 1, 2, 3].map(since)) })
    }
}

fn tell(report: &mut Report, case: Value, crowds: &[&dyn Crowd], scores: &[Score], extras: &[Vec<Extra>]) {
    report.case(case);
    let base = crowds[0].name();
    for ((crowd, score), extras) in crowds.iter().zip(scores).zip(extras) {
        let ratios = match crowds {
            [_] => Vec::new(),
            _ => vec![
                (format!("÷ {base}"), score.to(&scores[0], |round| round.p50)),
                (format!("time of a token ÷ {base}"), score.to(&scores[0], |round| round.mean())),
            ],
        };
        let more = sum_up(score, extras);
        println!("      {more}");
        report.row(&Row { subject: crowd.name(), policy: crowd.policy(), note: "", score, ratios, more });
    }
}

/// What all rounds together say; of how even it was, the worst.
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
        "rescues_per_token": for_each(3), "sleeps_of_waiters_per_token": score.slept(score.roles() - 1),
    })
}

/// How much more than the mean anybody has, or less.
fn spread(tokens: &[u64]) -> f64 {
    let mean = tokens.iter().sum::<u64>() as f64 / tokens.len() as f64;
    tokens.iter().map(|tokens| (*tokens as f64 / mean - 1.0).abs()).fold(0.0, f64::max)
}

/// Words of a play: how often the token was taken, when it was laid down and how often, whether it is over, and when it
/// will be; what the queue had counted at the beginning and has at the end; each process's tokens.
const TAKEN: usize = 0;
const LAID: usize = 1;
const TIMES: usize = 2;
const OVER: usize = 3;
const DEADLINE: usize = 4;
const COUNTED: usize = 8;
const TOKENS: usize = 64;

/// Lines: the token, and the way back to who dispenses it.
const TOKEN: usize = 0;
const BACK: usize = 1;

/// What each process of a play knows.
#[derive(Clone, Copy)]
struct Player<'a> {
    words: &'a Words,
    processes: usize,
    end: End,
}

impl Player<'_> {
    fn dispense(&self, me: &mut Performer, member: &mut dyn Member) {
        let words = self.words;
        me.ready();
        me.begin();
        loop {
            self.lay_down(|| member.put(TOKEN));
            member.take(BACK);
            if self.is_last(words[TAKEN].load(Acquire), now(), member) {
                break;
            }
        }
        me.end(words[TAKEN].load(Acquire));
        words[OVER].store(1, Release);
        (0..self.processes).for_each(|_| member.put(TOKEN));
    }

    fn take_and_return(&self, me: &mut Performer, at: usize, member: &mut dyn Member) {
        self.take_part(me, at, |me, note| {
            member.take(TOKEN);
            let is_over = note(me, now());
            if !is_over {
                member.put(BACK);
            }
            is_over
        });
    }

    fn take_and_pass_on(&self, me: &mut Performer, at: usize, member: &mut dyn Member) {
        let (words, name, mut is_first) = (self.words, at as u32 + 1, at == 0);
        self.take_part(me, at, |me, note| {
            if !std::mem::take(&mut is_first) {
                member.receive(TOKEN, name);
                let is_over = note(me, now());
                if !is_over && self.is_last(words[TAKEN].load(Acquire), now(), member) {
                    words[OVER].store(1, Release);
                }
            }
            self.lay_down(|| member.pass(TOKEN, name));
            words[OVER].load(Acquire) != 0
        });
    }

    /// One turn after the other, until one says that it is over; each notes when it had the token.
    fn take_part(
        &self,
        me: &mut Performer,
        at: usize,
        mut turn: impl FnMut(&mut Performer, &mut dyn FnMut(&mut Performer, u64) -> bool) -> bool,
    ) {
        let (words, warm) = (self.words, self.warm());
        let (mut mine, mut sampled) = (0, 0);
        me.ready();
        me.begin();
        let mut note = |me: &mut Performer, time: u64| {
            if words[OVER].load(Acquire) != 0 {
                return true;
            }
            let taken = words[TAKEN].fetch_add(1, AcqRel);
            assert_eq!(taken + 1, words[TIMES].load(Acquire), "a token that nobody has laid down");
            if taken >= warm {
                mine += 1;
                if sampled < SAMPLES {
                    sampled += 1;
                    me.sample(time - words[LAID].load(Acquire));
                }
            }
            false
        };
        while !turn(me, &mut note) {}
        words[TOKENS + 8 * at].store(mine, Release);
        me.end(mine);
    }

    fn lay_down(&self, pass: impl FnOnce()) {
        self.words[LAID].store(now(), Release);
        self.words[TIMES].fetch_add(1, AcqRel);
        pass();
    }

    fn warm(&self) -> u64 {
        WARM * self.processes as u64
    }

    /// Asked with the token in one's hand: so many were taken until this time.
    fn is_last(&self, taken: u64, time: u64, member: &dyn Member) -> bool {
        let warm = self.warm();
        if taken == warm {
            self.note(member, 0);
            if let End::After(seconds) = self.end {
                self.words[DEADLINE].store(time + seconds * 1_000_000_000, Release);
            }
        }
        let is_last = taken > warm
            && match self.end {
                End::Tokens(tokens) => taken - warm >= tokens,
                End::After(_) => time >= self.words[DEADLINE].load(Acquire),
            };
        if is_last {
            self.note(member, 4);
        }
        is_last
    }

    /// What the queue has counted so far.
    fn note(&self, member: &dyn Member, at: usize) {
        if let Some(counts) = member.counts(TOKEN) {
            let all = [counts.wakes, counts.claims, counts.hand_ons, counts.rescues];
            for (which, count) in all.iter().enumerate() {
                self.words[COUNTED + at + which].store(*count, Release);
            }
            self.words[COUNTED + 8].store(1, Release);
        }
    }
}
