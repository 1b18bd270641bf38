//! The process that lives on: it sets the stage for a victim, acts when it is to, and checks after the death that
//! nothing is lost, hung or leaked.
//!
//! It is told what to do line by line, and answers each with `ok …`, or with what went wrong; then it is replaced.

use std::io::BufRead;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::thread::JoinHandle;
use std::time::Duration;

use waitqueue::{Object, Queue, RobustLock, WaitOptions};

use super::operations::{OF_NINTH, OPERATIONS, Operation, Stimulus, ninth};
use crate::common::{self, LIMIT, until};
use crate::kill::{Survivors, World, nothing_leaked, small};

/// Who else there is when the victim dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Nobody is attached.
    Alone,
    /// Others sleep on the same queues, behind the victim.
    Sleeper,
    /// Others want everything that the victim may hold at that instruction.
    Barging,
    /// Others are at work on another queue.
    Busy,
    /// Nobody is killed: what the victim waits for happens at that instruction.
    Interleaved,
    /// A region that others died in; the victim is the one who cleans up.
    Recoverer,
}

pub const SETTINGS: [Setting; 6] = [
    Setting::Alone,
    Setting::Sleeper,
    Setting::Barging,
    Setting::Busy,
    Setting::Interleaved,
    Setting::Recoverer,
];

/// Whether a wake without a condition was used up by the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// None was made.
    None,
    /// The victim was chosen and had not run since.
    Owed,
    /// It was answering.
    Maybe,
    /// It had answered.
    Used,
}

pub const CLAIMS: [Claim; 4] = [Claim::None, Claim::Owed, Claim::Maybe, Claim::Used];

/// Answers commands until its input ends.
pub fn keeper() {
    let mut stage: Option<Stage> = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split('\t').collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| match words[..] {
            ["stage", operation, setting, name] => {
                let find = |setting: &Setting| format!("{setting:?}") == words[2];
                let operation = OPERATIONS.iter().find(|known| known.name == operation);
                let setting =
                    *SETTINGS.iter().find(|known| find(known)).unwrap_or_else(|| panic!("{setting}"));
                stage = Some(Stage::set(operation, setting, name));
                String::new()
            }
            ["asleep", pid] => stage.as_mut().unwrap().asleep(pid.parse().unwrap()),
            ["now"] => stage.as_mut().unwrap().now(),
            ["barge"] => stage.as_mut().unwrap().barge(),
            ["after", claim, killed_at] => {
                let claim = CLAIMS.into_iter().find(|known| format!("{known:?}") == claim).unwrap();
                let took = stage.take().unwrap().after(claim, killed_at.parse().unwrap());
                took.as_micros().to_string()
            }
            ref other => panic!("no command {other:?}"),
        }));
        match outcome {
            Ok(answer) => common::say(&format!("ok {answer}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
                common::say(&text.replace('\n', "\\n"));
                // Threads may hang: nothing is to be joined.
                // SAFETY: what was said is flushed.
                unsafe { libc::_exit(1) };
            }
        }
    }
}

pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

struct Stage {
    /// None for a recoverer, who attaches.
    operation: Option<&'static Operation>,
    setting: Setting,
    name: String,
    world: Option<World>,
    survivors: Option<Survivors>,
    threads: Vec<JoinHandle<()>>,
    /// How many waits without a condition have been woken.
    woken: Arc<AtomicU32>,
    sleepers: Vec<JoinHandle<()>>,
    turns: Option<Object<AtomicU32>>,
}

/// How many sleep behind a victim that waits without a condition.
const WITHOUT_CONDITION: u32 = 2;

impl Stage {
    fn set(operation: Option<&'static Operation>, setting: Setting, name: &str) -> Stage {
        let name = name.to_owned();
        let mut stage = Stage {
            operation,
            setting,
            name,
            world: None,
            survivors: None,
            threads: Vec::new(),
            woken: Arc::default(),
            sleepers: Vec::new(),
            turns: None,
        };
        let Some(operation) = operation.filter(|operation| !operation.creates()) else { return stage };
        let world = World::new(&small().create(&stage.name).unwrap());
        for n in (0..9).filter(|_| operation.name == "wait_many, 9") {
            world.region.queue(&format!("n{n}")).unwrap();
        }
        match setting {
            Setting::Alone => return stage,
            Setting::Sleeper if operation.wakes() => stage.sleep_behind(&world, 0),
            Setting::Sleeper => {
                let early = world.clone();
                stage.threads.push(std::thread::spawn(move || {
                    early.a.wait_event(|| early.stopped()).unwrap();
                }));
                common::until_asleep(&world.region, "a", 1);
            }
            Setting::Busy => stage.keep_busy(&world),
            Setting::Barging | Setting::Interleaved | Setting::Recoverer => {}
        }
        stage.world = Some(world);
        stage
    }

    fn is(&self, name: &str) -> bool {
        self.operation.is_some_and(|operation| operation.name == name)
    }

    /// Sleepers of all kinds, behind so many others on queue `a`.
    fn sleep_behind(&mut self, world: &World, others: usize) {
        if self.is("wait_woken") {
            for nth in 0..WITHOUT_CONDITION as usize {
                let (a, woken) = (world.a.clone(), self.woken.clone());
                self.sleepers.push(std::thread::spawn(move || {
                    a.wait_woken(&WaitOptions::new().exclusive()).unwrap();
                    woken.fetch_add(1, AcqRel);
                }));
                common::until_asleep(&world.region, "a", others + nth + 1);
            }
            return;
        }
        if self.is("wait, closed") || self.is("close") {
            let c = world.c.clone();
            self.sleepers.push(std::thread::spawn(move || drop(c.wait_event(|| false).unwrap_err())));
            let before = usize::from(self.is("wait, closed"));
            common::until_asleep(&world.region, "c", before + 1);
        }
        if self.is("wait_many, 9") {
            let last = world.clone();
            self.threads.push(std::thread::spawn(move || {
                let queue = ninth(&last);
                while !last.stopped() {
                    queue.wait_event_exclusive(|| last.stopped() || last.work(OF_NINTH)).unwrap();
                }
            }));
            common::until_asleep(&world.region, "n8", 2);
        }
        let survivors = Survivors::start(world);
        survivors.asleep(others);
        self.survivors = Some(survivors);
    }

    /// Two threads take turns, by wakes, on a queue of their own.
    fn keep_busy(&mut self, world: &World) {
        let turns: Object<AtomicU32> = world.region.object("turns").unwrap();
        for mine in 0..2 {
            let (world, turns) = (world.clone(), turns.clone());
            let queue = world.region.queue("busy").unwrap();
            self.threads.push(std::thread::spawn(move || {
                while !world.stopped() {
                    queue.wait_event(|| world.stopped() || turns.load(Acquire) % 2 == mine).unwrap();
                    turns.fetch_add(1, AcqRel);
                    queue.wake_up_all().unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
                queue.wake_up_all().unwrap();
            }));
        }
        self.turns = Some(turns);
    }

    /// The victim sleeps: others join it, and it is given what it waits for.
    fn asleep(&mut self, pid: u32) -> String {
        let attached = self.world.clone();
        let world = attached.unwrap_or_else(|| World::open(&self.name));
        let is_asleep = || {
            let snapshot = world.region.snapshot();
            let mut waiters = snapshot.queues.iter().flat_map(|queue| &queue.waiters);
            waiters.any(|waiter| waiter.process == pid && waiter.state == waitqueue::WaiterState::Asleep)
        };
        if self.is("lock, wanted") {
            self.want_lock(&world);
            return String::new();
        }
        until("the victim is asleep", is_asleep);
        if self.setting == Setting::Sleeper {
            let on_a = usize::from(!self.is("wait, closed") && !self.is("wait_many, 9"));
            self.sleep_behind(&world, 1 + on_a);
        }
        stimulate(self.operation.expect("an operation"), &world);
        String::new()
    }

    /// Others sleep on the lock that the victim holds.
    fn want_lock(&mut self, world: &World) {
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                let (world, (thread, its_thread)) = (world.clone(), std::sync::mpsc::channel());
                let wish = move || {
                    thread.send(rustix::thread::gettid()).unwrap();
                    drop(world.lock.lock_timeout(LIMIT * 2).unwrap());
                };
                (std::thread::spawn(wish), its_thread.recv().unwrap())
            })
            .collect();
        for (sleeper, thread) in sleepers {
            let stat = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
            until("somebody sleeps on the lock", || {
                std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S "))
            });
            self.threads.push(sleeper);
        }
    }

    /// The victim is stopped at some instruction, and the stimulus comes.
    fn now(&mut self) -> String {
        let (world, operation) =
            (self.world.clone().expect("a world"), self.operation.expect("an operation"));
        self.threads.push(std::thread::spawn(move || stimulate(operation, &world)));
        self.until_blocked();
        String::new()
    }

    /// The victim is stopped at some instruction, and others want whatever it may hold.
    fn barge(&mut self) -> String {
        if self.operation.is_some_and(Operation::creates) {
            let name = self.name.clone();
            self.threads.push(std::thread::spawn(move || drop(small().open_or_create(&name).unwrap())));
            self.until_blocked();
            return String::new();
        }
        let Some(world) = self.world.clone() else { return String::new() };
        let want = |wish: fn(&World)| {
            let world = world.clone();
            std::thread::spawn(move || wish(&world))
        };
        self.threads.extend([
            want(|world| {
                world.a.wake_up_all().unwrap();
                drop(world.a.wait_event_timeout(|| false, Duration::ZERO));
                let mut turn = world.a.prepare_to_wait(&WaitOptions::new().exclusive()).unwrap();
                turn.prepare();
                turn.finish();
            }),
            want(|world| drop(world.lock.lock_timeout(LIMIT).unwrap())),
            want(|world| drop(world.region.queue("fresh").unwrap())),
            want(|world| drop(world.region.participants())),
        ]);
        if self.is("close") || self.is("wait, closed") {
            self.threads.push(want(|world| assert!(world.c.wake_up_all().is_ok())));
        }
        self.until_blocked();
        String::new()
    }

    /// Waits until the threads that were started last have ended, or sleep.
    fn until_blocked(&self) {
        until("all others sleep or are done", || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let me = rustix::thread::gettid().as_raw_nonzero().to_string();
            let others = tasks.filter(|task| task.file_name() != *me);
            others.into_iter().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('S'))
            })
        });
    }

    /// The victim is dead: everything that is owed comes, everything it had comes back, and the region works.
    fn after(mut self, claim: Claim, killed_at: u64) -> Duration {
        let world = match self.world.take() {
            Some(world) => world,
            None => World::new(&small().open_or_create(&self.name).unwrap()),
        };
        if self.setting == Setting::Sleeper && self.survivors.is_none() && self.sleepers.is_empty() {
            self.sleep_behind_dead(&world);
        }
        if self.is("wait_woken") && self.setting == Setting::Sleeper {
            self.check_claims(&world, claim);
        }
        self.check_closed(&world);
        let survivors = self.survivors.take().unwrap_or_else(|| Survivors::start(&world));
        world.settled("lost");
        let took = Duration::from_nanos(now().saturating_sub(killed_at));
        world.put_more(2);
        world.settled("lost");
        self.check_objects(&world);
        match world.lock.lock_timeout(LIMIT) {
            Ok(guard) if guard.owner_died() => guard.repaired(),
            Ok(_) => {}
            Err(error) => panic!("hung: {error}"),
        }
        if let Some(turns) = self.turns.take() {
            let before = turns.load(Acquire);
            until("hung: others go on with their work", || turns.load(Acquire) > before + 1);
        }
        survivors.stop("hung");
        if self.is("wait_many, 9") {
            ninth(&world).wake_up_all().unwrap();
        }
        for thread in self.threads.drain(..).chain(self.sleepers.drain(..)) {
            common::join("hung: a thread ends", thread);
        }
        if self.operation.is_none_or(|operation| !operation.attached || operation.with_bell) {
            // Who dies while attaching or detaching is announced by nobody; the next to attach cleans up.
            drop(World::open(&self.name));
        }
        nothing_leaked(&world.region, (0, 1, 1), "leaked");
        drop(world);
        let left = small().inspect(&self.name).unwrap();
        let is_clean = left.participants.is_empty()
            && (left.entries.0, left.threads.0) == (0, 0)
            && left.queues.iter().all(|queue| queue.waiters.is_empty() && queue.lock_owner.is_none());
        assert!(is_clean, "leaked, with nobody attached:\n{left}");
        waitqueue::Region::unlink(&self.name).unwrap();
        took
    }

    /// Those who come after the death.
    fn sleep_behind_dead(&mut self, world: &World) {
        if self.is("wait_woken") {
            return self.sleep_behind(world, 1);
        }
        self.survivors = Some(Survivors::start(world));
    }

    /// Exactly one of those who sleep is woken for a wake whose chosen one died; none, if he had answered.
    fn check_claims(&mut self, world: &World, claim: Claim) {
        let woken = || self.woken.load(Acquire);
        if claim == Claim::Owed {
            until("lost: the wake of a chosen one that died", || woken() == 1);
        }
        // The dead one's entry is gone when its turn to be passed on is over.
        until("leaked: the entries of the dead", || {
            let snapshot = world.region.snapshot();
            let queue = snapshot.queues.iter().find(|queue| queue.name == "a").unwrap();
            queue.waiters.iter().all(|waiter| waiter.process == std::process::id())
        });
        let limit = u32::from(matches!(claim, Claim::Owed | Claim::Maybe));
        until("lost: a passed on wake arrives", || {
            let snapshot = world.region.snapshot();
            let queue = snapshot.queues.iter().find(|queue| queue.name == "a").unwrap();
            let asleep = |waiter: &waitqueue::WaiterInfo| waiter.state == waitqueue::WaiterState::Asleep;
            queue.waiters.iter().filter(|waiter| asleep(waiter)).count() as u32 + woken()
                >= WITHOUT_CONDITION + u32::from(!self.threads.is_empty())
        });
        assert!(woken() <= limit, "lost: {} woken by one wake, whose chosen one is {claim:?}", woken());
        let rest = WITHOUT_CONDITION - woken();
        if let Some(rest) = std::num::NonZeroU32::new(rest) {
            world.a.wake_up_nr(rest).unwrap();
        }
        for sleeper in self.sleepers.drain(..) {
            common::join("lost: a sleeper that was woken", sleeper);
        }
    }

    /// If the queue is closed, all who waited on it know; or else it is closed now.
    fn check_closed(&mut self, world: &World) {
        if self.is("close") || self.is("wait, closed") {
            if !world.c.is_closed() {
                world.c.close().unwrap();
            }
            for sleeper in self.sleepers.drain(..) {
                common::join("lost: a sleeper on a closed queue", sleeper);
            }
        }
    }

    /// What the victim was making can be made, and takes no more room than once.
    fn check_objects(&self, world: &World) {
        let count = || world.region.snapshot().objects.len();
        if self.is("object") {
            let _: (Queue, Object<RobustLock>) =
                (world.region.queue("fresh").unwrap(), world.region.object("new").unwrap());
            let objects = world.region.snapshot().objects;
            let names: std::collections::BTreeSet<_> = objects.iter().map(|(name, ..)| name).collect();
            assert_eq!(names.len(), count(), "leaked: objects of one name twice");
        }
    }
}

/// What the victim waits for, if it waits.
fn stimulate(operation: &Operation, world: &World) {
    if operation.stimulus != Stimulus::Wake {
        return;
    }
    match operation.name {
        "wait, closed" => drop(world.c.close().unwrap()),
        "wait_many, 2" | "turn by turn, many" => {
            world.put(crate::kill::OF_B.start);
            world.a.wake_up().unwrap();
        }
        "wait_many, 9" => {
            world.put(OF_NINTH.start);
            ninth(world).wake_up().unwrap();
        }
        "wait_woken" => drop(world.a.wake_up().unwrap()),
        _ => {
            world.put(0);
            world.a.wake_up().unwrap();
        }
    }
}
