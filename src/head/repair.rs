//! Making a head consistent again: after a death inside, after a peer has broken a link, and when it is closed.
//!
//! Membership is in the entries; links and count are made anew from them. What was half-done besides is a close, which is
//! finished, and a note for a set, which is put in doubt.

use super::LockedHead;
use crate::atomic::Ordering::*;
use crate::crash::{crash_point, mutant};
use crate::layout::PERSISTENT;
use crate::list::Broken;

impl LockedHead<'_> {
    /// Puts out every member of a closed queue.
    pub(super) fn expel(&mut self) -> u32 {
        let mut count = 0;
        for index in 0..self.list.used().len() as u32 {
            if !self.has(index) {
                continue;
            }
            count += 1;
            self.entry(index).queue.store(0, Release);
            crash_point!("close: one member out");
            if let Some((lead, word)) = self.lead_of(index)
                && !mutant("close without look")
            {
                let before = word.look_everywhere();
                self.wake_later(lead, before);
            }
        }
        self.rebuild();
        count
    }

    /// After a death inside: links, count, a close that was not finished, and members that may be noted by half.
    pub(super) fn repair(&mut self) {
        if !mutant("repair left out") {
            self.rebuild();
        }
        if self.is_closed() {
            self.expel();
        }
        if !mutant("sets not told of a repair") {
            self.alert_sets();
        }
        self.count_recovery();
        crash_point!("repair: done");
    }

    /// Says to the owners of sets which notes may have been made by half, and makes them look everywhere: where only a
    /// thread has died, no ring does.
    fn alert_sets(&mut self) {
        for index in 0..self.list.used().len() as u32 {
            if self.has(index)
                && self.entry(index).flags.load(Relaxed) & PERSISTENT != 0
                && let Some((lead, word)) = self.lead_of(index)
            {
                self.entry(index).doubt.store(1, Relaxed);
                let before = word.look_everywhere();
                self.wake_later(lead, before);
            }
        }
    }

    fn rebuild(&mut self) {
        self.list.rebuild(self.inside.order());
    }

    /// A link that a peer has broken is made anew, with all others.
    #[inline]
    pub(super) fn mend(&mut self, outcome: Result<(), Broken>) {
        if outcome.is_err() {
            self.rebuild();
            self.count_recovery();
        }
    }

    fn count_recovery(&self) {
        let recoveries = &self.head().recoveries;
        recoveries.store(recoveries.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
