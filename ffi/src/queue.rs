//! Waking.

use std::ffi::c_int;
use std::num::NonZeroU32;

use waitqueue::{Queue, WakeOptions, Woken};

use crate::call::{Failure, Out, Users, free, given, set, status};

/// A wait queue, and how many waits use this handle.
#[allow(non_camel_case_types)]
pub struct wq_queue {
    pub(crate) queue: Queue,
    pub(crate) users: Users,
}

impl wq_queue {
    pub(crate) fn boxed(queue: Queue) -> Box<wq_queue> {
        Box::new(wq_queue { queue, users: Users::none() })
    }
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

impl From<Woken> for wq_woken {
    fn from(Woken { exclusive, nonexclusive, .. }: Woken) -> wq_woken {
        wq_woken { exclusive, nonexclusive }
    }
}

/// Wakes.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_wake_up(
    queue: Option<&wq_queue>,
    count: u32,
    class_mask: u32,
    key: u32,
    out: Out<wq_woken>,
) -> c_int {
    // What is done most often, without the way out of a failure.
    if queue.is_some_and(|queue| !queue.queue.has_sleepers()) && count != 0 {
        return set(out, wq_woken { exclusive: 0, nonexclusive: 0 });
    }
    status(|| {
        let queue = given(queue, "queue")?;
        let none = || Failure::invalid("a count of 0 wakes nobody: WQ_ALL wakes all");
        let count = NonZeroU32::new(count).ok_or_else(none)?;
        let options = WakeOptions::new().nr(count).class(class_mask).key(key);
        Ok(set(out, queue.queue.wake_up_with(&options)?.into()))
    })
}

/// Wakes, and puts the system calls off.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_wake_up_sync(queue: Option<&wq_queue>, out: Out<wq_woken>) -> c_int {
    status(|| Ok(set(out, given(queue, "queue")?.queue.begin_wake_up_sync()?.into())))
}

/// Closes the queue for everybody.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_close(queue: Option<&wq_queue>, out: Out<u32>) -> c_int {
    status(|| Ok(set(out, given(queue, "queue")?.queue.close()?)))
}

/// Whether it was closed.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_is_closed(queue: Option<&wq_queue>) -> c_int {
    status(|| Ok(given(queue, "queue")?.queue.is_closed().into()))
}

/// Whether anybody waits.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_has_sleepers(queue: Option<&wq_queue>) -> c_int {
    status(|| Ok(given(queue, "queue")?.queue.has_sleepers().into()))
}

/// Whether anybody waits, in no order with what the caller did.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_has_sleepers_without_fence(queue: Option<&wq_queue>) -> c_int {
    status(|| Ok(given(queue, "queue")?.queue.has_sleepers_without_fence().into()))
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_free(queue: *mut wq_queue) -> c_int {
    free(queue, |queue| {
        let waits = queue.users.count();
        let name = queue.queue.name();
        (waits != 0)
            .then(|| Failure::busy(format!("{waits} waits on queue {name} have not ended: wake them first")))
    })
}
