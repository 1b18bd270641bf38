//! Waking a queue, as users see it: the kernel's calls, each a few words above the head.

use std::num::NonZeroU32;

#[cfg(doc)]
use crate::Region;
use crate::atomic::Ordering::*;
use crate::crash::crash_point;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::head::{self, Woken};
use crate::layout::CLOSED;
use crate::options::{WakeOptions, class};
use crate::queue::Queue;
use crate::thread::Thread;

impl Queue {
    /// Wakes all non-exclusive waiters and one exclusive. Corresponds to `wake_up`.
    ///
    /// Returns how many it reached; that nobody is counted does not mean that nobody will see the change: waiters that
    /// are awake evaluate their condition without being charged with a wake.
    ///
    /// If nobody waits, this is a fence and a load.
    ///
    /// # Memory ordering
    ///
    /// What the caller did before is seen by every evaluation that follows. The full fence that this takes on the
    /// waker's side is inside.
    ///
    /// # Crash safety
    ///
    /// If the caller dies after changing the condition, before or inside this call, all waiters evaluate.
    ///
    /// # Errors
    ///
    /// [`Error::LockStuck`]; [`Error::Full`] if no thread is free; [`Error::Forked`]; [`Error::Evicted`];
    /// [`Error::Reentered`].
    #[inline]
    pub fn wake_up(&self) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new())
    }

    /// Wakes all non-exclusive waiters and up to `count` exclusive ones. Corresponds to `wake_up_nr`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_nr(&self, count: NonZeroU32) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().nr(count))
    }

    /// Wakes all waiters. Who arrives meanwhile is not woken. Corresponds to `wake_up_all`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_all(&self) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().all())
    }

    /// As [`Queue::wake_up`] for interruptible waits. Corresponds to `wake_up_interruptible`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_interruptible(&self) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().class(class::INTERRUPTIBLE))
    }

    /// As [`Queue::wake_up_nr`] for interruptible waits. Corresponds to `wake_up_interruptible_nr`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_interruptible_nr(&self, count: NonZeroU32) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().class(class::INTERRUPTIBLE).nr(count))
    }

    /// As [`Queue::wake_up_all`] for interruptible waits. Corresponds to `wake_up_interruptible_all`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_interruptible_all(&self) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().class(class::INTERRUPTIBLE).all())
    }

    /// As [`Queue::wake_up`] for waits whose key meets `key`. Corresponds to `wake_up_poll`.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_key(&self, key: u32) -> Result<Woken> {
        self.wake_up_with(&WakeOptions::new().key(key))
    }

    /// With any options.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    #[inline]
    pub fn wake_up_with(&self, options: &WakeOptions) -> Result<Woken> {
        if self.has_sleepers() { self.wake_slow(options) } else { Ok(Woken::default()) }
    }

    /// Wakes as [`Queue::wake_up`] does, but without giving up the processor to the woken before `body` has run, or
    /// has begun to sleep or spin in a wait of this region: for callers about to wait themselves. Corresponds to
    /// `wake_up_sync`.
    ///
    /// Waiters are chosen at once; the system calls are made at the end of `body` at the latest.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`]; `body` has not run then.
    pub fn wake_up_sync<R>(&self, body: impl FnOnce() -> R) -> Result<(Woken, R)> {
        /// Flushes at the end, also by a panic; an inner scope leaves it to the outer one to end the putting off.
        struct Scope<'a>(&'a Thread, bool);
        impl Drop for Scope<'_> {
            fn drop(&mut self) {
                self.0.flush_and(self.1);
            }
        }
        let thread = self.region.enter()?;
        let scope = Scope(&thread, thread.defer()?);
        let woken = self.wake_up()?;
        crash_point!("wake sync: marked, put off");
        let result = body();
        drop(scope);
        Ok((woken, result))
    }

    /// The same for callers that have no closure: from here on this thread's wakes make their system calls only in its next
    /// wait of this region, in [`Region::flush`], which ends this, or when the thread ends.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    pub fn begin_wake_up_sync(&self) -> Result<Woken> {
        let thread = self.region.enter()?;
        let begins = thread.defer()?;
        self.wake_up().inspect_err(|_| thread.flush_and(begins))
    }

    /// Closes the queue for ever, also after a restart: every waiter whose condition is false, now and later, gets
    /// [`Error::Closed`]. Returns how many entries were enrolled. Corresponds to `wake_up_pollfree`.
    ///
    /// # Crash safety
    ///
    /// If the caller dies inside, either nothing has happened or whoever uses the queue next finishes it.
    ///
    /// # Errors
    ///
    /// As [`Queue::wake_up`].
    pub fn close(&self) -> Result<u32> {
        Ok(head::lock(&*self.region.enter()?, self.head.offset())?.close())
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.head.flags.load(Acquire) & CLOSED != 0
    }

    /// Whether anybody waits, after a full fence: false means that whoever begins to wait from now on will see what
    /// the caller did before. Corresponds to `wq_has_sleeper`.
    ///
    /// Async-signal-safe.
    #[inline]
    #[must_use]
    pub fn has_sleepers(&self) -> bool {
        head::has_sleepers(&self.head)
    }

    /// Whether anybody waits, in no order with what the caller did before: a hint, never a reason not to wake.
    /// Corresponds to `waitqueue_active`.
    ///
    /// Async-signal-safe.
    #[inline]
    #[must_use]
    pub fn has_sleepers_without_fence(&self) -> bool {
        self.head.waiting.load(Relaxed) != 0
    }

    #[inline(never)]
    fn wake_slow(&self, options: &WakeOptions) -> Result<Woken> {
        crash_point!("wake: waiters seen, lock not taken");
        let thread = self.region.enter()?;
        let mut head = head::lock(&thread, self.head.offset())?;
        let woken = head.wake(options.wake());
        head.unlock_and_wake();
        Ok(woken)
    }
}
