//! Programs that are run as their users would run them: the examples.
#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::common::Program;
use crate::common::process::{LIMIT, Name, until};

/// A running program, killed when dropped.
pub struct Running(Option<(Child, BufReader<ChildStdout>)>);

impl Running {
    /// Starts it, with the name as its first argument.
    pub fn start(program: &Program, name: &Name, arguments: &[&str]) -> Running {
        let mut command = Command::new(&program.0);
        command.arg(&name.0).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it was just compiled");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Running(Some((child, said)))
    }

    /// The next line it says.
    pub fn hear(&mut self) -> String {
        let (child, said) = self.0.as_mut().expect("running");
        let mut wanted = libc::pollfd { fd: said.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is open.
        let heard = !said.buffer().is_empty()
            || unsafe { libc::poll(&raw mut wanted, 1, LIMIT.as_millis() as i32) } > 0;
        assert!(heard, "process {} said nothing for {LIMIT:?}: hung", child.id());
        let mut line = String::new();
        said.read_line(&mut line).expect("its output is text");
        line.trim_end().to_owned()
    }

    pub fn signal(&self, signal: i32) {
        let (child, _) = self.0.as_ref().expect("running");
        // SAFETY: the child has not been reaped, so the number is still its own.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_none_or(|(child, _)| !matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until it ends well, and returns what it said that was not heard yet.
    pub fn end(mut self) -> String {
        until("the end of a program", || self.has_ended());
        let (child, mut said) = self.0.take().expect("running");
        let mut text = String::new();
        said.read_to_string(&mut text).expect("its output is text");
        let output = child.wait_with_output().expect("it is our child");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}{complaint}", output.status);
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
