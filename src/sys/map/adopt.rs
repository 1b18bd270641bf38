//! Regions inside a segment that the `shared_memory` crate made or opened.
#![allow(unsafe_code)]

use rustix::fs::{self, Mode, OFlags};
use shared_memory::Shmem;

use super::{Access, FileId, Mapping, Place, WARY, allocate, checks, failed, not_a_region, open_error, vet};
use crate::error::{Label, Result};

/// Kept as long as the region, for the name that it unlinks and the mapping that it has made for its owner.
pub(super) struct Adopted(#[expect(dead_code, reason = "kept for its drop")] Shmem);

// SAFETY: nothing is called on it any more but its drop, which unmaps, unlinks and closes: any thread may do that.
unsafe impl Send for Adopted {}
// SAFETY: as above; a shared reference to it gives access to nothing.
unsafe impl Sync for Adopted {}

/// Maps the segment's file once more, under the rules of every other region. A segment is made without space of its
/// own, so it gets its space here.
pub(crate) fn adopt(shmem: Shmem, access: &Access) -> Result<Mapping> {
    let place = Place::named(shmem.get_os_id())?;
    let (label, full) = (place.label(), place.full());
    let fd = fs::open(&full, WARY | OFlags::RDWR, Mode::empty())
        .map_err(|errno| open_error(&label, errno, fs::lstat(&full).map_or(0, |stat| stat.st_mode)))?;
    let stat = fs::fstat(&fd).map_err(failed(&label, "fstat"))?;
    checks::check_kind(&label, &stat, 1..=1)?;
    vet(&fd, &stat, access, &label)?;
    if file_behind(shmem.as_ptr().addr(), &label)? != FileId::of(&stat) {
        return Err(not_a_region(&label, "its name leads to another file than the one that is mapped"));
    }
    allocate(&fd, u64::try_from(stat.st_size).unwrap_or(0), &label)?;
    let stat = fs::fstat(&fd).map_err(failed(&label, "fstat"))?;
    let mut mapping = Mapping::new(fd, &stat, Some(place), label, true)?;
    mapping._adopted = Some(Adopted(shmem));
    Ok(mapping)
}

/// The file mapped at an address, from the kernel's list: `from-to rights offset major:minor inode name`.
fn file_behind(address: usize, label: &Label) -> Result<FileId> {
    let maps =
        std::fs::read_to_string("/proc/self/maps").map_err(|_| not_a_region(label, "there is no /proc"))?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let (major, minor) = fields.nth(2)?.split_once(':')?;
        let inside = (hex(from)?..hex(to)?).contains(&(address as u64));
        let dev = fs::makedev(u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?);
        let ino = fields.next()?.parse().ok()?;
        inside.then_some(FileId { dev, ino })
    };
    maps.lines().find_map(parse).ok_or_else(|| not_a_region(label, "its segment is not mapped"))
}
