//! Options for creating and opening regions, and the checks of what is opened.
//!
//! A region is built in a file without a name and published in one step. Whoever opens one reads its capacities once,
//! checks that they explain the file's size, attaches, and then checks that the name still leads to this file: so a
//! process that raced with `unlink` or a replacement never stays behind in a region that nobody else can find.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "shared_memory")]
use crate::atomic::Ordering::Acquire;
use crate::crash::crash_point;
use crate::error::{Error, Result};
use crate::header::{ENTRIES, MEMORY, OBJECTS, PARTICIPANTS, THREADS, format, read_header};
use crate::layout::QueueHead;
use crate::member::Settings;
#[cfg(feature = "shared_memory")]
use crate::offset::header_of;
use crate::offset::{Capacity, Places, Space};
use crate::region::Region;
use crate::snapshot::Snapshot;
use crate::sys::lease::{Probe, Prober};
use crate::sys::map::{self, Access, Mapping, Place};
#[cfg(feature = "shared_memory")]
use crate::sys::{clock::Deadline, lease::Lease};

/// The default capacities. How many come and wait at once may show only in use; what is kept shows at the first run. All of
/// it is allocated at creation, so there is room for many of the former and little of the latter.
const DEFAULT: Capacity =
    Capacity { participants: 256, threads: 1024, entries: 2048, objects: 256, memory: 128 << 10 };

/// How often a race with others who create, unlink or replace is run again before it is reported.
const RACES: usize = 100;

/// How a region is created or opened; made by [`Region::builder`].
///
/// Capacities and the mode count for creation; [`RegionBuilder::open_or_create`] also requires the capacities of a region that
/// exists. All others are choices of this process alone.
///
/// # Examples
///
/// ```
/// # fn main() -> waitqueue::Result<()> {
/// let region = waitqueue::Region::builder().entries(64).participants(8).create_memfd("small")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RegionBuilder {
    participants: Option<u64>,
    threads: Option<u64>,
    entries: Option<u64>,
    objects: Option<u64>,
    memory: Option<u64>,
    mode: u32,
    owners: Vec<u32>,
    groups: Vec<u32>,
    replace_dead: bool,
    settings: Settings,
}

impl Default for RegionBuilder {
    fn default() -> Self {
        RegionBuilder {
            participants: None,
            threads: None,
            entries: None,
            objects: None,
            memory: None,
            mode: 0o600,
            owners: Vec::new(),
            groups: Vec::new(),
            replace_dead: false,
            settings: Settings::default(),
        }
    }
}

impl RegionBuilder {
    /// How many processes can be attached at once: 1 to 32,768, default 256; 192 bytes each.
    #[must_use]
    pub fn participants(mut self, count: u64) -> Self {
        self.participants = Some(count);
        self
    }

    /// How many threads can wait or wake: 1 to 32,767, default 1,024; 128 bytes each.
    #[must_use]
    pub fn threads(mut self, count: u64) -> Self {
        self.threads = Some(count);
        self
    }

    /// How many enrolments there can be at once: one for each waiting thread and queue it waits on, and up to 16 that
    /// each thread keeps. 1 to 16,777,214, default 2,048; 128 bytes each.
    #[must_use]
    pub fn entries(mut self, count: u64) -> Self {
        self.entries = Some(count);
        self
    }

    /// How many named objects and queues there can be: 1 to 1,048,576, default 256; 192 bytes each.
    #[must_use]
    pub fn objects(mut self, count: u64) -> Self {
        self.objects = Some(count);
        self
    }

    /// How many bytes objects and queues can have in all, each rounded up to 64: 1 to 2⁴⁰, default 128 KiB, or
    /// enough for as many queues as there can be if that is more.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The permission bits of a region that is created: 0o600 (the default), 0o640 or 0o660. With the latter two it is
    /// given to the first accepted group, if ours is not among them. Whoever opens it has to accept the owner or group.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Accepts regions that belong to this user, besides our own. Never the overflow user (65534, "nobody"), who in a user
    /// namespace stands for all strangers.
    #[must_use]
    pub fn accept_owner(mut self, uid: u32) -> Self {
        self.owners.push(uid);
        self
    }

    /// Accepts regions that belong to this group and let it in, whoever made them.
    #[must_use]
    pub fn accept_group(mut self, gid: u32) -> Self {
        self.groups.push(gid);
        self
    }

    /// Lets `open_or_create` replace what it finds, in one step, if that is a region of another version or layout, or
    /// too small, in which nobody lives.
    #[must_use]
    pub fn replace_dead(mut self) -> Self {
        self.replace_dead = true;
        self
    }

    /// About how often a sleeping wait looks around without having been woken, default 1 s; `None` never. No promise rests
    /// on it but among hostile peers. A condition that only the tick finds true is reported some 5 ms later, in which a wake
    /// may still come; otherwise it is counted as a rescue. Where strangers may have the region open (a memfd, a mode for a
    /// group), each sleep has a timer, because they could move a sleeper where no wake finds it; elsewhere the bell ticks.
    #[must_use]
    pub fn tick(mut self, tick: Option<Duration>) -> Self {
        self.settings.tick = tick;
        self
    }

    /// After how long a lock that a living process keeps is reported as [`Error::LockStuck`]; default 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// How long waits spin that do not [say](crate::WaitOptions::spin) so themselves. Without this it is learned.
    #[must_use]
    pub fn spin(mut self, budget: Duration) -> Self {
        self.settings.spin = Some(budget);
        self
    }

    /// Creates a named region. See [`Region::create`].
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`], [`Error::BadName`], [`Error::BadCapacity`], [`Error::NoSpace`], [`Error::WrongMode`],
    /// [`Error::Unsupported`], [`Error::System`]. Nothing is left behind, but where the last step, attaching, fails for want of
    /// descriptors, threads or memory: then the region stays, complete, for whoever opens it.
    pub fn create(self, name: &str) -> Result<Region> {
        self.create_in(&Place::named(name)?)
    }

    /// Attaches to a named region. See [`Region::open`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRegion`], [`Error::NotARegion`], [`Error::WrongVersion`], [`Error::WrongLayout`],
    /// [`Error::WrongOwner`], [`Error::WrongMode`], [`Error::Damaged`], [`Error::Full`] if all participants are in use,
    /// [`Error::System`].
    pub fn open(self, name: &str) -> Result<Region> {
        self.open_in(&Place::named(name)?)
    }

    /// Attaches to a named region or creates it. See [`Region::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::create`] and [`RegionBuilder::open`]; [`Error::TooSmall`] if it exists with less.
    pub fn open_or_create(self, name: &str) -> Result<Region> {
        self.open_or_create_in(&Place::named(name)?)
    }

    /// Creates a region in a file at `path`, on a local file system.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::create`].
    pub fn create_at(self, path: impl AsRef<Path>) -> Result<Region> {
        self.create_in(&Place::path(path.as_ref())?)
    }

    /// Attaches to a region in a file at `path`.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::open`].
    pub fn open_at(self, path: impl AsRef<Path>) -> Result<Region> {
        self.open_in(&Place::path(path.as_ref())?)
    }

    /// Attaches to a region in a file at `path` or creates it.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::create`] and [`RegionBuilder::open`].
    pub fn open_or_create_at(self, path: impl AsRef<Path>) -> Result<Region> {
        self.open_or_create_in(&Place::path(path.as_ref())?)
    }

    /// Removes the region in a file at `path`; those who are attached go on.
    ///
    /// # Errors
    ///
    /// As [`Region::unlink`].
    pub fn unlink_at(self, path: impl AsRef<Path>) -> Result<()> {
        map::unlink(&Place::path(path.as_ref())?)
    }

    /// Creates a region without a name, sealed so that no peer can truncate it: the only kind that withstands a
    /// hostile peer in full. Hand it on with [`Region::try_clone_fd`]. `label` is for messages.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::create`].
    pub fn create_memfd(self, label: &str) -> Result<Region> {
        let (capacity, size) = self.plan()?;
        let draft = map::draft_memfd(label, size, &self.access())?;
        format(draft.mapping(), &capacity)?;
        self.attach(draft.publish()?)
    }

    /// Attaches to a region through a descriptor that was inherited or received. It has to be sealed against
    /// shrinking and growing.
    ///
    /// # Errors
    ///
    /// [`Error::NotSealed`]; as [`RegionBuilder::open`].
    pub fn open_fd(self, fd: OwnedFd) -> Result<Region> {
        self.attach(map::from_fd(fd, &self.access())?)
    }

    /// Makes a region of a segment that the `shared_memory` crate made, or attaches to the one that is in it already.
    /// Takes ownership of the segment.
    ///
    /// The segment has to be large enough for the capacities; user memory is what remains. Who adopts first formats
    /// it, under a file lock, so that a race or a death in between is harmless.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] if the segment cannot hold the tables; as [`RegionBuilder::open`].
    #[cfg(feature = "shared_memory")]
    pub fn adopt(self, segment: shared_memory::Shmem) -> Result<Region> {
        let mapping = map::adopt(segment, &self.access())?;
        let until = Deadline::after(self.settings.patience);
        let lease = loop {
            match Lease::take(&mapping, 0)? {
                Some(lease) => break lease,
                None if until.is_some_and(Deadline::passed) => {
                    return Err(Error::LockStuck { region: mapping.label().clone(), owner: 0, pid: 0 });
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let header = header_of(&mapping)?;
        if header.magic.load(Acquire) == 0 {
            let mut capacity = self.capacity()?;
            capacity.memory = HEADER;
            let tables = Places::of(&capacity).map_or(u64::MAX, |places| places.memory);
            let size = mapping.len() as u64 & !(HEADER - 1);
            let asked = self.memory.unwrap_or(HEADER).saturating_add(tables);
            if size < asked {
                let region = mapping.label().clone();
                return Err(Error::TooSmall { region, what: "size", found: size, asked });
            }
            capacity.memory = (size - tables) & !(HEADER - 1);
            crate::offset::clear(&mapping);
            format(&mapping, &capacity)?;
        }
        drop(lease);
        self.attach(mapping)
    }

    /// What a region looks like, without attaching to it: for tools. Needs only the right to read.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::open`].
    pub fn inspect(self, name: &str) -> Result<Snapshot> {
        self.inspect_in(&Place::named(name)?)
    }

    /// The same of a region in a file at `path`.
    ///
    /// # Errors
    ///
    /// As [`RegionBuilder::open`].
    pub fn inspect_at(self, path: impl AsRef<Path>) -> Result<Snapshot> {
        self.inspect_in(&Place::path(path.as_ref())?)
    }

    fn inspect_in(self, place: &Place) -> Result<Snapshot> {
        let mapping = map::open(place, &self.access(), false)?;
        let capacity = read_header(&mapping)?;
        let prober = crate::sys::lease::Prober::new(&mapping)?;
        let space = Space::new(Arc::new(mapping), capacity)?;
        Ok(Snapshot::of(&space, &|id| !crate::lock::is_dead(&space, &prober, id)))
    }

    fn access(&self) -> Access {
        Access { mode: self.mode, owners: self.owners.clone(), groups: self.groups.clone() }
    }

    /// The capacities of a region to be created, within bounds.
    fn capacity(&self) -> Result<Capacity> {
        let within = |what, asked: Option<u64>, default: u64, max: u64| match asked.unwrap_or(default) {
            count if (1..=max).contains(&count) => Ok(count),
            asked => Err(Error::BadCapacity { what, asked, max }),
        };
        let small =
            |what, asked, default: u32, max| within(what, asked, default.into(), max).map(|it| it as u32);
        let objects = small("objects", self.objects, DEFAULT.objects, OBJECTS)?;
        let memory = DEFAULT.memory.max(u64::from(objects) * size_of::<QueueHead>() as u64);
        Ok(Capacity {
            participants: small("participants", self.participants, DEFAULT.participants, PARTICIPANTS)?,
            threads: small("threads", self.threads, DEFAULT.threads, THREADS)?,
            entries: small("entries", self.entries, DEFAULT.entries, ENTRIES)?,
            objects,
            memory: within("memory", self.memory, memory, MEMORY)?,
        })
    }

    fn plan(&self) -> Result<(Capacity, u64)> {
        let capacity = self.capacity()?;
        let too_large = Error::BadCapacity { what: "memory", asked: capacity.memory, max: MEMORY };
        let places = Places::of(&capacity).ok_or(too_large)?;
        Ok((capacity, places.end))
    }

    fn create_in(&self, place: &Place) -> Result<Region> {
        let (capacity, size) = self.plan()?;
        let draft = map::draft(place, size, &self.access())?;
        format(draft.mapping(), &capacity)?;
        crash_point!("create: formatted, not published");
        let mapping = draft.publish()?;
        crash_point!("create: published, not attached");
        // If attaching fails the region stays: it is complete, and others may live in it by now.
        self.attach(mapping)
    }

    fn open_in(&self, place: &Place) -> Result<Region> {
        for _ in 0..RACES {
            let region = self.attach(map::open(place, &self.access(), true)?)?;
            if region.space().mapping().is_named_as(place) {
                return Ok(region);
            }
        }
        Err(Error::NoSuchRegion { region: place.label() })
    }

    fn open_or_create_in(&self, place: &Place) -> Result<Region> {
        self.plan()?;
        for _ in 0..RACES {
            let outcome = match map::open(place, &self.access(), true) {
                Ok(mapping) => match read_header(&mapping).and_then(|found| self.suffices(&mapping, found)) {
                    Ok(found) => self.attach_to(mapping, found),
                    Err(why) if self.replace_dead && is_replaceable(&why) => {
                        self.replace(place, &mapping).and_then(|region| match region {
                            Some(region) => Ok(region),
                            None if is_being_replaced(&mapping, place)? => {
                                Err(Error::NameTaken { region: place.label() })
                            }
                            None => Err(why),
                        })
                    }
                    Err(error) => Err(error),
                },
                Err(Error::NoSuchRegion { .. }) => self.create_in(place),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(region) if region.space().mapping().is_named_as(place) => return Ok(region),
                Ok(_) | Err(Error::NameTaken { .. }) => {} // Somebody else was quicker: look again.
                Err(error) => return Err(error),
            }
        }
        Err(Error::NameTaken { region: place.label() })
    }

    /// Puts a new region in the place of one in which nobody lives; `None` if somebody does.
    fn replace(&self, place: &Place, old: &Mapping) -> Result<Option<Region>> {
        let (capacity, size) = self.plan()?;
        let draft = map::draft(place, size, &self.access())?;
        format(draft.mapping(), &capacity)?;
        crash_point!("replace: formatted, not published");
        draft.replace(old)?.map(|mapping| self.attach(mapping)).transpose()
    }

    /// The capacities of an existing region, if it offers what was asked for.
    fn suffices(&self, mapping: &Mapping, capacity: Capacity) -> Result<Capacity> {
        let asked = [
            ("participants", self.participants, u64::from(capacity.participants)),
            ("threads", self.threads, u64::from(capacity.threads)),
            ("entries", self.entries, u64::from(capacity.entries)),
            ("objects", self.objects, u64::from(capacity.objects)),
            ("memory", self.memory, capacity.memory),
        ];
        for (what, asked, found) in asked {
            if let Some(asked) = asked.filter(|asked| *asked > found) {
                return Err(Error::TooSmall { region: mapping.label().clone(), what, found, asked });
            }
        }
        Ok(capacity)
    }

    fn attach(&self, mapping: Mapping) -> Result<Region> {
        let capacity = read_header(&mapping)?;
        self.attach_to(mapping, capacity)
    }

    /// With capacities that were read before, because what was judged has to be what is used.
    fn attach_to(&self, mapping: Mapping, capacity: Capacity) -> Result<Region> {
        if !mapping.is_writable() {
            let why = "the descriptor is for reading only: pass one that was opened for reading and writing";
            return Err(Error::WrongMode { region: mapping.label().clone(), mode: 0o400, why });
        }
        Region::attach(Space::new(Arc::new(mapping), capacity)?, self.settings)
    }
}

#[cfg(feature = "shared_memory")]
const HEADER: u64 = crate::layout::HEADER_SIZE;

/// Whether another process replaces the region at this moment, or has done so, rather than lives in it: it has all
/// bytes locked, also those that belong to no slot. Asked in this order, because the name changes before the lock ends.
fn is_being_replaced(mapping: &Mapping, place: &Place) -> Result<bool> {
    let held = Prober::new(mapping)?.state(1) == Probe::Held;
    Ok(held || !mapping.is_named_as(place))
}

fn is_replaceable(error: &Error) -> bool {
    matches!(error, Error::WrongVersion { .. } | Error::WrongLayout { .. } | Error::TooSmall { .. })
}
