//! Regions and the objects in them.

use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use waitqueue::{ParticipantId, QueueHead, Region, RegionBuilder, RobustLock, Shared};

use crate::call::{Failure, Options, Out, Result, Text, Users, free, given, set, status, uncancelled};
use crate::lock::wq_lock;
use crate::options::{self, wq_interrupter, wq_region_options};
use crate::queue::wq_queue;

/// A region to which this process is attached.
#[allow(non_camel_case_types)]
pub struct wq_region(pub(crate) Region);

type OutRegion<'a> = Out<'a, Box<wq_region>>;

/// Creates a region.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_create(name: Text, options: Options<wq_region_options>, out: OutRegion) -> c_int {
    attach(name, options, out, RegionBuilder::create, RegionBuilder::create_at)
}

/// Opens a region.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_open(name: Text, options: Options<wq_region_options>, out: OutRegion) -> c_int {
    attach(name, options, out, RegionBuilder::open, RegionBuilder::open_at)
}

/// Opens a region, or creates it.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_open_or_create(
    name: Text,
    options: Options<wq_region_options>,
    out: OutRegion,
) -> c_int {
    attach(name, options, out, RegionBuilder::open_or_create, RegionBuilder::open_or_create_at)
}

type Attach<'a> = fn(RegionBuilder, &'a str) -> waitqueue::Result<Region>;

fn attach<'a>(
    name: Text,
    options: Options<wq_region_options>,
    out: OutRegion,
    by_name: Attach<'a>,
    by_path: Attach<'a>,
) -> c_int {
    uncancelled(|| {
        let (name, out) = (name.get("name")?, given(out, "out")?);
        let (builder, is_path) = options::region(&options)?;
        let region = if is_path { by_path } else { by_name }(builder, name)?;
        Ok(set(Some(out), Box::new(wq_region(region))))
    })
}

/// Creates a region without a name.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_create_memfd(
    label: Text,
    options: Options<wq_region_options>,
    out: OutRegion,
) -> c_int {
    uncancelled(|| {
        let (label, out) = (label.get("label")?, given(out, "out")?);
        let region = options::region(&options)?.0.create_memfd(label)?;
        Ok(set(Some(out), Box::new(wq_region(region))))
    })
}

/// Opens a region by a descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_open_fd(fd: c_int, options: Options<wq_region_options>, out: OutRegion) -> c_int {
    uncancelled(|| {
        let out = given(out, "out")?;
        let no_descriptor = || Failure::new(libc::EBADF, format!("{fd} is not an open descriptor"));
        if fd < 0 {
            return Err(no_descriptor());
        }
        // SAFETY: a number that is not open fails to be cloned.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(|_| no_descriptor())?;
        let region = options::region(&options)?.0.open_fd(fd)?;
        Ok(set(Some(out), Box::new(wq_region(region))))
    })
}

/// A descriptor to pass on.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_fd(region: Option<&wq_region>) -> c_int {
    uncancelled(|| Ok(given(region, "region")?.0.try_clone_fd()?.into_raw_fd()))
}

/// Removes a region's name.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_unlink(name: Text) -> c_int {
    uncancelled(|| Ok(Region::unlink(name.get("name")?).map(|()| 0)?))
}

/// Removes a region's file.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_unlink_at(path: Text) -> c_int {
    uncancelled(|| Ok(Region::builder().unlink_at(path.get("path")?).map(|()| 0)?))
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_free(region: *mut wq_region) -> c_int {
    free(region, |_| None)
}

/// This attachment's own id.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_me(region: Option<&wq_region>, out: Out<u64>) -> c_int {
    status(|| Ok(set(Some(given(out, "out")?), given(region, "region")?.0.me().get())))
}

/// Whether a participant lives.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_is_alive(region: Option<&wq_region>, participant: u64) -> c_int {
    status(|| {
        let region = given(region, "region")?;
        Ok(ParticipantId::new(participant).is_some_and(|id| region.0.is_alive(id)).into())
    })
}

/// The queue of a name.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_queue(region: Option<&wq_region>, name: Text, out: Out<Box<wq_queue>>) -> c_int {
    status(|| {
        let (region, name, out) = (given(region, "region")?, name.get("name")?, given(out, "out")?);
        Ok(set(Some(out), wq_queue::boxed(region.0.queue(name)?)))
    })
}

/// What a program points to in a region, where its compiler has not seen to the alignment.
fn aligned<'a, T>(pointer: *const T, what: &str) -> Result<&'a T> {
    if !pointer.is_aligned() {
        let multiple = align_of::<T>();
        return Err(Failure::invalid(format!("{what} {pointer:p} is not at a multiple of {multiple}")));
    }
    // SAFETY: aligned; NULL, or memory of the program, of which the region then sees whether it belongs to it.
    given(unsafe { pointer.as_ref() }, what)
}

/// The queue of a head in an object.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_queue_at(
    region: Option<&wq_region>,
    head: *const QueueHead,
    out: Out<Box<wq_queue>>,
) -> c_int {
    status(|| {
        let (region, head, out) = (given(region, "region")?, aligned(head, "head")?, given(out, "out")?);
        Ok(set(Some(out), wq_queue::boxed(region.0.queue_at(head)?)))
    })
}

/// The lock in an object.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_lock_at(
    region: Option<&wq_region>,
    lock: *const RobustLock,
    out: Out<Box<wq_lock>>,
) -> c_int {
    status(|| {
        let (region, lock, out) = (given(region, "region")?, aligned(lock, "lock")?, given(out, "out")?);
        Ok(set(Some(out), wq_lock::boxed(region.0.lock_at(lock)?)))
    })
}

/// The object of a name, of any type.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_object(
    region: Option<&wq_region>,
    name: Text,
    tag: Text,
    size: usize,
    alignment: usize,
    out: Out<*mut c_void>,
) -> c_int {
    status(|| {
        let out = given(out, "out")?;
        Ok(set(Some(out), object(region, name, tag.get("tag")?, size, alignment)?))
    })
}

/// The object of a name that is one number of 32 bits.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_object_u32(
    region: Option<&wq_region>,
    name: Text,
    out: Out<*mut AtomicU32>,
) -> c_int {
    number(region, name, out)
}

/// The object of a name that is one number of 64 bits.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_object_u64(
    region: Option<&wq_region>,
    name: Text,
    out: Out<*mut AtomicU64>,
) -> c_int {
    number(region, name, out)
}

fn number<T: Shared>(region: Option<&wq_region>, name: Text, out: Out<*mut T>) -> c_int {
    status(|| {
        let out = given(out, "out")?;
        Ok(set(Some(out), object(region, name, T::TAG, size_of::<T>(), align_of::<T>())?.cast()))
    })
}

fn object(
    region: Option<&wq_region>,
    name: Text,
    tag: &str,
    size: usize,
    alignment: usize,
) -> Result<*mut c_void> {
    let (region, name) = (given(region, "region")?, name.get("name")?);
    // Beyond 32 bits it is too large in any case.
    let alignment = u32::try_from(alignment).unwrap_or(u32::MAX);
    Ok(region.0.object_address(name, tag, size as u64, alignment)?.as_ptr().cast())
}

/// Makes the system calls that were put off.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_flush(region: Option<&wq_region>) -> c_int {
    status(|| Ok(given(region, "region")?.0.flush().map(|()| 0)?))
}

/// Checks every queue.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_check(region: Option<&wq_region>) -> c_int {
    status(|| Ok(given(region, "region")?.0.check().map(|()| 0)?))
}

/// A handle that ends waits.
#[unsafe(no_mangle)]
pub extern "C" fn wq_interrupter_new(region: Option<&wq_region>, out: Out<Box<wq_interrupter>>) -> c_int {
    status(|| {
        let (region, out) = (given(region, "region")?, given(out, "out")?);
        let interrupter = waitqueue::Interrupter::new(&region.0);
        Ok(set(Some(out), Box::new(wq_interrupter { interrupter, users: Users::none() })))
    })
}

/// Ends a wait.
#[unsafe(no_mangle)]
pub extern "C" fn wq_interrupter_interrupt(interrupter: Option<&wq_interrupter>) -> c_int {
    status(|| {
        given(interrupter, "interrupter")?.interrupter.interrupt();
        Ok(0)
    })
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_interrupter_free(interrupter: *mut wq_interrupter) -> c_int {
    free(interrupter, |handle| {
        let is_used = handle.users.count() != 0;
        is_used.then(|| Failure::busy("a wait has the interrupter: end it first"))
    })
}
