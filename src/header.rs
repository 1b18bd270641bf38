//! A region's first page: written once, before the region appears, and read with suspicion ever after.

use crate::atomic::{Guarded32, Ordering::*};
use crate::error::{Error, Label, Result};
use crate::layout::{LAYOUT, MAGIC, VERSION};
use crate::offset::{Capacity, header_of};
use crate::sys::clock::wall_clock;
use crate::sys::map::Mapping;

/// The largest capacities. Participants and threads together have to fit into the 16 bits of a lock word, entries into
/// the 24 of a waiter word.
pub(crate) const PARTICIPANTS: u64 = 1 << 15;
pub(crate) const THREADS: u64 = (1 << 15) - 1;
pub(crate) const ENTRIES: u64 = (1 << 24) - 2;
pub(crate) const OBJECTS: u64 = 1 << 20;
pub(crate) const MEMORY: u64 = 1 << 40;

/// Writes the header of a region whose other bytes are zero; the magic last.
pub(crate) fn format(mapping: &Mapping, capacity: &Capacity) -> Result<()> {
    let header = header_of(mapping)?;
    header.version.store(VERSION, Relaxed);
    header.layout.store(LAYOUT, Relaxed);
    header.size.store(mapping.len() as u64, Relaxed);
    header.participants.store(capacity.participants, Relaxed);
    header.threads.store(capacity.threads, Relaxed);
    header.entries.store(capacity.entries, Relaxed);
    header.objects.store(capacity.objects, Relaxed);
    header.memory.store(capacity.memory, Relaxed);
    header.created.store(wall_clock(), Relaxed);
    header.magic.store(MAGIC, Release);
    Ok(())
}

/// The capacities of a region, each read once; that they fit the file is checked when the space is made.
pub(crate) fn read_header(mapping: &Mapping) -> Result<Capacity> {
    let header = header_of(mapping)?;
    let region: Label = mapping.label().clone();
    let magic = header.magic.load(Acquire);
    if magic != MAGIC {
        return Err(Error::NotARegion { region, why: format!("it starts with {magic:#018x}") });
    }
    let found = header.version.load(Relaxed);
    if found != VERSION {
        return Err(Error::WrongVersion { region, found, expected: VERSION });
    }
    let found = header.layout.load(Relaxed);
    if found != LAYOUT {
        return Err(Error::WrongLayout { region, found, expected: LAYOUT });
    }
    let size = header.size.load(Relaxed);
    let damaged = |what, at, value| Error::Damaged { region: region.clone(), what, at, value };
    if size != mapping.len() as u64 {
        return Err(damaged("size in the header", 24, size));
    }
    let within = |what, at, count: u64, max| match (1..=max).contains(&count) {
        true => Ok(count),
        false => Err(damaged(what, at, count)),
    };
    let small = |field: &Guarded32| u64::from(field.load(Relaxed));
    Ok(Capacity {
        participants: within("participants in the header", 32, small(&header.participants), PARTICIPANTS)?
            as u32,
        threads: within("threads in the header", 36, small(&header.threads), THREADS)? as u32,
        entries: within("entries in the header", 40, small(&header.entries), ENTRIES)? as u32,
        objects: within("objects in the header", 12, small(&header.objects), OBJECTS)? as u32,
        memory: within("memory in the header", 48, header.memory.load(Relaxed), MEMORY)?,
    })
}
