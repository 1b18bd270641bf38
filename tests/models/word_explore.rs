//! Breadth-first search over all states; what must hold in them; traces.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::death::{bell_steps, world_steps};
use crate::state::{
    ALL, BELL, Bad, Cond, Config, HELPER, Helper, Lead, Outcome, Pc, State, THREADS, Twist, first_pc,
};
use crate::wait::{any_holds, waiter_steps};
use crate::wake::helper_steps;

/// A step that could happen: who, what, and the state after it. Optional ones (kills, timeouts) need never happen.
pub(crate) struct Next {
    pub(crate) s: State,
    pub(crate) t: usize,
    what: &'static str,
    optional: bool,
}

pub(crate) type Steps = Vec<Next>;

impl Next {
    pub(crate) fn new(s: &State, t: usize) -> Next {
        Next { s: *s, t, what: "", optional: false }
    }
    pub(crate) fn optional(mut self) -> Next {
        self.optional = true;
        self
    }
    pub(crate) fn stay(mut self, out: &mut Steps, what: &'static str) {
        self.what = what;
        out.push(self);
    }
    pub(crate) fn go(mut self, pc: Pc, out: &mut Steps, what: &'static str) {
        self.s.threads[self.t].pc = pc;
        self.stay(out, what);
    }
    pub(crate) fn to(mut self, pc: Pc, i: usize, out: &mut Steps, what: &'static str) {
        self.s.threads[self.t].i = i as u8;
        self.go(pc, out, what);
    }
}

fn steps(cfg: &Config, s: &State, out: &mut Steps) {
    out.clear();
    for w in 0..cfg.waiters.len() {
        if !must_queue(cfg, s, w) {
            waiter_steps(cfg, s, w, out);
        }
    }
    for h in 0..cfg.helpers.len() {
        if !must_queue(cfg, s, HELPER + h) {
            helper_steps(cfg, s, HELPER + h, out);
        }
    }
    for b in 0..cfg.bells.len() {
        bell_steps(cfg, s, BELL + b, out);
    }
    world_steps(cfg, s, out);
    for n in out {
        settle(cfg, &mut n.s);
    }
}

/// Steps that nobody can see or prevent are taken at once: a futex wait on a changed word returns, a commit against a
/// sticky bit fails. (Others may add to the word meanwhile, which changes neither.)
fn settle(cfg: &Config, s: &mut State) {
    for w in 0..cfg.waiters.len() {
        let word = s.waits[w].word;
        let sticky = word.look || word.gone;
        let again = match s.threads[w].pc {
            Pc::FutexWait => word.lead != Lead::Asleep || sticky,
            Pc::Commit => sticky && !cfg.is(Twist::CommitByStore),
            _ => false,
        };
        if again {
            s.threads[w].pc = Pc::Clear;
        }
    }
}

/// Of threads that do the same, the first is the first to begin: any other order is this one under other names.
fn must_queue(cfg: &Config, s: &State, t: usize) -> bool {
    let marked = |t: usize| {
        let aim = |h: &Helper| matches!(h, Helper::Interrupt(w) if *w as usize == t);
        cfg.false_bell as usize == t || cfg.bells.contains(&(t as u8)) || cfg.helpers.iter().any(aim)
    };
    let same = match t {
        0 | HELPER => false,
        1..HELPER => cfg.waiters[t - 1] == cfg.waiters[t],
        _ => cfg.helpers[t - 1 - HELPER] == cfg.helpers[t - HELPER],
    };
    let alike = same && !marked(t) && !marked(t - 1) && cfg.killable >> t & 1 == cfg.killable >> (t - 1) & 1;
    alike && [t - 1, t].iter().all(|&t| s.threads[t].pc == first_pc(cfg, t))
}

/// What is wrong with a state in which nothing more has to happen.
fn judge(cfg: &Config, s: &State) -> Bad {
    for t in 0..THREADS {
        let pc = s.threads[t].pc;
        if !matches!(pc, Pc::Done | Pc::Dead | Pc::Sleeping | Pc::Watch) {
            return Bad::StuckAwake;
        }
        let rounds = if cfg.is(Twist::NoSecondRound) { 1 } else { 2 };
        if s.death[t] == 2 && s.rounds[t] < rounds {
            return Bad::NotRecovered;
        }
    }
    // The living first: what they suffer is the better trace.
    let mut order: Vec<usize> = (0..cfg.waiters.len()).collect();
    order.sort_by_key(|&w| s.threads[w].pc == Pc::Dead);
    order.into_iter().map(|w| judge_waiter(cfg, s, w)).find(|&b| b != Bad::Fine).unwrap_or(Bad::Fine)
}

fn judge_waiter(cfg: &Config, s: &State, w: usize) -> Bad {
    let waiter = &cfg.waiters[w];
    let lead = s.waits[w].word.lead;
    let mut own = (0..waiter.queues.len()).map(|i| (w * 2 + i) as u8);
    match s.threads[w].pc {
        Pc::Dead => {
            if own.any(|e| s.linked(cfg, e)) {
                return Bad::DeadStillLinked;
            }
            // A claim that answered its own queue was consumed; one of a closed queue is owed to nobody.
            let Lead::Held(e) = lead else { return Bad::Fine };
            let q = cfg.queue(e);
            let over =
                waiter.cond == Cond::Absent || s.waits[w].outcome == Outcome::Got(q as u8) || s.closed[q];
            if over { Bad::Fine } else { Bad::ClaimHeldByTheDead }
        }
        Pc::Sleeping => {
            if any_holds(cfg, s, w) {
                return Bad::SleepsOnTrueCondition;
            }
            if waiter.queues.iter().any(|&q| s.closed[q as usize]) {
                return Bad::SleepsOnClosedQueue;
            }
            if matches!(lead, Lead::Held(_)) {
                return Bad::SleepsThoughClaimed;
            }
            if s.waits[w].interrupted {
                return Bad::SleepsThoughInterrupted;
            }
            if waiter.cond == Cond::Absent && !waiter.exclusive && own.any(|e| s.entries[e as usize].fired) {
                return Bad::SleepsThoughFired;
            }
            if waiter.cond == Cond::Absent && cfg.gated && (0..cfg.helpers.len()).any(|h| owed(cfg, s, w, h))
            {
                return Bad::SleepsThoughOwedAWake;
            }
            Bad::Fine
        }
        _ => Bad::Fine,
    }
}

/// Was wake `h` owed to sleeper `w`? It was there all along, so such a wake had somebody to choose, each time.
fn owed(cfg: &Config, s: &State, w: usize, h: usize) -> bool {
    let Helper::Wake { q, n, key, .. } = cfg.helpers[h] else { return false };
    let waiter = &cfg.waiters[w];
    let meant = waiter.queues.contains(&q) && waiter.key & key != 0 && s.walked >> h & 1 == 1;
    meant && (!waiter.exclusive || n == ALL || s.answered[h] < n)
}

/// Hashes by folded multiplication. The 64-bit result stands for the state: with a few million states the odds that
/// any two of them collide are below one in a million.
#[derive(Default)]
struct Fold {
    hash: u64,
    pending: u64,
    bits: u32,
}

impl Fold {
    fn mix(&mut self) {
        let wide = u128::from(self.hash ^ self.pending ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.hash = (wide as u64) ^ ((wide >> 64) as u64) ^ self.hash.rotate_left(23);
        (self.pending, self.bits) = (0, 0);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u8(b);
        }
    }
    fn write_u8(&mut self, b: u8) {
        self.pending |= u64::from(b) << self.bits;
        self.bits += 8;
        if self.bits == 64 {
            self.mix();
        }
    }
    fn write_isize(&mut self, discriminant: isize) {
        self.write_u8(discriminant as u8);
    }
    fn write_usize(&mut self, _length: usize) {}
    fn finish(&self) -> u64 {
        let mut last = Fold { ..*self };
        last.mix();
        last.mix();
        last.hash
    }
}

#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are stored");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(s: &State) -> u64 {
    let mut fold = Fold::default();
    s.hash(&mut fold);
    fold.finish()
}

pub(crate) struct Report {
    pub(crate) bad: Bad,
    pub(crate) trace: String,
}

const MOST_STATES: usize = 60_000_000;

/// Visits every state, breadth first, so that the first violation has a shortest trace; ends there. A twin
/// may look for one kind of violation and pass over others.
pub(crate) fn explore(cfg: &Config, wanted: Option<Bad>) -> Report {
    let start = State::new(cfg);
    let mut seen: HashSet<u64, BuildHasherDefault<Already>> = HashSet::default();
    let mut parents: Vec<(u32, u8)> = vec![(0, 0)];
    let mut queue = VecDeque::from([(0u32, start)]);
    seen.insert(hash(&start));
    let (mut out, mut finals) = (Vec::new(), 0);
    let mut report = Report { bad: Bad::Fine, trace: String::new() };
    while let Some((id, s)) = queue.pop_front() {
        steps(cfg, &s, &mut out);
        let last = out.iter().all(|n| n.optional);
        finals += usize::from(last);
        let bad = if s.bad == Bad::Fine && last { judge(cfg, &s) } else { s.bad };
        if bad != Bad::Fine && wanted.is_none_or(|b| b == bad) {
            report = Report { bad, trace: trace(cfg, &parents, id) };
            break;
        }
        for (k, n) in out.iter().enumerate() {
            if seen.insert(hash(&n.s)) {
                parents.push((id, k as u8));
                queue.push_back(((parents.len() - 1) as u32, n.s));
            }
        }
        assert!(seen.len() < MOST_STATES, "{}: too many states", cfg.name);
    }
    let violations =
        if report.bad == Bad::Fine { "0 violations".into() } else { format!("VIOLATION {:?}", report.bad) };
    println!(
        "{:<50} {:<26} {:>8} states {finals:>5} finals {violations}",
        cfg.name,
        format!("{:?}", cfg.twist),
        seen.len()
    );
    report
}

fn trace(cfg: &Config, parents: &[(u32, u8)], id: u32) -> String {
    let mut path = Vec::new();
    let mut at = id as usize;
    while at != 0 {
        path.push(parents[at].1 as usize);
        at = parents[at].0 as usize;
    }
    let mut s = State::new(cfg);
    let (mut out, mut text) = (Vec::new(), String::new());
    for k in path.into_iter().rev() {
        steps(cfg, &s, &mut out);
        let n = &out[k];
        let who = match n.t {
            0..HELPER => format!("W{}", n.t + 1),
            HELPER..BELL => format!("H{}", n.t - HELPER + 1),
            _ => format!("bell{}", n.t - BELL + 1),
        };
        let words: Vec<String> = (0..cfg.waiters.len()).map(|w| word_text(&n.s, w)).collect();
        text += &format!("  {who:<6}{:<48} | {} | items {:?}\n", n.what, words.join(", "), n.s.items);
        s = n.s;
    }
    text
}

fn word_text(s: &State, w: usize) -> String {
    let word = s.waits[w].word;
    let mut text = match word.lead {
        Lead::Held(e) => format!("HELD(e{})", e % 2),
        other => format!("{other:?}").to_uppercase(),
    };
    for (set, name) in [(word.look, "+look"), (word.gone, "+gone"), (s.threads[w].pc == Pc::Sleeping, " zz")]
    {
        if set {
            text += name;
        }
    }
    if s.waits[w].outcome != Outcome::Pending {
        text += &format!(" {:?}", s.waits[w].outcome);
    }
    text
}
