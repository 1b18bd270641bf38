//! Actors: forked processes that count their steps on a shared page, and end with their director.
#![allow(unsafe_code)] // fork, kill and the shared page

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::memory::Words;

/// How long what must come may take before the scenery itself is broken: nothing takes that long.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// How many actors a director can have.
const ACTORS: usize = 512;

/// A page of zeroed words that this process shares with all that it will fork.
#[must_use]
pub fn shared_words() -> &'static [AtomicU64; ACTORS] {
    let words: &'static Words = Box::leak(Box::new(Words::new(ACTORS)));
    words.first_chunk().expect("that many")
}

/// Waits until `condition` is true, but not longer than `span`.
pub fn within(span: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        // The clock first, so that a director who was kept from running looks once more at the end.
        let is_late = start.elapsed() > span;
        if condition() {
            return true;
        }
        if is_late {
            return false;
        }
        sleep(PAUSE);
    }
}

/// Waits for what must come.
///
/// # Panics
///
/// If it does not.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(LIMIT, condition), "{what}: not within {LIMIT:?}");
}

/// Sets a word of [`shared_words`] and wakes whoever waits for that.
pub fn tell(word: &AtomicU64, value: u64) {
    word.store(value, Release);
    // SAFETY: the word is mapped; the call looks at nothing else.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

/// Sleeps until a word has at least this value, for an actor, who ends with his director. Nobody who looks around now and
/// then takes a processor from those who are measured.
pub fn await_word(word: &AtomicU64, value: u64) {
    while !word_reaches(word, value, LIMIT) {}
}

/// The same for the director: whether it has this value in time.
#[must_use]
pub fn word_reaches(word: &AtomicU64, value: u64, span: Duration) -> bool {
    let start = Instant::now();
    loop {
        let seen = word.load(Acquire);
        if seen >= value || start.elapsed() > span {
            return seen >= value;
        }
        let pause = libc::timespec { tv_sec: 10, tv_nsec: 0 };
        // SAFETY: the word is mapped and the timeout is ours; a return for another reason is met by the loop.
        unsafe {
            libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAIT, seen as u32, &raw const pause)
        };
    }
}

/// What a futex is: 32 bits.
fn low_half(word: &AtomicU64) -> *const u32 {
    let halves = word.as_ptr().cast::<u32>().cast_const();
    halves.wrapping_add(usize::from(cfg!(target_endian = "big")))
}

/// How far an actor has come.
#[derive(Clone, Copy)]
pub struct Steps(&'static AtomicU64);

impl Steps {
    /// One step further.
    pub fn advance(self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u64 {
        self.0.load(Acquire)
    }
}

/// Where a process is forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Here.
    Here,
    /// As process 1 of a PID namespace of its own.
    InItsOwnNamespace,
}

/// Forks a process that runs `body` and ends; it is killed when its parent dies.
///
/// # Errors
///
/// What `unshare`, `setns` or `fork` say.
pub fn fork(place: Where, body: impl FnOnce() -> i32) -> io::Result<i32> {
    let home =
        (place == Where::InItsOwnNamespace).then(|| fs::File::open("/proc/self/ns/pid")).transpose()?;
    if home.is_some() {
        // SAFETY: changes only where children of this process are born. (glibc's `fork` and not a bare `clone`, because
        // a robust mutex writes the thread id that glibc remembers.)
        check(unsafe { libc::unshare(libc::CLONE_NEWPID) })?;
    }
    // SAFETY: this process has one thread, or else (a director's own) none that holds a lock that `body` wants.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: plain system calls; `_exit` leaves the parent's buffers alone.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::_exit(catch_unwind(AssertUnwindSafe(body)).unwrap_or(101));
        }
    }
    if let Some(home) = home {
        use std::os::fd::AsRawFd;
        // SAFETY: back to where our own children are born.
        check(unsafe { libc::setns(home.as_raw_fd(), libc::CLONE_NEWPID) })?;
    }
    check(pid)
}

fn check(outcome: i32) -> io::Result<i32> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

/// The actors of one scenario.
pub struct Cast {
    words: &'static [AtomicU64; ACTORS],
    started: usize,
    /// How long a survivor may take for what it is owed.
    pub patience: Duration,
}

impl Cast {
    /// None yet.
    #[must_use]
    pub fn new(patience: Duration) -> Cast {
        Cast { words: shared_words(), started: 0, patience }
    }

    /// Starts one.
    pub fn start(&mut self, play: impl FnOnce(Steps)) -> Actor {
        self.start_at(Where::Here, play).expect("fork")
    }

    /// Starts one at some place.
    ///
    /// # Errors
    ///
    /// As [`fork`].
    pub fn start_at(&mut self, place: Where, play: impl FnOnce(Steps)) -> io::Result<Actor> {
        let steps = Steps(&self.words[self.started]);
        self.started += 1;
        let pid = fork(place, || {
            play(steps);
            0
        })?;
        Ok(Actor { pid, steps, patience: self.patience, has_ended: false })
    }

    /// Whether somebody who does this gets to its end.
    pub fn does(&mut self, play: impl FnOnce()) -> bool {
        self.start(|_| play()).ends()
    }
}

/// One process of a scenario; killed when dropped.
pub struct Actor {
    pid: i32,
    steps: Steps,
    patience: Duration,
    has_ended: bool,
}

impl Actor {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How far it has come.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.count()
    }

    /// Whether it comes so far in time.
    #[must_use]
    pub fn reaches(&self, steps: u64) -> bool {
        within(self.patience, || self.steps() >= steps)
    }

    /// Waits until it has come so far, which nothing keeps it from.
    pub fn until(&mut self, steps: u64) {
        let mut has_ended = false;
        until("an actor gets ready", || {
            has_ended = has_ended || self.reap(libc::WNOHANG);
            assert!(!has_ended || self.steps() >= steps, "an actor ended early");
            self.steps() >= steps
        });
    }

    /// Whether its main thread sleeps in a system call in which one waits for others.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        let about = |what| fs::read_to_string(format!("/proc/{}/{what}", self.pid)).unwrap_or_default();
        // "id (name) state …", and the number of the system call with its arguments.
        let is_idle = about("stat").rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'));
        let call = about("syscall").split(' ').next().and_then(|call| call.parse::<i64>().ok());
        let waits = [libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_read, libc::SYS_restart_syscall];
        is_idle && call.is_some_and(|call| waits.contains(&call))
    }

    /// Waits until it has come so far and sleeps.
    pub fn until_asleep_at(&mut self, steps: u64) {
        self.until(steps);
        until("an actor falls asleep", || self.is_asleep());
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.shoot();
        until("an actor dies", || self.reap(libc::WNOHANG));
    }

    /// Kills it and does not wait.
    pub fn shoot(&self) {
        // SAFETY: it has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// Whether it gets to its end in time.
    ///
    /// # Panics
    ///
    /// If it ends otherwise.
    pub fn ends(&mut self) -> bool {
        within(self.patience, || self.reap(libc::WNOHANG))
    }

    fn reap(&mut self, options: i32) -> bool {
        let mut status = 0;
        // SAFETY: our own child.
        while !self.has_ended && unsafe { libc::waitpid(self.pid, &raw mut status, options) } == self.pid {
            // (A stop, if it is traced, says nothing.)
            self.has_ended = libc::WIFEXITED(status) || libc::WIFSIGNALED(status);
            assert!(!libc::WIFEXITED(status) || libc::WEXITSTATUS(status) == 0, "an actor panicked");
        }
        self.has_ended
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shoot();
            let mut status = 0;
            // SAFETY: our own child, which has been killed.
            while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid
                && libc::WIFSTOPPED(status)
            {}
        }
    }
}

/// Sleeps until killed.
pub fn stay() -> ! {
    loop {
        // SAFETY: no arguments.
        if unsafe { libc::pause() } == 0 {
            abort();
        }
    }
}

/// Whether all get to their ends in time. The director sleeps meanwhile, and is in the way of nobody who is measured.
///
/// # Panics
///
/// As soon as one ends otherwise.
pub fn all_end(actors: &mut [Actor], span: Duration) -> bool {
    let start = Instant::now();
    while actors.iter_mut().map(|actor| !actor.reap(libc::WNOHANG)).fold(false, |some, lives| some | lives) {
        if start.elapsed() > span {
            return false;
        }
        // SAFETY: a child of our own, if it has not ended.
        let open = |actor: &Actor| unsafe { libc::syscall(libc::SYS_pidfd_open, actor.pid, 0) } as i32;
        let living = actors.iter().filter(|actor| !actor.has_ended);
        let poll = |actor| libc::pollfd { fd: open(actor), events: libc::POLLIN, revents: 0 };
        let mut polls: Vec<libc::pollfd> = living.map(poll).collect();
        // SAFETY: so many, of our own. (Where there are no such descriptors, this is a pause.)
        unsafe {
            libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 1000);
            for poll in polls {
                libc::close(poll.fd);
            }
        }
    }
    true
}
