//! eventfds, shared by inheritance: the count is the value.
#![allow(unsafe_code)] // eventfd(2), epoll(7), poll(2)

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Place, Post, Subject};
use crate::machine::raise_file_limit;

/// One for each line.
pub struct Eventfd(pub Look);

/// How it is learned that there is something to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By reading.
    Read,
    /// By `epoll_wait`, from an epoll that all stay in.
    Epoll,
    /// By `poll`, which is told anew each time.
    Poll,
}

struct Descriptors(Vec<OwnedFd>, Look);

struct Opened {
    files: Vec<File>,
    inbox: Range<usize>,
    look: Look,
    epoll: Option<OwnedFd>,
    polled: Vec<libc::pollfd>,
}

/// More than anybody waits on.
const MOST: usize = 16 * 1024;

impl Subject for Eventfd {
    fn name(&self) -> String {
        let name = match self.0 {
            Look::Read => "eventfd",
            Look::Epoll => "eventfd, epoll",
            Look::Poll => "eventfd, poll",
        };
        name.into()
    }

    fn most(&self) -> usize {
        if self.0 == Look::Read { 1 } else { MOST }
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        raise_file_limit();
        let new = |_| {
            // SAFETY: no pointers.
            let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
            assert!(descriptor >= 0, "eventfd: {}", std::io::Error::last_os_error());
            // SAFETY: a new descriptor, which nobody else owns.
            unsafe { OwnedFd::from_raw_fd(descriptor) }
        };
        Box::new(Descriptors((0..lines).map(new).collect(), self.0))
    }
}

impl Place for Descriptors {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        // SAFETY: inherited from the director, who closes his own; the performer's are closed by its end.
        let files = self.0.iter().map(|file| unsafe { File::from_raw_fd(file.as_raw_fd()) }).collect();
        let mut opened =
            Opened { files, inbox: inbox.clone(), look: self.1, epoll: None, polled: Vec::new() };
        match self.1 {
            Look::Read => {}
            Look::Epoll => opened.epoll = Some(epoll(&opened.files, inbox)),
            Look::Poll => {
                let poll =
                    |file: &File| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                opened.polled = opened.files[inbox].iter().map(poll).collect();
            }
        }
        Box::new(opened)
    }
}

/// With all files of the inbox in it.
fn epoll(files: &[File], inbox: Range<usize>) -> OwnedFd {
    // SAFETY: a new descriptor, which nobody else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    for line in inbox {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: line as u64 };
        let (epoll, file) = (epoll.as_raw_fd(), files[line].as_raw_fd());
        // SAFETY: our own event.
        assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, file, &raw mut event) }, 0);
    }
    epoll
}

impl Opened {
    fn line_to_read(&mut self) -> usize {
        match &self.epoll {
            Some(epoll) => {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: room for one event.
                while unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) } != 1 {}
                event.u64 as usize
            }
            None if self.look == Look::Poll => {
                let count = self.polled.len() as libc::nfds_t;
                // SAFETY: so many, of our own.
                while unsafe { libc::poll(self.polled.as_mut_ptr(), count, -1) } < 1 {}
                let at = self.polled.iter().position(|poll| poll.revents != 0);
                self.inbox.start + at.expect("one that can be read")
            }
            None => self.inbox.start,
        }
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        (&self.files[line]).write_all(&u64::from(value).to_ne_bytes()).expect("write");
    }

    fn receive(&mut self) -> (usize, u32) {
        let line = self.line_to_read();
        let mut value = [0; 8];
        (&self.files[line]).read_exact(&mut value).expect("read");
        (line, u64::from_ne_bytes(value) as u32)
    }
}
