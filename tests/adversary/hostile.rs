//! One that has the same mapping, and does what it likes with it.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use super::common::Random;
use super::options;

/// Where the tables are, as the layout says for these capacities, and how large an element is.
const TABLES: [(usize, usize, usize); 6] = [
    (0, 1, 88),
    (SLOTS, 8, 64),
    (RECORDS, 8 + 16, 128),
    (ENTRIES, 48, 128),
    (OBJECTS, 8, 192),
    (MEMORY, 32, 64),
];
const SLOTS: usize = 4096;
const RECORDS: usize = SLOTS + 8 * 64;
const ENTRIES: usize = RECORDS + 24 * 128;
const OBJECTS: usize = ENTRIES + 48 * 128;
const MEMORY: usize = OBJECTS + 8 * 192;

struct Hostile {
    words: &'static [AtomicU32],
    fd: OwnedFd,
    random: Random,
}

/// Until it is killed.
pub(crate) fn lives(args: &[String]) {
    let seed: u64 = args[1].parse().unwrap();
    let hostile = |turn: u32| {
        // SAFETY: inherited for this, and open until this process ends.
        let fd = unsafe { BorrowedFd::borrow_raw(args[0].parse().unwrap()) };
        let fd = fd.try_clone_to_owned().unwrap();
        Hostile { words: map(fd.as_raw_fd()), fd, random: Random(seed.rotate_left(turn) | 1) }
    };
    let (mut sleeper, mut guest) = (hostile(17), hostile(31));
    std::thread::spawn(move || {
        loop {
            sleeper.sleep_on_a_word()
        }
    });
    std::thread::spawn(move || {
        loop {
            guest.flood()
        }
    });
    let mut writer = hostile(0);
    loop {
        writer.act();
    }
}

fn map(fd: RawFd) -> &'static [AtomicU32] {
    // SAFETY: a structure that the kernel fills; then a new mapping, never taken away, used through atomics only.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(fd, &raw mut stat), 0);
        let (size, rights) = (stat.st_size as usize, libc::PROT_READ | libc::PROT_WRITE);
        let base = libc::mmap(std::ptr::null_mut(), size, rights, libc::MAP_SHARED, fd, 0);
        assert_ne!(base, libc::MAP_FAILED);
        std::slice::from_raw_parts(base.cast(), size / 4)
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32, value2: *const libc::timespec, other: &AtomicU32) {
    // SAFETY: words that stay mapped, numbers, and a timeout or a number in its place.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, value2, other.as_ptr(), 0) };
}

impl Hostile {
    fn at(&self, offset: usize) -> &'static AtomicU32 {
        &self.words[offset / 4]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u64) as usize
    }

    /// A word of any table but the header, which would only keep newcomers out.
    fn any_word(&mut self) -> &'static AtomicU32 {
        let (start, count, size) = TABLES[1 + self.below(5)];
        let offset = start + self.below(count * size / 4) * 4;
        self.at(offset)
    }

    /// A word on which somebody may sleep.
    fn futex_word(&mut self) -> &'static AtomicU32 {
        let nth = self.below(48);
        match self.below(4) {
            0 => self.at(MEMORY + nth % 8 * 64),
            1 => self.at(SLOTS + nth % 8 * 64 + nth % 4 * 8 + 8),
            _ => self.at(ENTRIES + nth * 128),
        }
    }

    /// A lock word that names a living owner, most often.
    fn forged_owner(&mut self) -> u32 {
        let record = self.below(24);
        let generation = self.at(RECORDS + record * 128 + 12).load(Relaxed) & 0x7fff;
        generation << 16 | (record as u32 + 1) | (self.below(2) as u32) << 31
    }

    fn act(&mut self) {
        match self.below(16) {
            0..=3 => self.any_word().store(self.random.next() as u32, Release),
            4..=6 => self.any_word().store(self.random.below(50) as u32, Release),
            7 => self.header(),
            8 => self.move_and_wake(),
            _ => {
                let (offset, value) = self.forgery();
                self.at(offset).store(value, Release);
            }
        }
        if self.below(64) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(500)));
        }
        match self.below(512) {
            0 | 1 => self.hammer(),
            2 | 3 => self.wipe(),
            _ => {}
        }
    }

    /// A whole table: otherwise all places are soon taken by owners who never were.
    fn wipe(&mut self) {
        let (start, count, size) = TABLES[2 + self.below(4)];
        (start..start + count * size).step_by(4).for_each(|offset| self.at(offset).store(0, Relaxed));
    }

    /// Where something could be true, and what is not.
    fn forgery(&mut self) -> (usize, u32) {
        let index = self.below(48);
        let (entry, other) = (ENTRIES + index * 128, self.below(48) as u32 + 1);
        let (head, slot, half) = (MEMORY + index % 8 * 64, SLOTS + index % 8 * 64, self.below(2));
        match self.below(8) {
            // Links into loops.
            0 => (entry + 48, index as u32 + 1),
            1 => (entry + 48 + half * 4, other),
            // The locks of the directory, of heads, of users.
            2 => ([64, head][half], self.forged_owner()),
            3 => (entry, other << 8 | self.below(16) as u32),
            // Tickets, counts, life words, generations.
            4 => (head + 24 + half * 4, u32::MAX),
            5 => (head + 4, [0, u32::MAX][half]),
            6 => (slot + 8, self.at(slot + 8).load(Relaxed) | 0x4000_0000),
            _ => (RECORDS + index % 24 * 128 + 12, other),
        }
    }

    /// A wrong header for a moment: for good, nobody could ever attach.
    fn header(&mut self) {
        let offset = self.below(22) * 4;
        let word = self.at(offset);
        let before = word.swap(self.random.next() as u32, AcqRel);
        word.store(before, Release);
    }

    /// Changes one word as fast as can be, so that compare-and-swaps of others fail.
    fn hammer(&mut self) {
        let (word, until) = (self.futex_word(), Instant::now() + Duration::from_millis(1));
        let values = [self.forged_owner(), 0, self.random.next() as u32, 2];
        while Instant::now() < until {
            (0..100).for_each(|nth| word.store(values[nth % 4], Relaxed));
        }
    }

    fn move_and_wake(&mut self) {
        let (word, other) = (self.futex_word(), self.futex_word());
        let all = std::ptr::without_provenance(i32::MAX as usize);
        match self.below(3) {
            0 => futex(word, libc::FUTEX_WAKE, 1, std::ptr::null(), word),
            _ => futex(word, libc::FUTEX_REQUEUE, 0, all, other),
        }
    }

    /// Absorbs wakes, or makes them fail, for a few milliseconds.
    fn sleep_on_a_word(&mut self) {
        let word = self.futex_word();
        let timeout = libc::timespec { tv_sec: 0, tv_nsec: 3_000_000 };
        match self.below(4) {
            0 => futex(word, libc::FUTEX_LOCK_PI, 0, &raw const timeout, word),
            _ => futex(word, libc::FUTEX_WAIT, word.load(Relaxed), &raw const timeout, word),
        }
    }

    /// Attaches as often as it can, keeps locks and places for a while, locks the bytes of others; tries to truncate.
    fn flood(&mut self) {
        let guests: Vec<_> =
            (0..8).map_while(|_| options().open_fd(self.fd.try_clone().unwrap()).ok()).collect();
        let queues: Vec<_> = guests.iter().filter_map(|guest| guest.queue("queue").ok()).collect();
        let _kept: Vec<_> = queues.iter().map(|queue| queue.prepare_to_wait(&Default::default())).collect();
        // SAFETY: numbers, and a structure that is valid when zero.
        unsafe {
            assert_eq!(libc::ftruncate(self.fd.as_raw_fd(), 4096), -1, "it is sealed");
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as _;
            (lock.l_start, lock.l_len) = ((SLOTS + self.below(8) * 64) as i64, 2);
            libc::fcntl(self.fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock);
            std::thread::sleep(Duration::from_millis(self.random.below(5)));
            lock.l_type = libc::F_UNLCK as _;
            libc::fcntl(self.fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock);
        }
        drop(_kept);
        drop(queues);
        drop(guests);
        std::thread::sleep(Duration::from_millis(self.random.below(50)));
    }
}
