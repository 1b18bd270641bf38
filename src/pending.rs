//! Whom a set asks next, so that a wait costs as much as there is to do, and not as much as the set has members.
//!
//! A member is asked when it is new, when a wake has met it since it was last asked, and for as long as it answers true. All
//! are asked where that cannot be known: the word says WIDE, what wakers have noted cannot be read, or a member is in doubt.
//!
//! Why nothing is missed: a waker changes the condition, fence B, and notes the member, unless it finds it noted; then it
//! sets LOOK. The owner clears LOOK, takes the notes, fence A, and asks. If the waker found it noted, the owner had not
//! taken the note yet, and asks after the change. If it noted it after the owner took the notes, LOOK is set after the
//! owner cleared it, and he does not fall asleep before the next turn, which takes it. What keeps this true is that a
//! member which says that it is noted is on the stack, or about to be put there by a waker who then sets LOOK; a death
//! in between puts it in doubt.

use std::collections::VecDeque;

use crate::enrolled::Enrolled;
use crate::wait::Conditions;

/// The members to ask, by their places, in this order.
#[derive(Default)]
pub(crate) struct Pending {
    turns: VecDeque<usize>,
    /// For each place, whether it is among them.
    is_in: Vec<bool>,
    /// Whether wakes of some member may go unnoted.
    in_doubt: bool,
}

impl Pending {
    /// A member more, at the last place.
    pub(crate) fn add(&mut self) {
        self.is_in.push(false);
        self.push(self.is_in.len() - 1);
    }

    pub(crate) fn push(&mut self, at: usize) {
        if !std::mem::replace(&mut self.is_in[at], true) {
            self.turns.push_back(at);
        }
    }

    /// Forgets a member, whose place the last one takes.
    pub(crate) fn remove(&mut self, at: usize) {
        self.is_in.swap_remove(at);
        let last = self.is_in.len();
        self.turns.retain(|turn| *turn != at);
        self.turns.iter_mut().filter(|turn| **turn == last).for_each(|turn| *turn = at);
    }

    /// Takes over what wakes have noted, or all members. To be called between the clearing of LOOK and fence A.
    pub(crate) fn choose(&mut self, enrolled: &Enrolled, everywhere: bool) {
        let is_known = enrolled.take_ready(&mut |at| self.push(at));
        if everywhere || !is_known || self.in_doubt {
            self.in_doubt = !enrolled.settle_doubts();
            (0..self.is_in.len()).for_each(|at| self.push(at));
        }
    }

    /// Whom to ask now.
    pub(crate) fn first(&self) -> Option<usize> {
        self.turns.front().copied()
    }

    /// He answered: if it was true he is asked again in the next wait, but after the others.
    pub(crate) fn answered(&mut self, answer: bool) {
        if answer {
            self.turns.rotate_left(1);
        } else if let Some(at) = self.turns.pop_front() {
            self.is_in[at] = false;
        }
    }
}

/// A set's members as the conditions of a wait.
pub(crate) struct Asking<'a, F> {
    pub(crate) enrolled: &'a Enrolled,
    pub(crate) pending: &'a mut Pending,
    /// Whether the condition of the member at this place is true.
    pub(crate) ask: F,
}

impl<F: FnMut(usize) -> bool> Conditions for Asking<'_, F> {
    fn choose(&mut self, everywhere: bool) {
        self.pending.choose(self.enrolled, everywhere);
    }

    fn evaluate(&mut self) -> Option<usize> {
        while let Some(at) = self.pending.first() {
            let answer = (self.ask)(at);
            self.pending.answered(answer);
            if answer {
                return Some(at);
            }
        }
        None
    }
}
