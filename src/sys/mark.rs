//! Having the kernel mark a lock holder's death: `list_op_pending` of libc's robust list.
//!
//! When a thread ends, by whatever cause, the kernel looks at the word that its registered robust list names as
//! pending, and if that holds the thread's id it sets `FUTEX_OWNER_DIED` there. It touches no list for that. So while a
//! thread holds a lock it points libc's registered head at a word of its own, and whoever finds the mark there
//! knows at once that this very thread is gone; ids are compared by the kernel in the thread's own namespace.
//!
//! A thread without a registered head (musl registers one with the first robust mutex) cannot be marked, and a
//! signal handler that takes a robust mutex wipes the pointer. The certificate covers both.
#![allow(unsafe_code)]

use std::ffi::{c_long, c_void};
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use super::process::thread_id;
use crate::atomic::AtomicU32;

/// What the kernel sets in a marked word.
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;

/// Makes the kernel wake a sleeper of the word when it sets the mark.
pub(crate) const WAITERS: u32 = 0x8000_0000;

/// The kernel's `struct robust_list_head`.
#[repr(C)]
pub(crate) struct RobustHead {
    pub(crate) first: *mut c_void,
    pub(crate) futex_offset: c_long,
    pub(crate) pending: *mut c_void,
}

/// The calling thread's registered head, or null.
pub(crate) fn registered_head() -> *mut RobustHead {
    let mut head: *mut RobustHead = ptr::null_mut();
    let mut size: usize = 0;
    // SAFETY: both out-pointers are valid, and 0 means the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    if done == 0 && size == size_of::<RobustHead>() { head } else { ptr::null_mut() }
}

/// One thread's way to be marked. Stays on its thread: the head is that thread's memory.
pub(crate) struct Marker {
    head: *mut RobustHead,
    /// The head's offset from a node to its futex word, which libc sets once.
    offset: isize,
}

/// What `list_op_pending` held before; libc may have been interrupted in the middle of its own operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Armed(*mut c_void);

impl Default for Armed {
    fn default() -> Self {
        Armed(ptr::null_mut())
    }
}

impl Marker {
    /// The marker of the calling thread; the same as [`Marker::none`] if it has no registered head.
    pub(crate) fn for_this_thread() -> Marker {
        let head = registered_head();
        if head.is_null() {
            return Marker::none();
        }
        // SAFETY: the kernel returned the head that libc registered for this thread; it lives as long as the thread.
        let offset = unsafe { (&raw const (*head).futex_offset).read_volatile() } as isize;
        // The lowest bit of a pointer means "priority inheritance" to the kernel, so it must not come from us.
        if offset % 4 == 0 { Marker { head, offset } } else { Marker::none() }
    }

    /// A marker that marks nothing.
    pub(crate) const fn none() -> Marker {
        Marker { head: ptr::null_mut(), offset: 0 }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.head.is_null()
    }

    /// What a word must hold for the kernel to mark it when the calling thread dies.
    pub(crate) fn mark_value() -> u32 {
        thread_id() | WAITERS
    }

    /// From here until [`Marker::disarm`] the kernel marks `word` if this thread dies.
    #[inline]
    pub(crate) fn arm(&self, word: &AtomicU32) -> Armed {
        if self.head.is_null() {
            return Armed(ptr::null_mut());
        }
        let node =
            ptr::from_ref(word).cast_mut().cast::<c_void>().wrapping_byte_offset(self.offset.wrapping_neg());
        // ORDERING: only this thread and the kernel at its end look at the pointer: it is the compiler that must not
        // move it into or out of the time during which the lock is held.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the head is this thread's, see `for_this_thread`; libc reads and writes the field on this thread only.
        let before = unsafe {
            let pending = &raw mut (*self.head).pending;
            let before = pending.read_volatile();
            pending.write_volatile(node);
            before
        };
        compiler_fence(Ordering::SeqCst);
        Armed(before)
    }

    /// Ends what the matching [`Marker::arm`] began.
    #[inline]
    pub(crate) fn disarm(&self, armed: Armed) {
        if self.head.is_null() {
            return;
        }
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as in `arm`.
        unsafe { (&raw mut (*self.head).pending).write_volatile(armed.0) };
        compiler_fence(Ordering::SeqCst);
    }
}
