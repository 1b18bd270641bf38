//! Waiting and waking.

use std::ffi::{c_int, c_void};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use waitqueue::{Queue, WaitOptions, WakeOptions, Woken};

use crate::call::{Failure, Out, Result, handle, null, status};

/// A wait queue, and how many calls are inside it.
#[allow(non_camel_case_types)]
pub struct wq_queue {
    queue: Queue,
    calls: AtomicU32,
}

/// How many waiters a wake has reached.
#[allow(non_camel_case_types)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_woken {
    /// Exclusive ones.
    pub exclusive: u32,
    /// The others.
    pub nonexclusive: u32,
}

/// A condition, or NULL.
#[allow(non_camel_case_types)]
pub type wq_condition = Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>;

impl wq_queue {
    pub(crate) fn boxed(queue: Queue) -> *mut wq_queue {
        Box::into_raw(Box::new(wq_queue { queue, calls: AtomicU32::new(0) }))
    }

    /// Runs a call on it, during which it is not to be freed.
    ///
    /// # Safety
    ///
    /// `queue` is NULL or a handle that was not freed.
    unsafe fn call<T>(queue: *const wq_queue, body: impl FnOnce(&Queue) -> Result<T>) -> Result<T> {
        struct Inside<'a>(&'a AtomicU32);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Release);
            }
        }
        // SAFETY: the caller's contract.
        let this = unsafe { handle(queue, "queue") }?;
        this.calls.fetch_add(1, Relaxed);
        let _inside = Inside(&this.calls);
        body(&this.queue)
    }
}

/// Sleeps until the condition is true.
///
/// # Safety
///
/// Of this and all other functions: pointers are NULL or what the header says. The condition can be called with the
/// context, and returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wait_event(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    status(|| unsafe { wait(queue, condition, context, &WaitOptions::new()) }.map(|_| 0))
}

/// The same, for at most so long.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wait_event_timeout(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
    nanoseconds: u64,
    out: *mut u64,
) -> c_int {
    // SAFETY: the caller's contract.
    status(|| unsafe { wait_timeout(queue, condition, context, WaitOptions::new(), nanoseconds, out) })
}

/// As an exclusive waiter.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wait_event_exclusive(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    status(|| unsafe { wait(queue, condition, context, &WaitOptions::new().exclusive()) }.map(|_| 0))
}

/// Both.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wait_event_exclusive_timeout(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
    nanoseconds: u64,
    out: *mut u64,
) -> c_int {
    let options = WaitOptions::new().exclusive();
    // SAFETY: the caller's contract.
    status(|| unsafe { wait_timeout(queue, condition, context, options, nanoseconds, out) })
}

unsafe fn wait_timeout(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
    options: WaitOptions,
    nanoseconds: u64,
    out: *mut u64,
) -> Result<c_int> {
    let options = match nanoseconds {
        u64::MAX => options,
        _ => options.timeout(Duration::from_nanos(nanoseconds)),
    };
    // SAFETY: the caller's contract.
    let left = unsafe { wait(queue, condition, context, &options) }?;
    // SAFETY: the caller's contract.
    Ok(unsafe { Out::optional(out) }.set(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
}

unsafe fn wait(
    queue: *const wq_queue,
    condition: wq_condition,
    context: *mut c_void,
    options: &WaitOptions,
) -> Result<Duration> {
    let condition = condition.ok_or_else(|| null("condition"))?;
    // SAFETY: the caller's contract.
    let evaluate = || unsafe { condition(context) } != 0;
    // SAFETY: the caller's contract.
    unsafe { wq_queue::call(queue, |queue| Ok(queue.wait_event_with(options, evaluate)?)) }
}

/// Wakes all non-exclusive waiters and one exclusive.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wake_up(queue: *const wq_queue, out: *mut wq_woken) -> c_int {
    // SAFETY: the caller's contract.
    status(|| unsafe { wake(queue, WakeOptions::new(), out) })
}

/// Wakes all non-exclusive waiters and so many exclusive.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wake_up_nr(
    queue: *const wq_queue,
    count: u32,
    out: *mut wq_woken,
) -> c_int {
    status(|| {
        let none =
            || Failure::new(libc::EINVAL, "a count of 0 wakes nobody: use wq_queue_wake_up_all for all");
        let count = NonZeroU32::new(count).ok_or_else(none)?;
        // SAFETY: the caller's contract.
        unsafe { wake(queue, WakeOptions::new().nr(count), out) }
    })
}

/// Wakes all.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_wake_up_all(queue: *const wq_queue, out: *mut wq_woken) -> c_int {
    // SAFETY: the caller's contract.
    status(|| unsafe { wake(queue, WakeOptions::new().all(), out) })
}

unsafe fn wake(queue: *const wq_queue, options: WakeOptions, out: *mut wq_woken) -> Result<c_int> {
    // SAFETY: the caller's contract.
    let woken = unsafe { wq_queue::call(queue, |queue| Ok(queue.wake_up_with(&options)?)) }?;
    let Woken { exclusive, nonexclusive, .. } = woken;
    // SAFETY: the caller's contract.
    Ok(unsafe { Out::optional(out) }.set(wq_woken { exclusive, nonexclusive }))
}

/// Closes the queue for everybody.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_close(queue: *const wq_queue, out: *mut u32) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let enrolled = unsafe { wq_queue::call(queue, |queue| Ok(queue.close()?)) }?;
        // SAFETY: the caller's contract.
        Ok(unsafe { Out::optional(out) }.set(enrolled))
    })
}

/// Whether anybody waits.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_has_sleepers(queue: *const wq_queue) -> c_int {
    // SAFETY: the caller's contract.
    status(|| Ok(unsafe { handle(queue, "queue") }?.queue.has_sleepers().into()))
}

/// Gives a handle back.
///
/// # Safety
///
/// As [`wq_queue_wait_event`]; the handle is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_queue_free(queue: *mut wq_queue) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let Some(this) = (unsafe { queue.as_ref() }) else {
            return Ok(0);
        };
        let calls = this.calls.load(Acquire);
        if calls != 0 {
            let message =
                format!("{calls} calls on queue {} have not returned: wake them first", this.queue.name());
            return Err(Failure::new(libc::EBUSY, message));
        }
        // SAFETY: it was made by `boxed`, nobody is inside, and the caller gives it up.
        drop(unsafe { Box::from_raw(queue) });
        Ok(0)
    })
}
