//! What a file must be before it is mapped. Nothing about it is believed: somebody else may have made it.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use rustix::fs::{FileType, Stat};

use crate::error::{Error, Label, Result};

/// Whom we let in: the mode of what we make, and whose files we accept besides our own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Permission bits: 0600, and 0040 or 0060 for the file's group.
    pub(crate) mode: u32,
    /// User ids.
    pub(crate) owners: Vec<u32>,
    /// Group ids; what we make with permissions for a group is given to the first of them.
    pub(crate) groups: Vec<u32>,
}

/// The smallest file that can be a region.
const SMALLEST: u64 = 4096;

/// Where locks, shared mappings or futexes do not do what they must, by the number that `statfs` gives.
const UNFIT: [(u32, &str); 16] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x9584_58f6, "hugetlbfs"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "a VirtualBox folder"),
];

/// tmpfs, and what a memfd lies on.
const TMPFS: u32 = 0x0102_1994;

/// In a user namespace every stranger bears these ids, so they identify nobody.
fn overflow_ids() -> (u32, u32) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    *IDS.get_or_init(|| {
        let read = |path| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let (user, group) = ("/proc/sys/kernel/overflowuid", "/proc/sys/kernel/overflowgid");
        (read(user).unwrap_or(65534), read(group).unwrap_or(65534))
    })
}

pub(crate) fn not_a_region(label: &Label, why: impl Into<String>) -> Error {
    Error::NotARegion { region: label.clone(), why: why.into() }
}

/// Refuses a mode that [`check_mode`] would refuse in everybody else.
pub(crate) fn check_wanted_mode(label: &Label, mode: u32) -> Result<()> {
    if matches!(mode, 0o600 | 0o640 | 0o660) {
        return Ok(());
    }
    let why = "it must be 0600, 0640 or 0660, since a region is never open to all users";
    Err(Error::WrongMode { region: label.clone(), mode, why })
}

/// Kind and number of names; `links` says how many the file may have.
pub(crate) fn check_kind(label: &Label, stat: &Stat, links: std::ops::RangeInclusive<u64>) -> Result<()> {
    let why = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            #[allow(clippy::unnecessary_cast, reason = "the field has other widths elsewhere")]
            let names = stat.st_nlink as u64;
            if links.contains(&names) {
                return Ok(());
            }
            return Err(not_a_region(
                label,
                format!("it has {names} names, of which others may be anywhere"),
            ));
        }
        FileType::Symlink => "it is a symbolic link",
        FileType::Directory => "it is a directory",
        FileType::Fifo => "it is a pipe",
        FileType::Socket => "it is a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "it is a device",
        _ => "it is not a regular file",
    };
    Err(not_a_region(label, why))
}

pub(crate) fn check_owner(label: &Label, stat: &Stat, access: &Access) -> Result<()> {
    let (owner, group) = (stat.st_uid, stat.st_gid);
    let (no_user, no_group) = overflow_ids();
    let me = rustix::process::geteuid().as_raw();
    let by_owner = owner != no_user && (owner == me || access.owners.contains(&owner));
    let by_group = group != no_group && access.groups.contains(&group) && stat.st_mode & 0o060 != 0;
    if by_owner || by_group {
        return Ok(());
    }
    Err(Error::WrongOwner { region: label.clone(), owner, group, me })
}

pub(crate) fn check_mode(label: &Label, stat: &Stat, access: &Access) -> Result<()> {
    let mode = stat.st_mode & 0o7777;
    let our_group =
        stat.st_gid == rustix::process::getegid().as_raw() || access.groups.contains(&stat.st_gid);
    let why = if mode & 0o007 != 0 {
        "every user may open it; remove the permissions of others"
    } else if mode & 0o070 != 0 && (!our_group || stat.st_gid == overflow_ids().1) {
        "a group that is not ours may open it; accept that group in the builder if you trust it"
    } else {
        return Ok(());
    };
    Err(Error::WrongMode { region: label.clone(), mode, why })
}

/// The number of the file system's kind.
fn file_system(label: &Label, fd: BorrowedFd<'_>) -> Result<u32> {
    let stat =
        rustix::fs::fstatfs(fd).map_err(|errno| Error::system(label, "fstatfs", errno.raw_os_error()))?;
    // The kernel's numbers have 32 bits, whatever the width and the sign of the field are.
    #[allow(clippy::unnecessary_cast, reason = "the field has other types elsewhere")]
    Ok(stat.f_type as u32)
}

/// Whether its space is memory.
pub(crate) fn is_memory(label: &Label, fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(file_system(label, fd)? == TMPFS)
}

/// How many bytes the machine can still give. A memfd has no other limit: asking for more would not fail, it would
/// have some process killed.
pub(crate) fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line =
        |key| text.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse().ok());
    let kilobytes = |key| line(key).map(|count: u64| count.saturating_mul(1024));
    match (kilobytes("MemAvailable:"), kilobytes("SwapFree:")) {
        (Some(memory), swap) => memory.saturating_add(swap.unwrap_or(0)),
        (None, _) => u64::MAX,
    }
}

pub(crate) fn check_file_system(label: &Label, fd: BorrowedFd<'_>) -> Result<()> {
    let kind = file_system(label, fd)?;
    match UNFIT.iter().find(|(number, _)| *number == kind) {
        Some((_, name)) => {
            Err(not_a_region(label, format!("it lies on {name}, which processes cannot share like memory")))
        }
        None => Ok(()),
    }
}

/// The file's length, if a region could have it and all of it has its place already: the first touch of a hole on a
/// full file system would be a SIGBUS.
pub(crate) fn check_size(label: &Label, stat: &Stat) -> Result<usize> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let room = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size < SMALLEST {
        return Err(not_a_region(label, format!("it has {size} bytes, fewer than {SMALLEST}")));
    }
    if !size.is_multiple_of(8) {
        return Err(not_a_region(label, format!("its {size} bytes are not a multiple of 8")));
    }
    if room < size {
        return Err(not_a_region(label, format!("sparse: of its {size} bytes only {room} have their space")));
    }
    let size = usize::try_from(size).ok().filter(|size| isize::try_from(*size).is_ok());
    size.ok_or_else(|| not_a_region(label, "it is larger than the address space"))
}
