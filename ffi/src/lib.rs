//! The C interface of `waitqueue`: what `include/waitqueue.h` declares, and documents.
//!
//! Every function is a few words above a call of the crate: [`call`] has the boundary itself, [`options`] the structs of
//! options. The header is written by hand; a test compares it with the functions here, and compiles it as C and as C++.
//!
//! Conditions are functions of the program, or expressions in it, and a thread may end inside one. So none is called while
//! anything of ours that has to be undone is on the stack: [`wait`] asks, turn by turn, and what a thread leaves behind is
//! undone at its end.
#![allow(unsafe_code)]

mod call;
mod lock;
mod options;
mod queue;
mod region;
mod set;
mod snapshot;
mod wait;

pub use call::{Options, Out, Text};
pub use lock::*;
pub use options::{wq_interrupter, wq_region_options, wq_wait_options};
pub use queue::*;
pub use region::*;
pub use set::*;
pub use snapshot::*;
pub use wait::*;

use std::ffi::{c_char, c_int};

use call::{Failure, status};

/// `WQ_INTERFACE` of the header, as the build script has read it.
const INTERFACE: u32 = match u32::from_str_radix(env!("WQ_INTERFACE"), 10) {
    Ok(number) => number,
    Err(_) => panic!("a decimal number"),
};

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn wq_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Compares a program's header with this library.
#[unsafe(no_mangle)]
pub extern "C" fn wq_check_interface(interface: u32, wait: usize, u32s: usize, u64s: usize) -> c_int {
    status(|| {
        let (program, library) = ((interface, wait, u32s, u64s), (INTERFACE, size_of::<wq_wait>(), 4, 8));
        if program == library {
            return Ok(0);
        }
        let message = format!(
            "the program was compiled for interface {program:?}, this is {library:?}: compile it with the header \
             of this library"
        );
        Err(Failure::new(libc::EPROTO, message))
    })
}

/// What a status means.
#[unsafe(no_mangle)]
pub extern "C" fn wq_strerror(status: c_int) -> *const c_char {
    let text = match status.saturating_neg() {
        ..=0 => c"success",
        libc::ENOENT => c"there is no such region, member or part",
        libc::EEXIST => c"the name is in use",
        libc::EINVAL => c"an argument that cannot be",
        libc::EMEDIUMTYPE => c"not a region",
        libc::EPROTO => c"of another version",
        libc::EPERM => c"of somebody else, or held by another thread",
        libc::EACCES => c"the region's mode or seals are not what was asked",
        libc::ERANGE => c"the region is smaller than was asked",
        libc::EUCLEAN => c"the region is damaged",
        libc::ENOBUFS => c"a capacity of the region is used up",
        libc::ENOSPC => c"no space for the region",
        libc::ETIMEDOUT => c"the time is over, and the condition false",
        libc::EINTR => c"interrupted, and the condition false",
        libc::ESHUTDOWN => c"the queue was closed, and the condition is false",
        libc::EBUSY => c"in use",
        libc::ESTALE => c"taken for dead: free all handles and open again",
        libc::ECHILD => c"a handle from before fork: open the region again",
        libc::EDEADLK => c"from a signal handler, or a lock that this thread holds",
        libc::ETIME => c"a living process keeps a lock",
        libc::ENOLCK => c"too many locks held by one thread",
        libc::ENOSYS => c"not supported here",
        libc::ENOTRECOVERABLE => c"a defect of the library",
        errno => {
            // SAFETY: any number is allowed; the text is static for those of the system.
            return unsafe { libc::strerror(errno) };
        }
    };
    text.as_ptr()
}

/// What the thread's last failure was.
#[unsafe(no_mangle)]
pub extern "C" fn wq_last_error() -> *const c_char {
    call::last_error()
}
