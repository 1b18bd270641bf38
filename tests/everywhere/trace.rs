//! A process that is run one instruction at a time, or to one instruction, and killed there.
//!
//! Its addresses are not randomised and its environment is fixed, so what was recorded in one run happens again in the
//! next. An instruction is found again by a hardware breakpoint at its address: the processor's debug registers belong
//! to one thread, change no code, and cost one stop for each pass.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::remains::{Remains, is_system_call};
use crate::common::LIMIT;

/// How long the bell may take to get to a point after the main thread has ended its orders.
const AFTERWARDS: Duration = Duration::from_millis(20);

/// The threads whose instructions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Main,
    Bell,
}

/// Where a process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// At the first marker.
    Start,
    /// Before the instruction at this address, at its so manieth execution since the first marker.
    Before { who: Who, address: u64, nth: u32 },
    /// Inside the system call in which its main thread sleeps.
    Asleep,
    /// At the second marker.
    End,
}

/// Where a run to a point has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    There,
    /// It has done its orders without getting there.
    Elsewhere,
    /// Nothing wakes it on its way.
    SleepsOn,
}

/// One boundary between instructions.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub point: Point,
    /// Whether a death here leaves something else behind than one a step earlier.
    pub differs: bool,
}

/// What a traced process does next.
enum Event {
    Trap(Who, u64),
    /// The main thread is at a marker.
    Marker,
    /// The main thread sleeps on a futex.
    Asleep,
    /// The main thread has started another, which is the bell.
    Cloned,
    /// The bell has stopped: it is new, or was told to.
    BellStopped,
    Signal(Who, Signal),
    Gone,
    /// Nothing, for as long as was asked for.
    Quiet,
}

pub struct Traced {
    main: Pid,
    /// The bell, if it is traced as well.
    bell: Option<Pid>,
}

#[derive(Clone, Copy)]
enum Go {
    On,
    OneStep,
}

impl Traced {
    /// Why processes cannot be traced here, if they cannot.
    pub fn refused() -> Option<String> {
        match stopped_at_exec(&["--list".to_owned()]) {
            Err(error) => Some(format!("processes cannot be traced here: {error}")),
            Ok(main) => {
                let traced = Traced { main, bell: None };
                let refused = traced.set_debug_register(Who::Main, 7, 0).err();
                traced.kill();
                refused.map(|errno| format!("there are no hardware breakpoints here: {errno}"))
            }
        }
    }

    /// Starts this program with these arguments, and returns when its main thread is at its first marker.
    pub fn start(arguments: &[String], both: bool) -> Traced {
        let main = stopped_at_exec(arguments).expect("this program starts");
        let mut traced = Traced { main, bell: None };
        let clones = if both { Options::PTRACE_O_TRACECLONE } else { Options::empty() };
        ptrace::setoptions(main, clones | Options::PTRACE_O_EXITKILL).expect("it is traced");
        traced.go(Who::Main, Go::On, None);
        loop {
            match traced.next_event(LIMIT) {
                Event::Marker => return traced,
                Event::Cloned | Event::Trap(..) => traced.go(Who::Main, Go::On, None),
                Event::BellStopped => traced.go(Who::Bell, Go::On, None),
                Event::Signal(who, signal) => traced.go(who, Go::On, Some(signal)),
                Event::Asleep => {}
                Event::Gone | Event::Quiet => panic!("{arguments:?} ended, or hung, before its first marker"),
            }
        }
    }

    /// Steps one thread from the first marker to the second, while the other runs: in slow motion too, it would do what it
    /// does at no other time. `asleep` is called once, when the main thread sleeps.
    pub fn record(&mut self, stepped: Who, remains: &mut Remains, mut asleep: impl FnMut(Pid)) -> Vec<Step> {
        let mut trace = vec![Step { point: Point::Start, differs: remains.changed(self.main) }];
        let mut passes: HashMap<u64, u32> = HashMap::new();
        let (mut last, mut slept, mut called) = (0, None::<Instant>, false);
        let pace = |who| if who == stepped { Go::OneStep } else { Go::On };
        if self.bell.is_some() && stepped == Who::Bell {
            self.stop_bell();
            self.go(Who::Bell, Go::OneStep, None);
        }
        self.go(Who::Main, pace(Who::Main), None);
        loop {
            match self.next_event(LIMIT) {
                Event::Trap(who, address) => {
                    // (Each round of a repeated instruction is a step.)
                    if address != last {
                        let nth = passes.entry(address).or_default();
                        *nth += 1;
                        let differs = remains.changed(self.main) | called;
                        called = is_system_call(self.tid(who), address);
                        trace.push(Step { point: Point::Before { who, address, nth: *nth }, differs });
                    }
                    last = address;
                    self.go(who, pace(who), None);
                }
                Event::Asleep if slept.is_none() => {
                    slept = Some(Instant::now());
                    trace.push(Step { point: Point::Asleep, differs: true });
                    asleep(self.main);
                }
                Event::Asleep => {
                    let long = slept.is_some_and(|since| since.elapsed() > LIMIT);
                    assert!(!long, "lost: it sleeps on, while it is recorded");
                }
                Event::Cloned => self.go(Who::Main, pace(Who::Main), None),
                Event::BellStopped => self.go(Who::Bell, pace(Who::Bell), None),
                Event::Signal(who, signal) => self.go(who, pace(who), Some(signal)),
                Event::Marker => break,
                Event::Gone | Event::Quiet => panic!("it ended, or hung, while it was recorded"),
            }
        }
        trace.push(Step { point: Point::End, differs: true });
        trace
    }

    /// Lets it run from the first marker to this point. `asleep` is called once, when it sleeps before that.
    pub fn run_to(&mut self, point: Point, mut asleep: impl FnMut(Pid)) -> Arrival {
        let mut ahead = match point {
            Point::Start => return Arrival::There,
            Point::Before { who, address, nth } => Some((who, address, nth)),
            Point::Asleep | Point::End => None,
        };
        if let Some((Who::Bell, address, _)) = ahead
            && self.bell.is_some()
        {
            self.stop_bell();
            self.break_at(Who::Bell, address);
            self.go(Who::Bell, Go::On, None);
        } else if let Some((Who::Main, address, _)) = ahead {
            self.break_at(Who::Main, address);
        }
        self.go(Who::Main, Go::On, None);
        let (mut slept, mut patience) = (None::<Instant>, LIMIT);
        loop {
            match self.next_event(patience) {
                Event::Trap(who, address) => {
                    if let Some((wanted, wanted_address, left)) = &mut ahead
                        && (who, address) == (*wanted, *wanted_address)
                    {
                        *left -= 1;
                        if *left == 0 {
                            return Arrival::There;
                        }
                    }
                    self.go(who, Go::On, None);
                }
                Event::Asleep if point == Point::Asleep => return Arrival::There,
                Event::Asleep if slept.is_none() => {
                    slept = Some(Instant::now());
                    asleep(self.main);
                }
                Event::Asleep if slept.is_some_and(|since| since.elapsed() > LIMIT) => {
                    return Arrival::SleepsOn;
                }
                Event::Asleep => {}
                Event::Cloned => self.go(Who::Main, Go::On, None),
                Event::BellStopped => {
                    if let Some((Who::Bell, address, _)) = ahead {
                        self.break_at(Who::Bell, address);
                    }
                    self.go(Who::Bell, Go::On, None);
                }
                Event::Signal(who, signal) => self.go(who, Go::On, Some(signal)),
                // The bell may get there later.
                Event::Marker if matches!(ahead, Some((Who::Bell, ..))) => patience = AFTERWARDS,
                Event::Marker if point == Point::End => return Arrival::There,
                Event::Marker | Event::Gone | Event::Quiet => return Arrival::Elsewhere,
            }
        }
    }

    /// From a point to the second marker; false if it sleeps on its way there, and nothing wakes it.
    pub fn run_on(&mut self) -> bool {
        self.clear_break(Who::Main);
        self.go(Who::Main, Go::On, None);
        let start = Instant::now();
        while start.elapsed() < LIMIT / 10 {
            match self.next_event(LIMIT / 10) {
                Event::Marker => return true,
                Event::Trap(who, _) => self.go(who, Go::On, None),
                Event::Signal(who, signal) => self.go(who, Go::On, Some(signal)),
                Event::Asleep | Event::Cloned | Event::BellStopped => {}
                Event::Gone | Event::Quiet => return false,
            }
        }
        false
    }

    /// Kills it, and returns when it is gone with all that the kernel does for it.
    pub fn kill(self) {
        let _ = kill(self.main, Signal::SIGKILL);
        for thread in self.bell.into_iter().chain([self.main]) {
            loop {
                match waitpid(thread, Some(WaitPidFlag::__WALL)) {
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => break,
                    _ => {}
                }
            }
        }
    }

    fn tid(&self, who: Who) -> Pid {
        match who {
            Who::Main => self.main,
            Who::Bell => self.bell.expect("there is a bell"),
        }
    }

    fn go(&self, who: Who, go: Go, signal: Option<Signal>) {
        // (It may have been killed meanwhile, with its process.)
        let _ = match go {
            Go::On => ptrace::cont(self.tid(who), signal),
            Go::OneStep => ptrace::step(self.tid(who), signal),
        };
    }

    /// In a running bell; a new one is stopped already.
    fn stop_bell(&mut self) {
        let Some(bell) = self.bell else { return };
        // SAFETY: numbers.
        unsafe { libc::syscall(libc::SYS_tgkill, self.main.as_raw(), bell.as_raw(), libc::SIGSTOP) };
        waitpid(bell, Some(WaitPidFlag::__WALL)).expect("the bell stops");
    }

    fn break_at(&self, who: Who, address: u64) {
        self.set_debug_register(who, 0, address).expect("debug registers can be set");
        // Register 0, for this thread, when the instruction is about to be executed.
        self.set_debug_register(who, 7, 1).expect("debug registers can be set");
    }

    fn clear_break(&self, who: Who) {
        let _ = self.set_debug_register(who, 7, 0);
    }

    fn set_debug_register(&self, who: Who, register: usize, value: u64) -> nix::Result<()> {
        let offset = std::mem::offset_of!(libc::user, u_debugreg) + register * size_of::<u64>();
        ptrace::write_user(self.tid(who), offset as *mut _, value as _)
    }

    fn next_event(&mut self, patience: Duration) -> Event {
        let (mut looks, start) = (0, Instant::now());
        loop {
            for (who, thread) in [(Who::Main, Some(self.main)), (Who::Bell, self.bell)] {
                let Some(thread) = thread else { continue };
                let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
                match waitpid(thread, Some(flags)) {
                    Ok(WaitStatus::StillAlive) => {}
                    Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => {
                        let Ok(registers) = ptrace::getregs(thread) else { return Event::Gone };
                        return Event::Trap(who, registers.rip);
                    }
                    Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) if who == Who::Main => return Event::Marker,
                    Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => return Event::BellStopped,
                    Ok(WaitStatus::Stopped(_, signal)) => return Event::Signal(who, signal),
                    Ok(WaitStatus::PtraceEvent(..)) => {
                        let born = ptrace::getevent(thread).expect("it says whom it started");
                        self.bell = Some(Pid::from_raw(born as i32));
                        return Event::Cloned;
                    }
                    // The bell of one that detaches ends; then the main thread is all there is.
                    _ if who == Who::Bell => self.bell = None,
                    _ => return Event::Gone,
                }
            }
            looks += 1;
            if looks % 4 == 0 && sleeps(self.main) {
                return Event::Asleep;
            }
            if start.elapsed() > patience {
                return Event::Quiet;
            }
            std::thread::yield_now();
        }
    }
}

/// Starts this program with these arguments, traced, and returns when it has been loaded.
fn stopped_at_exec(arguments: &[String]) -> std::io::Result<Pid> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    if let Ok(mutant) = std::env::var("WAITQUEUE_MUTANT") {
        command.env("WAITQUEUE_MUTANT", mutant);
    }
    let prepare = || {
        personality::set(personality::get()? | Persona::ADDR_NO_RANDOMIZE)?;
        ptrace::traceme()?;
        Ok(())
    };
    // (It is waited for by `kill`, as its tracer has to.)
    #[allow(clippy::zombie_processes)]
    // SAFETY: between fork and exec it only makes two system calls.
    let child = unsafe { command.pre_exec(prepare) }.spawn()?;
    let main = Pid::from_raw(child.id() as i32);
    waitpid(main, None)?;
    Ok(main)
}

/// Whether a process's main thread is inside one of the system calls by which it sleeps on a futex.
fn sleeps(pid: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number: i64| [libc::SYS_futex, libc::SYS_futex_waitv].contains(&number))
}
