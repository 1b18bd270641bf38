//! Robust locks. A guard is kept in the handle: whoever holds the lock is alone with it.

use std::cell::{RefCell, UnsafeCell};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::*, compiler_fence};
use std::time::Duration;

use waitqueue::{Lock, LockGuard};

use crate::call::{Failure, Origin, Result, free, given, status, thread};

/// A lock, and what its holder holds by this handle.
#[allow(non_camel_case_types)]
pub struct wq_lock {
    /// There while `holder` is not 0. What a holder left who has ended, or did not fork along, is nobody's to drop.
    guard: UnsafeCell<MaybeUninit<LockGuard<'static>>>,
    /// The thread; 0 if it is not held by this handle.
    holder: AtomicU64,
    lock: Lock,
    origin: Origin,
}

thread_local! {
    /// What says of handles that this thread holds their locks.
    static HELD: RefCell<Held> = const { RefCell::new(Held(Vec::new())) };
}

struct Held(Vec<*const AtomicU64>);

/// A thread that ends holds nothing: the next owner learns of it, and the handle may be freed.
impl Drop for Held {
    fn drop(&mut self) {
        for holder in &self.0 {
            // ORDERING: release pairs with the acquire in `wq_lock_free`.
            // SAFETY: it lies in a handle that is not freed while it says that we hold the lock.
            let _ = unsafe { &**holder }.compare_exchange(thread(), 0, Release, Relaxed);
        }
    }
}

fn note(change: impl FnOnce(&mut Vec<*const AtomicU64>)) {
    // (Where a signal handler has interrupted this, the worst is a handle that cannot be freed after its thread's end.)
    let _ = HELD.try_with(|held| held.try_borrow_mut().map(|mut held| change(&mut held.0)));
}

impl wq_lock {
    pub(crate) fn boxed(lock: Lock) -> Box<wq_lock> {
        let (guard, holder) = (UnsafeCell::new(MaybeUninit::uninit()), AtomicU64::new(0));
        Box::new(wq_lock { guard, holder, lock, origin: Origin::here() })
    }

    fn keep(&self, guard: LockGuard) -> c_int {
        let owner_died = guard.owner_died();
        // SAFETY: it borrows `lock`, which lives as long as this handle, and this is not moved out of its box.
        let guard = unsafe { std::mem::transmute::<LockGuard<'_>, LockGuard<'static>>(guard) };
        // SAFETY: who holds the lock is alone here.
        unsafe { self.guard.get().write(MaybeUninit::new(guard)) };
        self.holder.store(thread(), Relaxed);
        note(|held| held.push(&raw const self.holder));
        owner_died.into()
    }

    /// The guard of this thread, which is alone with it.
    fn held(&self) -> Result<&LockGuard<'static>> {
        if self.holder.load(Relaxed) != thread() {
            let message = format!("{:?} is not held by this thread by this handle", self.lock);
            return Err(Failure::new(libc::EPERM, message));
        }
        if self.origin.is_elsewhere() {
            let message =
                format!("{:?} is held by the process that forked this one: open the region here", self.lock);
            return Err(Failure::new(libc::ECHILD, message));
        }
        // SAFETY: this thread holds the lock, so it is there.
        Ok(unsafe { (*self.guard.get()).assume_init_ref() })
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

/// Whether an owner died inside.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_owner_died(lock: Option<&wq_lock>) -> c_int {
    status(|| Ok(given(lock, "lock")?.held()?.owner_died().into()))
}

/// Says that the data is consistent again.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_repaired(lock: Option<&wq_lock>) -> c_int {
    status(|| {
        given(lock, "lock")?.held()?.repaired();
        Ok(0)
    })
}

/// Releases the lock.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_unlock(lock: Option<&wq_lock>) -> c_int {
    status(|| {
        let lock = given(lock, "lock")?;
        lock.held()?;
        // Before somebody else can have it, and before a signal handler could read the guard a second time.
        lock.holder.store(0, Relaxed);
        compiler_fence(SeqCst);
        // SAFETY: this thread is alone with the guard, which is there.
        let guard = unsafe { (*lock.guard.get()).assume_init_read() };
        note(|held| held.retain(|holder| !std::ptr::eq(*holder, &raw const lock.holder)));
        drop(guard);
        Ok(0)
    })
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_lock_free(lock: *mut wq_lock) -> c_int {
    free(lock, |lock| {
        let is_held = lock.holder.load(Acquire) != 0 && !lock.origin.is_elsewhere();
        is_held.then(|| Failure::busy(format!("{:?} is held by this handle: unlock it first", lock.lock)))
    })
}
