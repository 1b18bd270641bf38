//! Named objects: a table that only grows, read without a lock and extended under one.
//!
//! An object is complete from the moment its `state` is stored, and that is the last store. So whoever dies before has
//! created nothing, whoever comes after finds the place free, and there is nothing to repair. Where user memory ends
//! is not stored anywhere: it is computed from the objects, so it cannot disagree with them. Memory beyond that end
//! was never handed out, and is zero since the region was made.

use crate::atomic::Ordering::*;
use crate::crash::{crash_point, mutant};
use crate::error::{Error, Fallible, Result};
use crate::head::REGION_LOCK;
use crate::layout::{ALIGN, Object, READY};
use crate::offset::Space;
use crate::thread::Thread;

/// What an object is: found must equal asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape<'a> {
    pub(crate) tag: &'a str,
    pub(crate) size: u64,
    pub(crate) align: u32,
}

/// The longest name of an object or queue, and the longest tag, in bytes.
pub(crate) const NAME_MAX: usize = 63;
pub(crate) const TAG_MAX: usize = 31;

/// The object's offset, creating it zeroed if there is none of that name.
pub(crate) fn find_or_create(thread: &Thread, what: &'static str, name: &str, shape: Shape) -> Result<u64> {
    check_text(what, name, NAME_MAX, "it must have 1 to 63 bytes, none of them zero")?;
    check_text("type tag", shape.tag, TAG_MAX, "it must have 1 to 31 bytes, none of them zero")?;
    let space = thread.space();
    if let Some(offset) = find(space, name, shape)? {
        return Ok(offset);
    }
    locked(thread, || match find(space, name, shape)? {
        Some(offset) => Ok(offset),
        None => create(space, name, shape),
    })?
}

/// Takes the lock over from an owner who died, and releases it: he left nothing to repair.
pub(crate) fn release(thread: &Thread) -> Fallible<()> {
    locked(thread, || ())
}

fn locked<R>(thread: &Thread, body: impl FnOnce() -> R) -> Fallible<R> {
    let word = &thread.space().header().directory_lock;
    let offset = thread.space().offset_of(word).unwrap_or_default();
    let _inside = thread.begin()?;
    thread.locker().lock(word, offset, REGION_LOCK, thread.patience)?;
    let outcome = body();
    thread.locker().unlock(word, REGION_LOCK);
    Ok(outcome)
}

/// All complete objects, with their names.
pub(crate) fn objects(space: &Space) -> impl Iterator<Item = (&Object, String)> {
    (space.objects().iter())
        .filter(|object| object.state.load(Acquire) == READY)
        .map(|object| (object, object.name.load()))
}

fn find(space: &Space, name: &str, shape: Shape) -> Result<Option<u64>> {
    let Some((object, _)) = objects(space).find(|(_, found)| found == name) else {
        return Ok(None);
    };
    let (size, align, tag) = (object.size.load(Relaxed), object.align.load(Relaxed), object.tag.load());
    let mismatch = |what, found: String, asked: String| {
        Err(Error::ObjectMismatch {
            region: space.label().clone(),
            name: name.to_owned(),
            what,
            found,
            asked,
        })
    };
    if tag != shape.tag {
        return mismatch("type tag", format!("{tag:?}"), format!("{:?}", shape.tag));
    }
    if size != shape.size {
        return mismatch("size", size.to_string(), shape.size.to_string());
    }
    if align != shape.align {
        return mismatch("alignment", align.to_string(), shape.align.to_string());
    }
    Ok(Some(object.offset.load(Relaxed)))
}

/// Under the directory lock.
fn create(space: &Space, name: &str, shape: Shape) -> Result<u64> {
    let (start, room) = space.memory();
    let full = |what, capacity| Error::Full { region: space.label().clone(), what, capacity };
    let end = objects(space)
        .map(|(object, _)| object.offset.load(Relaxed).saturating_add(object.size.load(Relaxed)))
        .fold(start, u64::max);
    // Objects do not share cache lines: those who wait for one should not be slowed by writes to another.
    let offset = end.checked_next_multiple_of(ALIGN).ok_or_else(|| full("memory", room))?;
    if offset.checked_add(shape.size).is_none_or(|end| end > start + room) {
        return Err(full("memory", room));
    }
    let place = space.objects().iter().find(|object| object.state.load(Acquire) != READY);
    let object = place.ok_or_else(|| full("objects", space.objects().len() as u64))?;
    if mutant("object published before it is written") {
        object.state.store(READY, Release);
    }
    object.name.store(name);
    object.tag.store(shape.tag);
    object.offset.store(offset, Relaxed);
    object.size.store(shape.size, Relaxed);
    object.align.store(shape.align, Relaxed);
    crash_point!("directory: written, not published");
    // ORDERING: publishes all of the above to readers without the lock.
    object.state.store(READY, Release);
    crash_point!("directory: published");
    Ok(offset)
}

/// A text that is to be stored in a region.
pub(crate) fn check_text(what: &'static str, text: &str, max: usize, rule: &'static str) -> Result<()> {
    if text.is_empty() || text.len() > max || text.contains('\0') {
        return Err(Error::BadName { what, name: text.chars().take(80).collect(), rule });
    }
    Ok(())
}
