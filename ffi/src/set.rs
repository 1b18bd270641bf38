//! Sets of queues on which a thread stays enrolled.

use std::cell::{Cell, UnsafeCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering::*, compiler_fence};

use waitqueue::{Member, WaitSet};

use crate::call::{Failure, Options, Origin, Out, Result, free, given, set, status, thread, uncancelled};
use crate::options::numbers::FOREVER;
use crate::options::{self, wq_wait_options};
use crate::queue::wq_queue;
use crate::region::wq_region;
use crate::wait::{wq_condition, wq_wait, wq_wait_cancel, wq_wait_finish, wq_wait_next};

/// A set, and what its members are asked.
#[allow(non_camel_case_types)]
pub struct wq_set {
    /// A wait that is under way borrows it, and so do calls of the thread that made it while none is.
    set: UnsafeCell<WaitSet>,
    under_way: Cell<bool>,
    /// Whether a call works on it, which a signal handler may have interrupted.
    in_a_call: AtomicBool,
    /// By the members' numbers, none of which is used again.
    asks: UnsafeCell<Asks>,
    thread: u64,
    origin: Origin,
}

/// Until it is dropped a call works on the set.
struct InACall<'s>(&'s AtomicBool);

impl<'s> InACall<'s> {
    fn begin(place: &'s AtomicBool) -> InACall<'s> {
        place.store(true, Relaxed);
        compiler_fence(SeqCst);
        InACall(place)
    }
}

impl Drop for InACall<'_> {
    fn drop(&mut self) {
        compiler_fence(SeqCst);
        self.0.store(false, Relaxed);
    }
}

type Asks = HashMap<u32, (wq_condition, *mut c_void)>;

impl wq_set {
    fn check(&self) -> Result<()> {
        if self.thread != thread() {
            return Err(Failure::new(libc::EPERM, "the set belongs to the thread that made it"));
        }
        if self.in_a_call.load(Relaxed) {
            return Err(Failure::Reentered);
        }
        if self.under_way.get() {
            return Err(Failure::busy("a wait on the set is under way: finish or cancel it first"));
        }
        Ok(())
    }

    #[allow(clippy::mut_from_ref)]
    fn parts(&self) -> Result<(&mut WaitSet, &mut Asks, InACall<'_>)> {
        self.check()?;
        let call = InACall::begin(&self.in_a_call);
        // SAFETY: the calls of one thread follow one another, and no wait has the set.
        Ok(unsafe { (&mut *self.set.get(), &mut *self.asks.get(), call) })
    }

    fn ask(&self, member: u32) -> Option<(wq_condition, *mut c_void)> {
        // SAFETY: only this thread changes it, and not now.
        unsafe { &*self.asks.get() }.get(&member).copied()
    }

    fn no_member(member: u32) -> Failure {
        Failure::new(libc::ENOENT, format!("there is no member {member} in the set"))
    }
}

/// Makes a set.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_new(region: Option<&wq_region>, out: Out<Box<wq_set>>) -> c_int {
    // (A map asks the kernel for random numbers.)
    uncancelled(|| {
        let (region, out) = (given(region, "region")?, given(out, "out")?);
        let (under_way, asks) = (Cell::new(false), UnsafeCell::default());
        let made = UnsafeCell::new(WaitSet::new(&region.0)?);
        let (thread, origin) = (thread(), Origin::here());
        let in_a_call = AtomicBool::new(false);
        Ok(set(Some(out), Box::new(wq_set { set: made, under_way, in_a_call, asks, thread, origin })))
    })
}

/// Adds a queue.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_add(
    this: Option<&wq_set>,
    queue: Option<&wq_queue>,
    condition: wq_condition,
    context: *mut c_void,
    options: Options<wq_wait_options>,
    out: Out<u32>,
) -> c_int {
    status(|| {
        let (queue, out) = (given(queue, "queue")?, given(out, "out")?);
        let (members, asks, _call) = given(this, "set")?.parts()?;
        let number = members.add(&queue.queue, &options::wait(&options, FOREVER)?.0)?.number();
        asks.insert(number, (condition, context));
        Ok(set(Some(out), number))
    })
}

/// Removes a queue.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_remove(this: Option<&wq_set>, member: u32) -> c_int {
    status(|| {
        let this = given(this, "set")?;
        let (members, asks, _call) = this.parts()?;
        if !asks.contains_key(&member) {
            return Err(wq_set::no_member(member));
        }
        members.remove(Member::new(member))?;
        asks.remove(&member);
        Ok(0)
    })
}

/// Begins a wait.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_begin_wait(
    this: Option<&wq_set>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<wq_wait>,
) -> c_int {
    status(|| {
        let (wait, this) = (wq_wait::empty(out)?, given(this, "set")?);
        let (members, _, _call) = this.parts()?;
        let (options, interrupter) = options::sleep(&options, nanoseconds)?;
        this.under_way.set(true);
        // SAFETY: the set is not freed while a wait on it is under way.
        let under_way = unsafe { &*std::ptr::from_ref(&this.under_way) };
        let users = interrupter.map(|handle| &handle.users).into_iter();
        let begun =
            wait.begin(users, Some(under_way), || members.begin_wait(&options), |waiting| waiting.check());
        begun.inspect_err(|_| this.under_way.set(false))
    })
}

/// Waits.
///
/// # Safety
///
/// The members' conditions can be called with their contexts.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wq_set_wait(
    this: Option<&wq_set>,
    options: Options<wq_wait_options>,
    nanoseconds: u64,
    out: Out<u32>,
) -> c_int {
    let (Some(members), true) = (this, out.is_some()) else {
        return status(|| given(this.and(out), "set or out").map(|_| 0));
    };
    let mut place = MaybeUninit::uninit();
    let mut status = wq_set_begin_wait(this, options, nanoseconds, Some(&mut place));
    // SAFETY: beginning has written it, in any case.
    let wait = unsafe { place.assume_init_mut() };
    let mut member = MaybeUninit::uninit();
    while status == 0 {
        status = wq_wait_next(Some(wait), Some(&mut member));
        if status != 0 {
            break;
        }
        // SAFETY: written by each success.
        let number = unsafe { member.assume_init() };
        let Some((Some(evaluate), context)) = members.ask(number) else {
            wq_wait_cancel(Some(wait));
            let message = format!("member {number} has no condition: use wq_set_begin_wait and wq_wait_next");
            return self::status(|| Err(Failure::invalid(message)));
        };
        // SAFETY: the caller's contract.
        if unsafe { evaluate(context) } != 0 {
            wq_wait_finish(Some(wait));
            return set(out, number);
        }
    }
    status
}

/// Makes the next wait ask every member.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_ask_all(this: Option<&wq_set>) -> c_int {
    status(|| {
        given(this, "set")?.parts()?.0.ask_all();
        Ok(0)
    })
}

/// How many wakes met a member.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_take_fired(this: Option<&wq_set>, member: u32, out: Out<u32>) -> c_int {
    status(|| {
        let (this, out) = (given(this, "set")?, given(out, "out")?);
        let (members, asks, _call) = this.parts()?;
        let fired = asks.contains_key(&member).then(|| members.take_fired(Member::new(member)));
        Ok(set(Some(out), fired.ok_or_else(|| wq_set::no_member(member))?))
    })
}

/// Leaves all queues.
#[unsafe(no_mangle)]
pub extern "C" fn wq_set_free(this: *mut wq_set) -> c_int {
    free(this, |set| {
        // What a fork has copied is in use only by a wait of the thread that forked.
        let is_free = set.origin.is_elsewhere() && !(set.under_way.get() && set.thread == thread());
        if is_free { None } else { set.check().err() }
    })
}
