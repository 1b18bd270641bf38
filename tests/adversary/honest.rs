//! One that does everything there is to do, in several threads, and comes back whenever it is thrown out.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use waitqueue::{
    Error, Interrupter, Queue, Region, Result, RobustLock, Source, WaitOptions, WaitSet, WakeOptions,
    wait_many,
};

use super::common::{LIMIT, Random, listen, say};
use super::options;

const THREADS: usize = 3;
const CANARY: u64 = 0x5afe_5afe_5afe_5afe;

/// What one thread is doing, and since when: 0 while it does nothing.
#[derive(Default)]
struct Watch {
    since: AtomicU64,
    step: AtomicU32,
}

#[derive(Default)]
struct Tally {
    /// Successes as "ok", errors by their kind.
    outcomes: BTreeMap<String, u64>,
    slowest: (Duration, &'static str),
}

static STOP: AtomicU32 = AtomicU32::new(0);

pub(crate) fn lives(args: &[String]) {
    let (fd, seed): (RawFd, u64) = (args[0].parse().unwrap(), args[1].parse().unwrap());
    std::thread::spawn(|| {
        listen();
        STOP.store(1, Release);
    });
    // SAFETY: inherited for this, and open until this process ends.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let canary = vec![CANARY; 1 << 17];
    let start = Instant::now();
    let region = Arc::new(Mutex::new(options().open_fd(fd.try_clone_to_owned().unwrap()).unwrap()));
    guard_mappings();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let watches: [Arc<Watch>; THREADS] = Default::default();
    let threads: Vec<_> = (watches.iter().enumerate())
        .map(|(nth, watch)| {
            let (watch, region, tally) = (watch.clone(), region.clone(), tally.clone());
            let random = Random(seed.rotate_left(nth as u32 * 7) | 1);
            std::thread::spawn(move || Honest { fd, region, random, watch, tally, start }.works())
        })
        .collect();
    say("lives");
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(20));
        for watch in &watches {
            let since = Duration::from_micros(watch.since.load(Acquire));
            let hung = !since.is_zero() && start.elapsed().saturating_sub(since) > LIMIT;
            assert!(!hung, "{} hangs (seed {seed})", STEPS[watch.step.load(Acquire) as usize]);
        }
        assert!(canary.iter().all(|word| *word == CANARY), "private memory was written to (seed {seed})");
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    drop(region); // the last handle: it leaves
    let tally = tally.lock().unwrap();
    for (outcome, count) in &tally.outcomes {
        say(&format!("{outcome} {count}"));
    }
    say(&format!("slowest {} {:?}", tally.slowest.1, tally.slowest.0));
    say("end");
}

/// Makes the pages beside each mapping of the region inaccessible, where they are not in use.
fn guard_mappings() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|line| line.contains("memfd:adversary")) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let (from, to) = (usize::from_str_radix(from, 16).unwrap(), usize::from_str_radix(to, 16).unwrap());
        for page in [from - 4096, to] {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: replaces nothing.
            unsafe {
                libc::mmap(std::ptr::without_provenance_mut(page), 4096, libc::PROT_NONE, flags, -1, 0)
            };
        }
    }
}

const STEPS: [&str; 16] = [
    "wait",
    "wait exclusive",
    "wait woken",
    "wait for a while",
    "wait many",
    "set",
    "prepare",
    "wake",
    "wake all",
    "wake sync",
    "lock",
    "name",
    "snapshot",
    "check",
    "close",
    "attach",
];

struct Honest {
    fd: BorrowedFd<'static>,
    region: Arc<Mutex<Region>>,
    random: Random,
    watch: Arc<Watch>,
    tally: Arc<Mutex<Tally>>,
    start: Instant,
}

impl Honest {
    fn works(mut self) {
        while STOP.load(Acquire) == 0 {
            let step = self.random.below(STEPS.len() as u64) as usize;
            // Attaching is slow, and closing ends most of what a queue is for.
            if step >= 14 && self.random.below(20) != 0 {
                continue;
            }
            let begun = Instant::now();
            self.watch.step.store(step as u32, Release);
            self.watch.since.store(self.start.elapsed().as_micros() as u64, Release);
            let outcome = self.step(STEPS[step]);
            self.watch.since.store(0, Release);
            let mut tally = self.tally.lock().unwrap();
            tally.slowest = tally.slowest.max((begun.elapsed(), STEPS[step]));
            *tally.outcomes.entry(kind(&outcome)).or_default() += 1;
            drop(tally);
            if matches!(outcome, Err(Error::Evicted { .. })) {
                self.attach_anew();
            }
        }
    }

    fn attach_anew(&mut self) {
        if let Ok(region) = options().open_fd(self.fd.try_clone_to_owned().unwrap()) {
            *self.region.lock().unwrap() = region;
        }
    }

    fn step(&mut self, step: &str) -> Result<()> {
        let region = self.region.lock().unwrap().clone();
        match step {
            "attach" => return options().open_fd(self.fd.try_clone_to_owned().unwrap()).map(drop),
            "snapshot" => {
                drop(region.snapshot().to_string());
                return Ok(());
            }
            "check" => return region.check(),
            "name" => return self.names(&region),
            "lock" => return self.locks(&region),
            _ => {}
        }
        let queue = region.queue(["queue", "other", "third"][self.random.below(3) as usize])?;
        match step {
            "wake" => drop(queue.wake_up_with(&self.whom())?),
            "wake all" => drop(queue.wake_up_all()?),
            "wake sync" => drop(queue.wake_up_sync(|| queue.wake_up().map(drop))?),
            "close" => drop(queue.close()?),
            _ => self.waits(&region, &queue, step)?,
        }
        Ok(())
    }

    fn waits(&mut self, region: &Region, queue: &Queue, step: &str) -> Result<()> {
        let interrupter = Interrupter::new(region);
        let span = Duration::from_micros(self.random.below(2000));
        let brief = WaitOptions::new().timeout(span).label("honest").interrupter(&interrupter);
        let turns = self.random.below(4);
        let mut seen = 0;
        let mut condition = || {
            seen += 1;
            seen > turns + 1
        };
        match step {
            "wait" => drop(queue.wait_event_with(&brief, condition).map(|_| ())?),
            "wait exclusive" => drop(queue.wait_event_with(&brief.exclusive(), condition).map(|_| ())?),
            "wait woken" => drop(queue.wait_woken(&brief.exclusive()).map(|_| ())?),
            // Without a deadline: nobody wakes for it, so the tick has to find it true.
            "wait for a while" => {
                let (begun, span) = (Instant::now(), Duration::from_millis(5));
                queue.wait_event(|| begun.elapsed() > span)?;
            }
            "wait many" => {
                let (other, mut never) = (region.queue("other")?, || false);
                let exclusive = brief.exclusive();
                let mut sources =
                    [Source::with(queue, &exclusive, &mut condition), Source::new(&other, &mut never)];
                wait_many(&mut sources, &brief)?;
            }
            "set" => {
                let mut set = WaitSet::new(region)?;
                let member = set.add(queue, &brief.exclusive())?;
                set.add(&region.queue("other")?, &brief)?;
                interrupter.interrupt();
                let waited = set.wait(&brief, |_| condition());
                set.remove(member)?;
                waited?;
            }
            _ => {
                let mut wait = queue.prepare_to_wait(&brief.priority())?;
                wait.prepare();
                let slept = wait.sleep();
                if turns == 0 {
                    wait.finish();
                }
                slept?;
            }
        }
        Ok(())
    }

    fn whom(&mut self) -> WakeOptions {
        let count = std::num::NonZeroU32::new(1 + self.random.below(3) as u32).unwrap();
        WakeOptions::new().nr(count).key(1 << self.random.below(32))
    }

    fn locks(&mut self, region: &Region) -> Result<()> {
        let lock = region.lock_at(&*region.object::<RobustLock>("lock")?)?;
        let guard = lock.lock_timeout(Duration::from_millis(self.random.below(5)))?;
        if guard.owner_died() {
            guard.repaired();
        }
        drop(guard);
        Ok(())
    }

    fn names(&mut self, region: &Region) -> Result<()> {
        let name = ["number", "another", "queue", "new"][self.random.below(4) as usize];
        region.object::<AtomicU64>(name)?.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// The name of an error's variant.
fn kind(outcome: &Result<()>) -> String {
    let Err(error) = outcome else { return "ok".to_owned() };
    let text = format!("{error:?}");
    text.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
