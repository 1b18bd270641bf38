//! The region of all inputs, between guard pages and canaries; and the hostile peer's own mapping of it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use waitqueue::{QueueHead, Region, RegionBuilder, RobustLock, WaitOptions, WaitSet};

use super::input::{Past, Place, Value};

waitqueue::shared_struct! {
    #[tag = "own"]
    pub struct Own { pub head: QueueHead, pub lock: RobustLock, pub number: AtomicU64 }
}

/// Small, so that all of it is reached, and impatient.
pub fn options() -> RegionBuilder {
    let small = Region::builder().participants(4).threads(6).entries(12).objects(8).memory(1024);
    small.tick(None).patience(Duration::from_micros(3))
}

/// Where the tables are, as the layout says for these capacities, and how large an element is.
const TABLES: [(usize, usize, usize); 6] =
    [(0, 1, 88), (4096, 4, 64), (4352, 6 + 4, 128), (5632, 12, 128), (7168, 8, 192), (MEMORY, 16, 64)];
const MEMORY: usize = 8704;
const RECORDS: usize = 4352;
const USED: usize = MEMORY + 1024;
const SIZE: usize = 16384;
const PAGE: usize = 4096;
const CANARY: u64 = 0x5afe_5afe_5afe_5afe;

pub struct World {
    /// The participant that stays.
    pub region: Region,
    pub fd: OwnedFd,
    peer: &'static [AtomicU64],
    canaries: [&'static [AtomicU64]; 2],
    pasts: [Vec<u64>; 2],
}

impl World {
    pub fn get() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(World::new)
    }

    fn new() -> World {
        // SAFETY: numbers only. Sleeps are then as short as they say.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        let (region, canaries) = guarded();
        let fd = region.try_clone_fd().expect("a descriptor");
        let peer = words(map(SIZE, libc::PROT_READ | libc::PROT_WRITE, fd.as_raw_fd()), SIZE);
        let mut world = World { region, fd, peer, canaries, pasts: [Vec::new(), Vec::new()] };
        world.name_objects();
        world.pasts[Past::Quiet as usize] = world.bytes();
        world.pasts[Past::Killed as usize] =
            std::thread::scope(|scope| scope.spawn(|| world.with_a_killed()).join().expect("a past"));
        world
    }

    fn name_objects(&self) {
        let region = &self.region;
        region.queue("queue").and_then(|_| region.queue("other")).expect("queues");
        drop(region.object::<RobustLock>("lock").expect("a lock"));
        drop(region.object::<Own>("own").expect("a struct"));
    }

    /// The bytes in the middle of somebody's doings; he leaves in good order afterwards, but they know nothing of that.
    fn with_a_killed(&self) -> Vec<u64> {
        let region = options().open_fd(self.fd.try_clone().expect("a descriptor")).expect("attached");
        let lock = region.lock_at(&region.object::<RobustLock>("lock").expect("a lock")).expect("ours");
        let (queue, other) = (region.queue("queue").expect("there"), region.queue("other").expect("there"));
        let _guard = lock.lock().expect("free");
        let _evaluating = other.prepare_to_wait(&WaitOptions::new().exclusive()).expect("enrolled");
        let mut set = WaitSet::new(&region).expect("a set");
        set.add(&other, &WaitOptions::new().exclusive()).expect("enrolled");
        set.add(&queue, &WaitOptions::new()).expect("enrolled");
        let bytes = std::cell::RefCell::new(Vec::new());
        let before = || {
            queue.wake_up().expect("a wake"); // claims the very one that is about to sleep
            bytes.replace(self.bytes());
        };
        let slept = || !bytes.borrow().is_empty();
        queue.wait_event_exclusive_cmd(slept, before, || ()).expect("woken");
        bytes.into_inner()
    }

    fn bytes(&self) -> Vec<u64> {
        self.peer.iter().map(|word| word.load(Relaxed)).collect()
    }

    pub fn restore(&self, past: Past) {
        for (word, value) in self.peer.iter().zip(&self.pasts[past as usize]).take(USED / 8) {
            word.store(*value, Relaxed);
        }
    }

    /// Private memory on both sides of the region is as it was.
    pub fn check_canaries(&self) {
        let intact = self.canaries.into_iter().flatten().all(|canary| canary.load(Relaxed) == CANARY);
        assert!(intact, "private memory was written to");
    }

    /// The word that a place names.
    pub fn word(&self, place: Place) -> &AtomicU32 {
        let (start, count, size) = TABLES[place.table as usize];
        let offset = start + place.nth as usize % count * size + place.word as usize * 4 % size;
        self.at(offset)
    }

    fn at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset < SIZE);
        // SAFETY: in bounds and aligned; everything there is used as atomics.
        unsafe { AtomicU32::from_ptr(self.peer.as_ptr().cast_mut().cast::<u32>().add(offset / 4)) }
    }

    /// So many words from a place on, as far as the region goes.
    pub fn words(&self, place: Place, count: u8) -> impl Iterator<Item = &AtomicU32> {
        let start = ptr::from_ref(self.word(place)).addr() - self.peer.as_ptr().addr();
        (start..USED).step_by(4).take(count.into()).map(|offset| self.at(offset))
    }

    pub fn value(&self, value: Value, old: u32) -> u32 {
        match value {
            Value::Small(number) => number.into(),
            Value::Any(number) => number,
            Value::Added(number) => old.wrapping_add_signed(number.into()),
            Value::Flipped { bit } => old ^ 1 << (bit % 32),
            Value::LockedBy { record, older, waiters } => {
                let record = u32::from(record % 11);
                let generation = self.at(RECORDS + record as usize * 128 + 12).load(Relaxed);
                let generation = generation.wrapping_sub(older.into()) & 0x7fff;
                u32::from(waiters) << 31 | generation << 16 | (record + 1)
            }
            Value::Waiter { bits, claim } => u32::from(claim) << 8 | u32::from(bits & 15),
            Value::Offset(nth) => (MEMORY + usize::from(nth) * 16) as u32,
        }
    }
}

/// Creates the region in a hole between two pages that nobody may touch, with canaries on their other sides.
fn guarded() -> (Region, [&'static [AtomicU64]; 2]) {
    let mut others = Vec::new();
    for _ in 0..1000 {
        let whole = SIZE + 4 * PAGE;
        let area = map(whole, libc::PROT_NONE, -1);
        let hole = area.wrapping_add(2 * PAGE);
        // SAFETY: our own mapping; nothing refers to it.
        assert_eq!(unsafe { libc::munmap(hole.cast(), SIZE) }, 0);
        let region = options().create_memfd("fuzz").expect("a region");
        if base(&region) == hole.addr() {
            let canaries = [area, area.wrapping_add(whole - PAGE)];
            return (region, canaries.map(canary));
        }
        // Somewhere else was room for it, which it now fills.
        others.push(region);
    }
    panic!("the kernel maps regions anywhere but in the hole");
}

fn base(region: &Region) -> usize {
    let first = region.object::<QueueHead>("queue").expect("the first object");
    ptr::from_ref(&*first).addr() - MEMORY
}

fn canary(page: *mut u8) -> &'static [AtomicU64] {
    // SAFETY: our own page, of which nobody knows.
    assert_eq!(unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE) }, 0);
    let words = words(page, PAGE);
    words.iter().for_each(|word| word.store(CANARY, Relaxed));
    &words[..64]
}

fn map(size: usize, rights: i32, fd: i32) -> *mut u8 {
    let flags = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    // SAFETY: a new mapping at an address that the kernel chooses.
    let area = unsafe { libc::mmap(ptr::null_mut(), size, rights, flags, fd, 0) };
    assert_ne!(area, libc::MAP_FAILED);
    area.cast()
}

fn words(start: *mut u8, size: usize) -> &'static [AtomicU64] {
    // SAFETY: mapped for ever by the callers, in whole pages; atomics are valid whatever the bytes are.
    unsafe { std::slice::from_raw_parts(start.cast(), size / 8) }
}
