//! The boundary: pointers come in checked, errors go out as negative numbers with a message kept, panics go nowhere.
//!
//! What a C program may pass as NULL arrives as an `Option`; strings, options and results are types of their own. So the
//! functions above this have nothing to cast.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Why a call fails: an errno value, and the message for `wq_last_error`.
pub(crate) struct Failure {
    errno: c_int,
    message: String,
}

impl Failure {
    pub(crate) fn new(errno: c_int, message: impl Into<String>) -> Failure {
        Failure { errno, message: message.into() }
    }

    pub(crate) fn busy(message: impl Into<String>) -> Failure {
        Failure::new(libc::EBUSY, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(libc::EINVAL, message)
    }
}

impl From<waitqueue::Error> for Failure {
    fn from(error: waitqueue::Error) -> Failure {
        Failure::new(error.errno(), error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
    static INSIDE: RefCell<Inside> = const { RefCell::new(Inside(Vec::new())) };
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// The number of the calling thread, which no other gets.
pub(crate) fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    THREAD.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

/// Runs a function's body: its value, or the negative errno of its failure, whose message is kept.
pub(crate) fn status(body: impl FnOnce() -> Result<c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => fail(failure),
        Err(_) => fail(Failure::new(
            libc::ENOTRECOVERABLE,
            "internal error: a panic in the library, please report it",
        )),
    }
}

#[cold]
fn fail(failure: Failure) -> c_int {
    // A message has no zero bytes: names are checked before they get into one.
    let message = CString::new(failure.message).unwrap_or_default();
    // At the end of a thread its message may be gone already; the number is enough then.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
    -failure.errno
}

pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// A pointer that must not be NULL.
pub(crate) fn given<T>(pointer: Option<T>, what: &str) -> Result<T> {
    pointer.ok_or_else(|| Failure::invalid(format!("{what} is NULL")))
}

/// A string as C has it: NULL, or ending with a zero byte.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The text, which has to be there.
    pub(crate) fn get<'a>(self, what: &str) -> Result<&'a str> {
        given(self.optional(what)?, what)
    }

    pub(crate) fn optional<'a>(self, what: &str) -> Result<Option<&'a str>> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL; the header wants a string that ends and does not change during the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(Some).map_err(|_| Failure::invalid(format!("{what} {text:?} is not UTF-8")))
    }
}

/// An array as C has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Array<T> {
    start: *const T,
    count: usize,
}

impl<T> Array<T> {
    pub(crate) fn new(start: *const T, count: usize) -> Array<T> {
        Array { start, count }
    }

    pub(crate) fn get<'a>(self, what: &str) -> Result<&'a [T]> {
        if self.count == 0 {
            return Ok(&[]);
        }
        if self.start.is_null() {
            return Err(Failure::invalid(format!(
                "{what} are NULL, and not {} as their count says",
                self.count
            )));
        }
        // SAFETY: not NULL; the header wants an array of that length, which does not change during the call.
        Ok(unsafe { std::slice::from_raw_parts(self.start, self.count) })
    }
}

/// Options as C has them: NULL for the defaults, or a struct that begins with its size and may be of a later header.
#[repr(transparent)]
pub struct Options<T>(*const T);

impl<T: Copy> Options<T> {
    /// The defaults.
    pub(crate) const NONE: Options<T> = Options(std::ptr::null());

    pub(crate) fn get(&self, what: &str) -> Result<Option<T>> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL; all of these structs begin with their size.
        let size = unsafe { *self.0.cast::<usize>() };
        let known = size_of::<T>();
        // SAFETY: so much of it is there, as it says itself; the upper bound keeps a wild number from being believed.
        let is_zero = |at: usize| unsafe { *self.0.cast::<u8>().add(at) == 0 };
        if size < known || size > known + 4096 || !(known..size).all(is_zero) {
            let message = format!(
                "the size of {what} is {size}, this library knows {known}: begin with {what}_default(), and use \
                 the header of this library"
            );
            return Err(Failure::invalid(message));
        }
        // SAFETY: it is as large as we know it, or larger.
        Ok(Some(unsafe { self.0.read() }))
    }
}

/// Somewhere to write a result to, which nobody has to have written to before.
pub type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Writes a result that the caller may not want.
pub(crate) fn set<T>(out: Out<T>, value: T) -> c_int {
    if let Some(out) = out {
        out.write(value);
    }
    0
}

/// Gives a handle back, unless it is `busy`. NULL is harmless.
pub(crate) fn free<T>(handle: *mut T, busy: impl FnOnce(&T) -> Option<Failure>) -> c_int {
    status(|| {
        // SAFETY: NULL, or a handle of ours that is not freed yet.
        let Some(shared) = (unsafe { handle.as_ref() }) else {
            return Ok(0);
        };
        if let Some(failure) = busy(shared) {
            return Err(failure);
        }
        // SAFETY: it came from a box, nobody uses it, and the caller gives it up.
        drop(unsafe { Box::from_raw(handle) });
        Ok(0)
    })
}

/// How many waits use a handle that must not be freed meanwhile.
#[derive(Default)]
pub(crate) struct Users(AtomicU32);

impl Users {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Acquire)
    }
}

/// The handles that this thread's waits use, and which wait it is: a thread that ends in a wait does not come to its end.
struct Inside(Vec<(usize, *const Users)>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, users)| leave(*users));
    }
}

fn leave(users: *const Users) {
    // SAFETY: it lies in a handle that is not freed while it counts us.
    unsafe { &*users }.0.fetch_sub(1, Release);
}

/// From here on a wait uses a handle.
pub(crate) fn use_handle(wait: usize, users: &Users) {
    users.0.fetch_add(1, Relaxed);
    let _ = INSIDE.try_with(|inside| inside.borrow_mut().0.push((wait, users)));
}

/// A wait has ended.
pub(crate) fn leave_handles(wait: usize) {
    let _ = INSIDE.try_with(|inside| {
        let all = &mut inside.borrow_mut().0;
        if let [(other, users)] = all[..]
            && other == wait
        {
            leave(users);
            all.clear();
        }
        all.retain(|(other, users)| {
            if *other == wait {
                leave(*users);
            }
            *other != wait
        });
    });
}
