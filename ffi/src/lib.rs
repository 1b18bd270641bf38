//! The C interface of `waitqueue`: what `include/waitqueue.h` declares, and documents.
//!
//! Every function is a few words above a call of the crate: [`call`] has the boundary itself. The header is written
//! by hand; a test compares it with the functions here, and compiles it as C and as C++.
#![allow(unsafe_code)]

mod call;
mod queue;
mod region;

pub use queue::*;
pub use region::*;

use std::ffi::c_char;
use std::ffi::c_int;

use call::{Failure, status};

/// `WQ_INTERFACE` in the header.
const INTERFACE: u32 = 1;

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn wq_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Compares a program's header with this library.
#[unsafe(no_mangle)]
pub extern "C" fn wq_check_interface(interface: u32, woken: usize, u32s: usize, u64s: usize) -> c_int {
    status(|| {
        let (program, library) = ((interface, woken, u32s, u64s), (INTERFACE, size_of::<wq_woken>(), 4, 8));
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

/// What the thread's last failure was.
#[unsafe(no_mangle)]
pub extern "C" fn wq_last_error() -> *const c_char {
    call::last_error()
}
