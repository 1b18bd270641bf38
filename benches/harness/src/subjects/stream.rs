//! Pipes and Unix sockets, shared by inheritance: four bytes are the value.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::{Place, Post, Subject};

/// One for each line.
pub struct Stream(pub Kind);

/// Of what kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `pipe(2)`.
    Pipe,
    /// `socketpair(2)`, of `AF_UNIX`.
    Socket,
}

struct Ends(Vec<(OwnedFd, OwnedFd)>);

struct Opened(Vec<(File, File)>, usize);

impl Subject for Stream {
    fn name(&self) -> String {
        if self.0 == Kind::Pipe { "pipe".into() } else { "Unix socket".into() }
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        let new = |_| match self.0 {
            Kind::Pipe => {
                let (reader, writer) = pipe().expect("pipe");
                (reader.into(), writer.into())
            }
            Kind::Socket => {
                let (reader, writer) = UnixStream::pair().expect("socketpair");
                (reader.into(), writer.into())
            }
        };
        Box::new(Ends((0..lines).map(new).collect()))
    }
}

impl Place for Ends {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        let again = |end: &OwnedFd| File::from(end.try_clone().expect("dup"));
        let ends = self.0.iter().map(|(reader, writer)| (again(reader), again(writer))).collect();
        Box::new(Opened(ends, inbox.start))
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        (&self.0[line].1).write_all(&value.to_ne_bytes()).expect("write");
    }

    fn receive(&mut self) -> (usize, u32) {
        let mut value = [0; 4];
        (&self.0[self.1].0).read_exact(&mut value).expect("read");
        (self.1, u32::from_ne_bytes(value))
    }
}
