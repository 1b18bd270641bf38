//! The list of a head's entries: two indices in each entry, two in the head. It knows no lock and wakes nobody.
//!
//! ```text
//! head.first ──► entry ◄──► entry ◄──► entry ◄── head.last          indices plus one, 0 = none
//! ```
//!
//! 1. Membership and order are in the entries alone: `queue` names the head, `order` the place. The links are a
//!    cache of that, and [`List::rebuild`] makes them anew from the table whenever they may be wrong.
//! 2. The list is sorted by `order`, smallest first, no matter how it was built.
//! 3. Every link is read once and checked before it is followed, and no walk makes more hops than there are
//!    entries, so a forged list costs time but never bounds. What is found broken is reported as [`Broken`].
//! 4. The caller holds the head's lock for every method but [`List::check`] of a quiet head.

use crate::atomic::{Guarded32, Ordering::*};
use crate::crash::mutant;
use crate::layout::{Entry, QueueHead};
use crate::offset::Space;

/// A law of the list that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) law: &'static str,
    /// The value that breaks it.
    pub(crate) value: u32,
}

/// More links than entries.
pub(crate) const ENDLESS: Broken = Broken { law: "the list ends", value: 0 };

pub(crate) struct List<'a> {
    pub(crate) space: &'a Space,
    pub(crate) head: &'a QueueHead,
    /// The head's offset.
    pub(crate) at: u64,
}

impl<'a> List<'a> {
    #[inline]
    pub(crate) fn entries(&self) -> &'a [Entry] {
        self.space.entries()
    }

    /// Those that may be members: the others were never used.
    pub(crate) fn used(&self) -> &'a [Entry] {
        &self.entries()[..self.space.entries_used()]
    }

    /// Puts an entry whose `order` is set, and whose `queue` names this head, in its place.
    pub(crate) fn insert(&self, index: u32) -> Result<(), Broken> {
        let order = self.entries()[index as usize].order.load(Relaxed);
        let last = self.follow(&self.head.last)?;
        if last.is_none_or(|last| self.entries()[last as usize].order.load(Relaxed) < order) {
            self.connect(last, Some(index));
            self.connect(Some(index), None);
            return Ok(());
        }
        let mut before = None;
        let mut next = self.follow(&self.head.first)?;
        for _ in 0..self.entries().len() {
            match next {
                Some(at) if self.entries()[at as usize].order.load(Relaxed) < order => {
                    before = Some(at);
                    next = self.follow(&self.entries()[at as usize].next)?;
                }
                _ => {
                    self.connect(before, Some(index));
                    self.connect(Some(index), next);
                    return Ok(());
                }
            }
        }
        Err(ENDLESS)
    }

    /// Takes an entry out. Its neighbours must agree that it is there.
    pub(crate) fn remove(&self, index: u32) -> Result<(), Broken> {
        let entry = &self.entries()[index as usize];
        let (before, after) = (self.follow(&entry.prev)?, self.follow(&entry.next)?);
        let name = index + 1;
        let forward = before.map_or(&self.head.first, |before| &self.entries()[before as usize].next);
        let backward = after.map_or(&self.head.last, |after| &self.entries()[after as usize].prev);
        for link in [forward, backward] {
            let value = link.load(Relaxed);
            if value != name {
                return Err(Broken { law: "neighbours point at each other", value });
            }
        }
        self.connect(before, after);
        Ok(())
    }

    pub(crate) fn first(&self) -> Result<Option<u32>, Broken> {
        self.follow(&self.head.first)
    }

    pub(crate) fn after(&self, index: u32) -> Result<Option<u32>, Broken> {
        self.follow(&self.entries()[index as usize].next)
    }

    /// Makes all links, and the count, anew from the table. `scratch` is private memory, because sorting keys that a
    /// peer can change has no defined end.
    pub(crate) fn rebuild(&self, scratch: &mut Vec<(u64, u32)>) {
        let used = self.used();
        let used = &used[..used.len().saturating_sub(usize::from(mutant("recovery skips an entry")))];
        scratch.clear();
        for (index, entry) in used.iter().enumerate() {
            if entry.queue.load(Acquire) == self.at {
                scratch.push((entry.order.load(Relaxed), index as u32));
            }
        }
        scratch.sort_unstable();
        let mut before = None;
        for (_, index) in scratch.iter() {
            self.connect(before, Some(*index));
            before = Some(*index);
        }
        self.connect(before, None);
        // ORDERING: one store after all links, so that a waker's unlocked look never sees fewer than there are.
        self.head.waiting.store(scratch.len() as u32, Release);
    }

    /// Names the first law that does not hold, if any: for tests and for looking at a quiet region.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        let (mut count, mut before, mut order) = (0u32, None, 0);
        let mut next = self.first()?;
        while let Some(index) = next {
            let entry = &self.entries()[index as usize];
            count += 1;
            if count as usize > self.entries().len() {
                return Err(ENDLESS);
            }
            if self.follow(&entry.prev)? != before {
                return Err(Broken { law: "neighbours point at each other", value: index });
            }
            if entry.order.load(Relaxed) < order {
                return Err(Broken { law: "sorted by order", value: index });
            }
            order = entry.order.load(Relaxed);
            before = next;
            next = self.after(index)?;
        }
        if self.follow(&self.head.last)? != before {
            return Err(Broken { law: "last is the end", value: self.head.last.load(Relaxed) });
        }
        let members = self.used().iter().filter(|entry| entry.queue.load(Relaxed) == self.at).count();
        if members != count as usize {
            return Err(Broken { law: "all entries of the head are linked", value: members as u32 });
        }
        if self.head.waiting.load(Relaxed) != count {
            return Err(Broken {
                law: "waiting is the number of entries",
                value: self.head.waiting.load(Relaxed),
            });
        }
        Ok(())
    }

    /// The entry a link names, if it is one of this head's.
    fn follow(&self, link: &Guarded32) -> Result<Option<u32>, Broken> {
        let value = link.load(Relaxed);
        let Some(index) = value.checked_sub(1) else {
            return Ok(None);
        };
        match self.entries().get(index as usize) {
            Some(entry) if entry.queue.load(Relaxed) == self.at => Ok(Some(index)),
            _ => Err(Broken { law: "links stay on their head", value }),
        }
    }

    fn connect(&self, before: Option<u32>, after: Option<u32>) {
        let forward = before.map_or(&self.head.first, |before| &self.entries()[before as usize].next);
        forward.store(after.map_or(0, |after| after + 1), Relaxed);
        let backward = after.map_or(&self.head.last, |after| &self.entries()[after as usize].prev);
        backward.store(before.map_or(0, |before| before + 1), Relaxed);
    }
}
