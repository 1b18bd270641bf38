//! Trap 44: what a hostile peer can do with a mapping of the region, and what an evicted participant hears. The tick is
//! on here: it is what remains when a stranger has moved or blocked the sleepers of a word. And the region is one that
//! strangers may open: a peer of the same user can do worse than that to a process, so nobody is guarded against him.

#![allow(unsafe_code)]

mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::Name;
use common::stage::{Stage, bounded, thread, woken};
use waitqueue::{Error, Region, RegionBuilder, WaitOptions, WaiterState};

fn options() -> RegionBuilder {
    // (Open to a group, so that sleepers are guarded against those who may be in it.)
    let small = Region::builder().participants(4).threads(8).entries(16).mode(0o660).spin(Duration::ZERO);
    small.tick(Some(Duration::from_millis(20))).patience(Duration::from_millis(50))
}

const SLOTS: usize = 4096;
const ENTRIES: usize = SLOTS + 4 * 64 + 12 * 128;

/// A stranger's own mapping of a region's file.
struct Stranger {
    base: *mut u8,
    size: usize,
}

// SAFETY: shared memory, used through atomics only.
unsafe impl Sync for Stranger {}
// SAFETY: as above.
unsafe impl Send for Stranger {}

impl Stranger {
    fn of(name: &Name) -> Stranger {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/shm{}", name.0)).unwrap();
        let size = file.metadata().unwrap().len() as usize;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), size, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Stranger { base: base.cast(), size }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.size);
        // SAFETY: in bounds; the mapping is never taken away.
        unsafe { &*self.base.add(offset).cast() }
    }

    /// The word on which the only sleeper of the region sleeps.
    fn sleepers_word(&self) -> &AtomicU32 {
        // State 2 of a waiter word: asleep.
        let words = (0..16).map(|nth| self.word(ENTRIES + nth * 128));
        words.into_iter().find(|word| word.load(Acquire) & 0b1111 == 2).expect("somebody sleeps")
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32, value2: usize, other: &AtomicU32) -> libc::c_long {
    // SAFETY: words that stay mapped, and numbers.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, value2, other.as_ptr(), 0) }
}

fn sleeping(stage: &Stage) -> common::stage::Thread<waitqueue::Result<()>> {
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_event_with(&bounded(), || stage.is_set()).map(drop)
    });
    stage.asleep(1);
    waiter
}

#[test]
fn trap_44_a_sleeper_that_was_moved_to_another_word_is_rescued_by_the_tick() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let stranger = Stranger::of(&name);
    for _ in 0..5 {
        stage.set(0);
        let waiter = sleeping(&stage);
        let elsewhere = stranger.word(SLOTS - 64);
        let word = stranger.sleepers_word();
        common::until("it is moved", || futex(word, libc::FUTEX_REQUEUE, 0, 1, elsewhere) > 0);
        stage.set_and_wake(); // does not reach it
        assert_eq!(waiter.join(), Ok(()));
    }
}

#[test]
fn trap_44_a_stranger_that_blocks_a_words_wakes_is_no_panic() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let stranger = Stranger::of(&name);
    let waiter = sleeping(&stage);
    let at = stranger.sleepers_word().as_ptr() as usize - stranger.base as usize;
    let stranger: &'static Stranger = Box::leak(Box::new(stranger));
    let word = stranger.word(at);
    let waiting_for_us = || {
        // SAFETY: no arguments.
        word.store(unsafe { libc::gettid() } as u32, Release);
        std::thread::spawn(move || futex(word, libc::FUTEX_LOCK_PI, 0, 0, word));
        std::thread::sleep(Duration::from_millis(2));
        let woken = futex(word, libc::FUTEX_WAKE, 0, 0, word);
        woken == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
    };
    // Sleeps on the waiter's word in an operation of another kind, which makes wakes fail with EINVAL. The waiter, which
    // may be before it in the kernel's list, and its tick may spoil that: then this only shows that it does no harm.
    if !(0..50).any(|_| waiting_for_us()) {
        println!("not shown: the stranger could not get between the waiter and its wakes");
    }
    stage.set_and_wake();
    assert_eq!(waiter.join(), Ok(()));
}

#[test]
fn trap_44_a_stranger_that_sleeps_on_our_word_takes_no_wake_from_us() {
    let name = Name::new();
    let stage = Stage::of(
        Region::builder().tick(None).participants(4).threads(8).entries(16).create(&name.0).unwrap(),
    );
    let stranger: &'static Stranger = Box::leak(Box::new(Stranger::of(&name)));
    // The stranger is first in the kernel's list: it sleeps on the word before the waiter does.
    let value = std::sync::Arc::new(AtomicU32::new(0));
    let waiter = sleeping(&stage);
    let word = stranger.sleepers_word();
    let asleep = word.load(Acquire);
    stage.queue.wake_up().unwrap();
    for _ in 0..3 {
        let value = value.clone();
        std::thread::spawn(move || {
            value.fetch_add(1, AcqRel);
            futex(word, libc::FUTEX_WAIT, asleep, 0, word)
        });
    }
    common::until("strangers sleep", || value.load(Acquire) == 3);
    std::thread::sleep(Duration::from_millis(5));
    stage.asleep(1);
    stage.queue.wake_up().unwrap(); // the waiter goes to the end of the kernel's list
    stage.asleep(1);
    stage.set_and_wake();
    assert_eq!(waiter.join(), Ok(()), "no tick: all sleepers of the word are woken");
}

#[test]
fn a_lock_word_that_names_nobody_is_taken_over() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let held = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    let info = stage.info();
    assert_eq!((info.lock_owner, info.recoveries), (None, 0));
    let stranger = Stranger::of(&name);
    // The queue's head is the first object: its lock is the first word of user memory.
    let memory = ENTRIES + 16 * 128 + 256 * 192;
    let head = stranger.word(memory);
    for forged in [0x7fff_ffff, 0x8000_ffff, 0x0001_0009, 0x0005_0001, 0x8000_0000] {
        head.store(forged, Release);
        stage.queue.wake_up().unwrap();
        assert_eq!(head.load(Acquire), 0, "{forged:#x}");
    }
    assert!(stage.info().recoveries > 0);
    assert_eq!(stage.info().waiters[0].state, WaiterState::Evaluating);
    drop(held);
    stage.region.check().unwrap();
}

#[test]
fn a_wait_whose_word_says_that_nobody_waits_there_ends() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let stranger = Stranger::of(&name);
    // Idle; claimed through no entry; claimed through one that there is not.
    for forged in [0, 3, 0xffff_ff03] {
        let waiter = thread({
            let stage = stage.clone();
            move || stage.queue.wait_woken(&bounded().exclusive()).map(drop)
        });
        stage.asleep(1);
        stranger.sleepers_word().store(forged, Release);
        assert_eq!(waiter.join(), Ok(()), "{forged:#x}");
    }
}

#[test]
fn a_wait_whose_word_has_bits_without_a_meaning_sleeps_on() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let stranger = Stranger::of(&name);
    let waiter = thread({
        let stage = stage.clone();
        move || stage.queue.wait_woken(&bounded().exclusive()).map(drop)
    });
    stage.asleep(1);
    let asleep = stranger.sleepers_word().load(Acquire);
    for bits in [0x40, 0x80, 0xc0] {
        stranger.sleepers_word().store(asleep | bits, Release);
        // SAFETY: a word that is there.
        unsafe { libc::syscall(libc::SYS_futex, stranger.sleepers_word().as_ptr(), libc::FUTEX_WAKE, 1) };
        common::until("it sleeps by a clean word", || stranger.sleepers_word().load(Acquire) == asleep);
    }
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    assert_eq!(waiter.join(), Ok(()));
}

#[test]
fn as_many_stuck_locks_as_there_are_entries_keep_no_newcomer_out() {
    const MANY: u64 = 4096;
    let name = Name::new();
    let room = || options().entries(MANY).memory((MANY + 64) * 64);
    let stage = Stage::of(room().create(&name.0).unwrap());
    let held = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    let stranger = Stranger::of(&name);
    let memory = ENTRIES + MANY as usize * 128 + 256 * 192;
    // The first record of a user's thread is ours, and alive.
    let generation = stranger.word(SLOTS + 4 * 64 + 4 * 128 + 12).load(Acquire);
    for nth in 1..MANY as usize {
        let (entry, head) = (ENTRIES + nth * 128, memory + (nth + 8) * 64);
        stranger.word(head).store(generation << 16 | 5, Release);
        stranger.word(entry + 12).store(77, Release); // the owner's generation: one who is no more
        stranger.word(entry + 16).store(head as u32, Release);
    }
    stranger.word(76).store(MANY as u32, Release); // all of them are in use
    let newcomer = thread(move || room().open(&name.0).map(drop));
    assert_eq!(newcomer.join(), Ok(()));
    drop(held);
}

#[test]
fn an_evicted_participant_is_told_so_and_may_come_back() {
    let name = Name::new();
    let stage = Stage::of(options().create(&name.0).unwrap());
    let id = stage.region.me().get();
    let _other = options().open(&name.0).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm{}", name.0)).unwrap();
    let held = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    // As if the slot had been given to somebody else.
    file.write_all_at(&[9, 0, 0, 0], SLOTS as u64 + 64 * (id & 0xffff_ffff) + 4).unwrap();
    let error = stage.queue.wake_up().unwrap_err();
    assert_eq!(error, Error::Evicted { region: name.0[..].into(), participant: id });
    let text = error.to_string();
    assert!(text.contains(&format!("{id:#x}")) && text.contains("attach again"), "{text}");
    assert_eq!(error.errno(), libc::ESTALE);
    drop(held);
    drop(stage);
    let again = Stage::of(options().open(&name.0).unwrap());
    assert_eq!(again.queue.wake_up().map(drop), Ok(()));
}
