//! An exhaustive model of the waiter's word: every interleaving of a few waiters, wakers and deaths is visited.
//!
//! # State
//! Each waiter has a lead word: IDLE, OPEN (evaluating), ASLEEP (committed, the only state a waker may claim) or HELD(e)
//! (claimed through entry e), and two sticky bits: LOOK, "look again", and GONE, "believed dead". Whether it sleeps in the
//! kernel is kept apart from the word: it stays there until somebody futex-wakes it. A queue is a lock, a closed bit
//! and an ordered list of entries; the list is what the entry table says, so a lock whose owner died is simply free.
//! An entry has a fired bit and the key of the wake that claimed it. Items stand for conditions. Two things no process
//! knows are kept to judge by: which wake a claim stems from, and how often each wake was answered.
//!
//! # Steps
//! One step is one access that others can notice: a read-modify-write of a word, one condition, one entry of a walk.
//! - Waiter: clear LOOK and GONE · evaluate, condition by condition · commit OPEN or HELD to ASLEEP unless a sticky bit is
//!   set · sleep while the word is exactly ASLEEP. Waits without a condition enrol as ASLEEP and only look at their word.
//! - Leaving, for whatever reason: entry by entry under its queue's lock: a claim of a queue that did not satisfy the wait
//!   is handed on (claim the next, then clear one's own), *then* the entry is unlinked. The death rule finds a claim only
//!   through a linked entry. A timeout is one more evaluation, after which the waiter leaves instead of committing.
//! - Waker: change the condition · lock, walk entry by entry, walk again if the count is not used up · unlock · futex wakes.
//! - Closer, interrupter: raise the flag · LOOK · futex wakes.
//! - Bell thread, once at the bell and once at the certificate: GONE · hand claims on, at the certificate also unlink ·
//!   LOOK in every lead and futex wake · record the round. Two bell threads may do so side by side.
//! - The world: kills (a whole process, between any two steps), false bells, certificates, timeouts, cancellations.
//!
//! Enrolling and unlinking are one step each: they happen under the lock, and `waiting`, raised before linking and
//! lowered after unlinking, is at worst too high meanwhile, which sends a waker to the lock. A waker's look at `waiting` is
//! therefore a look at the list. Memory is sequentially consistent here: the fences have a model of their own.
//!
//! # Properties
//! In a final state (only optional steps are left):
//! 1. nobody alive sleeps on a true condition, a closed queue, an interrupt, a claim, or although a wake was owed to it;
//! 2. everybody else has returned or is dead, and nothing waits for a lock;
//! 3. no entry of a dead process is linked, and no claim of it is unanswered;
//!
//! and in every state:
//!
//! 4. without deaths no wake is answered more often than it has counts, and none reaches a waiter with another key;
//! 5. whoever times out has evaluated since its time ran out;
//! 6. whoever returns is unlinked everywhere.
//!
//! That a waiter which gives up swallows nothing is (1) for its neighbours: a neighbour without a condition is owed
//! every wake that is meant for it and not answered. With deaths, wakes are answered at least once, not exactly once.
//!
//! # Twins
//! `model_must_fail_*` change one thing and must find a violation, else the model is blind or the thing useless.
//! `model_variant_*` are other designs that hold as well. `--nocapture` shows the counts, and the traces of the twins.

#[path = "models/word_cases.rs"]
mod cases;
#[path = "models/word_death.rs"]
mod death;
#[path = "models/word_death_cases.rs"]
mod death_cases;
#[path = "models/word_explore.rs"]
mod explore;
#[path = "models/word_state.rs"]
mod state;
#[path = "models/word_wait.rs"]
mod wait;
#[path = "models/word_wake.rs"]
mod wake;

use explore::explore;
use state::{Bad, Config, Twist};

fn must_hold(cases: Vec<Config>) {
    for cfg in cases {
        let report = explore(&cfg, None);
        assert!(report.bad == Bad::Fine, "{}: {:?}\n{}", cfg.name, report.bad, report.trace);
    }
}

fn must_fail(twist: Twist, cfg: Config, expected: Bad) {
    let report = explore(&cfg.with(twist), Some(expected));
    println!("{}", report.trace);
    assert_eq!(report.bad, expected, "{twist:?}");
}

/// Everything but the large configurations.
fn variant(twist: Twist) {
    let groups = [
        cases::claims(),
        cases::many(),
        cases::giving_up(),
        cases::plain_waits(),
        cases::closing(),
        cases::sets(),
        death_cases::kills(),
        death_cases::recoverer_killed(),
        death_cases::false_bells(),
    ];
    must_hold(groups.into_iter().flatten().map(|c| c.with(twist)).collect());
}

macro_rules! holds {
    ($($test:ident: $from:ident, $cases:ident;)*) => {
        $(#[test]
        fn $test() {
            must_hold($from::$cases());
        })*
    };
}

holds! {
    model_claims: cases, claims;
    model_wait_many: cases, many;
    model_timeouts_and_interrupts: cases, giving_up;
    model_waits_without_condition: cases, plain_waits;
    model_close: cases, closing;
    model_sets_that_stay_enrolled: cases, sets;
    model_kill_at_any_step: death_cases, kills;
    model_kill_of_the_recoverer: death_cases, recoverer_killed;
    model_false_bell: death_cases, false_bells;
    model_large: cases, large;
}

#[test]
#[ignore = "minutes: cargo test --release --test waiter_word_model -- --ignored"]
fn model_huge() {
    must_hold(cases::huge());
}

macro_rules! fails {
    ($($test:ident: $twist:ident in $from:ident, $case:ident: $bad:ident;)*) => {
        $(#[test]
        fn $test() {
            must_fail(Twist::$twist, $from::$case(), Bad::$bad);
        })*
    };
}

fails! {
    model_must_fail_sibling_claim_kept: SiblingClaimKept in cases, sibling: SleepsOnTrueCondition;
    model_must_fail_claim_dropped_on_waking: ClaimDroppedOnWaking in cases, sibling: SleepsOnTrueCondition;
    model_must_fail_claim_of_open_waiter: ClaimOpen in cases, two_takers: SleepsOnTrueCondition;
    model_must_fail_no_second_walk: NoSecondWalk in cases, two_takers: SleepsOnTrueCondition;
    model_must_fail_commit_by_store: CommitByStore in cases, two_takers: SleepsOnTrueCondition;
    model_must_fail_look_cleared_after_evaluation: LookClearedAfterEvaluation in cases, sibling: SleepsOnTrueCondition;
    model_must_fail_no_last_evaluation: NoLastEvaluation in cases, timed_taker: TimedOutWithoutLooking;
    model_must_fail_timeout_keeps_claim: TimeoutKeepsClaim in cases, stubborn: SleepsThoughOwedAWake;
    model_must_fail_hand_on_forgets_key: HandOnForgetsKey in cases, mixed_keys: WakeWithWrongKey;
    model_must_fail_key_stored_before_looking: KeyStoredBeforeLooking in cases, two_keys: SleepsThoughOwedAWake;
    model_must_fail_close_without_look: CloseWithoutLook in cases, closed: SleepsOnClosedQueue;
    model_must_fail_interrupt_without_look: InterruptWithoutLook in cases, interrupted: SleepsThoughInterrupted;
    model_must_fail_no_ring: NoRing in death_cases, waker_killed: SleepsOnTrueCondition;
    model_must_fail_ring_without_look: RingWithoutLook in death_cases, waker_killed: SleepsOnTrueCondition;
    model_must_fail_ring_leaves_held_asleep: RingLeavesHeldAsleep in death_cases, waker_killed: SleepsOnTrueCondition;
    model_must_fail_no_second_round: NoSecondRound in death_cases, late_write: SleepsOnTrueCondition;
    model_must_fail_no_unlink_of_the_dead: NoUnlinkOfDead in death_cases, plain_killed: DeadStillLinked;
    model_must_fail_unlink_before_hand_on: UnlinkBeforeHandOn in death_cases, mixed_killed: SleepsThoughOwedAWake;
    model_must_fail_unlink_before_last_evaluation:
        UnlinkBeforeLastEvaluation in death_cases, late_unlink_killed: SleepsThoughOwedAWake;
    model_must_fail_clear_before_hand_on: ClearBeforeHandOn in death_cases, mixed_killed: SleepsThoughOwedAWake;
    model_must_fail_gone_ignored_by_plain_wait: GoneIgnoredByWait in death_cases, false_bell_plain: SleepsThoughOwedAWake;
    model_must_fail_round_recorded_first: ReportFirst in death_cases, recoverer_of_plain: DeadStillLinked;
}

macro_rules! variants {
    ($($(#[$doc:meta])* $test:ident: $twist:ident;)*) => {
        $($(#[$doc])*
        #[test]
        fn $test() {
            variant(Twist::$twist);
        })*
    };
}

variants! {
    /// One walk that sets LOOK in every exclusive entry it cannot claim.
    model_variant_one_walk: OneWalk;
    /// A second walk that sets LOOK and never claims.
    model_variant_second_walk_only_looks: SecondWalkOnlyLooks;
    /// No death rule at the bell: it is only for promptness.
    model_variant_certificate_only: CertificateOnly;
    /// The bell only rings, claims are handed on at the certificate, and GONE does not exist.
    model_variant_bell_only_rings: BellOnlyRings;
    /// One walk, and a bell that only rings.
    model_variant_simplest: Simplest;
    /// Claiming the dead is no harm before the certificate.
    model_variant_walk_claims_gone: WalkClaimsGone;
    /// The round may be recorded before the ring: a recorder that dies is itself rung for.
    model_variant_round_recorded_before_ring: ReportBeforeRing;
}
