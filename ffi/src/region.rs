//! Regions and the objects in them.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, AtomicU64};

use waitqueue::{ParticipantId, Region, Shared};

use crate::call::{Out, Result, handle, status, text};
use crate::queue::wq_queue;

/// A region to which this process is attached.
#[allow(non_camel_case_types)]
pub struct wq_region(Region);

/// Creates a region.
///
/// # Safety
///
/// Of this and all other functions: pointers are NULL or what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_create(name: *const c_char, out: *mut *mut wq_region) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { attach(name, out, Region::create) }
}

/// Opens a region.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_open(name: *const c_char, out: *mut *mut wq_region) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { attach(name, out, Region::open) }
}

/// Opens a region, or creates it.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_open_or_create(name: *const c_char, out: *mut *mut wq_region) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { attach(name, out, Region::open_or_create) }
}

unsafe fn attach(
    name: *const c_char,
    out: *mut *mut wq_region,
    how: fn(&str) -> waitqueue::Result<Region>,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let (name, out) = unsafe { (text(name, "name")?, Out::required(out)?) };
        Ok(out.set(Box::into_raw(Box::new(wq_region(how(name)?)))))
    })
}

/// Removes a region's name.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_unlink(name: *const c_char) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        Region::unlink(unsafe { text(name, "name") }?)?;
        Ok(0)
    })
}

/// Gives a handle back.
///
/// # Safety
///
/// As [`wq_region_create`]; the handle is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_free(region: *mut wq_region) {
    status(|| {
        if !region.is_null() {
            // SAFETY: it was made by `attach`, and the caller gives it up.
            drop(unsafe { Box::from_raw(region) });
        }
        Ok(0)
    });
}

/// This attachment's own id.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_me(region: *const wq_region, out: *mut u64) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let (region, out) = unsafe { (handle(region, "region")?, Out::required(out)?) };
        Ok(out.set(region.0.me().get()))
    })
}

/// Whether a participant lives.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_is_alive(region: *const wq_region, participant: u64) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let region = unsafe { handle(region, "region") }?;
        Ok(ParticipantId::new(participant).is_some_and(|id| region.0.is_alive(id)).into())
    })
}

/// The queue of a name.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_queue(
    region: *const wq_region,
    name: *const c_char,
    out: *mut *mut wq_queue,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let (region, name, out) =
            unsafe { (handle(region, "region")?, text(name, "name")?, Out::required(out)?) };
        Ok(out.set(wq_queue::boxed(region.0.queue(name)?)))
    })
}

/// The object of a name, of any type.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_object(
    region: *const wq_region,
    name: *const c_char,
    tag: *const c_char,
    size: usize,
    alignment: usize,
    out: *mut *mut c_void,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::required(out) }?;
        // SAFETY: the caller's contract.
        Ok(out.set(unsafe { object(region, name, text(tag, "tag")?, size, alignment) }?))
    })
}

/// The object of a name that is one number of 32 bits.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_object_u32(
    region: *const wq_region,
    name: *const c_char,
    out: *mut *mut AtomicU32,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { number(region, name, out) }
}

/// The object of a name that is one number of 64 bits.
///
/// # Safety
///
/// As [`wq_region_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wq_region_object_u64(
    region: *const wq_region,
    name: *const c_char,
    out: *mut *mut AtomicU64,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { number(region, name, out) }
}

unsafe fn number<T: Shared>(region: *const wq_region, name: *const c_char, out: *mut *mut T) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::required(out) }?;
        // SAFETY: the caller's contract.
        let address = unsafe { object(region, name, T::TAG, size_of::<T>(), align_of::<T>()) }?;
        Ok(out.set(address.cast()))
    })
}

unsafe fn object(
    region: *const wq_region,
    name: *const c_char,
    tag: &str,
    size: usize,
    alignment: usize,
) -> Result<*mut c_void> {
    // SAFETY: the caller's contract.
    let (region, name) = unsafe { (handle(region, "region")?, text(name, "name")?) };
    // Beyond 32 bits it is too large in any case.
    let alignment = u32::try_from(alignment).unwrap_or(u32::MAX);
    Ok(region.0.object_address(name, tag, size as u64, alignment)?.as_ptr().cast())
}
