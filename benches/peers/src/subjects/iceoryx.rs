//! `iceoryx2`'s events: a service for each line, with the value in shared memory beside it.
#![allow(unsafe_code)] // references into a mapping, and to what lies beside them

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::*};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;
use waitqueue_bench::segment::{Name, Segment};
use waitqueue_bench::subjects::slots::{SLOT, unique_name};
use waitqueue_bench::subjects::{Place, Post, Subject};

type Ipc = ipc::Service;

/// How it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iceoryx {
    /// For one line, with `blocking_wait`.
    Listener,
    /// For many, which stay attached.
    WaitSet,
}

/// Each line is a service with files of its own: more would take longer to make than to measure.
const MOST: usize = 100;

struct Named {
    name: String,
    values: Name,
    lines: usize,
    way: Iceoryx,
}

impl Subject for Iceoryx {
    fn name(&self) -> String {
        if *self == Iceoryx::WaitSet { "iceoryx2 WaitSet".into() } else { "iceoryx2 event".into() }
    }

    fn most(&self) -> usize {
        if *self == Iceoryx::WaitSet { MOST } else { 1 }
    }

    fn create(&self, lines: usize) -> Box<dyn Place> {
        let name = unique_name();
        let values = Segment::create_sized(&name, lines * SLOT, |_| {});
        Box::new(Named { name, values, lines, way: *self })
    }
}

impl Place for Named {
    fn open(&self, inbox: Range<usize>) -> Box<dyn Post> {
        set_log_level(LogLevel::Error);
        let quiet = SignalHandlingMode::Disabled;
        let node = NodeBuilder::new().signal_handling_mode(quiet).create::<Ipc>().expect("a node");
        let service = |line: usize| {
            let name = format!("{}/{line}", self.name);
            let name = name.as_str().try_into().expect("a name");
            node.service_builder(&name).event().open_or_create().expect("a service")
        };
        let (mut notifiers, mut listeners) = (HashMap::new(), HashMap::new());
        for line in 0..self.lines {
            if inbox.contains(&line) {
                let listener = service(line).listener_builder().create().expect("a listener");
                listeners.insert(line, Box::new(listener));
            } else {
                notifiers.insert(line, service(line).notifier_builder().create().expect("a notifier"));
            }
        }
        let set = (self.way == Iceoryx::WaitSet && !inbox.is_empty()).then(|| Set::new(&listeners));
        Box::new(Opened {
            notifiers,
            set,
            listeners,
            values: Segment::open(&self.values),
            inbox,
            _node: node,
        })
    }
}

/// Dropped in this order.
struct Opened {
    notifiers: HashMap<usize, Notifier<Ipc>>,
    set: Option<Set>,
    listeners: HashMap<usize, Box<Listener<Ipc>>>,
    values: Segment,
    inbox: Range<usize>,
    _node: Node<Ipc>,
}

/// Dropped in this order.
struct Set {
    lines: HashMap<WaitSetAttachmentId<Ipc>, usize>,
    _guards: Vec<WaitSetGuard<'static, 'static, Ipc>>,
    set: Box<WaitSet<Ipc>>,
}

/// # Safety
///
/// It stays where it is until the reference is gone.
unsafe fn for_ever<T>(value: &T) -> &'static T {
    // SAFETY: promised by the caller.
    unsafe { &*std::ptr::from_ref(value) }
}

impl Set {
    fn new(listeners: &HashMap<usize, Box<Listener<Ipc>>>) -> Set {
        let quiet = SignalHandlingMode::Disabled;
        let set = Box::new(WaitSetBuilder::new().signal_handling_mode(quiet).create::<Ipc>().expect("a set"));
        let (mut lines, mut guards) = (HashMap::new(), Vec::new());
        for (line, listener) in listeners {
            // SAFETY: both are in boxes, which are dropped after the guards.
            let (set, listener) = unsafe { (for_ever(&*set), for_ever(&**listener)) };
            let guard = set.attach_notification(listener).expect("an attachment");
            lines.insert(WaitSetAttachmentId::from_guard(&guard), *line);
            guards.push(guard);
        }
        Set { lines, _guards: guards, set }
    }

    fn line_that_fired(&self) -> Option<usize> {
        let mut fired = None;
        let outcome = self.set.wait_and_process_once(|attachment| {
            fired = self.lines.get(&attachment).copied();
            CallbackProgression::Continue
        });
        outcome.expect("wait");
        fired
    }
}

impl Opened {
    fn value(&self, line: usize) -> &AtomicU32 {
        // SAFETY: an atomic.
        unsafe { self.values.at(line * SLOT) }
    }
}

impl Post for Opened {
    fn send(&mut self, line: usize, value: u32) {
        self.value(line).store(value, Release);
        self.notifiers[&line].notify().expect("notify");
    }

    fn receive(&mut self) -> (usize, u32) {
        loop {
            let line = match &self.set {
                Some(set) => set.line_that_fired(),
                None => Some(self.inbox.start),
            };
            let Some(line) = line else { continue };
            let listener = &self.listeners[&line];
            let outcome =
                if self.set.is_some() { listener.try_wait(|_| ()) } else { listener.blocking_wait(|_| ()) };
            outcome.expect("wait");
            match self.value(line).swap(0, AcqRel) {
                0 => {}
                value => return (line, value),
            }
        }
    }
}
