//! Waits whose loop the user writes, as `prepare_to_wait` and `finish_wait` allow in the kernel.

use std::fmt;

use crate::atomic::{Ordering::SeqCst, fence};
use crate::enrolled::{Enrolled, Start};
use crate::entry::claim_of;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::options::WaitOptions;
use crate::queue::Queue;
use crate::sleep::Manner;
use crate::wait::{self, Ended};

/// An enrolment for a loop written by hand.
///
/// ```
/// # use std::sync::atomic::{AtomicU32, Ordering::*};
/// # use waitqueue::{Region, WaitOptions};
/// # fn main() -> waitqueue::Result<()> {
/// # let region = Region::builder().create_memfd("example")?;
/// # let (queue, ready) = (region.queue("queue")?, region.object::<AtomicU32>("ready")?);
/// # ready.store(1, Release);
/// let mut wait = queue.prepare_to_wait(&WaitOptions::new())?;
/// loop {
///     wait.prepare(); // look again from here on
///     if ready.load(Acquire) != 0 {
///         break;
///     }
///     wait.sleep()?; // returns when woken, and sometimes without reason
/// }
/// wait.finish(); // the condition was met; dropping it instead passes a wake on
/// # Ok(())
/// # }
/// ```
///
/// A wake between `prepare` and `sleep` makes `sleep` return at once. That is why the condition has to be evaluated
/// between the two, in each turn.
#[must_use = "dropping it leaves the queue"]
pub struct PrepareToWait<'a> {
    queue: &'a Queue,
    manner: Manner<'a>,
    enrolled: Option<Enrolled>,
    was_empty: bool,
}

impl<'a> PrepareToWait<'a> {
    pub(crate) fn new(queue: &'a Queue, options: &WaitOptions<'a>) -> Result<PrepareToWait<'a>> {
        let manner = options.manner(queue.region())?;
        let thread = queue.region().enter()?;
        let was_empty = !queue.has_sleepers();
        let spot = queue.spot(options, 0);
        let mut enrolled = Enrolled::new(&thread, manner.label, Start::Awake)?;
        if let Some(refused) = wait::enrol(&mut enrolled, std::iter::once(spot))? {
            queue.outcome(refused)?;
        }
        Ok(PrepareToWait { queue, manner, enrolled: Some(enrolled), was_empty })
    }

    /// Whether nobody was waiting when this was enrolled.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.was_empty
    }

    /// Begins a turn: evaluate the condition after this. Corresponds to `set_current_state`, with its barrier.
    pub fn prepare(&mut self) {
        // A forked child must not clear what its parent has yet to see.
        if let Some(enrolled) = self.enrolled.as_ref().filter(|enrolled| enrolled.is_ours()) {
            enrolled.word().open();
            fence(SeqCst); // (A)
        }
    }

    /// Sleeps until woken, unless something has happened since [`PrepareToWait::prepare`]. Corresponds to `schedule`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Interrupted`] and [`Error::Closed`], after each of which the condition should be
    /// evaluated once more; [`Error::Evicted`].
    pub fn sleep(&mut self) -> Result<()> {
        let Some(enrolled) = &self.enrolled else {
            return Ok(());
        };
        let ended = wait::sleep_once(enrolled, &self.manner)?;
        self.queue.outcome(ended.unwrap_or(Ended::Fired(0)))
    }

    /// Whether a wake has chosen this waiter.
    #[must_use]
    pub fn was_chosen(&self) -> bool {
        self.enrolled.as_ref().is_some_and(|enrolled| claim_of(enrolled.word().load()).is_some())
    }

    /// Leaves the queue; the condition was met, so a wake that chose this waiter is used up. Corresponds to
    /// `finish_wait`.
    pub fn finish(mut self) {
        if let Some(mut enrolled) = self.enrolled.take() {
            enrolled.leave_all(Some(0));
        }
    }
}

impl fmt::Debug for PrepareToWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrepareToWait({}, chosen: {})", self.queue.name(), self.was_chosen())
    }
}
