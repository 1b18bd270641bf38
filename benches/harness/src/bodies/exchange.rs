//! Two processes in turns: one asks and waits for the reply, the other waits for the question, works, and replies.

use std::sync::atomic::Ordering::*;

use crate::machine::{Pinning, now};
use crate::stage::{Role, Tally, play};
use crate::subjects::Subject;

const QUESTION: usize = 0;
const REPLY: usize = 1;

/// How often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) pinning: Pinning,
    /// What is done first, and not measured.
    pub(crate) warm: u32,
    /// What is measured.
    pub(crate) operations: u32,
    /// A sample is the mean of so many operations; more than one where reading the clock would show.
    pub(crate) batch: u32,
    /// So many nanoseconds pass on both sides before each send, in which the other falls asleep. They are in no figure.
    pub(crate) pause: u64,
}

/// The word of the play in which the answerer says how long his last pause was.
const PAUSED: usize = 0;

impl Exchange {
    /// Plays it; before its nth reply the answerer does `work(n)`.
    pub(crate) fn play(self, subject: &dyn Subject, counted: bool, work: impl Fn(u32)) -> Vec<Tally> {
        let Exchange { pinning, warm, operations, batch, pause } = self;
        assert!(operations.is_multiple_of(batch) && (pause == 0 || batch == 1));
        let place = subject.create(2);
        let asker = Role::new("asker", pinning.seat(0), |me| {
            let mut post = place.open(REPLY..REPLY + 1);
            let mut ask = |value| {
                post.send(QUESTION, value);
                assert_eq!(post.receive(), (REPLY, value), "another reply");
            };
            me.ready();
            (1..=warm).for_each(&mut ask);
            me.begin();
            let mut before = now();
            for first in (warm + 1..=warm + operations).step_by(batch as usize) {
                if pause > 0 {
                    me.pause(pause);
                    before = now();
                }
                (first..first + batch).for_each(&mut ask);
                let after = now();
                let paused = if pause > 0 { me.word(PAUSED).load(Acquire) } else { 0 };
                me.sample((after - before - paused) / u64::from(batch));
                before = after;
            }
            me.end(u64::from(operations));
        });
        let answerer = Role::new("answerer", pinning.seat(1), |me| {
            let mut post = place.open(QUESTION..QUESTION + 1);
            me.ready();
            for value in 1..=warm + operations {
                assert_eq!(post.receive(), (QUESTION, value), "another question");
                work(value);
                if pause > 0 && value > warm {
                    let paused = me.pause(pause);
                    me.word(PAUSED).store(paused, Release);
                }
                post.send(REPLY, value);
                if value == warm {
                    me.begin();
                }
            }
            me.end(u64::from(operations));
        });
        play(counted, (operations / batch) as usize, vec![asker, answerer])
    }
}
