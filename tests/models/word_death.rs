//! Kills, bells (true and false), certificates, and the death rule.

use crate::explore::{Next, Steps};
use crate::state::{Config, HELPER, Helper, Lead, NO_WALK, NONE, Pc, State, THREADS, Twist};
use crate::wake::{begin_hand_on, unlock, wake_noted, walk_step};

/// Steps of nobody: the killer and the kernel.
pub(crate) fn world_steps(cfg: &Config, s: &State, out: &mut Steps) {
    for t in 0..THREADS {
        let busy = (0..THREADS).any(|o| cfg.process(o) == t && busy(s, o)) && s.threads[t].pc != Pc::Dead;
        if s.kills > 0 && cfg.killable >> t & 1 == 1 && busy {
            let mut n = Next::new(s, t).optional();
            kill(cfg, &mut n.s, t);
            n.stay(out, "IS KILLED");
        }
        if s.death[t] == 1 {
            let mut n = Next::new(s, t);
            n.s.death[t] = 2;
            n.stay(out, "is certified dead");
            if let Helper::Wake { q, .. } = cfg.helpers[t - HELPER] {
                let mut n = Next::new(s, t).optional();
                n.s.items[q as usize] += 1;
                n.s.death[t] = 2;
                n.stay(out, "writes from the grave, is certified dead");
            }
        }
        let awake = !matches!(s.threads[t].pc, Pc::Done | Pc::Dead | Pc::Start);
        if cfg.false_bell == t as u8 && s.death[t] == 0 && awake {
            let mut n = Next::new(s, t).optional();
            n.s.death[t] = 3;
            n.stay(out, "HAS ITS BELL RUNG THOUGH IT LIVES");
        }
    }
}

/// Whether a kill would leave anything undone.
fn busy(s: &State, t: usize) -> bool {
    !matches!(s.threads[t].pc, Pc::Done | Pc::Dead | Pc::Start | Pc::Watch)
}

/// Every thread of the process stops where it is. Its locks can be taken over at once, the entries being the truth.
fn kill(cfg: &Config, s: &mut State, t: usize) {
    s.kills -= 1;
    let late = cfg.late_write && s.threads[t].pc == Pc::Push;
    s.death[t] = if late { 1 } else { 2 };
    for other in (0..THREADS).filter(|&o| cfg.process(o) == t) {
        let thread = &mut s.threads[other];
        if thread.pc == Pc::Done {
            continue;
        }
        (thread.pc, thread.i, thread.j, thread.round, thread.wake) = (Pc::Dead, 0, 0, 0, 0);
        thread.walk = NO_WALK;
        for lock in &mut s.lock {
            if *lock == other as u8 {
                *lock = NONE;
            }
        }
    }
}

pub(crate) fn bell_steps(cfg: &Config, s: &State, t: usize, out: &mut Steps) {
    let me = s.threads[t];
    let (d, j) = (me.i as usize, me.j as usize);
    let mut n = Next::new(s, t);
    match me.pc {
        Pc::Watch => {
            for d in 0..THREADS {
                if let Some(round) = due(cfg, s, d) {
                    let mut n = Next::new(s, t);
                    n.s.threads[t].round = round;
                    mark(cfg, n, d, out);
                }
            }
        }
        Pc::Hand => hand(cfg, n, d, j, out),
        Pc::HandWalk => {
            if walk_step(cfg, &mut n.s, t) {
                n.s.threads[t].pc = Pc::HandClear;
            }
            n.stay(out, "hands the dead one's claim on: looks at an entry");
        }
        Pc::HandClear => {
            let e = (d * 2 + j) as u8;
            // The owner may live and have changed its word meanwhile: compare and swap.
            if s.waits[d].word.lead == Lead::Held(e) {
                n.s.waits[d].word.lead = Lead::Open;
            }
            if unlinks(cfg, me.round) {
                n.s.unlink(cfg, e);
            }
            unlock(&mut n.s, t);
            wake_noted(cfg, &mut n.s, t, Pc::HandWake, Pc::Hand);
            n.s.threads[t].j += 1;
            n.stay(out, "clears the dead one's claim");
        }
        Pc::HandWake => {
            n.s.futex_wake(t);
            wake_noted(cfg, &mut n.s, t, Pc::HandWake, Pc::Hand);
            n.stay(out, "hands on: futex wake");
        }
        Pc::Ring => ring(cfg, n, j, out),
        Pc::RingWake => {
            n.s.futex_wake(t);
            n.go(Pc::Ring, out, "rings: futex wake");
        }
        _ => {}
    }
}

/// Which round of the death rule process `d` needs.
fn due(cfg: &Config, s: &State, d: usize) -> Option<u8> {
    let done = s.rounds[d];
    let round = if done == 0 && cfg.is(Twist::CertificateOnly) { 2 } else { done + 1 };
    let allowed = match s.death[d] {
        0 => 0,
        2 if !cfg.is(Twist::NoSecondRound) => 2,
        _ => 1,
    };
    (round <= allowed).then_some(round)
}

/// Only a certificate allows it. (Without a second round the first has to do everything.)
fn unlinks(cfg: &Config, round: u8) -> bool {
    (round == 2 || cfg.is(Twist::NoSecondRound)) && !cfg.is(Twist::NoUnlinkOfDead)
}

fn mark(cfg: &Config, mut n: Next, d: usize, out: &mut Steps) {
    let t = n.t;
    n.s.threads[t].i = d as u8;
    n.s.threads[t].j = 0;
    if cfg.is(Twist::ReportFirst) {
        n.s.rounds[d] = n.s.rounds[d].max(n.s.threads[t].round);
    }
    let only_rings = n.s.threads[t].round == 1 && cfg.is(Twist::BellOnlyRings);
    if d >= cfg.waiters.len() || only_rings || n.s.waits[d].word.lead == Lead::Idle {
        n.s.threads[t].pc = Pc::Ring;
        return n.stay(out, "hears of a death without claims");
    }
    // Without hand-on at the bell nobody alive is ever believed dead, and GONE has no use.
    n.s.waits[d].word.gone = !cfg.is(Twist::BellOnlyRings);
    n.go(Pc::Hand, out, "hears of a death: sets GONE");
}

fn hand(cfg: &Config, mut n: Next, d: usize, j: usize, out: &mut Steps) {
    let t = n.t;
    if j == cfg.waiters[d].queues.len() {
        n.s.threads[t].j = 0;
        return n.go(Pc::Ring, out, "has treated the entries");
    }
    let e = (d * 2 + j) as u8;
    n.s.threads[t].j += 1;
    // An entry that is on no queue has no lock either, and nobody to hand on to.
    if !n.s.linked(cfg, e) {
        return n.stay(out, "finds an entry unlinked");
    }
    if !n.s.free(cfg.queue(e)) {
        return;
    }
    if n.s.waits[d].word.lead == Lead::Held(e) {
        n.s.threads[t].j = j as u8;
        begin_hand_on(cfg, &mut n.s, t, e);
        return n.go(Pc::HandWalk, out, "locks to hand the dead one's claim on");
    }
    if unlinks(cfg, n.s.threads[t].round) {
        n.s.unlink(cfg, e);
    }
    n.stay(out, "treats an entry without a claim");
}

/// LOOK in every lead, and wakes it; the round counts as done only after the last one.
fn ring(cfg: &Config, mut n: Next, j: usize, out: &mut Steps) {
    let t = n.t;
    let rings = |s: &State, w: usize| {
        !matches!(s.threads[w].pc, Pc::Start | Pc::Done | Pc::Dead) && s.waits[w].word.lead != Lead::Idle
    };
    let next = (j..cfg.waiters.len()).find(|&w| rings(&n.s, w));
    let (Some(w), false) = (next, cfg.is(Twist::NoRing)) else {
        let me = &mut n.s.threads[t];
        let (d, round) = (me.i as usize, me.round);
        (me.i, me.j, me.round) = (0, 0, 0);
        n.s.rounds[d] = n.s.rounds[d].max(round);
        return n.go(Pc::Watch, out, "records the round as done");
    };
    if cfg.is(Twist::ReportBeforeRing) {
        let me = n.s.threads[t];
        n.s.rounds[me.i as usize] = n.s.rounds[me.i as usize].max(me.round);
    }
    n.s.threads[t].j = w as u8 + 1;
    let held = matches!(n.s.waits[w].word.lead, Lead::Held(_));
    if cfg.is(Twist::RingWithoutLook) {
        n.s.note(t, w);
    } else {
        n.s.look(t, w);
    }
    if held && cfg.is(Twist::RingLeavesHeldAsleep) {
        n.s.threads[t].wake = 0;
    }
    wake_noted(cfg, &mut n.s, t, Pc::RingWake, Pc::Ring);
    n.stay(out, "rings: sets LOOK");
}
