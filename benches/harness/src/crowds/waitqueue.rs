//! This crate: a line is a queue and the number that its conditions are about.

use std::sync::atomic::{AtomicU32, Ordering::*};

use waitqueue::{Object, Queue, Region, WaitOptions};

use super::{Counts, Crowd, Ground, Member};
use crate::subjects::Policy;
use crate::subjects::slots::unique_name;

/// With this policy.
pub struct Waitqueue(pub Policy);

waitqueue::shared_struct! {
    /// A line; two cache lines long, so that neighbours do not disturb each other.
    #[tag = "bench crowd"]
    struct Line {
        number: AtomicU32,
        rest: [AtomicU32; 31],
    }
}

/// Lines are made so many at a time.
const CHUNK: usize = 32;

struct Named {
    name: String,
    lines: usize,
    policy: Policy,
}

struct Opened {
    region: Region,
    numbers: Vec<Object<[Line; CHUNK]>>,
    queues: Vec<Queue>,
    plain: WaitOptions<'static>,
    exclusive: WaitOptions<'static>,
}

impl Crowd for Waitqueue {
    fn name(&self) -> String {
        match self.0 {
            Policy::Sleep => "waitqueue".into(),
            policy => format!("waitqueue, {}", policy.name()),
        }
    }

    fn policy(&self) -> &'static str {
        self.0.name()
    }

    fn create(&self, counts: &[u32], processes: usize) -> Box<dyn Ground> {
        let (name, lines, many) = (unique_name(), counts.len(), processes as u64);
        let builder = Region::builder().participants(many + 2).threads(many + 2).entries(many * 4 + 64);
        let region = builder.create(&name).expect("a new region");
        drop(region);
        let opened = Opened::new(&name, lines, self.0);
        counts.iter().enumerate().for_each(|(line, count)| opened.number(line).store(*count, Release));
        Box::new(Named { name, lines, policy: self.0 })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        Region::unlink(&self.name).expect("it was created");
    }
}

impl Ground for Named {
    fn open(&self) -> Box<dyn Member> {
        Box::new(Opened::new(&self.name, self.lines, self.policy))
    }
}

impl Opened {
    fn new(name: &str, lines: usize, policy: Policy) -> Opened {
        let region = Region::open(name).expect("the region");
        let chunk = |at: usize| region.object(&format!("numbers {at}")).expect("memory");
        let numbers = (0..lines.div_ceil(CHUNK)).map(chunk).collect();
        let queue = |line: usize| region.queue(&line.to_string()).expect("memory");
        let queues = (0..lines).map(queue).collect();
        let plain = policy.options();
        Opened { numbers, queues, exclusive: plain.exclusive(), plain, region }
    }

    fn number(&self, line: usize) -> &AtomicU32 {
        &self.numbers[line / CHUNK][line % CHUNK].number
    }

    fn wake(&self, line: usize) {
        self.queues[line].wake_up().expect("wake");
    }

    fn wait(&self, line: usize, options: &WaitOptions, change: impl Fn(u32) -> Option<u32>) {
        let number = self.number(line);
        let condition = || number.fetch_update(AcqRel, Acquire, &change).is_ok();
        self.queues[line].wait_event_with(options, condition).expect("wait");
    }
}

impl Member for Opened {
    fn put(&mut self, line: usize) {
        self.number(line).fetch_add(1, Release);
        self.wake(line);
    }

    fn take(&mut self, line: usize) {
        self.wait(line, &self.exclusive, |count| count.checked_sub(1));
    }

    fn pass(&mut self, line: usize, me: u32) {
        self.number(line).store(me, Release);
        self.wake(line);
    }

    fn receive(&mut self, line: usize, me: u32) {
        self.wait(line, &self.exclusive, |token| (token != 0 && token != me).then_some(0));
    }

    fn call(&mut self, line: usize, round: u32, _waiters: u32) {
        self.number(line).store(round, Release);
        self.wake(line);
    }

    fn hear(&mut self, line: usize, round: u32, _nth: usize) {
        let number = self.number(line);
        let has_begun = || number.load(Acquire) >= round;
        self.queues[line].wait_event_with(&self.plain, has_begun).expect("wait");
    }

    fn left(&self, line: usize) -> u32 {
        self.number(line).load(Acquire)
    }

    fn counts(&self, line: usize) -> Option<Counts> {
        let name = line.to_string();
        let queue = self.region.snapshot().queues.into_iter().find(|queue| queue.name == name)?;
        let (wakes, claims, hand_ons) = (queue.wakes, queue.claims, queue.hand_ons);
        Some(Counts { wakes, claims, hand_ons, rescues: queue.rescues.into() })
    }
}
