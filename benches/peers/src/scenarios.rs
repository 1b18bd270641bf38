//! What may happen to those who share a primitive. Each is written once, over [`Peer`].
//!
//! Waiters take items for ever, one step for each; whoever puts one is a process of its own, since that may hang too.

use std::sync::atomic::Ordering::*;

use crate::peers::Peer;
use waitqueue_bench::cast::{Actor, Cast, Where, shared_words, stay, until, within};
use waitqueue_bench::trace::Traced;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One of two sleeping waiters is killed.
    Sleeping,
    /// The waiter that a wake has chosen is killed before it runs; another sleeps.
    Chosen,
    /// Whoever holds the lock is killed; another sleeps on it.
    Holder,
    /// And so is the one who is repairing what the first one left.
    Recoverer,
    /// One whose death others wait for is killed.
    Watched,
    /// Everybody is the first process of a PID namespace of its own; one is killed waiting for the lock, then its holder.
    Namespaces,
    /// Everybody is killed, asleep and with the lock; others come and use what they find.
    Restart,
}

impl Scenario {
    /// All, in the order of the table.
    pub const ALL: [Scenario; 7] = [
        Scenario::Sleeping,
        Scenario::Chosen,
        Scenario::Holder,
        Scenario::Recoverer,
        Scenario::Watched,
        Scenario::Namespaces,
        Scenario::Restart,
    ];

    /// As the head of a row.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Sleeping => "a sleeping waiter is killed",
            Scenario::Chosen => "the chosen waiter is killed before it runs",
            Scenario::Holder => "a lock holder is killed",
            Scenario::Recoverer => "so is the one who repairs after it",
            Scenario::Watched => "a process dies that others wait for",
            Scenario::Namespaces => "processes are in different PID namespaces",
            Scenario::Restart => "everybody was killed, others start",
        }
    }
}

/// How it ends for the survivors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everybody gets what is owed to it.
    Ok,
    /// Somebody did not get what was owed to it, or lost what it had; the primitive can still be used.
    Lost,
    /// Somebody does not come back from a call from which it should.
    Hung,
    /// It could not be played here, for this reason.
    Skipped(String),
}

/// How many items survivors get. A condition variable fails at the third.
const ROUNDS: u64 = 4;

/// Plays it, once.
#[must_use]
pub fn play<P: Peer>(scenario: Scenario, name: &str, cast: &mut Cast) -> Verdict {
    let place = P::create(name);
    match scenario {
        Scenario::Sleeping => sleeping::<P>(&place, cast),
        Scenario::Chosen => chosen::<P>(&place, cast),
        Scenario::Holder => holder::<P>(&place, cast),
        Scenario::Recoverer => recoverer::<P>(&place, cast),
        Scenario::Watched => watched::<P>(&place, cast),
        Scenario::Namespaces => namespaces::<P>(&place, cast),
        Scenario::Restart => restart::<P>(&place, cast),
    }
}

/// Takes items, after one step that says that it is there.
fn take_all<P: Peer>(place: &P::Place) -> impl FnOnce(waitqueue_bench::cast::Steps) {
    move |steps| {
        let peer = P::open(place);
        loop {
            steps.advance();
            peer.take();
        }
    }
}

/// Holds the lock until it is killed: one step when it is there, one if the last owner died, and one to end with.
fn hold<P: Peer>(place: &P::Place) -> impl FnOnce(waitqueue_bench::cast::Steps) {
    move |steps| {
        let peer = P::open(place);
        steps.advance();
        peer.locked(|died| {
            if died {
                steps.advance();
            }
            steps.advance();
            stay()
        });
    }
}

/// A waiter that sleeps.
fn sleeper<P: Peer>(place: &P::Place, cast: &mut Cast) -> Actor {
    let mut waiter = cast.start(take_all::<P>(place));
    waiter.until_asleep_at(1);
    waiter
}

fn put<P: Peer>(place: &P::Place, cast: &mut Cast) -> bool {
    cast.does(|| P::open(place).put())
}

/// Whether a waiter that sleeps gets item after item.
fn serves<P: Peer>(place: &P::Place, cast: &mut Cast, waiter: &mut Actor) -> Verdict {
    let mut verdict = Verdict::Ok;
    for _ in 0..ROUNDS {
        let before = waiter.steps();
        waiter.until_asleep_at(before);
        if !put::<P>(place, cast) {
            return Verdict::Hung;
        }
        if !waiter.reaches(before + 1) {
            verdict = Verdict::Lost;
        }
    }
    verdict
}

fn sleeping<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let mut killed = sleeper::<P>(place, cast);
    let mut other = sleeper::<P>(place, cast);
    killed.kill();
    serves::<P>(place, cast, &mut other)
}

fn chosen<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let mut victim = sleeper::<P>(place, cast);
    let held = match Traced::hold_at_wake(&victim) {
        Ok(held) => held,
        Err(error) => return Verdict::Skipped(format!("ptrace: {error}")),
    };
    let mut other = sleeper::<P>(place, cast);
    // Where a wake wakes all and one of them wins, it takes some wakes until the winner is the victim.
    let mut before = other.steps();
    loop {
        if !put::<P>(place, cast) {
            return Verdict::Hung;
        }
        let mut is_chosen = false;
        until("a waiter is chosen", || {
            is_chosen = held.is_held();
            is_chosen || other.steps() > before
        });
        if is_chosen {
            break;
        }
        before = other.steps();
        other.until_asleep_at(before);
    }
    victim.kill();
    if other.reaches(before + 1) {
        return Verdict::Ok;
    }
    // The item is there and nobody takes it: does anybody ever again?
    if put::<P>(place, cast) && other.reaches(before + 1) { Verdict::Lost } else { Verdict::Hung }
}

/// Whether the lock can be had and given back, by one who finds it as the last has left it.
fn can_lock<P: Peer>(place: &P::Place, cast: &mut Cast) -> bool {
    cast.does(|| P::open(place).locked(|_| {}))
}

fn holder<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let mut holder = cast.start(hold::<P>(place));
    holder.until(2);
    let mut next = cast.start(hold::<P>(place));
    next.until_asleep_at(1);
    holder.kill();
    if !next.reaches(2) {
        return Verdict::Hung;
    }
    if next.reaches(3) { Verdict::Ok } else { Verdict::Lost }
}

fn recoverer<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let mut holder = cast.start(hold::<P>(place));
    holder.until(2);
    let mut recoverer = cast.start(hold::<P>(place));
    recoverer.until_asleep_at(1);
    let mut next = cast.start(hold::<P>(place));
    next.until_asleep_at(1);
    holder.kill();
    // Either of the two may be the one.
    let has_it = |actor: &Actor| actor.steps() == 3;
    if !within(cast.patience, || has_it(&recoverer) || has_it(&next)) {
        return Verdict::Hung;
    }
    if has_it(&next) {
        std::mem::swap(&mut recoverer, &mut next);
    }
    recoverer.kill();
    if !next.reaches(2) {
        return Verdict::Hung;
    }
    if !next.reaches(3) {
        return Verdict::Lost;
    }
    next.kill();
    if can_lock::<P>(place, cast) { Verdict::Ok } else { Verdict::Hung }
}

fn watched<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let id = &shared_words()[0];
    let mut victim = cast.start(|steps| {
        let peer = P::open(place);
        id.store(peer.me(), Release);
        steps.advance();
        stay()
    });
    victim.until(1);
    let mut survivor = cast.start(|steps| {
        let peer = P::open(place);
        steps.advance();
        peer.await_death(id.load(Acquire));
        steps.advance();
        stay()
    });
    survivor.until_asleep_at(1);
    victim.kill();
    if survivor.reaches(2) { Verdict::Ok } else { Verdict::Hung }
}

fn namespaces<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let apart = Where::InItsOwnNamespace;
    let mut waiter = match cast.start_at(apart, take_all::<P>(place)) {
        Ok(waiter) => waiter,
        Err(error) => return Verdict::Skipped(format!("unshare: {error}")),
    };
    waiter.until_asleep_at(1);
    let Ok(mut waker) = cast.start_at(apart, |_| P::open(place).put()) else { return Verdict::Hung };
    if !waker.ends() {
        return Verdict::Hung;
    }
    if !waiter.reaches(2) {
        return Verdict::Lost;
    }
    if P::lacks(Scenario::Holder).is_some() {
        return Verdict::Ok;
    }
    let mut lockers =
        [(); 3].map(|()| cast.start_at(apart, hold::<P>(place)).expect("it was permitted before"));
    let [holder, killed, next] = &mut lockers;
    // (They may get the lock in any order: make sure who is who.)
    until("one has the lock", || holder.steps() == 2 || killed.steps() == 2 || next.steps() == 2);
    if killed.steps() == 2 {
        std::mem::swap(holder, killed);
    } else if next.steps() == 2 {
        std::mem::swap(holder, next);
    }
    killed.until_asleep_at(1);
    next.until_asleep_at(1);
    killed.kill();
    // The lock still has its living owner. Whoever would take it from him asks for it now.
    let mut late = cast.start(hold::<P>(place));
    late.until(1);
    until("a late one sleeps", || late.is_asleep() || late.steps() > 1);
    if next.steps() > 1 || late.steps() > 1 {
        return Verdict::Lost;
    }
    late.kill();
    holder.kill();
    if next.reaches(3) { Verdict::Ok } else { Verdict::Hung }
}

fn restart<P: Peer>(place: &P::Place, cast: &mut Cast) -> Verdict {
    let has_lock = P::lacks(Scenario::Holder).is_none();
    let mut all = vec![sleeper::<P>(place, cast), sleeper::<P>(place, cast)];
    if has_lock {
        let mut holder = cast.start(hold::<P>(place));
        holder.until(2);
        all.push(holder);
    }
    all.iter().for_each(Actor::shoot);
    all.iter_mut().for_each(Actor::kill);
    drop(all);
    if has_lock && !can_lock::<P>(place, cast) {
        return Verdict::Hung;
    }
    let mut waiter = sleeper::<P>(place, cast);
    serves::<P>(place, cast, &mut waiter)
}
