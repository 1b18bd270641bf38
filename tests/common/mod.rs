//! What the process tests share: real child processes, bounded waits, and regions that leave nothing behind.
//!
//! A test starts a child with [`Child::start`], which runs this same test binary again and in it only the test
//! `role`, which every file that uses children has:
//!
//! ```text
//! #[test]
//! fn role() {
//!     common::play(&[("waiter", waiter)]);   // nothing, unless this process is a child
//! }
//! fn waiter(args: &[String]) { … common::say("done"); }
//! ```
//!
//! Children print lines with [`say`]; the test reads them with [`Child::hear`]. Every wait has a limit of
//! [`LIMIT`], far beyond what anything takes, after which the test says what it was waiting for.
#![allow(dead_code, unreachable_pub, unsafe_code, clippy::type_complexity)]

pub mod filter;
pub mod stage;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use waitqueue::{Region, RegionBuilder};

/// How long anything may take before a test calls it hung.
pub const LIMIT: Duration = Duration::from_secs(30);

const ROLE: &str = "WAITQUEUE_TEST_ROLE";
const ARGS: &str = "WAITQUEUE_TEST_ARGS";
pub const MARK: &str = "> ";

/// In a child: plays its role and exits. Otherwise returns at once.
pub fn play(roles: &[(&str, fn(&[String]))]) {
    let Ok(wanted) = std::env::var(ROLE) else {
        return;
    };
    let args: Vec<String> = std::env::var(ARGS).unwrap_or_default().split('\n').map(str::to_owned).collect();
    let (_, role) = roles.iter().find(|(name, _)| *name == wanted).expect("a role of this test file");
    role(&args);
    // Not `exit`: its clean-up would race with the harness's main thread, which still runs.
    // SAFETY: ends the process; what was said is flushed.
    unsafe { libc::_exit(0) };
}

/// In a child: a line for the test.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").and_then(|()| out.flush()).expect("the test reads our output");
}

/// In a child: waits for a line from the test.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test writes lines");
    line.trim_end().to_owned()
}

/// A child process; killed when dropped.
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    role: String,
}

impl Child {
    pub fn start(role: &str, args: &[&str]) -> Child {
        Child::start_with(role, args, &[])
    }

    /// With variables of the environment, such as `WAITQUEUE_CRASH`.
    pub fn start_with(role: &str, args: &[&str], environment: &[(&str, &str)]) -> Child {
        let myself = std::env::current_exe().expect("a test has a program");
        Child::start_command(Command::new(myself), role, args, environment)
    }

    /// One that inherits a descriptor, under its own number, which is its first argument.
    pub fn inheriting(role: &str, fd: RawFd, args: &[&str]) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("a test has a program"));
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::fcntl(fd, libc::F_SETFD, 0);
                Ok(())
            });
        }
        let number = fd.to_string();
        let args: Vec<&str> = [number.as_str()].iter().chain(args).copied().collect();
        Child::start_command(command, role, &args, &[])
    }

    /// Through another command, such as `unshare`, which gets the test's program and arguments appended.
    pub fn start_command(
        mut command: Command,
        role: &str,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Child {
        let mut process = command
            .args(["role", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGS, args.join("\n"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("child {role} cannot be started: {error}"));
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test harness of the child may have begun the line with text of its own.
                if let Some((_, text)) = line.split_once(MARK) {
                    let _ = sender.send(text.to_owned());
                }
            }
        });
        Child { process, lines, role: role.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line it says.
    pub fn hear(&mut self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("child {} said nothing for {LIMIT:?}: hung", self.role),
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "child {} ended ({:?}) without saying what was awaited",
                    self.role,
                    self.process.try_wait()
                )
            }
        }
    }

    /// The next line it says, or `None` if it ends without.
    pub fn hear_or_end(&mut self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("child {} said nothing for {LIMIT:?}: hung", self.role),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// What it has said already.
    pub fn hear_now(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits until it says this, and nothing else before.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "child {}", self.role);
    }

    /// Whether it says nothing for this long: for what must not happen; a pass by luck is possible, a failure is not.
    pub fn is_silent_for(&mut self, span: Duration) -> bool {
        matches!(self.lines.recv_timeout(span), Err(RecvTimeoutError::Timeout))
    }

    pub fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("the child listens");
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been reaped, so the number is still its own.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Stops it and waits until all its threads have stopped.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        self.until_stopped();
    }

    pub fn until_stopped(&self) {
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // "id (name) state …"; a thread that has ended meanwhile has none.
            stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        };
        let threads = format!("/proc/{}/task", self.pid());
        until("a process stops", || std::fs::read_dir(&threads).unwrap().all(is_stopped));
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_some()
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "child {} did not end within {LIMIT:?}: hung", self.role);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it ends well.
    pub fn end_well(&mut self) {
        let status = self.end();
        assert!(status.success(), "child {} ended with {status}", self.role);
    }

    /// Waits until it has been killed by a crash point.
    pub fn end_killed(&mut self) {
        let status = self.end();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "child {} ended with {status}", self.role);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A region's name that no other test uses; the region is unlinked when this is dropped.
pub struct Name(pub String);

impl Name {
    pub fn new() -> Name {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // With the time, because a test that was killed leaves its region, and process ids come again.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        Name(format!("/waitqueue-test-{}-{now:x}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)))
    }

    /// Attaches, with the tick off, so that a lost wake hangs instead of being late.
    pub fn region(&self) -> Region {
        region(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Region::unlink(&self.0);
    }
}

/// Attaches to a named region as tests do: no tick.
pub fn region(name: &str) -> Region {
    options().open_or_create(name).unwrap_or_else(|error| panic!("{error}"))
}

pub fn options() -> RegionBuilder {
    Region::builder().tick(None).spin(Duration::ZERO)
}

/// Waits until `condition` is true.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}: hung");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The end of a thread that waits without a timeout: one with a timeout evaluates once more, and would hide a lost wake.
pub fn join<T>(what: &str, thread: std::thread::JoinHandle<T>) -> T {
    until(what, || thread.is_finished());
    thread.join().unwrap_or_else(|_| panic!("{what}: the thread panicked"))
}

/// Waits until the queue of that name has so many waiters asleep.
pub fn until_asleep(region: &Region, queue: &str, count: usize) {
    until(&format!("{count} asleep on {queue}"), || {
        let snapshot = region.snapshot();
        snapshot
            .queues
            .iter()
            .filter(|found| found.name == queue)
            .flat_map(|found| &found.waiters)
            .filter(|waiter| waiter.state == waitqueue::WaiterState::Asleep)
            .count()
            >= count
    });
}

/// A seed for randomness, printed so that a failure can be repeated with `WAITQUEUE_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("WAITQUEUE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64) | 1
    });
    println!("seed: WAITQUEUE_SEED={seed}");
    seed
}

/// A small generator of random numbers (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to `limit` − 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
