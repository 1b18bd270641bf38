//! The robust lock for users' data: the same lock that guards heads, with the memory of a death kept beside it.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use crate::atomic::Ordering::*;
use crate::crash::crash_point;
use crate::error::{Fallible, Result};
use crate::layout::RobustLock;
use crate::lock::Grip;
use crate::offset::Ref;
use crate::region::Region;
use crate::sleep::AroundSleep;
use crate::thread::Thread;

/// A robust lock in a region, for data that atomics alone cannot keep consistent.
///
/// When its owner dies, the next one gets the lock and learns of it from [`LockGuard::owner_died`]; he repairs the
/// data and says so. Until somebody has, every owner learns of it. Not recursive and not fair. A thread can hold
/// seven of a region at once. Corresponds to a robust, process-shared `pthread_mutex_t`.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::*};
/// use waitqueue::{Region, RobustLock};
///
/// waitqueue::shared_struct! {
///     #[tag = "accounts v1"]
///     struct Accounts { lock: RobustLock, ours: AtomicU64, theirs: AtomicU64 }
/// }
///
/// # fn main() -> waitqueue::Result<()> {
/// let region = Region::builder().create_memfd("bank")?;
/// let accounts = region.object::<Accounts>("accounts")?;
/// let lock = region.lock_at(&accounts.lock)?;
/// let guard = lock.lock()?;
/// if guard.owner_died() {
///     // Somebody was killed in the middle: make the two sum up again, then say so.
///     accounts.theirs.store(100 - accounts.ours.load(Relaxed), Relaxed);
///     guard.repaired();
/// }
/// accounts.ours.fetch_add(1, Relaxed);
/// accounts.theirs.fetch_sub(1, Relaxed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    region: Region,
    lock: Ref<RobustLock>,
}

/// A [`Lock`] that is held by this thread; dropping it releases the lock.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    /// The thread and the place where it notes this lock; `None` while released over a sleep.
    held: Option<(Rc<Thread>, usize)>,
    _of_this_thread: PhantomData<*const ()>,
}

/// A lock that a wait drops over its sleep: [`LockGuard`], or a guard of any other lock wrapped by its user.
pub trait Relock {
    /// Releases the lock.
    fn release(&mut self);
    /// Takes it again.
    ///
    /// # Errors
    ///
    /// Whatever keeps the lock from being had; the wait ends with that error.
    fn retake(&mut self) -> Result<()>;
}

/// Released over each sleep; lent in turn to the condition and to the sleep.
pub(crate) struct Unlocked<'a, 'g, G>(pub(crate) &'a RefCell<&'g mut G>);

impl<G: Relock> AroundSleep for Unlocked<'_, '_, G> {
    fn before(&mut self) {
        self.0.borrow_mut().release();
    }

    fn after(&mut self) -> Fallible<()> {
        Ok(self.0.borrow_mut().retake()?)
    }
}

impl Lock {
    pub(crate) fn new(region: Region, lock: Ref<RobustLock>) -> Lock {
        Lock { region, lock }
    }

    /// Takes the lock, waiting for it as long as the region's [patience](crate::RegionBuilder::patience).
    ///
    /// # Memory ordering
    ///
    /// What the last owner did before releasing it, or dying, happens before this returns.
    ///
    /// # Crash safety
    ///
    /// If the caller dies with the lock, the next owner gets it at once.
    ///
    /// # Errors
    ///
    /// [`Error::LockStuck`](crate::Error::LockStuck) if a living process kept it for too long;
    /// [`Error::Reentered`](crate::Error::Reentered) if this thread holds it;
    /// [`Error::TooManyLocks`](crate::Error::TooManyLocks); [`Error::Forked`](crate::Error::Forked);
    /// [`Error::Evicted`](crate::Error::Evicted); [`Error::Full`](crate::Error::Full) if no thread is free.
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        self.lock_timeout(self.region.member().settings.patience)
    }

    /// The same, waiting no longer than `timeout`; zero tries once.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>> {
        let thread = self.region.enter()?;
        thread.flush();
        let inside = thread.begin()?;
        let place = thread.locker().free_place()?;
        if thread.locker().lock(&self.lock.word, self.lock.offset(), place, timeout)? == Grip::OwnerDied {
            self.lock.died.store(1, Relaxed);
            crash_point!("user lock: taken over, death noted");
        }
        drop(inside);
        Ok(LockGuard { lock: self, held: Some((thread, place)), _of_this_thread: PhantomData })
    }
}

impl LockGuard<'_> {
    /// Whether an owner died inside, and nobody has repaired the data since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.lock.lock.died.load(Relaxed) != 0
    }

    /// Says that the data is consistent again. Corresponds to `pthread_mutex_consistent`.
    pub fn repaired(&self) {
        if self.held.as_ref().is_some_and(|(thread, _)| !thread.locker().is_forked()) {
            self.lock.lock.died.store(0, Relaxed);
        }
    }
}

impl Relock for LockGuard<'_> {
    fn release(&mut self) {
        if let Some((thread, place)) = self.held.take() {
            // (Refused only in a handler that was handed the guard of the thread it interrupted: then it is released bare.)
            let _inside = thread.begin();
            thread.locker().unlock(&self.lock.lock.word, place);
        }
    }

    fn retake(&mut self) -> Result<()> {
        if self.held.is_none() {
            self.held = self.lock.lock()?.held.take();
        }
        Ok(())
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock(offset {:#x} of {})", self.lock.offset(), self.region.name())
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockGuard({:?}, held: {})", self.lock, self.held.is_some())
    }
}
