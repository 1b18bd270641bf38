//! The boundary: pointers come in checked, errors go out as negative numbers with a message kept, panics go nowhere.
//!
//! What a C program may pass as NULL arrives as an `Option`; strings, options and results are types of their own. So the
//! functions above this have nothing to cast.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Why a call fails. (A pointer, so that results are returned in registers.)
pub(crate) enum Failure {
    /// In a signal handler, which may have interrupted the allocator: nothing is made for it.
    Reentered,
    Other(Box<Reason>),
}

/// An errno value, and the message for `wq_last_error`.
pub(crate) struct Reason {
    errno: c_int,
    message: String,
}

impl Failure {
    #[cold]
    pub(crate) fn new(errno: c_int, message: impl Into<String>) -> Failure {
        Failure::Other(Box::new(Reason { errno, message: message.into() }))
    }

    pub(crate) fn busy(message: impl Into<String>) -> Failure {
        Failure::new(libc::EBUSY, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(libc::EINVAL, message)
    }
}

impl From<waitqueue::Error> for Failure {
    #[cold]
    fn from(error: waitqueue::Error) -> Failure {
        match error {
            waitqueue::Error::Reentered { .. } => Failure::Reentered,
            _ => Failure::new(error.errno(), error.to_string()),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

thread_local! {
    /// The last failure's message: a static one, or what is in `MADE`.
    static LAST_ERROR: Cell<*const c_char> = const { Cell::new(c"".as_ptr()) };
    static MADE: RefCell<CString> = RefCell::default();
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
#[inline(always)]
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

/// The same where files are opened or closed, which are cancellation points, as no function of ours is.
pub(crate) fn uncancelled(body: impl FnOnce() -> Result<c_int>) -> c_int {
    waitqueue::uncancelled(|| status(body))
}

#[cold]
fn fail(failure: Failure) -> c_int {
    const REENTERED: &CStr =
        c"this thread is already inside a call on that region, or holds the lock it asks for: in signal \
        handlers call only what the header allows there, and take a lock once";
    let (errno, text) = match failure {
        Failure::Reentered => (libc::EDEADLK, REENTERED.as_ptr()),
        Failure::Other(reason) => {
            // It has no zero bytes: names are checked before they get into one.
            let text = CString::new(reason.message).unwrap_or_default();
            // At the end of a thread its message may be gone already, and a handler may have interrupted this: the number
            // is enough then.
            let keep = |made: &RefCell<CString>| {
                let mut made = made.try_borrow_mut().ok()?;
                *made = text;
                Some(made.as_ptr())
            };
            (reason.errno, MADE.try_with(keep).ok().flatten().unwrap_or(c"".as_ptr()))
        }
    };
    LAST_ERROR.set(text);
    -errno
}

pub(crate) fn last_error() -> *const c_char {
    let is_over = MADE.try_with(|_| ()).is_err();
    if is_over { c"".as_ptr() } else { LAST_ERROR.get() }
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
    // The last one detaches.
    uncancelled(|| {
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

/// In which process a handle was made.
pub(crate) struct Origin(u64);

impl Origin {
    pub(crate) fn here() -> Origin {
        Origin(waitqueue::fork_epoch())
    }

    /// Whether a fork has copied it since.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.0 != waitqueue::fork_epoch()
    }
}

/// How many waits use a handle that must not be freed meanwhile.
pub(crate) struct Users {
    count: AtomicU32,
    origin: Origin,
}

impl Users {
    pub(crate) fn none() -> Users {
        Users { count: AtomicU32::new(0), origin: Origin::here() }
    }

    /// How many there are; of the waits that a fork has copied, only those of the thread that forked.
    pub(crate) fn count(&self) -> u32 {
        if self.origin.is_elsewhere() {
            let mine = |inside: &RefCell<Inside>| {
                inside.try_borrow().map_or(0, |inside| {
                    inside.0.iter().filter(|(_, users)| std::ptr::eq(*users, self)).count() as u32
                })
            };
            return INSIDE.try_with(mine).unwrap_or(0);
        }
        self.count.load(Acquire)
    }

    /// From here on until its end a wait uses the handle that lets no thread end inside it.
    pub(crate) fn enter(&self) -> impl Drop {
        struct Use<'u>(&'u Users);
        impl Drop for Use<'_> {
            fn drop(&mut self) {
                leave(self.0);
            }
        }
        self.count.fetch_add(1, Relaxed);
        Use(self)
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
    // ORDERING: release pairs with the acquire in `count`: whoever then frees the handle comes after our last use of it.
    // SAFETY: it lies in a handle that is not freed while it counts us.
    unsafe { &*users }.count.fetch_sub(1, Release);
}

/// From here on a wait uses these handles. Refused to a signal handler that has interrupted this.
pub(crate) fn use_handles<'u>(wait: usize, handles: impl Iterator<Item = &'u Users>) -> Result<()> {
    let note = |inside: &RefCell<Inside>| {
        let mut inside = inside.try_borrow_mut().map_err(|_| Failure::Reentered)?;
        for users in handles {
            users.count.fetch_add(1, Relaxed);
            inside.0.push((wait, users));
        }
        Ok(())
    };
    // (At the end of a thread nobody can see that it uses them.)
    INSIDE.try_with(note).unwrap_or(Ok(()))
}

/// A wait has ended.
pub(crate) fn leave_handles(wait: usize) {
    let _ = INSIDE.try_with(|inside| {
        let leave_those = |mut inside: std::cell::RefMut<Inside>| {
            // Waits end in the reverse order of their beginnings, nearly always.
            while let Some((_, users)) = inside.0.pop_if(|(other, _)| *other == wait) {
                leave(users);
            }
            inside.0.retain(|(other, users)| {
                if *other == wait {
                    leave(*users);
                }
                *other != wait
            });
        };
        inside.try_borrow_mut().map(leave_those)
    });
}
