//! The waiter: enrol, evaluate, commit, sleep, leave.

use crate::explore::{Next, Steps};
use crate::state::{Bad, Cond, Config, Helper, Lead, NO_WALK, NONE, Outcome, Pc, State, Twist};
use crate::wake::{begin_hand_on, unlock, wake_noted, walk_step};

fn holds(cfg: &Config, s: &State, w: usize, i: usize) -> bool {
    let q = cfg.waiters[w].queues[i] as usize;
    matches!(cfg.waiters[w].cond, Cond::Take | Cond::Flag) && s.items[q] > 0
}

pub(crate) fn any_holds(cfg: &Config, s: &State, w: usize) -> bool {
    (0..cfg.waiters[w].queues.len()).any(|i| holds(cfg, s, w, i))
}

/// True conditions have their side effect at once.
fn evaluate(cfg: &Config, s: &mut State, w: usize, i: usize) -> bool {
    let q = cfg.waiters[w].queues[i];
    if !holds(cfg, s, w, i) {
        return false;
    }
    if cfg.waiters[w].cond == Cond::Take {
        s.items[q as usize] -= 1;
    }
    let e = (w * 2 + i) as u8;
    if s.waits[w].word.lead == Lead::Held(e) {
        s.answer(cfg, e);
    }
    s.waits[w].outcome = Outcome::Got(q);
    true
}

/// Why to leave although the condition is false: condition beats closed beats timeout beats interrupt.
fn reason(cfg: &Config, s: &State, w: usize) -> Option<Outcome> {
    let thrown_out = |i: usize| {
        let q = cfg.waiters[w].queues[i] as usize;
        s.closed[q] || (!s.linked(cfg, (w * 2 + i) as u8) && !cfg.is(Twist::UnlinkBeforeLastEvaluation))
    };
    if (0..cfg.waiters[w].queues.len()).any(thrown_out) {
        return Some(Outcome::Closed);
    }
    if s.waits[w].late {
        return Some(Outcome::TimedOut);
    }
    s.waits[w].interrupted.then_some(Outcome::Interrupted)
}

pub(crate) fn waiter_steps(cfg: &Config, s: &State, w: usize, out: &mut Steps) {
    let waiter = &cfg.waiters[w];
    let plain = waiter.cond == Cond::Absent;
    let i = s.threads[w].i as usize;
    let mut n = Next::new(s, w);
    let word = s.waits[w].word;
    match s.threads[w].pc {
        Pc::Start => {
            if (0..waiter.queues.len()).any(|i| evaluate(cfg, &mut n.s, w, i)) {
                return n.go(Pc::Done, out, "evaluates before enrolling: true");
            }
            n.go(Pc::Enrol, out, "evaluates before enrolling: false");
        }
        Pc::Enrol => enrol(cfg, n, i, plain, out),
        Pc::Clear => {
            let wait = &mut n.s.waits[w];
            wait.saw_gone |= word.gone;
            (wait.word.gone, wait.unseen) = (false, false);
            wait.word.look &= cfg.is(Twist::LookClearedAfterEvaluation);
            if plain {
                return check_plain(cfg, n, out);
            }
            let dropped = cfg.is(Twist::ClaimDroppedOnWaking);
            if !matches!(word.lead, Lead::Held(_)) || dropped {
                wait.word.lead = Lead::Open;
            }
            n.to(Pc::Eval, 0, out, "clears LOOK, is OPEN or HELD, fence");
        }
        Pc::Eval => {
            if waiter.cancels {
                let mut n = Next::new(s, w);
                n.s.waits[w].outcome = Outcome::Cancelled;
                n.optional().to(Pc::Leave, 0, out, "is cancelled in its evaluation");
            }
            if evaluate(cfg, &mut n.s, w, i) {
                return n.to(Pc::Leave, 0, out, "evaluates: true");
            }
            if i + 1 < waiter.queues.len() {
                return n.to(Pc::Eval, i + 1, out, "evaluates: false");
            }
            n.s.waits[w].word.look &= !cfg.is(Twist::LookClearedAfterEvaluation);
            let Some(reason) = reason(cfg, s, w) else {
                return n.to(Pc::Commit, 0, out, "evaluates: false; no reason to leave");
            };
            n.s.waits[w].interrupted &= reason != Outcome::Interrupted;
            n.s.waits[w].outcome = reason;
            n.to(Pc::Leave, 0, out, "evaluates: false; gives up");
        }
        Pc::Commit => {
            if (word.look || word.gone) && !cfg.is(Twist::CommitByStore) {
                return n.go(Pc::Clear, out, "cannot commit: sticky bit");
            }
            if let Lead::Held(e) = word.lead {
                n.s.answer(cfg, e);
            }
            let word = &mut n.s.waits[w].word;
            (word.lead, word.look, word.gone) = (Lead::Asleep, false, false);
            n.go(Pc::FutexWait, out, "commits: ASLEEP");
        }
        Pc::FutexWait => {
            if word.lead == Lead::Asleep && !word.look && !word.gone {
                return n.go(Pc::Sleeping, out, "sleeps in the kernel");
            }
            n.go(Pc::Clear, out, "finds its word changed");
        }
        Pc::Sleeping if waiter.timed => {
            n.s.waits[w].late = true;
            n.s.waits[w].unseen = any_holds(cfg, s, w);
            let mut n = n.optional();
            if cfg.is(Twist::NoLastEvaluation) && !plain {
                if word.lead == Lead::Asleep {
                    n.s.waits[w].word.lead = Lead::Open;
                }
                n.s.waits[w].outcome = Outcome::TimedOut;
                return n.to(Pc::Leave, 0, out, "times out and leaves");
            }
            let first = cfg.is(Twist::UnlinkBeforeLastEvaluation) && !plain;
            n.to(if first { Pc::LateUnlink } else { Pc::Clear }, 0, out, "times out");
        }
        Pc::LateUnlink => {
            if i == waiter.queues.len() {
                return n.to(Pc::Clear, 0, out, "is unlinked everywhere");
            }
            if s.free(cfg.queue((w * 2 + i) as u8)) {
                n.s.unlink(cfg, (w * 2 + i) as u8);
                n.to(Pc::LateUnlink, i + 1, out, "unlinks before its last evaluation");
            }
        }
        Pc::Leave => leave(cfg, n, i, out),
        Pc::LeaveWalk => {
            if walk_step(cfg, &mut n.s, w) {
                n.s.threads[w].pc = Pc::LeaveClear;
            }
            n.stay(out, "hands on: looks at an entry");
        }
        Pc::LeaveClear => {
            if let Lead::Held(_) = word.lead {
                n.s.waits[w].word.lead = Lead::Open;
            }
            if !stays(s, w) {
                n.s.unlink(cfg, (w * 2 + i) as u8);
            }
            unlock(&mut n.s, w);
            wake_noted(cfg, &mut n.s, w, Pc::LeaveWake, Pc::Leave);
            left(cfg, n, i, out, "hands on: clears its own claim");
        }
        Pc::LeaveWake => {
            n.s.futex_wake(w);
            wake_noted(cfg, &mut n.s, w, Pc::LeaveWake, Pc::Leave);
            left(cfg, n, i, out, "hands on: futex wake");
        }
        Pc::Between => {
            n.s.waits[w].outcome = Outcome::Cancelled;
            n.s.waits[w].waits = 0;
            n.to(Pc::Leave, 0, out, "drops its set");
            let mut again = Next::new(s, w);
            again.s.waits[w].outcome = Outcome::Pending;
            again.go(Pc::Clear, out, "waits again with its set");
        }
        _ => {}
    }
}

fn enrol(cfg: &Config, mut n: Next, i: usize, plain: bool, out: &mut Steps) {
    let w = n.t;
    let e = (w * 2 + i) as u8;
    let q = cfg.queue(e);
    if !n.s.free(q) {
        return;
    }
    if n.s.closed[q] {
        n.s.waits[w].outcome = Outcome::Closed;
        return n.to(Pc::Leave, 0, out, "cannot enrol: closed");
    }
    if i == 0 {
        let word = &mut n.s.waits[w].word;
        (word.lead, word.look, word.gone) = (if plain { Lead::Asleep } else { Lead::Open }, false, false);
    }
    n.s.link(cfg, e);
    match (i + 1 < cfg.waiters[w].queues.len(), plain) {
        (true, _) => n.to(Pc::Enrol, i + 1, out, "enrols"),
        (false, true) => n.to(Pc::FutexWait, 0, out, "enrols: ASLEEP"),
        (false, false) => n.to(Pc::Clear, 0, out, "enrols: OPEN"),
    }
}

/// A wait without a condition looks at its word, then for a reason to leave. LOOK alone is none.
fn check_plain(cfg: &Config, mut n: Next, out: &mut Steps) {
    let w = n.t;
    let held = matches!(n.s.waits[w].word.lead, Lead::Held(_));
    let fired = !cfg.waiters[w].exclusive && fired(cfg, &n.s, w);
    let gone = n.s.waits[w].saw_gone && !cfg.is(Twist::GoneIgnoredByWait);
    let reason = if held || fired || gone { Some(Outcome::Got(0)) } else { reason(cfg, &n.s, w) };
    let Some(reason) = reason else { return n.go(Pc::FutexWait, out, "clears LOOK, sleeps on") };
    n.s.waits[w].interrupted &= reason != Outcome::Interrupted;
    n.s.waits[w].outcome = reason;
    n.to(Pc::Leave, 0, out, "clears LOOK, has a reason to leave");
}

fn fired(cfg: &Config, s: &State, w: usize) -> bool {
    (0..cfg.waiters[w].queues.len()).any(|i| s.entries[w * 2 + i].fired)
}

/// A set stays enrolled while it has further waits.
fn stays(s: &State, w: usize) -> bool {
    s.waits[w].waits > 0 && !matches!(s.waits[w].outcome, Outcome::Closed | Outcome::Cancelled)
}

fn leave(cfg: &Config, mut n: Next, i: usize, out: &mut Steps) {
    let w = n.t;
    let e = (w * 2 + i) as u8;
    let (q, plain) = (cfg.queue(e), cfg.waiters[w].cond == Cond::Absent);
    let held = n.s.waits[w].word.lead == Lead::Held(e);
    let foreign = held && !plain && n.s.waits[w].outcome != Outcome::Got(q as u8);
    let kept = cfg.is(Twist::SiblingClaimKept) && matches!(n.s.waits[w].outcome, Outcome::Got(_))
        || cfg.is(Twist::TimeoutKeepsClaim) && n.s.waits[w].outcome == Outcome::TimedOut;
    // The lock is not needed for an entry that close has unlinked, unless its claim has to go.
    if (n.s.linked(cfg, e) || foreign) && !n.s.free(q) {
        return;
    }
    if foreign && !kept {
        begin_hand_on(cfg, &mut n.s, w, e);
        if cfg.is(Twist::UnlinkBeforeHandOn) {
            n.s.unlink(cfg, e);
        }
        return n.go(Pc::LeaveWalk, out, "leaves: locks to hand its claim on");
    }
    if !stays(&n.s, w) {
        if plain && held {
            n.s.answer(cfg, e);
            let Helper::Wake { key, .. } = cfg.helpers[n.s.entries[e as usize].origin as usize] else {
                return;
            };
            if key & cfg.waiters[w].key == 0 {
                n.s.bad = Bad::WakeWithWrongKey;
            }
        }
        n.s.unlink(cfg, e);
    }
    n.s.threads[w].pc = Pc::Leave;
    left(cfg, n, i, out, "leaves: unlinks");
}

/// Entry `i` is dealt with: on to the next one, or out.
fn left(cfg: &Config, mut n: Next, i: usize, out: &mut Steps, what: &'static str) {
    let w = n.t;
    if n.s.threads[w].pc != Pc::Leave {
        return n.stay(out, what);
    }
    if i + 1 < cfg.waiters[w].queues.len() {
        return n.to(Pc::Leave, i + 1, out, what);
    }
    if n.s.waits[w].outcome == Outcome::TimedOut && n.s.waits[w].unseen {
        n.s.bad = Bad::TimedOutWithoutLooking;
    }
    let wait = &mut n.s.waits[w];
    (wait.late, wait.saw_gone, wait.unseen) = (false, false, false);
    if wait.waits > 0 && !matches!(wait.outcome, Outcome::Closed | Outcome::Cancelled) {
        wait.waits -= 1;
        if let Lead::Held(_) = wait.word.lead {
            wait.word.lead = Lead::Open;
        }
        return n.to(Pc::Between, 0, out, what);
    }
    wait.word.lead = Lead::Idle;
    wait.waits = 0;
    (wait.word.look, wait.word.gone) = (false, false);
    n.s.threads[w].walk = NO_WALK;
    if n.s.list.iter().flatten().any(|&e| e != NONE && e as usize / 2 == w) {
        n.s.bad = Bad::ReturnedButLinked;
    }
    n.to(Pc::Done, 0, out, what);
}
