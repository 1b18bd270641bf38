//! The arena: the only place where an offset becomes a reference (but for the life words, in `sys/bell.rs`).
//!
//! A region's capacities are read once, checked, and kept in private memory; from then on the place of every table is
//! private knowledge that no peer can change. Because every shared type is made of atomics for which all bit
//! patterns are valid, a reference that is in bounds and aligned is sound whatever a peer writes.
#![allow(unsafe_code)]

use crate::layout::{Entry, QueueHead, Record, RobustLock};

/// What a region has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) participants: u32,
    pub(crate) threads: u32,
    pub(crate) entries: u32,
    pub(crate) objects: u32,
    pub(crate) memory: u64,
}

impl Capacity {
    /// One for the bell of each participant, then those of users' threads.
    pub(crate) fn records(&self) -> u32 {
        self.participants + self.threads
    }
}

#[cfg(loom)]
pub(crate) use model::Space;
#[cfg(all(not(loom), feature = "shared_memory"))]
pub(crate) use real::clear;
#[cfg(not(loom))]
pub(crate) use real::{Places, Ref, Space, header_of};
#[cfg(not(loom))]
pub use real::{Shared, Tag};

#[cfg(not(loom))]
mod real {
    use core::mem::{align_of, size_of};
    use core::ops::Deref;
    use core::ptr::NonNull;
    use core::sync::atomic::{
        AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
    };
    use std::sync::Arc;

    use super::{Capacity, Entry, QueueHead, Record, RobustLock};
    use crate::error::{Error, Label, Result};
    use crate::layout::{ALIGN, HEADER_SIZE, Header, Object, Slot};
    use crate::sys::map::Mapping;

    /// Types that may lie in memory which a hostile peer writes to.
    ///
    /// Implemented for the standard atomics (not `AtomicBool` and `AtomicPtr`), for [`QueueHead`] and
    /// [`RobustLock`], for arrays of such types, and through [`shared_struct!`](crate::shared_struct) for structs of
    /// them.
    ///
    /// # Safety
    ///
    /// Every byte of the type belongs to an atomic for which every bit pattern is valid, or is padding; it has a
    /// stable layout (`repr(C)`, no pointers, no `usize`), is valid when all zero, and needs no drop.
    pub unsafe trait Shared: Sync + Send + 'static {
        /// The name of the type that is written beside each object, at most 31 bytes: the same in every program and
        /// language that shares it.
        const TAG: Tag;
    }

    /// A type's name in a region.
    pub type Tag = &'static str;

    macro_rules! shared {
        ($($type:ty = $tag:literal),* $(,)?) => {
            $(
                // SAFETY: one atomic integer (or a head or lock, which the layout module makes of them).
                unsafe impl Shared for $type {
                    const TAG: Tag = $tag;
                }
            )*
        };
    }
    shared!(AtomicU8 = "u8", AtomicU16 = "u16", AtomicU32 = "u32", AtomicU64 = "u64");
    shared!(AtomicI8 = "i8", AtomicI16 = "i16", AtomicI32 = "i32", AtomicI64 = "i64");
    shared!(QueueHead = "waitqueue head", RobustLock = "waitqueue lock");

    // SAFETY: an array is its elements, without padding between them.
    unsafe impl<T: Shared, const N: usize> Shared for [T; N] {
        const TAG: Tag = T::TAG;
    }

    /// Where the tables of a region lie: computed from the capacities, never read from the region.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Places {
        pub(crate) slots: u64,
        records: u64,
        entries: u64,
        objects: u64,
        pub(crate) memory: u64,
        pub(crate) end: u64,
    }

    impl Places {
        /// `None` where the sum does not fit into 62 bits.
        pub(crate) fn of(capacity: &Capacity) -> Option<Places> {
            let table =
                |start: u64, count: u32, size: usize| start.checked_add(u64::from(count) * size as u64);
            let slots = HEADER_SIZE;
            let records = table(slots, capacity.participants, size_of::<Slot>())?;
            let entries = table(records, capacity.records(), size_of::<Record>())?;
            let objects = table(entries, capacity.entries, size_of::<Entry>())?;
            let memory = table(objects, capacity.objects, size_of::<Object>())?;
            let end = memory.checked_add(capacity.memory.checked_next_multiple_of(HEADER_SIZE)?)?;
            let end = end.checked_next_multiple_of(HEADER_SIZE)?;
            (end < 1 << 62).then_some(Places { slots, records, entries, objects, memory, end })
        }
    }

    /// The header of a mapping that may be a region.
    pub(crate) fn header_of(mapping: &Mapping) -> Result<&Header> {
        if (mapping.len() as u64) < HEADER_SIZE {
            let why = format!("it has {} bytes, a header has {HEADER_SIZE}", mapping.len());
            return Err(Error::NotARegion { region: mapping.label().clone(), why });
        }
        // SAFETY: in bounds, aligned to a page, and made of atomics only; it lives as long as the mapping.
        Ok(unsafe { &*mapping.base().cast::<Header>() })
    }

    /// Makes a mapping all zero, for a region that is to be built in memory others have used before.
    #[cfg(feature = "shared_memory")]
    pub(crate) fn clear(mapping: &Mapping) {
        let count = mapping.len() / size_of::<AtomicU64>();
        // SAFETY: in bounds, aligned to a page, and atomics are valid whatever the bytes are.
        let words = unsafe { core::slice::from_raw_parts(mapping.base().cast::<AtomicU64>(), count) };
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// A mapped region whose size and capacities have been checked against each other.
    pub(crate) struct Space {
        mapping: Arc<Mapping>,
        /// Where the mapping begins.
        base: Base,
        capacity: Capacity,
        places: Places,
        reentered: Arc<Error>,
    }

    #[derive(Clone, Copy)]
    struct Base(NonNull<u8>);

    // SAFETY: an address, of memory that is shared between processes; it is only made into references to what is `Sync`.
    unsafe impl Send for Base {}
    // SAFETY: as above.
    unsafe impl Sync for Base {}

    impl Space {
        /// The mapping must be as large as its capacities say.
        pub(crate) fn new(mapping: Arc<Mapping>, capacity: Capacity) -> Result<Space> {
            let size = mapping.len() as u64;
            match (Places::of(&capacity), NonNull::new(mapping.base())) {
                (Some(places), Some(base)) if places.end <= size => {
                    let reentered = Error::Reentered { region: mapping.label().clone() }.into();
                    Ok(Space { mapping, base: Base(base), capacity, places, reentered })
                }
                _ => Err(Error::Damaged {
                    region: mapping.label().clone(),
                    what: "size in the header",
                    at: 24,
                    value: size,
                }),
            }
        }

        pub(crate) fn mapping(&self) -> &Arc<Mapping> {
            &self.mapping
        }

        pub(crate) fn label(&self) -> &Label {
            self.mapping.label()
        }

        /// The answer to a signal handler, made beforehand, since it may have interrupted the allocator.
        #[cold]
        pub(crate) fn reentered(&self) -> Arc<Error> {
            self.reentered.clone()
        }

        pub(crate) fn capacity(&self) -> &Capacity {
            &self.capacity
        }

        pub(crate) fn header(&self) -> &Header {
            &self.table(0, 1)[0]
        }

        pub(crate) fn slots(&self) -> &[Slot] {
            self.table(self.places.slots, self.capacity.participants)
        }

        #[inline]
        pub(crate) fn records(&self) -> &[Record] {
            self.table(self.places.records, self.capacity.records())
        }

        #[inline]
        pub(crate) fn entries(&self) -> &[Entry] {
            self.table(self.places.entries, self.capacity.entries)
        }

        /// How many entries were ever used; never more than there are, whatever the region says.
        pub(crate) fn entries_used(&self) -> usize {
            (self.header().entries_used.load(Ordering::Acquire) as usize).min(self.capacity.entries as usize)
        }

        /// The same for records.
        pub(crate) fn records_used(&self) -> usize {
            (self.header().records_used.load(Ordering::Acquire) as usize)
                .min(self.capacity.records() as usize)
        }

        /// The same for slots.
        pub(crate) fn slots_used(&self) -> usize {
            (self.header().slots_used.load(Ordering::Acquire) as usize)
                .min(self.capacity.participants as usize)
        }

        pub(crate) fn objects(&self) -> &[Object] {
            self.table(self.places.objects, self.capacity.objects)
        }

        /// Where user memory starts, and how large it is.
        pub(crate) fn memory(&self) -> (u64, u64) {
            (self.places.memory, self.capacity.memory)
        }

        /// The file offset of a slot's first lock byte.
        pub(crate) fn lock_byte(&self, slot: u32) -> u64 {
            self.places.slots + u64::from(slot) * size_of::<Slot>() as u64
        }

        #[inline]
        pub(crate) fn head(&self, offset: u64) -> Option<&QueueHead> {
            self.object(offset)
        }

        pub(crate) fn robust_lock(&self, offset: u64) -> Option<&RobustLock> {
            self.object(offset)
        }

        /// The object at an offset, if all of it lies in user memory and is aligned.
        #[inline]
        pub(crate) fn object<T: Shared>(&self, offset: u64) -> Option<&T> {
            let address = self.address(offset, size_of::<T>() as u64, align_of::<T>() as u64)?;
            // SAFETY: in bounds of the mapping, which lives as long as `self`, aligned, and of a type that is sound to
            // refer to whatever its bytes are.
            Some(unsafe { address.cast::<T>().as_ref() })
        }

        /// Where so many bytes are, if all of them lie in user memory and are aligned.
        #[inline]
        pub(crate) fn address(&self, offset: u64, size: u64, align: u64) -> Option<NonNull<u8>> {
            let last = self.capacity.memory.checked_sub(size)?;
            // (Before the start of user memory it wraps to more than there can be.)
            let is_inside = offset.wrapping_sub(self.places.memory) <= last;
            if !is_inside || !offset.is_multiple_of(align) || align > ALIGN {
                return None;
            }
            // SAFETY: in bounds of the mapping, which begins at a page.
            Some(unsafe { self.base.0.add(offset as usize) })
        }

        /// The offset of a reference into this region, or `None` if it points elsewhere.
        pub(crate) fn offset_of<T>(&self, object: &T) -> Option<u64> {
            let distance = (object as *const T as usize).checked_sub(self.mapping.base() as usize)?;
            let end = distance.checked_add(size_of::<T>())?;
            (end <= self.mapping.len()).then_some(distance as u64)
        }

        /// A reference that keeps the mapping alive by itself.
        pub(crate) fn hold<T: Shared>(self: &Arc<Self>, offset: u64) -> Option<Ref<T>> {
            let object = NonNull::from(self.object::<T>(offset)?);
            Some(Ref { object, offset, space: self.clone() })
        }

        #[inline]
        fn table<T>(&self, offset: u64, count: u32) -> &[T] {
            // SAFETY: `new` checked that all tables end inside the mapping; they start at multiples of 64, are made of
            // atomics only, and the mapping lives as long as `self`.
            unsafe {
                let start = self.base.0.add(offset as usize).cast::<T>();
                core::slice::from_raw_parts(start.as_ptr(), count as usize)
            }
        }
    }

    /// An owned reference to an object in a region.
    pub(crate) struct Ref<T> {
        object: NonNull<T>,
        offset: u64,
        space: Arc<Space>,
    }

    impl<T> Ref<T> {
        pub(crate) fn offset(&self) -> u64 {
            self.offset
        }
    }

    impl<T: Shared> Deref for Ref<T> {
        type Target = T;
        fn deref(&self) -> &T {
            // SAFETY: `hold` checked it, and `space` keeps the mapping alive.
            unsafe { self.object.as_ref() }
        }
    }

    impl<T> Clone for Ref<T> {
        fn clone(&self) -> Self {
            Ref { object: self.object, offset: self.offset, space: self.space.clone() }
        }
    }

    // SAFETY: `T: Shared` is `Sync`, and the reference counts are atomic.
    unsafe impl<T: Shared> Send for Ref<T> {}
    // SAFETY: as above.
    unsafe impl<T: Shared> Sync for Ref<T> {}
}

#[cfg(loom)]
mod model {
    use super::{Capacity, Entry, QueueHead, Record, RobustLock};
    use crate::error::Label;
    use crate::layout::Header;

    /// A region of private memory for the model checker: heads lie at offsets 64, 128, …
    pub(crate) struct Space {
        header: Header,
        records: Vec<Record>,
        entries: Vec<Entry>,
        heads: Vec<QueueHead>,
        label: Label,
        capacity: Capacity,
    }

    impl Space {
        pub(crate) fn new(threads: u32, entries: u32, heads: u32) -> Space {
            Space {
                header: Header::default(),
                records: (0..threads).map(|_| Record::default()).collect(),
                entries: (0..entries).map(|_| Entry::default()).collect(),
                heads: (0..heads).map(|_| QueueHead::default()).collect(),
                label: "model".into(),
                capacity: Capacity { participants: 0, threads, entries, objects: 1, memory: 4096 },
            }
        }

        pub(crate) fn label(&self) -> &Label {
            &self.label
        }

        pub(crate) fn reentered(&self) -> std::sync::Arc<crate::error::Error> {
            crate::error::Error::Reentered { region: self.label.clone() }.into()
        }

        pub(crate) fn capacity(&self) -> &Capacity {
            &self.capacity
        }

        pub(crate) fn header(&self) -> &Header {
            &self.header
        }

        pub(crate) fn records(&self) -> &[Record] {
            &self.records
        }

        pub(crate) fn entries(&self) -> &[Entry] {
            &self.entries
        }

        pub(crate) fn entries_used(&self) -> usize {
            self.entries.len()
        }

        pub(crate) fn head(&self, offset: u64) -> Option<&QueueHead> {
            self.heads.get((offset / 64).checked_sub(1)? as usize)
        }

        pub(crate) fn robust_lock(&self, _offset: u64) -> Option<&RobustLock> {
            None
        }
    }
}

/// Declares a struct that may lie in a region: `repr(C)`, with a tag, all of whose fields are [`Shared`].
///
/// The tag is a text of at most 31 bytes that you choose: every program that opens the object has to give the same
/// one. Change it when you change a field: the size does not always tell, since a head inside rounds it up to 64.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, AtomicU64};
/// use waitqueue::QueueHead;
///
/// waitqueue::shared_struct! {
///     /// A frame of video and those who wait for it.
///     #[tag = "frame v1"]
///     pub struct Frame {
///         pub ready: QueueHead,
///         pub number: AtomicU64,
///         pub pixels: [AtomicU32; 64],
///     }
/// }
/// ```
///
/// Plain data is refused, because a peer could change it under a reference:
///
/// ```compile_fail
/// waitqueue::shared_struct! {
///     #[tag = "bad"]
///     struct Bad { plain: u32 }
/// }
/// ```
///
/// [`Shared`]: crate::Shared
#[macro_export]
macro_rules! shared_struct {
    (
        $(#[doc = $doc:literal])*
        #[tag = $tag:literal]
        $visibility:vis struct $name:ident {
            $($(#[doc = $field_doc:literal])* $field_visibility:vis $field:ident : $type:ty),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[repr(C)]
        $visibility struct $name {
            $($(#[doc = $field_doc])* $field_visibility $field: $type),*
        }

        const _: () = {
            const fn shared<T: $crate::Shared>() {}
            $(shared::<$type>();)*
        };

        // SAFETY: `repr(C)`, and each field was just checked to be `Shared` itself.
        #[allow(unsafe_code)]
        unsafe impl $crate::Shared for $name {
            const TAG: $crate::Tag = $tag;
        }
    };
}
