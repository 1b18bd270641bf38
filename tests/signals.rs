//! Signals: which of them end which wait, with and without SA_RESTART, and what may be called from their handlers.

#![allow(unsafe_code)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::stage::{BEYOND, Gate, Stage, Thread, bounded, thread, woken};
use waitqueue::{Error, Interrupter, Lock, Result, RobustLock, Source, WaitOptions, WaitSet, wait_many};

/// Handlers are the process's, so tests that install them take turns.
static TURN: Mutex<()> = Mutex::new(());
static HANDLED: AtomicU32 = AtomicU32::new(0);

/// What the handler is to do beside counting.
static ACTION: Mutex<Option<fn()>> = Mutex::new(None);

extern "C" fn handler(_: i32) {
    HANDLED.fetch_add(1, AcqRel);
    // Set before any signal is sent, so the lock is free.
    if let Ok(action) = ACTION.try_lock()
        && let Some(action) = *action
    {
        action();
    }
}

fn install(signal: i32, flags: i32) {
    // SAFETY: the handler touches atomics and what a test's action does.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// A thread to which signals are sent.
struct Target<T> {
    tid: i32,
    thread: Thread<T>,
}

fn target<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Target<T> {
    let tid = Arc::new(OnceLock::new());
    let thread = thread({
        let tid = tid.clone();
        move || {
            // SAFETY: no arguments.
            let _ = tid.set(unsafe { libc::gettid() });
            body()
        }
    });
    Target { tid: *tid.wait(), thread }
}

impl<T> Target<T> {
    fn signal(&self, signal: i32) {
        // SAFETY: numbers only.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.tid, signal) };
    }

    /// Sends the signal until the thread ends: a handler may run just before the sleep, which does not end it.
    fn signal_until_end(self, signal: i32) -> T {
        for _ in 0..common::LIMIT.as_millis() {
            self.signal(signal);
            if let Some(result) = self.thread.ends_within(Duration::from_millis(1)) {
                return result;
            }
        }
        panic!("signals do not end it");
    }

    /// Sends the signal and waits until it was handled.
    fn signal_handled(&self, signal: i32) {
        let before = HANDLED.load(Acquire);
        self.signal(signal);
        common::until("the handler runs", || HANDLED.load(Acquire) > before);
    }

    /// Waits until the thread sleeps with this signal blocked.
    fn until_blocked(&self, signal: i32) {
        common::until("the signal is blocked", || {
            let status = std::fs::read_to_string(format!("/proc/self/task/{}/status", self.tid)).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap() & 1 << (signal - 1) != 0
        });
    }
}

type Form = fn(&Stage) -> Result<()>;

fn by_hand(stage: &Stage, options: WaitOptions) -> Result<()> {
    let mut wait = stage.queue.prepare_to_wait(&options)?;
    loop {
        wait.prepare();
        if stage.is_set() {
            return Ok(());
        }
        wait.sleep()?;
    }
}

fn in_set(stage: &Stage, options: WaitOptions) -> Result<()> {
    let mut set = WaitSet::new(&stage.region)?;
    set.add(&stage.queue, &WaitOptions::new())?;
    set.wait(&options, |_| stage.is_set()).map(drop)
}

fn in_many(stage: &Stage, options: WaitOptions) -> Result<()> {
    wait_many(&mut [Source::new(&stage.queue, &mut || stage.is_set())], &options).map(drop)
}

/// Waits that any handler ends.
const INTERRUPTIBLE: [(&str, Form); 8] = [
    ("untimed", |s| s.queue.wait_event_interruptible(|| s.is_set())),
    ("timed", |s| s.queue.wait_event_interruptible_timeout(|| s.is_set(), BEYOND).map(drop)),
    ("exclusive", |s| s.queue.wait_event_interruptible_exclusive(|| s.is_set())),
    ("woken", |s| s.queue.wait_woken(&WaitOptions::new().interruptible()).map(drop)),
    ("many", |s| in_many(s, WaitOptions::new().interruptible())),
    ("set", |s| in_set(s, WaitOptions::new().interruptible())),
    ("by hand", |s| by_hand(s, WaitOptions::new().interruptible())),
    ("with a tick", |s| {
        let stage = ticking(s);
        stage.queue.wait_event_interruptible(|| s.is_set())
    }),
];

/// The same region as another's, attached once more with a tick.
fn ticking(stage: &Stage) -> Stage {
    let fd = stage.region.try_clone_fd().unwrap();
    let tick = Some(Duration::from_secs(5));
    Stage::of(waitqueue::Region::builder().tick(tick).open_fd(fd).unwrap())
}

/// Waits that none ends.
const DEAF: [(&str, Form); 5] = [
    ("untimed", |s| s.queue.wait_event(|| s.is_set())),
    ("timed", |s| s.queue.wait_event_timeout(|| s.is_set(), BEYOND).map(drop)),
    ("exclusive", |s| s.queue.wait_event_exclusive(|| s.is_set())),
    ("many", |s| in_many(s, bounded())),
    ("set", |s| in_set(s, WaitOptions::new())),
];

/// Waits that only SIGINT, SIGTERM, SIGQUIT and SIGHUP end.
const KILLABLE: [(&str, Form); 5] = [
    ("untimed", |s| s.queue.wait_event_killable(|| s.is_set())),
    ("timed", |s| s.queue.wait_event_killable_timeout(|| s.is_set(), BEYOND).map(drop)),
    ("many", |s| in_many(s, WaitOptions::new().killable())),
    ("set", |s| in_set(s, WaitOptions::new().killable())),
    ("by hand", |s| by_hand(s, WaitOptions::new().killable())),
];

fn waiting(form: Form) -> (Stage, Target<Result<()>>) {
    let stage = Stage::new();
    let waiter = target({
        let stage = stage.clone();
        move || form(&stage)
    });
    stage.asleep(1);
    (stage, waiter)
}

#[test]
fn trap_06_a_handler_ends_every_interruptible_wait_whatever_its_flags() {
    let _turn = TURN.lock();
    for flags in [0, libc::SA_RESTART] {
        install(libc::SIGUSR1, flags);
        for (name, form) in INTERRUPTIBLE {
            let (stage, waiter) = waiting(form);
            let outcome = waiter.signal_until_end(libc::SIGUSR1);
            assert!(
                matches!(outcome, Err(Error::Interrupted { .. })),
                "{name}, flags {flags:#x}: {outcome:?}"
            );
            assert!(!stage.queue.has_sleepers(), "{name}");
        }
    }
}

#[test]
fn trap_06_no_handler_ends_an_uninterruptible_wait_whatever_its_flags() {
    let _turn = TURN.lock();
    for flags in [0, libc::SA_RESTART] {
        install(libc::SIGUSR1, flags);
        for (name, form) in DEAF {
            let (stage, waiter) = waiting(form);
            (0..5).for_each(|_| waiter.signal_handled(libc::SIGUSR1));
            stage.asleep(1);
            stage.set_and_wake();
            assert_eq!(waiter.thread.join(), Ok(()), "{name}, flags {flags:#x}");
        }
    }
}

#[test]
fn a_storm_of_signals_does_not_move_a_deadline() {
    let _turn = TURN.lock();
    install(libc::SIGUSR1, libc::SA_RESTART);
    let stage = Stage::new();
    let waiter = target({
        let stage = stage.clone();
        move || stage.queue.wait_event_timeout(|| false, Duration::from_millis(50))
    });
    assert!(matches!(waiter.signal_until_end(libc::SIGUSR1), Err(Error::TimedOut { .. })));
}

#[test]
fn the_signals_that_end_a_program_end_a_killable_wait() {
    let _turn = TURN.lock();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP] {
        install(signal, libc::SA_RESTART);
        for (name, form) in KILLABLE {
            let (_, waiter) = waiting(form);
            let outcome = waiter.signal_until_end(signal);
            assert!(
                matches!(outcome, Err(Error::Interrupted { .. })),
                "{name}, signal {signal}: {outcome:?}"
            );
        }
    }
}

#[test]
fn other_signals_are_blocked_over_a_killable_sleep_and_handled_after_it() {
    let _turn = TURN.lock();
    install(libc::SIGUSR1, 0);
    for (name, form) in KILLABLE {
        let (stage, waiter) = waiting(form);
        waiter.until_blocked(libc::SIGUSR1);
        let before = HANDLED.load(Acquire);
        waiter.signal(libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(HANDLED.load(Acquire), before, "{name}: blocked");
        stage.asleep(1);
        stage.set_and_wake();
        assert_eq!(waiter.thread.join(), Ok(()), "{name}");
        common::until("the handler runs after all", || HANDLED.load(Acquire) == before + 1);
    }
}

#[test]
fn chosen_signals_end_a_wait_of_any_class() {
    let _turn = TURN.lock();
    install(libc::SIGUSR2, libc::SA_RESTART);
    install(libc::SIGUSR1, 0);
    let (stage, waiter) =
        waiting(|s| s.queue.wait_event_with(&bounded().signals(&[libc::SIGUSR2]), || s.is_set()).map(drop));
    assert_eq!(stage.queue.wake_up_interruptible(), Ok(woken(0, 0)), "still uninterruptible for wakers");
    waiter.until_blocked(libc::SIGUSR1);
    assert!(matches!(waiter.signal_until_end(libc::SIGUSR2), Err(Error::Interrupted { .. })));
}

#[test]
fn an_interrupt_before_the_wait_is_kept_for_it_and_ends_it_once() {
    let stage = Stage::new();
    let handle = Interrupter::new(&stage.region);
    let options = WaitOptions::new().timeout(common::LIMIT).interrupter(&handle);
    handle.interrupt();
    handle.interrupt();
    let outcome = stage.queue.wait_event_with(&options, || false);
    assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    let soon = options.timeout(Duration::from_millis(2));
    let outcome = stage.queue.wait_event_with(&soon, || false);
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "used up: {outcome:?}");
}

#[test]
fn an_interrupt_during_the_sleep_ends_every_kind_of_wait() {
    static HANDLE: Mutex<Option<Interrupter>> = Mutex::new(None);
    fn with(body: impl FnOnce(WaitOptions) -> Result<()>) -> Result<()> {
        let handle = HANDLE.lock().unwrap().clone().unwrap();
        body(bounded().interrupter(&handle))
    }
    let forms: [(&str, Form); 5] = [
        ("event", |s| with(|o| s.queue.wait_event_with(&o, || s.is_set()).map(drop))),
        ("woken", |s| with(|o| s.queue.wait_woken(&o.exclusive()).map(drop))),
        ("many", |s| with(|o| in_many(s, o))),
        ("set", |s| with(|o| in_set(s, o))),
        ("by hand", |s| with(|o| by_hand(s, o))),
    ];
    for (name, form) in forms {
        let stage = Stage::new();
        let handle = Interrupter::new(&stage.region);
        *HANDLE.lock().unwrap() = Some(handle.clone());
        let waiter = thread({
            let stage = stage.clone();
            move || form(&stage)
        });
        stage.asleep(1);
        handle.interrupt();
        let outcome = waiter.join();
        assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{name}: {outcome:?}");
        assert!(!stage.queue.has_sleepers(), "{name}");
    }
}

static FROM_HANDLER: OnceLock<(Interrupter, Stage)> = OnceLock::new();

#[test]
fn an_interrupt_from_a_handler_just_before_the_sleep_is_not_missed() {
    let _turn = TURN.lock();
    install(libc::SIGUSR1, libc::SA_RESTART);
    let stage = Stage::new();
    let (handle, stage) = FROM_HANDLER.get_or_init(|| (Interrupter::new(&stage.region), stage));
    *ACTION.lock().unwrap() = Some(|| FROM_HANDLER.get().unwrap().0.interrupt());
    for raise_at in 1..=3 {
        let mut looks = 0;
        let limit = WaitOptions::new().timeout(common::LIMIT);
        let outcome = stage.queue.wait_event_with(&limit.interrupter(handle), || {
            looks += 1;
            if looks == raise_at {
                // SAFETY: the handler is async-signal-safe. It runs in the middle of an evaluation.
                unsafe { libc::raise(libc::SIGUSR1) };
            }
            if looks == 2 && raise_at == 3 {
                stage.queue.wake_up().unwrap(); // for a third look
            }
            false
        });
        assert!(matches!(outcome, Err(Error::Interrupted { .. })), "raised at look {raise_at}: {outcome:?}");
    }
    *ACTION.lock().unwrap() = None;
}

static VICTIM: OnceLock<(Stage, Lock)> = OnceLock::new();
static REENTERED: AtomicU32 = AtomicU32::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

/// Everything that a handler could call: what is documented as async-signal-safe works, the rest works or errs.
fn call_everything() {
    let (stage, lock) = VICTIM.get().unwrap();
    let _ = (stage.queue.has_sleepers(), stage.queue.has_sleepers_without_fence());
    let safe = stage.region.is_alive(stage.region.me());
    let outcomes = [
        stage.queue.wake_up().map(drop),
        lock.lock_timeout(Duration::ZERO).map(drop),
        stage.queue.wait_event_timeout(|| false, Duration::from_nanos(1)).map(drop),
        stage.queue.prepare_to_wait(&WaitOptions::new()).map(drop),
    ];
    for outcome in outcomes {
        match outcome {
            Ok(()) | Err(Error::TimedOut { .. } | Error::LockStuck { .. }) => {}
            Err(Error::Reentered { .. }) => drop(REENTERED.fetch_add(1, AcqRel)),
            Err(_) => WRONG.store(true, Release),
        }
    }
    if !safe {
        WRONG.store(true, Release);
    }
}

#[test]
fn trap_45_calls_from_handlers_work_or_err_and_never_deadlock() {
    let _turn = TURN.lock();
    install(libc::SIGUSR1, libc::SA_RESTART);
    let stage = Stage::new();
    let word = stage.region.object::<RobustLock>("lock").unwrap();
    let lock = stage.region.lock_at(&word).unwrap();
    assert!(VICTIM.set((stage.clone(), lock)).is_ok());
    *ACTION.lock().unwrap() = Some(call_everything);
    let stop = Arc::new(Gate::default());
    let worker = target({
        let stop = stop.clone();
        move || {
            let (stage, lock) = VICTIM.get().unwrap();
            // Nothing here allocates: a handler's call may, and must not meet the allocator at work.
            let mut own = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
            while !stop.is_open() {
                for _ in 0..20_000 {
                    stage.queue.wake_up().unwrap();
                }
                drop(lock.lock());
                own.prepare();
                if !stop.is_open() {
                    own.sleep().unwrap(); // a handler's wake ends it
                }
            }
        }
    });
    // Until a handler has met a call that holds a lock, many times.
    common::until("reentered calls", || {
        for _ in 0..20 {
            worker.signal(libc::SIGUSR1);
        }
        REENTERED.load(Acquire) >= 5
    });
    stop.open();
    stage.queue.wake_up().unwrap();
    worker.thread.join();
    *ACTION.lock().unwrap() = None;
    assert!(!WRONG.load(Acquire), "an error other than Reentered");
    assert!(!stage.queue.has_sleepers());
    stage.region.check().unwrap();
}
