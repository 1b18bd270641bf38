//! Waiting, turn by turn: a `wq_wait` in a variable of the caller holds the wait, and the caller evaluates.
//!
//! The functions that take conditions do the same, in plain frames: nothing in them has to be dropped, so that a thread may
//! end inside a condition. What it leaves in its `wq_wait` is nobody's then, and its entries are taken off by its end.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};
use std::time::Duration;

use waitqueue::{WaitOptions, Waiting};

use crate::call::{
    Array, Failure, Options, Out, Result, Users, given, leave_handles, set, status, thread, use_handles,
};
use crate::options::numbers::FOREVER;
use crate::options::{self, wq_wait_options};
use crate::queue::wq_queue;

/// A condition, or NULL.
#[allow(non_camel_case_types)]
pub type wq_condition = Option<unsafe extern "C-unwind" fn(context: *mut c_void) -> c_int>;

/// A queue and what is waited for there.
#[allow(non_camel_case_types, missing_docs)]
#[repr(C)]
pub struct wq_source {
    pub queue: *const wq_queue,
    pub condition: wq_condition,
    pub context: *mut c_void,
    pub flags: u32,
    pub class_mask: u32,
    pub key: u32,
    pub reserved: u32,
}

/// A wait, or the place of one.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct wq_wait {
    /// [`UNDER_WAY`] or [`IN_A_CALL`], or anything else for a wait that has ended or not begun.
    state: u64,
    /// Whose it is.
    thread: u64,
    /// Where it was begun: a copy is no wait.
    place: usize,
    active: MaybeUninit<Active>,
    _room: [MaybeUninit<u64>; ROOM],
}

struct Active {
    waiting: Waiting<'static>,
    /// Of a set: that a wait on it is under way.
    of_set: Option<&'static Cell<bool>>,
}

/// What memory hardly says that nobody has written to.
const UNDER_WAY: u64 = u64::from_be_bytes(*b"wq wait\0");
/// The same while a call works on it, which a signal handler may have interrupted.
const IN_A_CALL: u64 = u64::from_be_bytes(*b"wq call\0");
/// The size in the header.
const SIZE: usize = 64 * size_of::<u64>();
const ROOM: usize = (SIZE - 3 * size_of::<u64>() - size_of::<Active>()) / size_of::<u64>();
const _: () = assert!(size_of::<wq_wait>() == SIZE && align_of::<wq_wait>() <= align_of::<u64>());

impl wq_wait {
    /// An empty one in a variable of the caller.
    pub(crate) fn empty<'a>(out: Out<'a, wq_wait>) -> Result<&'a mut wq_wait> {
        let wait = given(out, "wait")?;
        // SAFETY: it is there to be written to.
        unsafe { (&raw mut (*wait.as_mut_ptr()).state).write(0) };
        // SAFETY: likewise.
        unsafe { (&raw mut (*wait.as_mut_ptr()).thread).write(0) };
        // SAFETY: likewise.
        unsafe { (&raw mut (*wait.as_mut_ptr()).place).write(0) };
        // SAFETY: its other fields need not have a value.
        Ok(unsafe { wait.assume_init_mut() })
    }

    /// (Made where it is to be: it is large, and a copy of it costs.)
    #[inline]
    pub(crate) fn begin<'u, 'w>(
        &mut self,
        users: impl Iterator<Item = &'u Users>,
        of_set: Option<&'static Cell<bool>>,
        waiting: impl FnOnce() -> Waiting<'w>,
        prepare: fn(&mut Waiting) -> waitqueue::Result<()>,
    ) -> Result<c_int> {
        use_handles(self.id(), users)?;
        let place = self.active.as_mut_ptr();
        // SAFETY: what it borrows are handles, which are not freed while they count it as their user, and options, which the
        // header wants there until its end.
        unsafe { (&raw mut (*place).waiting).cast::<Waiting<'w>>().write(waiting()) };
        // SAFETY: another field of the same place.
        unsafe { (&raw mut (*place).of_set).write(of_set) };
        (self.state, self.thread, self.place) = (UNDER_WAY, thread(), self.id());
        let begun = self.call(prepare)?;
        if begun.is_err() {
            self.end();
        }
        Ok(begun.map(|()| 0)?)
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn is_under_way(&self) -> bool {
        self.state == UNDER_WAY && self.thread == thread() && self.place == self.id()
    }

    /// Refuses a signal handler that has interrupted a call for this wait.
    fn check(&self) -> Result<()> {
        let is_in_a_call = self.state == IN_A_CALL && self.thread == thread();
        if is_in_a_call { Err(Failure::Reentered) } else { Ok(()) }
    }

    #[inline(always)]
    fn call<T>(&mut self, body: impl FnOnce(&mut Waiting<'static>) -> T) -> Result<T> {
        /// Says how far it is, for a handler to read.
        struct InACall(*mut u64);
        impl InACall {
            fn say(&self, state: u64) {
                compiler_fence(SeqCst);
                // SAFETY: a field of the wait that the call works on.
                unsafe { self.0.write_volatile(state) };
                compiler_fence(SeqCst);
            }
        }
        impl Drop for InACall {
            fn drop(&mut self) {
                self.say(UNDER_WAY);
            }
        }
        self.check()?;
        if !self.is_under_way() {
            return Err(Failure::invalid(
                "the wait has ended, has not begun, is another thread's, or a copy",
            ));
        }
        let call = InACall(&raw mut self.state);
        call.say(IN_A_CALL);
        // SAFETY: it is under way, so both fields were written.
        Ok(body(&mut unsafe { self.active.assume_init_mut() }.waiting))
    }

    /// Ends it, if it was under way.
    fn end(&mut self) {
        if self.is_under_way() {
            self.state = 0;
            leave_handles(self.id());
            // SAFETY: it was under way, so both fields were written; this ends it, so they are dropped once.
            let Active { of_set, .. } = unsafe { self.active.assume_init_ref() };
            of_set.inspect(|under_way| under_way.set(false));
            // SAFETY: likewise.
            unsafe { self.active.assume_init_drop() };
        }
    }

    /// Which condition to evaluate next; an error ends it.
    #[inline(always)]
    fn next(&mut self) -> Result<u32> {
        let outcome = self.call(Waiting::next_condition)?;
        if outcome.is_err() {
            self.end();
        }
        Ok(outcome? as u32)
    }
}

/// Begins a wait whose condition was false just now.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_begin_wait(
    queue: Option<&wq_queue>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<wq_wait>,
) -> c_int {
    on_one(queue, options, nanoseconds, out, |waiting| waiting.check())
}

/// Begins a wait, enrolled.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_prepare_to_wait(
    queue: Option<&wq_queue>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<wq_wait>,
) -> c_int {
    on_one(queue, options, nanoseconds, out, |waiting| waiting.enrol())
}

fn on_one(
    queue: Option<&wq_queue>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<wq_wait>,
    prepare: fn(&mut Waiting) -> waitqueue::Result<()>,
) -> c_int {
    status(|| {
        let (wait, queue) = (wq_wait::empty(out)?, given(queue, "queue")?);
        let (options, interrupter) = options::wait(&options, nanoseconds)?;
        let users = std::iter::once(&queue.users).chain(interrupter.map(|handle| &handle.users));
        wait.begin(users, None, || queue.queue.begin_wait(&options), prepare)
    })
}

/// Says that the condition was false.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_sleep(wait: Option<&mut wq_wait>) -> c_int {
    status(|| given(wait, "wait")?.next().map(|_| 0))
}

/// The same, and which to evaluate.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_next(wait: Option<&mut wq_wait>, out: Out<u32>) -> c_int {
    status(|| {
        let out = given(out, "out")?;
        Ok(set(Some(out), given(wait, "wait")?.next()?))
    })
}

/// Whether a wake has chosen it.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_was_chosen(wait: Option<&mut wq_wait>) -> c_int {
    status(|| Ok(given(wait, "wait")?.call(|waiting| waiting.was_chosen())?.into()))
}

/// Whether nobody waited when it began.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_was_first(wait: Option<&mut wq_wait>) -> c_int {
    status(|| Ok(given(wait, "wait")?.call(|waiting| waiting.was_first())?.into()))
}

/// Ends a wait whose condition was true.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_finish(wait: Option<&mut wq_wait>) -> i64 {
    let mut left = 0;
    let status = status(|| {
        let wait = given(wait, "wait")?;
        wait.check()?;
        if let Ok(time) = wait.call(Waiting::finish) {
            left = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
            wait.end();
        }
        Ok(0)
    });
    if status < 0 { status.into() } else { left }
}

/// Ends a wait for another reason.
#[unsafe(no_mangle)]
pub extern "C" fn wq_wait_cancel(wait: Option<&mut wq_wait>) -> c_int {
    status(|| {
        let wait = given(wait, "wait")?;
        wait.check()?;
        wait.end();
        Ok(0)
    })
}

/// Waits for a function.
///
/// # Safety
///
/// Of this and all other functions with conditions: they can be called with their contexts.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wq_queue_wait_event(
    queue: Option<&wq_queue>,
    condition: wq_condition,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { wq_queue_wait_event_with(queue, condition, context, Options::NONE, FOREVER, None) }
}

/// The same with options and a time.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wq_queue_wait_event_with(
    queue: Option<&wq_queue>,
    condition: wq_condition,
    context: *mut c_void,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<u64>,
) -> c_int {
    let (Some(evaluate), true) = (condition, queue.is_some()) else {
        return status(|| given(queue, "queue").and(given(condition, "condition")).map(|_| 0));
    };
    // SAFETY: the caller's contract.
    if unsafe { evaluate(context) } != 0 {
        return set(out, nanoseconds.max(1));
    }
    let mut place = MaybeUninit::uninit();
    let mut status = wq_queue_begin_wait(queue, options, nanoseconds, Some(&mut place));
    // SAFETY: beginning has written it, in any case.
    let wait = unsafe { place.assume_init_mut() };
    while status == 0 {
        status = wq_wait_sleep(Some(wait));
        // SAFETY: the caller's contract.
        if status == 0 && unsafe { evaluate(context) } != 0 {
            let left = wq_wait_finish(Some(wait)).unsigned_abs();
            return set(out, if nanoseconds == FOREVER { FOREVER } else { left });
        }
    }
    status
}

/// Waits for a wake.
#[unsafe(no_mangle)]
pub extern "C" fn wq_queue_wait_woken(
    queue: Option<&wq_queue>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<u64>,
) -> c_int {
    status(|| {
        let queue = given(queue, "queue")?;
        let (options, interrupter) = options::wait(&options, nanoseconds)?;
        let _used = (queue.users.enter(), interrupter.map(|handle| handle.users.enter()));
        let left: Duration = queue.queue.wait_woken(&options)?;
        Ok(set(out, u64::try_from(left.as_nanos()).unwrap_or(FOREVER)))
    })
}

/// Begins a wait on many queues.
#[unsafe(no_mangle)]
pub extern "C" fn wq_begin_wait_many(
    sources: *const wq_source,
    count: u32,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<wq_wait>,
) -> c_int {
    status(|| {
        let wait = wq_wait::empty(out)?;
        let sources = Array::new(sources, count as usize).get("sources")?;
        let (options, interrupter) = options::sleep(&options, nanoseconds)?;
        let queue = |source: &wq_source| {
            // SAFETY: NULL, or a handle.
            given(unsafe { source.queue.as_ref() }, "the queue of a source")
        };
        let on = |source: &wq_source| -> Result<(_, WaitOptions)> {
            Ok((&queue(source)?.queue, options::entry(source.flags, source.class_mask, source.key)?))
        };
        let on_all = sources.iter().map(on).collect::<Result<Vec<_>>>()?;
        let waiting = Waiting::on_many(&on_all, &options)?;
        let users = sources.iter().filter_map(|source| queue(source).ok()).map(|queue| &queue.users);
        wait.begin(
            users.chain(interrupter.map(|handle| &handle.users)),
            None,
            || waiting,
            |waiting| waiting.check(),
        )
    })
}

/// Waits on many queues.
///
/// # Safety
///
/// As [`wq_queue_wait_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wq_wait_many(
    sources: *const wq_source,
    count: u32,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<u32>,
) -> c_int {
    if out.is_none() {
        return self::status(|| given(out, "out").map(|_| 0));
    }
    // First of all, as in every wait. What is not given is refused below.
    let listed = if sources.is_null() { 0 } else { count };
    for at in 0..listed {
        // SAFETY: an array of that length.
        let source = unsafe { &*sources.add(at as usize) };
        let Some(evaluate) = source.condition.filter(|_| !source.queue.is_null()) else {
            break;
        };
        // SAFETY: the caller's contract.
        if unsafe { evaluate(source.context) } != 0 {
            return set(out, at);
        }
    }
    let mut place = MaybeUninit::uninit();
    let mut status = wq_begin_wait_many(sources, count, options, nanoseconds, Some(&mut place));
    if status != 0 {
        return status;
    }
    // SAFETY: it has begun.
    let wait = unsafe { place.assume_init_mut() };
    let mut at = MaybeUninit::uninit();
    while status == 0 {
        status = wq_wait_next(Some(wait), Some(&mut at));
        if status != 0 {
            break;
        }
        // SAFETY: written by each success.
        let at = unsafe { at.assume_init() };
        // SAFETY: the place of a source, so less than `count`, in an array of that length.
        let source = unsafe { &*sources.add(at as usize) };
        let Some(evaluate) = source.condition else {
            wq_wait_cancel(Some(wait));
            return self::status(|| given(source.condition, "the condition of a source").map(|_| 0));
        };
        // SAFETY: the caller's contract.
        if unsafe { evaluate(source.context) } != 0 {
            wq_wait_finish(Some(wait));
            return set(out, at);
        }
    }
    status
}
