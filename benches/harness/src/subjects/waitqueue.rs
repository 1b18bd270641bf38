//! This crate: a line is a queue and the word that its condition is about.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use waitqueue::{Member, Object, Queue, QueueHead, Region, Source, WaitOptions, WaitSet, wait_many};

use super::slots::unique_name;
use super::{Place, Post, Subject};

/// Whether it spins before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    Sleep,
    /// For so long.
    Spin(Duration),
    /// As it does when it is not told.
    Default,
}

impl Policy {
    pub(crate) fn options(self) -> WaitOptions<'static> {
        match self {
            Policy::Sleep => WaitOptions::new().spin(Duration::ZERO),
            Policy::Spin(budget) => WaitOptions::new().spin(budget),
            Policy::Default => WaitOptions::new(),
        }
    }

    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Policy::Sleep => "sleep",
            Policy::Spin(_) => "spin",
            Policy::Default => "default",
        }
    }
}

/// What it waits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `wait_event`.
    Wait,
    /// `wait_many`.
    Many,
    /// A `WaitSet`, which stays enrolled.
    Set,
}

/// A policy and a way.
pub struct Waitqueue {
    policy: Policy,
    way: Way,
}

impl Waitqueue {
    /// One that waits like that.
    #[must_use]
    pub fn new(policy: Policy, way: Way) -> Waitqueue {
        Waitqueue { policy, way }
    }
}

waitqueue::shared_struct! {
    /// A line; two cache lines long, so that neighbours do not disturb each other.
    #[tag = "bench line"]
    pub(crate) struct Line {
        pub(crate) queue: QueueHead,
        pub(crate) value: AtomicU32,
        rest: [AtomicU32; 15],
    }
}

/// Lines are made so many at a time.
const CHUNK: usize = 64;
pub(crate) type Chunk = [Line; CHUNK];

pub(crate) struct Named {
    name: String,
    lines: usize,
    policy: Policy,
    way: Way,
}

impl Subject for Waitqueue {
    fn name(&self) -> String {
        let way = match self.way {
            Way::Wait => "waitqueue",
            Way::Many => "waitqueue, wait_many",
            Way::Set => "waitqueue, WaitSet",
        };
        if self.policy == Policy::Sleep { way.into() } else { format!("{way}, {}", self.policy.name()) }
    }

    fn policy(&self) -> &'static str {
        self.policy.name()
    }

    fn most(&self) -> usize {
        if self.way == Way::Wait { 1 } else { usize::MAX }
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        Box::new(self.named(lines))
    }
}

impl Waitqueue {
    pub(crate) fn named(&self, lines: usize) -> Named {
        let (name, chunks) = (unique_name(), lines.div_ceil(CHUNK));
        let builder = Region::builder().participants(8).threads(32).entries(lines as u64 + 64);
        let memory = chunks * (size_of::<Chunk>() + 64);
        let region = builder.objects(chunks as u64 + 1).memory(memory as u64).create(&name);
        // (All objects are made here, so that performers only find them.)
        let region = region.expect("a new region");
        (0..chunks).for_each(|chunk| drop(region.object::<Chunk>(&chunk.to_string()).expect("memory")));
        Named { name, lines, policy: self.policy, way: self.way }
    }
}

impl Named {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        Region::unlink(&self.name).expect("it was created");
    }
}

/// Some lines, as one process has them open. It has them until its end, so they may as well live for ever.
struct Lines {
    chunks: &'static [Object<Chunk>],
    queues: &'static [Queue],
    inbox: Range<usize>,
    options: WaitOptions<'static>,
}

impl Lines {
    fn value(&self, line: usize) -> &'static AtomicU32 {
        &self.chunks[line / CHUNK][line % CHUNK].value
    }

    fn send(&self, line: usize, value: u32) {
        self.value(line).store(value, Release);
        self.queues[line].wake_up().expect("wake");
    }

    fn take(&self, line: usize) -> (usize, u32) {
        (line, self.value(line).swap(0, AcqRel))
    }
}

impl Place for Named {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        let region: &Region = Box::leak(Box::new(Region::open(&self.name).expect("the region")));
        let chunk = |at: usize| region.object::<Chunk>(&at.to_string()).expect("a chunk");
        let chunks: &'static [_] = (0..self.lines.div_ceil(CHUNK)).map(chunk).collect::<Vec<_>>().leak();
        let queue =
            |line: usize| region.queue_at(&chunks[line / CHUNK][line % CHUNK].queue).expect("a queue");
        let queues: &'static [_] = (0..self.lines).map(queue).collect::<Vec<_>>().leak();
        let lines = Lines { chunks, queues, inbox: inbox.clone(), options: self.policy.options() };
        match self.way {
            Way::Wait => Box::new(One(lines)),
            Way::Many => {
                let source = |line: usize| {
                    let value = lines.value(line);
                    Source::new(&queues[line], Box::leak(Box::new(|| value.load(Acquire) != 0)))
                };
                let sources = inbox.map(source).collect();
                Box::new(Many { lines, sources })
            }
            Way::Set => {
                let mut set = WaitSet::new(region).expect("a set");
                for line in inbox {
                    let member = set.add(&queues[line], &WaitOptions::new()).expect("an entry");
                    assert_eq!(member.number() as usize, line - lines.inbox.start);
                }
                Box::new(Set { lines, set })
            }
        }
    }
}

struct One(Lines);

impl Post for One {
    fn send(&mut self, line: usize, value: u32) {
        self.0.send(line, value);
    }

    fn receive(&mut self) -> (usize, u32) {
        let line = self.0.inbox.start;
        let word = self.0.value(line);
        let is_there = || word.load(Acquire) != 0;
        self.0.queues[line].wait_event_with(&self.0.options, is_there).expect("wait");
        self.0.take(line)
    }
}

struct Many {
    lines: Lines,
    sources: Vec<Source<'static>>,
}

impl Post for Many {
    fn send(&mut self, line: usize, value: u32) {
        self.lines.send(line, value);
    }

    fn receive(&mut self) -> (usize, u32) {
        let at = wait_many(&mut self.sources, &self.lines.options).expect("wait");
        self.lines.take(self.lines.inbox.start + at)
    }
}

struct Set {
    lines: Lines,
    set: WaitSet,
}

impl Post for Set {
    fn send(&mut self, line: usize, value: u32) {
        self.lines.send(line, value);
    }

    fn receive(&mut self) -> (usize, u32) {
        let (lines, start) = (&self.lines, self.lines.inbox.start);
        let line = |member: Member| start + member.number() as usize;
        let is_there = |member| lines.value(line(member)).load(Acquire) != 0;
        let fired = self.set.wait(&lines.options, is_there).expect("wait");
        lines.take(line(fired))
    }
}
