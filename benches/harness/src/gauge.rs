//! What a process uses between two moments: processor time, context switches and, in plays made for that, system calls.
//!
//! System calls are counted by the kernel's tracepoint `raw_syscalls:sys_enter`, which needs the rights that `perf` needs.
//! Where it cannot be had, the figures are missing, and the report says so.
#![allow(unsafe_code)] // getrusage(2); a mount that only a child sees

use std::fs;
use std::io::{Read, pipe};
use std::sync::OnceLock;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

use crate::cast::{Where, fork};
use crate::machine::{clock, read};

/// What was used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time of all its threads, in nanoseconds.
    pub cpu: u64,
    /// How often a thread gave up the processor, which is: slept.
    pub slept: u64,
    /// How often it was taken from one.
    pub preempted: u64,
    /// System calls, if they were counted.
    pub calls: Option<u64>,
}

impl Usage {
    /// What was used since then.
    #[must_use]
    pub fn since(self, start: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(start.cpu),
            slept: self.slept - start.slept,
            preempted: self.preempted - start.preempted,
            calls: self.calls,
        }
    }
}

/// The calling process's gauge.
pub struct Gauge {
    counter: Option<Counter>,
    /// What had been used at the start, and since then for what does not count.
    start: Usage,
    /// When what does not count began.
    away: Usage,
    /// System calls by which the counter was stopped.
    stops: u64,
}

impl Gauge {
    /// Also for system calls, if those are `counted`. Threads that are started later are included.
    #[must_use]
    pub fn new(counted: bool) -> Gauge {
        let counter = counted.then(tracepoint).flatten().map(|id| {
            let mut builder = Builder::new(Tracepoint::with_id(id));
            builder.observe_self().any_cpu().inherit(true).include_kernel().build().expect("perf_event_open")
        });
        Gauge { counter, start: Usage::default(), away: Usage::default(), stops: 0 }
    }

    /// From here on.
    pub fn start(&mut self) {
        self.start = totals();
        self.count(true);
    }

    /// What follows does not count.
    pub fn suspend(&mut self) {
        self.count(false);
        // (Its clock is read first and, when it resumes, last: so that all the looking does not count either.)
        let cpu = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
        self.away = Usage { cpu, ..totals() };
    }

    /// It counts again.
    pub fn resume(&mut self) {
        let aside = totals().since(self.away);
        self.start.cpu += aside.cpu;
        self.start.slept += aside.slept;
        self.start.preempted += aside.preempted;
        self.count(true);
    }

    /// What was used since the start.
    pub fn stop(&mut self) -> Usage {
        self.count(false);
        let stops = self.stops;
        let counted = self.counter.as_mut().map(|counter| counter.read().expect("perf"));
        Usage { calls: counted.map(|calls| calls.saturating_sub(stops)), ..totals().since(self.start) }
    }

    fn count(&mut self, is_on: bool) {
        match &mut self.counter {
            None => {}
            Some(counter) if is_on => counter.enable().expect("perf"),
            Some(counter) => {
                counter.disable().expect("perf");
                self.stops += 1;
            }
        }
    }
}

/// What another process, which lives, has used so far.
#[must_use]
pub fn usage_of(pid: i32) -> Usage {
    let mut which = 0;
    // SAFETY: fills in our own.
    assert_eq!(unsafe { libc::clock_getcpuclockid(pid, &raw mut which) }, 0, "a process's clock");
    let mut usage = Usage { cpu: clock(which), ..Usage::default() };
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        usage.slept += of("voluntary_ctxt_switches:").unwrap_or(0);
        usage.preempted += of("nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    usage
}

fn totals() -> Usage {
    // SAFETY: fills in our own.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let cpu = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    Usage { cpu, slept: usage.ru_nvcsw as u64, preempted: usage.ru_nivcsw as u64, calls: None }
}

/// Whether system calls can be counted here. To be asked before processes are forked, which then know it too.
#[must_use]
pub fn counts_calls() -> bool {
    tracepoint().is_some()
}

fn tracepoint() -> Option<u64> {
    static ID: OnceLock<Option<u64>> = OnceLock::new();
    *ID.get_or_init(|| {
        let id = read(ID_FILE).trim().parse().ok().or_else(id_by_mounting)?;
        let mut builder = Builder::new(Tracepoint::with_id(id));
        builder.observe_self().any_cpu().inherit(true).include_kernel().build().is_ok().then_some(id)
    })
}

const FOLDER: &std::ffi::CStr = c"/sys/kernel/tracing";
const ID_FILE: &str = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";

/// From a process that mounts tracefs where nobody else sees it.
fn id_by_mounting() -> Option<u64> {
    let (mut reader, writer) = pipe().ok()?;
    let child = fork(Where::Here, || {
        let null = std::ptr::null();
        // SAFETY: strings that end in zero; the namespace is this child's own.
        let is_mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, c"/".as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) == 0
                && libc::mount(c"none".as_ptr(), FOLDER.as_ptr(), c"tracefs".as_ptr(), 0, null.cast()) == 0
        };
        let text = if is_mounted { fs::read(ID_FILE).unwrap_or_default() } else { Vec::new() };
        i32::from(std::io::Write::write_all(&mut &writer, &text).is_err())
    });
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).ok()?;
    // SAFETY: our own child, which ends.
    unsafe { libc::waitpid(child.ok()?, std::ptr::null_mut(), 0) };
    text.trim().parse().ok()
}
