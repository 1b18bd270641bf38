//! What it runs on, and where its processes run.
#![allow(unsafe_code)] // the scheduler's calls, clocks, limits, the C library's version

use std::ffi::CStr;
use std::process::{Command, Stdio};
use std::{fs, io};

use serde_json::{Value, json};

/// Where the two sides of a play run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// Each on a processor of its own.
    TwoCpus,
    /// Both on the same one, where the woken does not run before its waker sleeps (`SCHED_BATCH`).
    OneCpu,
    /// Both on the same one, where it may: who is preempted in a wake finds the reply there, and does not sleep.
    OneCpuPreempting,
    /// Where the kernel likes; also there the woken does not take the processor of its waker.
    Unpinned,
}

impl Pinning {
    /// All that this machine has processors for.
    #[must_use]
    pub fn all() -> Vec<Pinning> {
        if cpus().len() < 2 {
            eprintln!("only one processor: two sides run on it, always");
            return vec![Pinning::OneCpu, Pinning::OneCpuPreempting];
        }
        vec![Pinning::TwoCpus, Pinning::OneCpu, Pinning::OneCpuPreempting, Pinning::Unpinned]
    }

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Pinning::TwoCpus => "two CPUs",
            Pinning::OneCpu => "one CPU",
            Pinning::OneCpuPreempting => "one CPU, preempting",
            Pinning::Unpinned => "unpinned",
        }
    }

    /// Where the nth process is to run; beyond the number of processors it begins anew.
    #[must_use]
    pub fn seat(self, process: usize) -> Seat {
        let cpus = cpus();
        let cpu = match self {
            Pinning::TwoCpus => Some(cpus[process % cpus.len()]),
            // (Not the first one, which serves most interrupts.)
            Pinning::OneCpu | Pinning::OneCpuPreempting => cpus.last().copied(),
            Pinning::Unpinned => None,
        };
        Seat { cpu, is_batch: matches!(self, Pinning::OneCpu | Pinning::Unpinned) }
    }
}

/// Where a process runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seat {
    /// On this processor only.
    pub cpu: Option<usize>,
    /// Without taking it from others when it wakes.
    pub is_batch: bool,
}

impl Seat {
    /// Seats the calling thread, and those that it will start.
    pub fn take(self) {
        self.cpu.inspect(|cpu| pin(*cpu));
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: our own parameters.
        if self.is_batch && unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) } != 0 {
            panic!("SCHED_BATCH: {}", io::Error::last_os_error());
        }
    }
}

/// The processors this process may run on.
#[must_use]
pub fn cpus() -> Vec<usize> {
    // SAFETY: zero is a value of the set, and the kernel fills it in.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
    }
}

/// Keeps the calling thread on one processor.
pub fn pin(cpu: usize) {
    // SAFETY: as above.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(outcome, 0, "processor {cpu}: {}", io::Error::last_os_error());
}

/// `CLOCK_MONOTONIC` in nanoseconds, which all processes of a play see alike.
#[must_use]
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Any clock, in nanoseconds.
pub(crate) fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in our own.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Works for so many nanoseconds, without sleeping.
pub fn work(nanos: u64) {
    let start = now();
    while now() - start < nanos {}
}

/// Lets this process have as many files open as it may.
pub fn raise_file_limit() {
    // SAFETY: fills in our own, and sets it.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// What a figure is worthless without.
#[must_use]
pub fn describe() -> Value {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map_or("unknown", |(_, model)| model),
        "cpus": cpus().len(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "libc": libc_version(),
        "virtual": cpuinfo.contains(" hypervisor "),
    })
}

/// When this is, of which state of the source, and how busy the machine was just before.
#[must_use]
pub fn this_run() -> Value {
    json!({
        "at": said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "commit": said_by("git", &["describe", "--always", "--dirty"]),
        "load": load(),
    })
}

/// The first line that a program prints; nothing if it fails.
#[must_use]
pub fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output();
    let text = output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into());
    text.lines().next().unwrap_or_default().to_owned()
}

/// glibc's, the version of whose condition variable, mutex and semaphore this is.
fn libc_version() -> String {
    // SAFETY: returns a static string.
    unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}

/// How many processes were running, on average over the last minute.
fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
