//! Keeping a process from running at an exact place, with `ptrace`.
//!
//! A waiter that gets SIGSTOP leaves the kernel's queue of sleepers, so a wake would choose another. Traced, it stays
//! there, and stops when the system call in which it slept has returned, before any instruction of its own.
#![allow(unsafe_code)] // ptrace and waitpid

use std::io;
use std::ptr;

use crate::cast::{Actor, until};

/// A traced process. It is killed, never let go.
pub struct Traced {
    pid: i32,
}

const ENTRY: u8 = libc::PTRACE_SYSCALL_INFO_ENTRY;

impl Traced {
    /// Stops a process where it is: asleep, or between two instructions.
    ///
    /// # Errors
    ///
    /// Where the kernel does not permit it.
    pub fn stop(actor: &Actor) -> io::Result<Traced> {
        let traced = Traced { pid: actor.pid() };
        traced.ask(libc::PTRACE_SEIZE, 0, libc::PTRACE_O_TRACESYSGOOD as usize)?;
        traced.ask(libc::PTRACE_INTERRUPT, 0, 0)?;
        traced.await_stop();
        Ok(traced)
    }

    /// Stops a process that sleeps in a system call and lets it go back to sleep there, as the last of those that
    /// sleep now. When it is woken it stops.
    ///
    /// # Errors
    ///
    /// Where the kernel does not permit it.
    pub fn hold_at_wake(actor: &Actor) -> io::Result<Traced> {
        let traced = Traced::stop(actor)?;
        loop {
            traced.ask(libc::PTRACE_SYSCALL, 0, 0)?;
            traced.await_stop();
            if traced.syscall_info()?.op == ENTRY {
                break; // The same call again, which the stop had interrupted.
            }
        }
        traced.ask(libc::PTRACE_SYSCALL, 0, 0)?;
        until("a traced actor sleeps again", || actor.is_asleep());
        Ok(traced)
    }

    /// Whether it has been woken, and stands before its next instruction.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.has_stopped(libc::WNOHANG)
    }

    /// Runs it, instruction by instruction, until one of its words is not 0; false if that takes too many.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn step_until_set(&self, word: usize) -> io::Result<bool> {
        for _ in 0..1_000_000 {
            if self.peek(word)? != 0 {
                return Ok(true);
            }
            self.ask(libc::PTRACE_SINGLESTEP, 0, 0)?;
            self.await_stop();
        }
        Ok(false)
    }

    fn peek(&self, word: usize) -> io::Result<u32> {
        // SAFETY: the kernel reads the other process's memory, or fails. (glibc's wrapper returns the word.)
        unsafe {
            *libc::__errno_location() = 0;
            let value = libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, word, 0);
            if *libc::__errno_location() == 0 { Ok(value as u32) } else { Err(io::Error::last_os_error()) }
        }
    }

    fn syscall_info(&self) -> io::Result<libc::ptrace_syscall_info> {
        // SAFETY: integers, for which zero is a value; the kernel fills in as much as fits.
        unsafe {
            let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
            let size = size_of_val(&info);
            self.ask(libc::PTRACE_GET_SYSCALL_INFO, size, (&raw mut info).addr())?;
            Ok(info)
        }
    }

    fn ask(&self, request: libc::c_uint, address: usize, data: usize) -> io::Result<()> {
        let (address, data) =
            (ptr::without_provenance_mut::<u8>(address), ptr::without_provenance_mut::<u8>(data));
        // SAFETY: the one request that writes to our memory is given a place that is large enough.
        if unsafe { libc::ptrace(request, self.pid, address, data) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn await_stop(&self) {
        assert!(self.has_stopped(0), "a traced actor died");
    }

    fn has_stopped(&self, options: i32) -> bool {
        let mut status = 0;
        // SAFETY: our own child, whose main thread alone is traced.
        let changed = unsafe { libc::waitpid(self.pid, &raw mut status, options | libc::__WALL) };
        changed == self.pid && libc::WIFSTOPPED(status)
    }
}
