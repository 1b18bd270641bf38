//! Robust locks. A guard is kept in the handle: whoever holds the lock is alone with it.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use waitqueue::{Lock, LockGuard};

use crate::call::{Failure, Result, free, given, status, thread};

/// A lock, and what its holder holds by this handle.
#[allow(non_camel_case_types)]
pub struct wq_lock {
    /// Before what it borrows from.
    guard: UnsafeCell<Option<LockGuard<'static>>>,
    /// The thread; 0 if it is not held by this handle.
    holder: AtomicU64,
    lock: Lock,
}

impl wq_lock {
    pub(crate) fn boxed(lock: Lock) -> Box<wq_lock> {
        Box::new(wq_lock { guard: UnsafeCell::new(None), holder: AtomicU64::new(0), lock })
    }

    fn keep(&self, guard: LockGuard) -> c_int {
        let owner_died = guard.owner_died();
        // SAFETY: it borrows `lock`, which lives as long as this handle, and this is not moved out of its box.
        let guard = unsafe { std::mem::transmute::<LockGuard<'_>, LockGuard<'static>>(guard) };
        // SAFETY: who holds the lock is alone here. What a holder left who has ended is not to be dropped by another thread.
        unsafe { self.guard.get().write(Some(guard)) };
        self.holder.store(thread(), Relaxed);
        owner_died.into()
    }

    /// Where the guard of this thread is, which is alone with it.
    fn held(&self) -> Result<*mut Option<LockGuard<'static>>> {
        if self.holder.load(Relaxed) != thread() {
            let message = format!("{:?} is not held by this thread by this handle", self.lock);
            return Err(Failure::new(libc::EPERM, message));
        }
        Ok(self.guard.get())
    }
}

/// Takes the lock.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_lock(lock: Option<&wq_lock>) -> c_int {
    status(|| {
        let lock = given(lock, "lock")?;
        Ok(lock.keep(lock.lock.lock()?))
    })
}

/// Takes the lock, if that is possible in time.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_lock_timeout(lock: Option<&wq_lock>, nanoseconds: u64) -> c_int {
    status(|| {
        let lock = given(lock, "lock")?;
        Ok(lock.keep(lock.lock.lock_timeout(Duration::from_nanos(nanoseconds))?))
    })
}

/// Says that the data is consistent again.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_repaired(lock: Option<&wq_lock>) -> c_int {
    status(|| {
        let held = given(lock, "lock")?.held()?;
        // SAFETY: this thread is alone with it.
        unsafe { &*held }.as_ref().inspect(|guard| guard.repaired());
        Ok(0)
    })
}

/// Releases the lock.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_unlock(lock: Option<&wq_lock>) -> c_int {
    status(|| {
        let lock = given(lock, "lock")?;
        // SAFETY: this thread is alone with it.
        let guard = unsafe { &mut *lock.held()? }.take();
        // Before somebody else can have it.
        lock.holder.store(0, Relaxed);
        drop(guard);
        Ok(0)
    })
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_free(lock: *mut wq_lock) -> c_int {
    free(lock, |lock| {
        let is_held = lock.holder.load(Relaxed) != 0;
        is_held.then(|| Failure::busy(format!("{:?} is held by this handle: unlock it first", lock.lock)))
    })
}
