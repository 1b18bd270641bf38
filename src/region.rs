//! A region: a process's attachment, and what its users get from it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use crate::atomic::Ordering::*;
use crate::builder::RegionBuilder;
use crate::directory::{self, Shape};
use crate::error::{Error, Fallible, Label, Result};
use crate::head;
use crate::layout::{ALIGN, QueueHead, RobustLock};
use crate::member::{Member, Settings};
use crate::mutex::Lock;
use crate::offset::{Ref, Shared, Space};
use crate::participant::Participant;
use crate::queue::Queue;
use crate::sleep::LookAfterBell;
use crate::snapshot::{ParticipantInfo, Snapshot};
use crate::sys::map::{self, Place};
use crate::thread::Thread;

/// A shared mapping with wait queues and objects in it, to which this process is attached.
///
/// A region is a file (in `/dev/shm`, at a path, or a memfd) that every participant maps. Attaching takes a slot in
/// its table of participants and starts a small thread, the bell, that lets the others notice when this process
/// dies; dropping the last handle gives the slot back. Handles are cheap to clone, and everything that was got from
/// a region keeps it attached.
///
/// Attach after daemonising, `unshare` and `setns`: the bell is a thread. After `fork`, the child has to open the
/// region for itself; the handles it inherited return [`Error::Forked`] wherever they would have to act.
///
/// # Crash safety
///
/// A process that is killed while it attaches, detaches or creates objects leaves a region that the others, and all
/// who come later, use as if it had never begun.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::*};
/// use waitqueue::Region;
///
/// # fn main() -> waitqueue::Result<()> {
/// let region = Region::builder().create_memfd("example")?;
/// let ready = region.object::<AtomicU32>("ready")?;
/// let queue = region.queue("ready-queue")?;
/// # std::thread::spawn({ let (ready, queue) = (ready.clone(), queue.clone()); move || {
/// ready.store(1, Release); // … in another thread or process
/// queue.wake_up()
/// # }});
/// queue.wait_event(|| ready.load(Acquire) != 0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    participant: Participant,
}

/// The id of one attachment of one process: never reused, and never 0, so that it can be kept in an `AtomicU64` of a
/// region whose 0 means "nobody".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(u64);

impl ParticipantId {
    /// The number to store.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// An id from a number that was stored; `None` for 0.
    #[must_use]
    pub fn new(number: u64) -> Option<ParticipantId> {
        (number != 0).then_some(ParticipantId(number))
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 as u32, self.0 >> 32)
    }
}

impl Region {
    /// Creates a named region of default size and attaches to it.
    ///
    /// The name is that of a POSIX shared memory object: `"/demo"` is `/dev/shm/demo`. The region appears complete or
    /// not at all. For other sizes, users and places see [`Region::builder`].
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`], [`Error::BadName`], [`Error::NoSpace`], [`Error::Unsupported`], [`Error::System`].
    pub fn create(name: &str) -> Result<Region> {
        Region::builder().create(name)
    }

    /// Attaches to a named region that exists.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRegion`]; what [`RegionBuilder::open`] lists.
    pub fn open(name: &str) -> Result<Region> {
        Region::builder().open(name)
    }

    /// Attaches to a named region, creating it if there is none.
    ///
    /// Any number of processes may race: one creates, the others open. What former participants left when they were
    /// killed is cleaned up.
    ///
    /// # Errors
    ///
    /// As [`Region::create`] and [`Region::open`].
    pub fn open_or_create(name: &str) -> Result<Region> {
        Region::builder().open_or_create(name)
    }

    /// Removes the name of a region. Those who are attached go on; the next `create` makes another region.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRegion`], [`Error::BadName`], [`Error::System`].
    pub fn unlink(name: &str) -> Result<()> {
        map::unlink(&Place::named(name)?)
    }

    /// Options for creating and opening.
    #[must_use]
    pub fn builder() -> RegionBuilder {
        RegionBuilder::default()
    }

    pub(crate) fn attach(space: Space, settings: Settings) -> Result<Region> {
        let participant = Participant::attach(Arc::new(space), settings)?;
        Ok(Region { inner: Arc::new(Inner { participant }) })
    }

    /// The wait queue of that name, created open and empty at first use.
    ///
    /// Names have 1 to 63 bytes and are shared with [`Region::object`]. Corresponds to `init_waitqueue_head`.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; [`Error::ObjectMismatch`] if the name is in use for something else; [`Error::Full`] if
    /// objects or memory are used up; [`Error::Damaged`]; [`Error::LockStuck`]; [`Error::Forked`];
    /// [`Error::Evicted`]; [`Error::Reentered`].
    pub fn queue(&self, name: &str) -> Result<Queue> {
        let head = self.find::<QueueHead>("queue", name)?;
        Ok(Queue::new(self.clone(), head, name))
    }

    /// The queue of a head inside an object of this region, which has to stay a head: others may still be about to touch it.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignObject`] if `head` does not lie in this region.
    pub fn queue_at(&self, head: &QueueHead) -> Result<Queue> {
        let head = self.own(head, "queue head")?;
        let name = format!("@{:#x}", head.offset());
        Ok(Queue::new(self.clone(), head, &name))
    }

    /// The object of that name, created zeroed at first use.
    ///
    /// Exactly one is created, also when many processes race and some of them are killed. It lives as long as the
    /// region. Size, alignment and [`Shared::TAG`] have to be those it was created with.
    ///
    /// # Errors
    ///
    /// As [`Region::queue`].
    pub fn object<T: Shared>(&self, name: &str) -> Result<Object<T>> {
        Ok(Object { target: self.find::<T>("object", name)?, _region: self.clone() })
    }

    /// For other languages: where an object lies whose type the caller describes. It is zeroed at first use, and there
    /// until the last handle of this attachment is dropped; what a pointer into it may be used for is the caller's
    /// affair.
    ///
    /// # Errors
    ///
    /// [`Error::BadCapacity`] for a size of zero or an alignment that is not 1, 2, 4, 8, 16, 32 or 64; as
    /// [`Region::queue`].
    #[doc(hidden)]
    pub fn object_address(&self, name: &str, tag: &str, size: u64, align: u32) -> Result<NonNull<u8>> {
        let (_, room) = self.space().memory();
        if size == 0 {
            return Err(Error::BadCapacity { what: "size", asked: size, max: room });
        }
        if !align.is_power_of_two() || u64::from(align) > ALIGN {
            return Err(Error::BadCapacity {
                what: "alignment (a power of two)",
                asked: align.into(),
                max: ALIGN,
            });
        }
        let offset = directory::find_or_create(&*self.enter()?, "object", name, Shape { tag, size, align })?;
        self.space().address(offset, size, align.into()).ok_or_else(|| self.misplaced(offset))
    }

    /// The robust lock inside an object of this region.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignObject`] if `lock` does not lie in this region.
    pub fn lock_at(&self, lock: &RobustLock) -> Result<Lock> {
        Ok(Lock::new(self.clone(), self.own(lock, "robust lock")?))
    }

    /// This attachment's own id.
    ///
    /// Async-signal-safe.
    #[must_use]
    pub fn me(&self) -> ParticipantId {
        ParticipantId(self.member().id)
    }

    /// Whether a participant is still attached and its process alive.
    ///
    /// Turns false when it begins to detach, or, if it was killed, only when its memory is gone, so that nothing it did
    /// can happen afterwards; every waiter of the
    /// region then evaluates its condition again. So a condition may ask this. A stopped process is alive.
    ///
    /// Async-signal-safe.
    #[must_use]
    pub fn is_alive(&self, participant: ParticipantId) -> bool {
        self.member().is_alive(participant.0)
    }

    /// Who is attached now.
    #[must_use]
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        self.snapshot().participants
    }

    /// What the region looks like now: queues, waiters, counters. Takes no lock, so it may be torn while others work.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.space(), &|id| self.member().is_alive(id))
    }

    /// Makes the system calls that [`Queue::begin_wake_up_sync`] put off, and puts off no more.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::Evicted`], [`Error::Reentered`], [`Error::Full`] if no thread is free.
    pub fn flush(&self) -> Result<()> {
        let thread = self.enter()?;
        drop(thread.begin()?);
        thread.flush_and(true);
        Ok(())
    }

    /// Checks the list of every queue, under its lock: links, order and count. For tools and tests; lists that are
    /// found broken in use are made anew without asking.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] naming the law that does not hold; as [`Queue::wake_up`].
    pub fn check(&self) -> Result<()> {
        let thread = self.enter()?;
        let space = self.space();
        let named = directory::objects(space)
            .map(|(object, _)| object)
            .filter(|object| object.tag.load() == <QueueHead as Shared>::TAG);
        let named = named.map(|object| object.offset.load(Relaxed));
        let waited_on = space.entries()[..space.entries_used()].iter().map(|entry| entry.queue.load(Acquire));
        let heads: BTreeSet<u64> =
            named.chain(waited_on).filter(|offset| space.head(*offset).is_some()).collect();
        for at in heads {
            head::lock(&thread, at)?.check().map_err(|broken| Error::Damaged {
                region: self.label().clone(),
                what: broken.law,
                at,
                value: u64::from(broken.value),
            })?;
        }
        Ok(())
    }

    /// A descriptor of the region to pass to another process, by inheritance or `SCM_RIGHTS`, which attaches with
    /// [`RegionBuilder::open_fd`]. It is close-on-exec: clear that flag in the child that is to inherit it.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if there are no descriptors left.
    pub fn try_clone_fd(&self) -> Result<OwnedFd> {
        // Whoever gets it may be a stranger.
        self.member().has_strangers.store(true, Relaxed);
        self.space().mapping().try_clone_fd()
    }

    /// The name by which messages call this region.
    #[must_use]
    pub fn name(&self) -> &str {
        self.space().label()
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        self.inner.participant.member()
    }

    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.member().space
    }

    pub(crate) fn label(&self) -> &Label {
        self.space().label()
    }

    /// The calling thread's means to act.
    pub(crate) fn enter(&self) -> Fallible<Rc<Thread>> {
        self.inner.participant.enter()
    }

    pub(crate) fn is_same(&self, other: &Region) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn find<T: Shared>(&self, what: &'static str, name: &str) -> Result<Ref<T>> {
        let shape = Shape { tag: T::TAG, size: size_of::<T>() as u64, align: align_of::<T>() as u32 };
        let offset = directory::find_or_create(&*self.enter()?, what, name, shape)?;
        self.space().hold(offset).ok_or_else(|| self.misplaced(offset))
    }

    fn misplaced(&self, offset: u64) -> Error {
        let region = self.label().clone();
        Error::Damaged { region, what: "offset of an object", at: 0, value: offset }
    }

    fn own<T: Shared>(&self, object: &T, what: &'static str) -> Result<Ref<T>> {
        let offset = self.space().offset_of(object);
        let held = offset.and_then(|offset| self.space().hold(offset));
        held.ok_or_else(|| Error::ForeignObject { region: self.label().clone(), what })
    }
}

impl LookAfterBell for Region {
    fn look_after_bell(&self) {
        let _ = self.enter();
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({}, participant {})", self.name(), self.me())
    }
}

/// An object in a region: derefs to its type, and keeps the region attached.
///
/// What it derefs to is shared with other processes: every field is an atomic, and any of them may change at any time.
pub struct Object<T> {
    target: Ref<T>,
    _region: Region,
}

impl<T: Shared> Deref for Object<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.target
    }
}

impl<T> Clone for Object<T> {
    fn clone(&self) -> Self {
        Object { target: self.target.clone(), _region: self._region.clone() }
    }
}

impl<T> fmt::Debug for Object<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object(offset {:#x} of {})", self.target.offset(), self._region.name())
    }
}
