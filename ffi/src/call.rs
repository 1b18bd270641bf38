//! The boundary: pointers come in checked, errors go out as negative numbers with a message kept, panics go nowhere.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call fails: an errno value, and the message for `wq_last_error`.
pub(crate) struct Failure {
    errno: c_int,
    message: String,
}

impl Failure {
    pub(crate) fn new(errno: c_int, message: impl Into<String>) -> Failure {
        Failure { errno, message: message.into() }
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
}

/// Runs a function's body: its value, or the negative errno of its failure, whose message is kept.
pub(crate) fn status(body: impl FnOnce() -> Result<c_int>) -> c_int {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(_) => {
            Failure::new(libc::ENOTRECOVERABLE, "internal error: a panic in the library, please report it")
        }
    };
    // A message has no zero bytes: names are checked before they get into one.
    let message = CString::new(failure.message).unwrap_or_default();
    // At the end of a thread its message may be gone already; the number is enough then.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
    -failure.errno
}

pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// What a handle points to.
///
/// # Safety
///
/// `handle` is NULL or was returned by this library and not freed yet.
pub(crate) unsafe fn handle<'a, T>(handle: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: the caller's contract.
    unsafe { handle.as_ref() }.ok_or_else(|| null(what))
}

/// The text of a name.
///
/// # Safety
///
/// `text` is NULL or a string that ends with a zero byte, and does not change during the call.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL; the caller's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(libc::EINVAL, format!("{what} {text:?} is not UTF-8")))
}

/// Somewhere to write a result to, checked before anything is done.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    ///
    /// `place` is NULL or can be written to until the call returns.
    pub(crate) unsafe fn required(place: *mut T) -> Result<Out<T>> {
        if place.is_null() { Err(null("out")) } else { Ok(Out(place)) }
    }

    /// # Safety
    ///
    /// As [`Out::required`].
    pub(crate) unsafe fn optional(place: *mut T) -> Out<T> {
        Out(place)
    }

    /// Writes the result of a call that succeeded.
    pub(crate) fn set(self, value: T) -> c_int {
        if !self.0.is_null() {
            // SAFETY: not NULL, and writable by the contract of whoever made this.
            unsafe { self.0.write(value) };
        }
        0
    }
}

pub(crate) fn null(what: &str) -> Failure {
    Failure::new(libc::EINVAL, format!("{what} is NULL"))
}
