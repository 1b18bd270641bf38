//! The operations at whose every instruction somebody dies, and the victims who carry them out.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use waitqueue::{
    Interrupter, Queue, RobustLock, Source, WaitOptions, WaitSet, Waiting, WakeOptions, wait_many,
};

use crate::common;
use crate::kill::{OF_A, OF_B, World, small};

/// What makes a sleeping victim go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stimulus {
    /// It does not sleep, or its time is up.
    Nothing,
    /// A peer changes its condition and wakes.
    Wake,
    /// A signal comes.
    Signal,
    /// Others come, who want what it holds, then a signal.
    Company,
}

pub struct Operation {
    pub name: &'static str,
    pub stimulus: Stimulus,
    /// Whether the victim is attached before it begins.
    pub attached: bool,
    /// Whether the bell of the victim is among those at whose instructions it dies.
    pub with_bell: bool,
}

impl Operation {
    const fn plain(name: &'static str) -> Operation {
        Operation { name, stimulus: Stimulus::Nothing, attached: true, with_bell: false }
    }

    const fn waiting(name: &'static str, stimulus: Stimulus) -> Operation {
        Operation { stimulus, ..Operation::plain(name) }
    }

    const fn whole(name: &'static str, attached: bool) -> Operation {
        Operation { name, stimulus: Stimulus::Nothing, attached, with_bell: true }
    }

    /// Whether there is no region before.
    pub fn creates(&self) -> bool {
        self.name.starts_with("create")
    }

    /// Whether it wakes others, who must be asleep first.
    pub fn wakes(&self) -> bool {
        self.name.starts_with("wake") || self.name == "close"
    }

    /// Whether a wake that comes too early is seen by its condition.
    pub fn has_condition(&self) -> bool {
        self.stimulus == Stimulus::Wake && self.name != "wait_woken"
    }
}

pub const OPERATIONS: &[Operation] = &[
    Operation::whole("create", false),
    Operation::whole("create, racing", false),
    Operation::whole("attach", false),
    Operation::whole("detach", true),
    Operation::plain("object"),
    Operation::plain("enrol"),
    Operation::waiting("wait", Stimulus::Wake),
    Operation::waiting("wait, shared", Stimulus::Wake),
    Operation::waiting("wait, spinning", Stimulus::Nothing),
    Operation::waiting("wait, timed out", Stimulus::Nothing),
    Operation::waiting("wait, interrupted", Stimulus::Signal),
    Operation::waiting("wait, closed", Stimulus::Wake),
    Operation::waiting("wait, locked", Stimulus::Wake),
    Operation::waiting("wait_woken", Stimulus::Wake),
    Operation::waiting("wait_many, 1", Stimulus::Wake),
    Operation::waiting("wait_many, 2", Stimulus::Wake),
    Operation::waiting("wait_many, 9", Stimulus::Wake),
    Operation::waiting("set", Stimulus::Wake),
    Operation::waiting("turn by turn", Stimulus::Wake),
    Operation::waiting("turn by turn, many", Stimulus::Wake),
    Operation::waiting("turn by turn, set", Stimulus::Wake),
    Operation::plain("wake_up"),
    Operation::plain("wake_up_nr"),
    Operation::plain("wake_up_all"),
    Operation::plain("wake_up_key"),
    Operation::plain("wake_up_sync"),
    Operation::plain("close"),
    Operation::plain("lock"),
    Operation::waiting("lock, wanted", Stimulus::Company),
    Operation::plain("lock, owner died"),
    Operation::plain("snapshot"),
    Operation::plain("check"),
];

/// The items of the ninth queue.
pub const OF_NINTH: std::ops::Range<usize> = 48..56;

pub fn ninth(world: &World) -> Queue {
    world.region.queue("n8").unwrap()
}

/// What a victim is told on its command line.
pub struct Orders {
    pub name: String,
    pub operation: String,
    /// Whether the kernel marks it when it dies with a lock.
    pub marks: bool,
    /// How long a wait takes that times out.
    pub timeout: Duration,
}

impl Orders {
    pub fn arguments(&self) -> Vec<String> {
        let (marks, timeout) = (u32::from(self.marks), self.timeout.as_millis());
        ["victim", &self.name, &self.operation, &marks.to_string(), &format!("{timeout:05}")]
            .map(str::to_owned)
            .into()
    }

    fn parse(arguments: &[String]) -> Orders {
        let [name, operation, marks, timeout] = arguments else { panic!("{arguments:?}") };
        Orders {
            name: name.clone(),
            operation: operation.clone(),
            marks: marks == "1",
            timeout: Duration::from_millis(timeout.parse().expect("a number")),
        }
    }
}

/// The marker: stops here, for whoever traces this thread.
fn marker() {
    // SAFETY: numbers, and a signal to this thread alone.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGSTOP) };
}

/// As with a libc that registers no robust list.
fn without_marks() {
    let none: *mut u8 = std::ptr::null_mut();
    // SAFETY: no list is a valid list.
    unsafe { libc::syscall(libc::SYS_set_robust_list, none, 3 * size_of::<usize>()) };
}

/// Carries out one operation between two markers.
pub fn victim(arguments: &[String]) {
    let orders = Orders::parse(arguments);
    if !orders.marks {
        without_marks();
    }
    let name = &*orders.name;
    match &*orders.operation {
        "create" => between(|| small().create(name)),
        "create, racing" => between(|| small().open_or_create(name)),
        "attach" => between(|| small().open(name)),
        "detach" => {
            let world = World::open(name);
            between(|| drop(world));
        }
        _ => attached(&World::open(name), &orders),
    };
    // At the end of its orders it is killed.
    marker();
}

fn between<T>(operation: impl FnOnce() -> T) {
    marker();
    let outcome = operation();
    marker();
    drop(outcome);
}

fn attached(world: &World, orders: &Orders) {
    let (a, region) = (&world.a, &world.region);
    let work = || world.work(OF_A);
    let exclusive = WaitOptions::new().exclusive();
    match &*orders.operation {
        "object" => between(|| (region.queue("fresh").unwrap(), region.object::<RobustLock>("new").unwrap())),
        "enrol" => between(|| {
            let mut turn = a.prepare_to_wait(&exclusive).unwrap();
            turn.prepare();
            turn.finish();
        }),
        "wait" => between(|| a.wait_event_exclusive(work).unwrap()),
        "wait, shared" => between(|| a.wait_event(|| world.is_put(0)).unwrap()),
        "wait, spinning" => {
            let options = WaitOptions::new().spin(common::LIMIT);
            let mut evaluations = 0;
            between(|| {
                let mut twice_round = || {
                    evaluations += 1;
                    evaluations > 40
                };
                a.wait_event_with(&options, &mut twice_round).unwrap()
            });
        }
        "wait, timed out" => {
            let options = exclusive.timeout(orders.timeout);
            between(|| a.wait_event_with(&options, || false).unwrap_err());
        }
        "wait, interrupted" => interrupted(world),
        "wait, closed" => between(|| world.c.wait_event(|| false).unwrap_err()),
        "wait, locked" => between(|| {
            let mut guard = world.lock.lock().unwrap();
            a.wait_event_locked(&exclusive, &mut guard, |_| work()).unwrap();
        }),
        "wait_woken" => between(|| a.wait_woken(&exclusive).unwrap()),
        "wait_many, 1" => between(|| {
            let mut of_a = work;
            let only = Source::with(a, &exclusive, &mut of_a);
            wait_many(&mut [only], &WaitOptions::new()).unwrap()
        }),
        // Woken for the first, it finds an item of the second.
        "wait_many, 2" => between(|| {
            let (mut never, mut of_b) = (|| false, || world.work(OF_B));
            let first = Source::with(a, &exclusive, &mut never);
            let second = Source::with(&world.b, &exclusive, &mut of_b);
            wait_many(&mut [first, second], &WaitOptions::new()).unwrap()
        }),
        "wait_many, 9" => nine(world),
        "set" => between(|| {
            let mut set = WaitSet::new(region).unwrap();
            let first = set.add(a, &exclusive).unwrap();
            set.add(&world.b, &exclusive).unwrap();
            set.wait(&WaitOptions::new(), |member| member == first && work()).unwrap();
        }),
        "turn by turn" => between(|| turns(a.begin_wait(&exclusive), |_| work())),
        "turn by turn, many" => between(|| {
            let sources = [(a, exclusive), (&world.b, exclusive)];
            turns(Waiting::on_many(&sources, &WaitOptions::new()).unwrap(), |at| at == 1 && world.work(OF_B));
        }),
        "turn by turn, set" => between(|| {
            let mut set = WaitSet::new(region).unwrap();
            let first = set.add(a, &exclusive).unwrap().number() as usize;
            set.add(&world.b, &exclusive).unwrap();
            turns(set.begin_wait(&WaitOptions::new()), |at| at == first && work());
        }),
        "lock" => between(|| drop(world.lock.lock().unwrap())),
        "lock, wanted" => {
            on_signal_do_nothing();
            let never = AtomicU32::new(0);
            between(|| {
                let guard = world.lock.lock().unwrap();
                // SAFETY: a valid word, and no timeout.
                unsafe { libc::syscall(libc::SYS_futex, never.as_ptr(), libc::FUTEX_WAIT, 0, 0) };
                drop(guard);
            });
        }
        "lock, owner died" => {
            thread_dies_with_lock(world);
            between(|| drop(world.lock.lock().unwrap()));
        }
        "snapshot" => between(|| region.snapshot()),
        "check" => between(|| region.check().unwrap()),
        waking => wake(world, waking),
    }
}

fn turns(mut waiting: Waiting, mut condition: impl FnMut(usize) -> bool) {
    while !condition(waiting.next_condition().unwrap()) {}
    waiting.finish();
}

/// The wakes, each after a change; among those who sleep is a thread of the victim.
fn wake(world: &World, operation: &str) {
    let (a, own) = (&world.a, world.clone());
    if operation == "close" {
        std::thread::spawn(move || own.c.wait_event(|| false));
        common::until_asleep(&world.region, "c", 1);
        return between(|| world.c.close().unwrap());
    }
    std::thread::spawn(move || own.a.wait_event_exclusive(|| own.stopped() || own.work(OF_A)));
    let me = std::process::id();
    common::until("our own thread sleeps", || {
        let snapshot = world.region.snapshot();
        let waiters =
            snapshot.queues.iter().filter(|queue| queue.name == "a").flat_map(|queue| &queue.waiters);
        waiters
            .into_iter()
            .any(|waiter| waiter.process == me && waiter.state == waitqueue::WaiterState::Asleep)
    });
    let put = |count| (0..count).for_each(|item| world.put(item));
    match operation {
        "wake_up" => between(|| {
            put(1);
            a.wake_up().unwrap()
        }),
        "wake_up_nr" => between(|| {
            put(2);
            a.wake_up_nr(2.try_into().unwrap()).unwrap()
        }),
        "wake_up_all" => between(|| {
            put(3);
            a.wake_up_all().unwrap()
        }),
        "wake_up_key" => between(|| {
            put(1);
            a.wake_up_with(&WakeOptions::new().key(1)).unwrap()
        }),
        "wake_up_sync" => between(|| a.wake_up_sync(|| put(1)).unwrap()),
        other => panic!("no operation {other}"),
    }
}

fn on_signal_do_nothing() {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: a handler that does nothing, without SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
}

fn interrupted(world: &World) {
    on_signal_do_nothing();
    let interrupter = Interrupter::new(&world.region);
    let options = WaitOptions::new().exclusive().interruptible().interrupter(&interrupter);
    between(|| world.a.wait_event_with(&options, || false).unwrap_err());
}

fn nine(world: &World) {
    let queues: Vec<Queue> = (0..9).map(|n| world.region.queue(&format!("n{n}")).unwrap()).collect();
    let options = WaitOptions::new().exclusive();
    let mut conditions: Vec<_> = (0..9).map(|n| move || n == 8 && world.work(OF_NINTH)).collect();
    between(|| {
        let mut sources: Vec<_> = (queues.iter().zip(&mut conditions))
            .map(|(queue, condition)| Source::with(queue, &options, condition))
            .collect();
        wait_many(&mut sources, &WaitOptions::new()).unwrap()
    });
}

/// One thread ends with the lock held, and the process lives on.
fn thread_dies_with_lock(world: &World) {
    let dying = world.clone();
    let (gone, is_gone) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::mem::forget(dying.lock.lock());
        // SAFETY: a number.
        gone.send(unsafe { libc::gettid() }).unwrap();
        // SAFETY: this thread alone ends, as if it were killed; nobody joins it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let thread = format!("/proc/self/task/{}", is_gone.recv().unwrap());
    common::until("the thread's end", || !std::path::Path::new(&thread).exists());
}
