//! P7: a damaged or hostile region is an error, not a crash and not a hang. Children open regions whose bytes were
//! changed, field by field or all at once, and try everything; another lives in a region while its bytes are changed.

#![allow(unsafe_code)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::{Child, Random, listen, say};
use waitqueue::{Region, RegionBuilder, RobustLock, Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[("model", model), ("tries", tries), ("lives", lives)]);
}

/// Small, so that all of it is reached, and impatient.
fn options() -> RegionBuilder {
    Region::builder()
        .participants(4)
        .threads(8)
        .entries(16)
        .objects(8)
        .memory(1024)
        .tick(Some(Duration::from_millis(20)))
        .patience(Duration::from_millis(2))
}

/// Where the tables are, as the layout says for these capacities.
const SLOTS: u64 = 4096;
const RECORDS: u64 = SLOTS + 4 * 64;
const ENTRIES: u64 = RECORDS + (8 + 4) * 128;
const OBJECTS: u64 = ENTRIES + 16 * 128;
const MEMORY: u64 = OBJECTS + 8 * 192;

fn brief<'a>() -> WaitOptions<'a> {
    WaitOptions::new().timeout(Duration::from_micros(300))
}

/// Every call once; what they return does not matter, only that they do.
fn try_everything(region: &Region) {
    let _ = region.snapshot().to_string();
    let _ = region.check();
    let _ = region.is_alive(region.me());
    if let Ok(word) = region.object::<RobustLock>("lock")
        && let Ok(lock) = region.lock_at(&word)
    {
        let _ = lock.lock_timeout(Duration::from_micros(100)).map(|guard| guard.repaired());
    }
    let _ = region.object::<AtomicU32>("word").map(|word| word.fetch_add(1, Relaxed));
    let _ = region.object::<AtomicU32>("new word");
    for name in ["queue", "other", "new queue"] {
        let Ok(queue) = region.queue(name) else { continue };
        let _ = queue.wake_up();
        let _ = queue.wake_up_all();
        let _ = queue.wait_event_with(&brief().exclusive(), || false);
        let _ = queue.wait_woken(&brief());
        let _ = queue.wake_up_sync(|| ());
        let guard = queue.prepare_to_wait(&brief().exclusive());
        let _ = queue.wake_up();
        drop(guard);
        let _ = wait_many(&mut [Source::new(&queue, &mut || false)], &brief());
        if let Ok(mut set) = WaitSet::new(region) {
            let _ = set.add(&queue, &WaitOptions::new().exclusive());
            let _ = set.wait(&brief(), |_| false);
        }
        if name == "other" {
            let _ = queue.close();
        }
    }
}

/// Makes a region in which something is going on, and is killed there.
fn model(args: &[String]) {
    let region = options().create_at(&args[0]).unwrap();
    let _word = region.object::<AtomicU32>("word").unwrap();
    let lock = region.lock_at(&region.object::<RobustLock>("lock").unwrap()).unwrap();
    let (queue, other) = (region.queue("queue").unwrap(), region.queue("other").unwrap());
    let _guard = lock.lock().unwrap();
    let _one = queue.prepare_to_wait(&WaitOptions::new().exclusive()).unwrap();
    let mut set = WaitSet::new(&region).unwrap();
    set.add(&queue, &WaitOptions::new().exclusive()).unwrap();
    set.add(&other, &WaitOptions::new()).unwrap();
    std::thread::spawn(move || queue.wait_woken(&WaitOptions::new().exclusive()));
    common::until("the sleeper sleeps", || region.snapshot().queues[0].waiters.len() == 3);
    say("ready");
    listen();
}

/// A folder for one test's files, and a region's file that was left by a killed process.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Files {
        let folder = Path::new("/dev/shm").join(format!("waitqueue-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Files(folder);
        let mut child = Child::start("model", &[&files.path("model")]);
        child.expect("ready");
        child.kill();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The 32-bit words worth damaging: all of the header, the first elements of each table, and of the user's memory.
fn words() -> Vec<u64> {
    let ranges = [(0, 88), (SLOTS, 128), (RECORDS, 384), (ENTRIES, 640), (OBJECTS, 400), (MEMORY, 256)];
    ranges.into_iter().flat_map(|(start, length)| (start..start + length).step_by(4)).collect()
}

/// Writes a damaged copy of the model for each word it is responsible for, and tries everything there.
fn tries(args: &[String]) {
    let model = std::fs::read(&args[0]).unwrap();
    let (copy, kind, share) = (&args[1], &args[2], args[3].parse::<usize>().unwrap());
    let mut random = Random(args[4].parse().unwrap());
    let mut opened = 0;
    for (nth, at) in words().into_iter().enumerate().filter(|(nth, _)| nth % 3 == share) {
        let mut bytes = model.clone();
        let place = at as usize..at as usize + 4;
        let old = u32::from_le_bytes(bytes[place.clone()].try_into().unwrap());
        let new = match kind.as_str() {
            "zero" => 0,
            "one" => 1,
            "max" => u32::MAX,
            "one more" => old.wrapping_add(1),
            "one less" => old.wrapping_sub(1),
            _ => random.next() as u32,
        };
        bytes[place].copy_from_slice(&new.to_le_bytes());
        if kind == "everything" {
            let start = [88, SLOTS, RECORDS, ENTRIES, OBJECTS, MEMORY][nth % 6] as usize;
            bytes[start..].iter_mut().for_each(|byte| *byte = random.next() as u8);
            if nth % 2 == 0 {
                // Small numbers are more often indices that exist.
                bytes[start..].iter_mut().for_each(|byte| *byte &= random.next() as u8 & 3);
            }
        }
        if new == old && kind != "everything" {
            continue;
        }
        std::fs::write(copy, &bytes).unwrap();
        std::fs::set_permissions(copy, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        say(&format!("{kind} at {at:#x}: {old:#x} becomes {new:#x}"));
        if let Ok(region) = options().open_at(copy) {
            opened += 1;
            try_everything(&region);
        }
        std::fs::remove_file(copy).unwrap();
    }
    assert!(opened > 0, "none could be opened: nothing was tried");
    say("done");
}

#[test]
fn p7_every_damaged_field_is_survived_by_whoever_opens_the_region() {
    let seed = common::seed();
    let files = Files::new("fields");
    for kind in ["zero", "one", "max", "one more", "one less", "random", "everything"] {
        let mut children: Vec<_> = (0..3)
            .map(|share| {
                let (model, copy) = (files.path("model"), files.path(&format!("copy-{share}")));
                Child::start("tries", &[&model, &copy, kind, &share.to_string(), &seed.to_string()])
            })
            .collect();
        for child in &mut children {
            let mut last = String::from("the start");
            loop {
                let line = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| child.hear()))
                    .unwrap_or_else(|_| panic!("crashed or hung in: {last} (seed {seed})"));
                if line == "done" {
                    break;
                }
                last = line;
            }
            child.end_well();
        }
    }
}

/// Lives in a region that others damage, and comes back whenever it is thrown out, until told to stop.
fn lives(args: &[String]) {
    static STOP: AtomicU32 = AtomicU32::new(0);
    std::thread::spawn(|| {
        listen();
        STOP.store(1, Release);
    });
    let (mut attached, mut failed) = (0_u32, 0_u32);
    while STOP.load(Acquire) == 0 {
        match options().open_at(&args[0]) {
            Ok(region) => {
                attached += 1;
                let threads = [(); 2].map(|()| {
                    let region = region.clone();
                    std::thread::spawn(move || (0..5).for_each(|_| try_everything(&region)))
                });
                (0..5).for_each(|_| try_everything(&region));
                threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            }
            Err(_) => failed += 1,
        }
        if attached + failed == 1 {
            say("lives");
        }
    }
    say(&format!("attached {attached} times, failed {failed} times"));
}

#[test]
fn trap_29_a_peer_that_writes_anything_at_any_time_is_survived_by_who_lives_there() {
    let seed = common::seed();
    let mut random = Random(seed);
    let files = Files::new("alive");
    let path = files.path("model");
    let mut children: Vec<_> = (0..2).map(|_| Child::start("lives", &[&path])).collect();
    children.iter_mut().for_each(|child| child.expect("lives"));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    let header = std::fs::read(&path).unwrap()[..56].to_vec();
    for _ in 0..15_000 {
        // Mostly the tables, sometimes the header; mostly small numbers.
        let at = if random.below(50) == 0 {
            random.below(24) * 4
        } else {
            (SLOTS + random.below(size - SLOTS)) & !3
        };
        let value = if random.below(3) == 0 { random.next() as u32 } else { random.below(20) as u32 };
        file.write_all_at(&value.to_le_bytes(), at).unwrap();
        std::thread::sleep(Duration::from_micros(50));
        if at < 56 {
            file.write_all_at(&header, 0).unwrap(); // or nobody would come back
        }
    }
    for child in &mut children {
        child.tell("stop");
        let lived = child.hear();
        println!("{lived}");
        assert!(lived.split(' ').nth(1).unwrap().parse::<u32>().unwrap() > 1, "it never came back: {lived}");
        child.end_well();
    }
}
