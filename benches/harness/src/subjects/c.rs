//! This crate by its C interface, from C: a line is opened, sent on and received from in `c/line.c`.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::offset_of;
use std::ops::Range;

use waitqueue::Shared;
use waitqueue_ffi as _;

use super::waitqueue::{Chunk, Line, Named, Policy};
use super::{Place, Post, Subject, Waitqueue, Way};

unsafe extern "C" {
    fn line_open(
        name: *const c_char,
        object: *const c_char,
        tag: *const c_char,
        size: usize,
        queue: usize,
        value: usize,
        sleeps: c_int,
    ) -> *mut c_void;
    fn line_send(line: *const c_void, value: u32) -> c_int;
    fn line_receive(line: *const c_void) -> u32;
}

/// With a policy.
pub struct FromC(pub Policy);

impl Subject for FromC {
    fn name(&self) -> String {
        let name = "waitqueue, from C";
        if self.0 == Policy::Sleep { name.into() } else { format!("{name}, {}", self.0.name()) }
    }

    fn policy(&self) -> &'static str {
        self.0.name()
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        assert!(lines <= 2, "one each way");
        Box::new(Both(Waitqueue::new(self.0, Way::Wait).named(lines)))
    }
}

struct Both(Named);

impl Place for Both {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        let text = |text: &str| CString::new(text).expect("no zero bytes");
        let (name, object, tag) = (text(self.0.name()), text("0"), text(Chunk::TAG));
        let sleeps = (self.0.policy() == Policy::Sleep).into();
        let line = |at: usize| {
            let start = at * size_of::<Line>();
            let (queue, value) = (start + offset_of!(Line, queue), start + offset_of!(Line, value));
            let (name, object, tag) = (name.as_ptr(), object.as_ptr(), tag.as_ptr());
            // SAFETY: strings that outlive the call, and places inside the object.
            let line = unsafe { line_open(name, object, tag, size_of::<Chunk>(), queue, value, sleeps) };
            assert!(!line.is_null(), "line {at} cannot be opened from C");
            line
        };
        Box::new(Opened { lines: [0, 1].map(line), inbox: inbox.start })
    }
}

struct Opened {
    lines: [*mut c_void; 2],
    inbox: usize,
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        // SAFETY: it was opened, and is never freed.
        let woken = unsafe { line_send(self.lines[line], value) };
        assert!(woken >= 0, "wake: {woken}");
    }

    fn receive(&mut self) -> (usize, u32) {
        // SAFETY: likewise.
        let value = unsafe { line_receive(self.lines[self.inbox]) };
        assert_ne!(value, 0, "wait");
        (self.inbox, value)
    }
}
