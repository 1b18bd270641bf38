//! The walk over a queue that claims and rings, and the helpers that change conditions, wake, close and interrupt.

use crate::explore::{Next, Steps};
use crate::state::{ALL, Config, HELPER, Helper, Lead, NO_WALK, NONE, Pc, State, Twist, Walk};

/// Takes the lock and aims the walk. `origin` is the ghost that says which wake this is.
pub(crate) fn begin_walk(s: &mut State, t: usize, q: usize, key: u8, n: u8, origin: u8) {
    s.lock[q] = t as u8;
    s.threads[t].walk = Walk { q: q as u8, key, n, origin, ..NO_WALK };
}

/// A hand-on repeats the wake by which `e` was claimed, for one, and passes over `e` itself.
pub(crate) fn begin_hand_on(cfg: &Config, s: &mut State, t: usize, e: u8) {
    let entry = s.entries[e as usize];
    let key = if cfg.is(Twist::HandOnForgetsKey) { NONE } else { entry.key };
    begin_walk(s, t, cfg.queue(e), key, 1, entry.origin);
    s.threads[t].walk.visited = 1 << e;
    s.threads[t].walk.claimed = 1 << e;
    if cfg.is(Twist::ClearBeforeHandOn) && s.waits[e as usize / 2].word.lead == Lead::Held(e) {
        s.waits[e as usize / 2].word.lead = Lead::Open;
    }
}

/// The next entry the walk has to look at; starts the second walk when the first is through.
fn next_entry(cfg: &Config, s: &mut State, t: usize) -> Option<u8> {
    loop {
        let walk = s.threads[t].walk;
        if walk.n == 0 {
            return None;
        }
        let todo = |&e: &u8| {
            let w = &cfg.waiters[e as usize / 2];
            let again = !walk.second || (w.exclusive && walk.claimed >> e & 1 == 0);
            walk.visited >> e & 1 == 0 && w.key & walk.key != 0 && again
        };
        let next = s.list[walk.q as usize].iter().copied().take_while(|&e| e != NONE).find(todo);
        if next.is_some() || walk.second || cfg.is(Twist::NoSecondWalk) || cfg.is(Twist::OneWalk) {
            return next;
        }
        s.threads[t].walk.second = true;
        s.threads[t].walk.visited = 0;
    }
}

/// Treats one entry; true when nothing is left to treat. The lock stays held.
pub(crate) fn walk_step(cfg: &Config, s: &mut State, t: usize) -> bool {
    let Some(e) = next_entry(cfg, s, t) else { return true };
    let (w, index) = (e as usize / 2, e as usize);
    let walk = s.threads[t].walk;
    s.threads[t].walk.visited |= 1 << e;
    let word = s.waits[w].word;
    if word.gone && !cfg.is(Twist::WalkClaimsGone) {
        // The owner is dead, or will evaluate when it finds GONE.
    } else if !cfg.waiters[w].exclusive {
        s.entries[index].fired = true;
        s.look(t, w);
    } else {
        if cfg.is(Twist::KeyStoredBeforeLooking) {
            s.entries[index].key = walk.key;
        }
        let claimable = word.lead == Lead::Asleep || (word.lead == Lead::Open && cfg.is(Twist::ClaimOpen));
        let only_looks = walk.second && cfg.is(Twist::SecondWalkOnlyLooks);
        if claimable && !only_looks {
            s.entries[index].key = walk.key;
            s.entries[index].origin = if cfg.counts_wakes() { walk.origin } else { 0 };
            s.waits[w].word.lead = Lead::Held(e);
            s.note(t, w);
            s.threads[t].walk.claimed |= 1 << e;
            if walk.n != ALL {
                s.threads[t].walk.n -= 1;
            }
            if cfg.waiters[w].more_waits > 0 {
                // A set that stays enrolled goes to the tail, or it would win for ever.
                s.unlink(cfg, e);
                s.link(cfg, e);
            }
        } else if walk.second || cfg.is(Twist::OneWalk) {
            s.entries[index].fired = true;
            s.look(t, w);
        }
    }
    next_entry(cfg, s, t).is_none()
}

pub(crate) fn unlock(s: &mut State, t: usize) {
    let q = s.threads[t].walk.q as usize;
    s.lock[q] = NONE;
    s.threads[t].walk = NO_WALK;
}

/// After the unlock: the system calls, one by one, then `then`. They are part of the unlock where nobody could tell:
/// the caller cannot be killed in between, and no sleeper's time can run out.
pub(crate) fn wake_noted(cfg: &Config, s: &mut State, t: usize, own: Pc, then: Pc) {
    if cfg.killable >> cfg.process(t) & 1 == 0 && !cfg.waiters.iter().any(|w| w.timed) {
        while s.threads[t].wake != 0 {
            s.futex_wake(t);
        }
    }
    s.threads[t].pc = if s.threads[t].wake != 0 { own } else { then };
}

pub(crate) fn helper_steps(cfg: &Config, s: &State, t: usize, out: &mut Steps) {
    let mut n = Next::new(s, t);
    let me = t - HELPER;
    if cfg.gated
        && matches!(s.threads[t].pc, Pc::Push | Pc::Wake | Pc::Close | Pc::Interrupt)
        && (0..cfg.waiters.len()).any(|w| matches!(s.threads[w].pc, Pc::Start | Pc::Enrol))
    {
        return;
    }
    match (s.threads[t].pc, cfg.helpers[me]) {
        (Pc::Push, Helper::Wake { q, .. }) => {
            n.s.items[q as usize] += 1;
            n.go(Pc::Wake, out, "makes the condition true");
        }
        (Pc::Wake, Helper::Wake { q, n: count, key, .. }) => {
            let q = q as usize;
            if s.list[q][0] == NONE {
                n.s.walked |= 1 << me;
                n.go(Pc::Done, out, "finds nobody waiting");
            } else if s.free(q) {
                begin_walk(&mut n.s, t, q, key, count, me as u8);
                wake_walk(cfg, n, out, "locks; looks at an entry");
            }
        }
        (Pc::WakeWalk, _) => wake_walk(cfg, n, out, "looks at the next entry"),
        (Pc::Close, Helper::Close(q)) if s.free(q as usize) => {
            n.s.lock[q as usize] = t as u8;
            n.s.closed[q as usize] = true;
            n.s.threads[t].walk.q = q;
            n.go(Pc::CloseWalk, out, "locks, closes");
        }
        (Pc::CloseWalk, Helper::Close(q)) => {
            let e = s.list[q as usize][0];
            if e == NONE {
                unlock(&mut n.s, t);
                wake_noted(cfg, &mut n.s, t, Pc::FutexWake, Pc::Done);
                return n.stay(out, "unlocks the closed queue");
            }
            n.s.unlink(cfg, e);
            let w = e as usize / 2;
            if cfg.is(Twist::CloseWithoutLook) {
                n.s.note(t, w)
            } else {
                n.s.look(t, w)
            }
            n.stay(out, "throws an entry out, sets LOOK");
        }
        (Pc::Interrupt, Helper::Interrupt(w)) => {
            n.s.waits[w as usize].interrupted = true;
            n.go(Pc::InterruptLook, out, "raises the interrupt flag");
        }
        (Pc::InterruptLook, Helper::Interrupt(w)) => {
            let w = w as usize;
            if cfg.is(Twist::InterruptWithoutLook) {
                n.s.note(t, w)
            } else {
                n.s.look(t, w)
            }
            wake_noted(cfg, &mut n.s, t, Pc::FutexWake, Pc::Done);
            n.stay(out, "sets LOOK");
        }
        (Pc::FutexWake, _) => {
            n.s.futex_wake(t);
            wake_noted(cfg, &mut n.s, t, Pc::FutexWake, Pc::Done);
            n.stay(out, "futex wake");
        }
        _ => {}
    }
}

fn wake_walk(cfg: &Config, mut n: Next, out: &mut Steps, what: &'static str) {
    let t = n.t;
    n.s.threads[t].pc = Pc::WakeWalk;
    if walk_step(cfg, &mut n.s, t) {
        n.s.walked |= 1 << (t - HELPER);
        unlock(&mut n.s, t);
        wake_noted(cfg, &mut n.s, t, Pc::FutexWake, Pc::Done);
    }
    n.stay(out, what);
}
