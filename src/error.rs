//! The one error enum of the crate: every variant says what happened, to which region or queue, with the
//! values, and what the caller can do about it.

use std::fmt;
use std::sync::Arc;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The result of what waits and wakes do. The error is a pointer, so that most results are returned in registers; shared,
/// so that one can be made beforehand: see [`Space::reentered`](crate::offset::Space::reentered).
pub(crate) type Fallible<T> = Result<T, Arc<Error>>;

impl From<Arc<Error>> for Error {
    #[cold]
    fn from(error: Arc<Error>) -> Error {
        Arc::unwrap_or_clone(error)
    }
}

/// The name by which messages call a region or a queue.
pub(crate) type Label = Arc<str>;

/// Everything that can go wrong.
///
/// No call panics on bad input, and a failed call leaves the shared state as it was. [`Error::errno`] gives the
/// number that the C interface returns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no region of that name: create it, or use `open_or_create`.
    NoSuchRegion {
        /// The region asked for.
        region: Label,
    },
    /// A region of that name exists already: open it, or unlink it first.
    NameTaken {
        /// The region asked for.
        region: Label,
    },
    /// A name or a text is empty, too long, or has a character that it may not have.
    BadName {
        /// What kind of name it is: "region", "queue", "object", "type tag", "label".
        what: &'static str,
        /// The name as given, cut to 80 characters.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A capacity is zero or larger than this version supports.
    BadCapacity {
        /// The builder's method.
        what: &'static str,
        /// What was asked.
        asked: u64,
        /// The largest value possible; the smallest is 1.
        max: u64,
    },
    /// The file is not a region, or cannot be one.
    NotARegion {
        /// The region asked for.
        region: Label,
        /// What is wrong with the file.
        why: String,
    },
    /// The region was made by another version of the layout.
    WrongVersion {
        /// The region asked for.
        region: Label,
        /// The version found.
        found: u32,
        /// The version this program speaks.
        expected: u32,
    },
    /// The region says the right version, but its structures are laid out differently.
    WrongLayout {
        /// The region asked for.
        region: Label,
        /// The layout hash found.
        found: u64,
        /// The layout hash of this program.
        expected: u64,
    },
    /// The file belongs to somebody who is not accepted.
    WrongOwner {
        /// The region asked for.
        region: Label,
        /// The user id of the file's owner.
        owner: u32,
        /// The group id of the file.
        group: u32,
        /// Our own effective user id.
        me: u32,
    },
    /// The file's mode lets in more users than are accepted, or keeps us out.
    WrongMode {
        /// The region asked for.
        region: Label,
        /// The permission bits of the file.
        mode: u32,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A memfd that could still be truncated under us.
    NotSealed {
        /// The region asked for.
        region: Label,
    },
    /// The region exists but offers less than was asked for.
    TooSmall {
        /// The region asked for.
        region: Label,
        /// The builder's method.
        what: &'static str,
        /// What the region has.
        found: u64,
        /// What was asked.
        asked: u64,
    },
    /// A value in shared memory cannot be right: a peer is broken or hostile, or the file was damaged.
    Damaged {
        /// The region.
        region: Label,
        /// The damaged thing.
        what: &'static str,
        /// Its offset in the region, in bytes.
        at: u64,
        /// The value found there.
        value: u64,
    },
    /// A capacity of the region is used up.
    Full {
        /// The region.
        region: Label,
        /// The builder's method that raises it.
        what: &'static str,
        /// The capacity.
        capacity: u64,
    },
    /// The file system has no room for the region.
    NoSpace {
        /// The region asked for.
        region: Label,
        /// How many bytes it needs.
        needed: u64,
    },
    /// The name is in use for something else.
    ObjectMismatch {
        /// The region.
        region: Label,
        /// The object's name.
        name: String,
        /// Which property differs: "kind", "size", "alignment" or "type tag".
        what: &'static str,
        /// What the region says.
        found: String,
        /// What was asked.
        asked: String,
    },
    /// A head, a lock or an interrupter of another region than it was used with, or queues of two regions in one wait.
    ForeignObject {
        /// The region.
        region: Label,
        /// What lies elsewhere.
        what: &'static str,
    },
    /// The condition was still false at the deadline.
    TimedOut {
        /// The queue, or the first of several.
        queue: Label,
    },
    /// A signal handler ran, or the wait's [`Interrupter`](crate::Interrupter) was used.
    Interrupted {
        /// The queue, or the first of several.
        queue: Label,
    },
    /// The queue was closed: nobody can wait on it any more.
    Closed {
        /// The queue.
        queue: Label,
    },
    /// The queue already has an exclusive priority waiter, and there can be only one.
    PriorityTaken {
        /// The queue.
        queue: Label,
    },
    /// This participant was taken for dead and its slot was given away: drop the region and attach again.
    Evicted {
        /// The region.
        region: Label,
        /// The id that this participant had.
        participant: u64,
    },
    /// The handle was made before a `fork`: the child has to attach for itself.
    Forked {
        /// The region.
        region: Label,
    },
    /// Called from a signal handler that interrupted another call of this crate on the same thread; or this thread
    /// holds the robust lock that it asks for.
    Reentered {
        /// The region.
        region: Label,
    },
    /// A lock was not released in time by an owner who is alive (stopped, or very slow).
    LockStuck {
        /// The region.
        region: Label,
        /// The participant that holds the lock; 0 if the word names nobody known.
        owner: u64,
        /// The process id of the owner in its own PID namespace, for display.
        pid: u32,
    },
    /// This thread holds as many robust locks of the region as one thread can.
    TooManyLocks {
        /// The region.
        region: Label,
        /// The limit.
        limit: u64,
    },
    /// The kernel does not have something that is needed.
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// The first version that has it, or where it works.
        since: &'static str,
    },
    /// Any other failure of a system call.
    System {
        /// The region.
        region: Label,
        /// The system call.
        call: &'static str,
        /// Its error number.
        errno: i32,
    },
}

impl Error {
    /// The `errno` value that stands for this error in the C interface; always positive.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Error::NoSuchRegion { .. } => libc::ENOENT,
            Error::NameTaken { .. } => libc::EEXIST,
            Error::BadName { .. } | Error::BadCapacity { .. } | Error::ForeignObject { .. } => libc::EINVAL,
            Error::NotARegion { .. } => libc::EMEDIUMTYPE,
            Error::WrongVersion { .. } | Error::WrongLayout { .. } => libc::EPROTO,
            Error::WrongOwner { .. } => libc::EPERM,
            Error::WrongMode { .. } | Error::NotSealed { .. } => libc::EACCES,
            Error::TooSmall { .. } => libc::ERANGE,
            Error::Damaged { .. } => libc::EUCLEAN,
            Error::Full { .. } => libc::ENOBUFS,
            Error::NoSpace { .. } => libc::ENOSPC,
            Error::ObjectMismatch { .. } => libc::EEXIST,
            Error::TimedOut { .. } => libc::ETIMEDOUT,
            Error::Interrupted { .. } => libc::EINTR,
            Error::Closed { .. } => libc::ESHUTDOWN,
            Error::PriorityTaken { .. } => libc::EBUSY,
            Error::Evicted { .. } => libc::ESTALE,
            Error::Forked { .. } => libc::ECHILD,
            Error::Reentered { .. } => libc::EDEADLK,
            Error::LockStuck { .. } => libc::ETIME,
            Error::TooManyLocks { .. } => libc::ENOLCK,
            Error::Unsupported { .. } => libc::ENOSYS,
            Error::System { errno, .. } => (*errno).max(1),
        }
    }

    /// A system call's failure; what is common has a variant of its own.
    pub(crate) fn system(region: &Label, call: &'static str, errno: i32) -> Error {
        Error::System { region: region.clone(), call, errno }
    }

    /// A handle that a fork has copied.
    #[cold]
    pub(crate) fn forked(region: &Label) -> Arc<Error> {
        Error::Forked { region: region.clone() }.into()
    }

    /// An allocation's failure.
    pub(crate) fn no_memory(region: &Label) -> Error {
        Error::system(region, "malloc", libc::ENOMEM)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSuchRegion { region } => {
                write!(
                    f,
                    "no region {region}: create it, or use open_or_create to open one that may not exist"
                )
            }
            Error::NameTaken { region } => {
                write!(f, "region {region} exists already: open it, or unlink it first")
            }
            Error::BadName { what, name, rule } => write!(f, "{what} name {name:?} cannot be used: {rule}"),
            Error::BadCapacity { what, asked, max } => {
                write!(f, "{what} = {asked} cannot be used: it must be from 1 to {max}")
            }
            Error::NotARegion { region, why } => {
                write!(f, "{region} is not a region ({why}): use another name, or remove the file")
            }
            Error::WrongVersion { region, found, expected } => write!(
                f,
                "region {region} has layout version {found}, this program speaks {expected}: stop its users and \
                 unlink it, or open with replace_dead"
            ),
            Error::WrongLayout { region, found, expected } => write!(
                f,
                "region {region} has layout {found:#018x}, this program expects {expected:#018x}: stop its users \
                 and unlink it, or open with replace_dead"
            ),
            Error::WrongOwner { region, owner, group, me } => write!(
                f,
                "region {region} belongs to user {owner}, group {group}, and we are user {me}: accept that owner or \
                 group in the builder if you trust them"
            ),
            Error::WrongMode { region, mode, why } => {
                write!(f, "region {region} has mode {mode:04o}: {why}")
            }
            Error::NotSealed { region } => write!(
                f,
                "region {region} could be truncated by a peer: pass a descriptor sealed against shrinking and growing"
            ),
            Error::TooSmall { region, what, found, asked } => write!(
                f,
                "region {region} has {what} = {found}, but {asked} were asked for: ask for less, or unlink it and \
                 create it anew"
            ),
            Error::Damaged { region, what, at, value } => write!(
                f,
                "region {region} is damaged: {what} at offset {at:#x} has the impossible value {value:#x}; stop its \
                 users and unlink it"
            ),
            Error::Full { region, what, capacity } => write!(
                f,
                "region {region} has no room left in its {capacity} {what}: create it with a larger {what}(…) in the builder"
            ),
            Error::NoSpace { region, needed } => write!(
                f,
                "no room for the {needed} bytes of region {region}: free space on its file system, or ask for less"
            ),
            Error::ObjectMismatch { region, name, what, found, asked } => write!(
                f,
                "object {name:?} of region {region} has {what} {found}, but {asked} was asked for: use another name, \
                 or the type it was created with"
            ),
            Error::ForeignObject { region, what } => {
                write!(f, "{what}: not one of region {region}; use one that belongs to it")
            }
            Error::TimedOut { queue } => {
                write!(f, "timed out on queue {queue}: the condition was still false at the deadline")
            }
            Error::Interrupted { queue } => {
                write!(f, "interrupted on queue {queue}: handle the signal, then wait again")
            }
            Error::Closed { queue } => write!(
                f,
                "queue {queue} is closed for ever: stop using it, or unlink the region to begin anew"
            ),
            Error::PriorityTaken { queue } => write!(
                f,
                "queue {queue} already has an exclusive priority waiter: there can be one; wait without priority"
            ),
            Error::Evicted { region, participant } => write!(
                f,
                "participant {participant:#x} of region {region} was taken for dead and its slot given away: drop all \
                 handles and attach again"
            ),
            Error::Forked { region } => {
                write!(f, "region {region} was attached before fork: the child has to open it for itself")
            }
            Error::Reentered { region } => write!(
                f,
                "this thread is already inside a call on region {region}, or holds the lock it asks for: in signal \
                 handlers call only what is documented as async-signal-safe, and take a lock once"
            ),
            Error::LockStuck { region, owner, pid } => write!(
                f,
                "a lock of region {region} is held by participant {owner:#x} (process {pid}), which is alive but does \
                 not release it: continue or end that process, then try again"
            ),
            Error::TooManyLocks { region, limit } => {
                write!(
                    f,
                    "this thread holds {limit} robust locks of region {region}, and cannot hold more: release one"
                )
            }
            Error::Unsupported { what, since } => {
                write!(f, "the kernel has no {what}: it comes with {since}")
            }
            Error::System { region, call, errno } => {
                write!(f, "{call} on region {region} failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for Error {}
