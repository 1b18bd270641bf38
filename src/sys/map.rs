//! The file behind a region: named in /dev/shm, anywhere by path, or a memfd.
//!
//! A region appears complete or not at all: it is built in a file without a name, with all of its space allocated
//! (a full file system is an error here, not a SIGBUS later), and gets its name by `linkat`. Whoever opens one
//! checks the file before mapping it.
//!
//! What no check excludes: the owner of a named file can truncate it later, and the kernel answers the next
//! access beyond the end with SIGBUS. Only a memfd sealed against shrinking excludes that.
#![allow(unsafe_code)]

#[cfg(feature = "shared_memory")]
mod adopt;
mod checks;
mod descriptor;
mod place;

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::signals;
use crate::error::{Error, Label, Result};
#[cfg(feature = "shared_memory")]
pub(crate) use adopt::adopt;
pub(crate) use checks::Access;
use checks::not_a_region;
pub(crate) use descriptor::{Descriptor, FileId, Refusal};
pub(crate) use place::Place;
use place::bad_name;

/// Without these a peer can take memory away under us.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Up to so many bytes we do not ask whether the machine can give them: any program takes as much without asking.
const SMALL: u64 = 1 << 20;

/// What every opening of a file that may be anything needs.
const WARY: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn failed(label: &Label, call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(label, call, errno.raw_os_error())
}

/// Moves a descriptor from the numbers of the standard streams, which a daemon may have closed: what anybody prints
/// must not go into the region.
fn above_streams(fd: OwnedFd, label: &Label) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { duplicate(fd.as_fd(), label) }
}

/// With a number above those of the standard streams.
fn duplicate(fd: BorrowedFd<'_>, label: &Label) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|errno| match errno {
        // The process may have no number as large as this.
        Errno::INVAL => failed(label, "dup")(Errno::MFILE),
        errno => failed(label, "dup")(errno),
    })
}

/// A file that is mapped as shared memory.
pub(crate) struct Mapping {
    memory: MmapRaw,
    file: Descriptor,
    /// The name it was found or made under.
    place: Option<Place>,
    label: Label,
    writable: bool,
    /// After `memory`: it may unlink the file.
    #[cfg(feature = "shared_memory")]
    _adopted: Option<adopt::Adopted>,
}

impl Mapping {
    fn new(fd: OwnedFd, stat: &Stat, place: Option<Place>, label: Label, writable: bool) -> Result<Mapping> {
        let length = checks::check_size(&label, stat)?;
        let fd = above_streams(fd, &label)?;
        let mut options = MmapOptions::new();
        let options = options.len(length);
        let memory = if writable { options.map_raw(&fd) } else { options.map_raw_read_only(&fd) };
        let memory = memory
            .map_err(|error| Error::system(&label, "mmap", error.raw_os_error().unwrap_or(libc::EIO)))?;
        Ok(Mapping {
            memory,
            file: Descriptor::new(fd, FileId::of(stat)),
            place,
            label,
            writable,
            #[cfg(feature = "shared_memory")]
            _adopted: None,
        })
    }

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether strangers may have it mapped: it has no name, so it may have been passed to anybody, or a group may open it, or
    /// it is somebody else's. (Whoever is of this user could as well stop or trace us.)
    pub(crate) fn has_strangers(&self) -> bool {
        let is_private = |stat: Stat| stat.st_mode & 0o077 == 0 && stat.st_uid == geteuid().as_raw();
        self.place.is_none() || !fs::fstat(&self.file).is_ok_and(is_private)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    pub(crate) fn file_id(&self) -> FileId {
        self.file.id()
    }

    /// Whether the name leads to this file, which it does no more once it was unlinked or replaced.
    pub(crate) fn is_named_as(&self, place: &Place) -> bool {
        fs::lstat(place.full()).is_ok_and(|stat| FileId::of(&stat) == self.file_id())
    }

    /// A duplicate to hand to another process. It shares the mapped open file description, which never holds a lock.
    pub(crate) fn try_clone_fd(&self) -> Result<OwnedFd> {
        let lost = || failed(&self.label, "dup")(Errno::BADF);
        // Asked before, because closing a copy of what the application has under that number may cost it its locks; and
        // after, because it may have changed.
        let copy =
            self.file.is_ours().then(|| duplicate(self.file.as_fd(), &self.label)).ok_or_else(lost)??;
        self.is_behind(&copy).then_some(copy).ok_or_else(lost)
    }

    /// A new open file description of the same file, for locks: through the name, which is the shorter way, or, if that
    /// does not lead there, through the calling thread's own descriptor table, if there is a /proc.
    pub(crate) fn reopen(&self) -> Result<OwnedFd> {
        above_streams(self.reopen_anywhere()?, &self.label)
    }

    fn reopen_anywhere(&self) -> Result<OwnedFd> {
        let Some(place) = &self.place else {
            return self.reopen_by_number().map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR => Error::Unsupported {
                    what: "/proc here, through which a memfd is opened again",
                    since: "mounting proc in this mount namespace",
                },
                _ => open_error(&self.label, errno, fs::fstat(&self.file).map_or(0, |stat| stat.st_mode)),
            });
        };
        let by_name = fs::open(place.full(), WARY | OFlags::RDWR, Mode::empty());
        match by_name {
            Ok(fd) if self.is_behind(&fd) => Ok(fd),
            other => self.reopen_by_number().map_err(|_| match other {
                Ok(_) => not_a_region(&self.label, "its name leads to another file by now"),
                Err(errno) => open_error(&self.label, errno, 0),
            }),
        }
    }

    /// `EBADF` if the number is not ours any more.
    fn reopen_by_number(&self) -> Result<OwnedFd, Errno> {
        if !self.file.is_ours() {
            return Err(Errno::BADF);
        }
        let link = format!("/proc/thread-self/fd/{}", self.file.number());
        let fd = fs::open(link, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        self.is_behind(&fd).then_some(fd).ok_or(Errno::BADF)
    }

    fn is_behind(&self, fd: &OwnedFd) -> bool {
        fs::fstat(fd).is_ok_and(|stat| FileId::of(&stat) == self.file_id())
    }
}

/// A complete file that nobody else can see yet.
pub(crate) struct Draft {
    mapping: Mapping,
    /// The directory in which it will be named; a memfd has none.
    folder: Option<OwnedFd>,
}

/// Makes an unnamed file in the place's directory.
pub(crate) fn draft(place: &Place, size: u64, access: &Access) -> Result<Draft> {
    let label = place.label();
    checks::check_wanted_mode(&label, access.mode)?;
    let full = place.full();
    let folder = full.parent().unwrap_or(Path::new("/"));
    let folder = fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed(&label, "open (the directory)"))?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = match fs::openat(&folder, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let since = "tmpfs, ext4, xfs or btrfs: put the region on one of these";
            return Err(Error::Unsupported { what: "O_TMPFILE on this file system", since });
        }
        Err(errno) => return Err(failed(&label, "open(O_TMPFILE)")(errno)),
    };
    let mapping = furnish(fd, size, access, Some(place.clone()), label)?;
    Ok(Draft { mapping, folder: Some(folder) })
}

/// Makes a memfd, which has no name but the one that messages use.
pub(crate) fn draft_memfd(name: &str, size: u64, access: &Access) -> Result<Draft> {
    if name.contains('\0') || name.len() > 200 {
        return Err(bad_name(name, "it must have at most 200 bytes, and no NUL"));
    }
    let label: Label = format!("memfd:{name}").into();
    checks::check_wanted_mode(&label, access.mode)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know NOEXEC_SEAL, later ones can be told to insist on it.
    let fd = match fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => fs::memfd_create(name, flags),
        other => other,
    };
    let fd = fd.map_err(failed(&label, "memfd_create"))?;
    Ok(Draft { mapping: furnish(fd, size, access, None, label)?, folder: None })
}

/// Gives a new file its owner's group, its mode and its space, and maps it.
fn furnish(fd: OwnedFd, size: u64, access: &Access, place: Option<Place>, label: Label) -> Result<Mapping> {
    checks::check_file_system(&label, fd.as_fd())?;
    let ours = rustix::process::getegid().as_raw();
    if access.mode & 0o070 != 0
        && let Some(group) = access.groups.first().filter(|_| !access.groups.contains(&ours))
    {
        fs::fchown(&fd, None, Some(fs::Gid::from_raw(*group))).map_err(failed(&label, "fchown"))?;
    }
    fs::fchmod(&fd, Mode::from_raw_mode(access.mode)).map_err(failed(&label, "fchmod"))?;
    allocate(&fd, size, &label)?;
    let stat = fs::fstat(&fd).map_err(failed(&label, "fstat"))?;
    Mapping::new(fd, &stat, place, label, true)
}

fn allocate(fd: &OwnedFd, size: u64, label: &Label) -> Result<()> {
    let no_space = || Error::NoSpace { region: label.clone(), needed: size };
    if size > SMALL && checks::is_memory(label, fd.as_fd())? && size > checks::available_memory() {
        return Err(no_space());
    }
    // A timer's signal would undo a long allocation again and again.
    let _quiet = signals::block_all_but(&[]);
    loop {
        match fs::fallocate(fd, FallocateFlags::empty(), 0, size) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::FBIG | Errno::INVAL | Errno::NOMEM | Errno::DQUOT) => {
                return Err(no_space());
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let since = "tmpfs, ext4, xfs or btrfs: put the region on one of these";
                return Err(Error::Unsupported { what: "fallocate on this file system", since });
            }
            Err(errno) => return Err(failed(label, "fallocate")(errno)),
        }
    }
}

impl Draft {
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Makes it visible: by its name, or, for a memfd, to whoever is given the descriptor. Its size is sealed by then.
    pub(crate) fn publish(self) -> Result<Mapping> {
        let Draft { mapping, folder } = self;
        match (&folder, &mapping.place) {
            (Some(folder), Some(place)) => link(&mapping, folder, &place.file_name())?,
            _ => fs::fcntl_add_seals(&mapping.file, SEALS | SealFlags::SEAL)
                .map_err(failed(&mapping.label, "fcntl(F_ADD_SEALS)"))?,
        }
        Ok(mapping)
    }

    /// Puts this file in the place of a region in which nobody lives; `None` if somebody does, or if the name does
    /// not lead to that region any more.
    ///
    /// Whoever lives there holds a lock byte, so a lock on all bytes proves that nobody does, and keeps out
    /// whoever would like to until the name leads to the new file.
    pub(crate) fn replace(self, old: &Mapping) -> Result<Option<Mapping>> {
        let Draft { mapping, folder } = self;
        let (Some(folder), Some(place)) = (&folder, &mapping.place) else { return Ok(None) };
        let whole = Descriptor::new(old.reopen()?, old.file_id());
        match whole.lock(0, 0) {
            Ok(()) => {}
            Err(Refusal::Taken) => return Ok(None),
            Err(Refusal::Failed(errno)) => {
                return Err(Error::system(&mapping.label, "fcntl(F_OFD_SETLK)", errno));
            }
        }
        let swapped =
            if old.is_named_as(place) { swap(&mapping, folder, place, old).map(Some) } else { Ok(None) };
        // By hand, because a child forked meanwhile shares the description.
        whole.unlock_all();
        Ok(swapped?.map(|()| mapping))
    }
}

fn link(mapping: &Mapping, folder: &OwnedFd, name: &OsStr) -> Result<()> {
    let fd = format!("/proc/thread-self/fd/{}", mapping.file.number());
    let linked = match fs::linkat(CWD, fd, folder, name, AtFlags::SYMLINK_FOLLOW) {
        // No /proc. The other way needs a privilege, or Linux 6.10.
        Err(Errno::NOENT) => fs::linkat(&mapping.file, "", folder, name, AtFlags::EMPTY_PATH),
        other => other,
    };
    linked.map_err(|errno| match errno {
        Errno::EXIST => Error::NameTaken { region: mapping.label.clone() },
        _ => failed(&mapping.label, "linkat")(errno),
    })
}

/// Gives the name to the new file. The caller has all of the old one locked.
fn swap(new: &Mapping, folder: &OwnedFd, place: &Place, old: &Mapping) -> Result<()> {
    // Only the holder of that lock uses this name, so one that exists was left by a holder that died here.
    let temporary = format!(".waitqueue.{:x}", old.file_id().ino);
    let remove = || fs::unlinkat(folder, temporary.as_str(), AtFlags::empty());
    let _ = remove();
    link(new, folder, OsStr::new(&temporary))?;
    fs::renameat(folder, temporary.as_str(), folder, place.file_name()).map_err(|errno| {
        let _ = remove();
        failed(&new.label, "rename")(errno)
    })
}

/// Opens a region by its name. What the file contains is the caller's to check.
pub(crate) fn open(place: &Place, access: &Access, writable: bool) -> Result<Mapping> {
    let (label, full) = (place.label(), place.full());
    let rights = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    // A file that is replaced between the opening and the look at it has no name left: then the name has another.
    for _ in 0..100 {
        let fd = fs::open(&full, WARY | rights, Mode::empty()).map_err(|errno| {
            let mode = fs::lstat(&full).map_or(0, |stat| stat.st_mode);
            open_error(&label, errno, mode)
        })?;
        let stat = fs::fstat(&fd).map_err(failed(&label, "fstat"))?;
        if stat.st_nlink == 0 {
            continue;
        }
        checks::check_kind(&label, &stat, 1..=1)?;
        vet(&fd, &stat, access, &label)?;
        return Mapping::new(fd, &stat, Some(place.clone()), label, writable);
    }
    Err(Error::NoSuchRegion { region: label })
}

/// Maps a memfd that was handed to us: read-only if it was opened so.
pub(crate) fn from_fd(fd: OwnedFd, access: &Access) -> Result<Mapping> {
    let link = fs::readlink(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()), Vec::new());
    let name = link.ok().and_then(|link| link.into_string().ok()).unwrap_or_default();
    let name = name.trim_start_matches('/').trim_end_matches(" (deleted)");
    let label: Label = if name.is_empty() { "memfd".into() } else { name.into() };
    let stat = fs::fstat(&fd).map_err(failed(&label, "fstat"))?;
    checks::check_kind(&label, &stat, 0..=1)?;
    let seals = fs::fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
    if !seals.contains(SEALS) {
        return Err(Error::NotSealed { region: label });
    }
    vet(&fd, &stat, access, &label)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).map_err(failed(&label, "fcntl(F_SETFD)"))?;
    let flags = fs::fcntl_getfl(&fd).map_err(failed(&label, "fcntl(F_GETFL)"))?;
    let writable = flags & OFlags::RWMODE == OFlags::RDWR;
    Mapping::new(fd, &stat, None, label, writable)
}

fn vet(fd: &OwnedFd, stat: &Stat, access: &Access, label: &Label) -> Result<()> {
    checks::check_owner(label, stat, access)?;
    checks::check_mode(label, stat, access)?;
    checks::check_file_system(label, fd.as_fd())
}

/// Takes the name away. Who has the region mapped keeps it.
pub(crate) fn unlink(place: &Place) -> Result<()> {
    let label = place.label();
    fs::unlink(place.full()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NoSuchRegion { region: label },
        Errno::ISDIR => not_a_region(&label, "it is a directory"),
        _ => failed(&label, "unlink")(errno),
    })
}

fn open_error(label: &Label, errno: Errno, mode: u32) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NoSuchRegion { region: label.clone() },
        Errno::LOOP => not_a_region(label, "it is a symbolic link"),
        Errno::ISDIR => not_a_region(label, "it is a directory"),
        Errno::NXIO | Errno::NODEV => not_a_region(label, "it is a socket, a pipe or a device"),
        Errno::ACCESS | Errno::PERM => {
            let why = "it keeps us out: opening it needs permission to read and, but for observers, to write";
            Error::WrongMode { region: label.clone(), mode: mode & 0o7777, why }
        }
        _ => failed(label, "open")(errno),
    }
}
