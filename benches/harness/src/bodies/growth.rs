//! What calls cost as a region fills: one thing grows at a time, and all else stays as it is.
//!
//! Those who fill it are processes of their own, who stay while one call after the other is measured in a process that
//! attaches for that. Calls are hot or cold: a hot one must cost the same however much there is of anything that it
//! does not have to wake.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use serde_json::json;
use waitqueue::{Object, Queue, Region, WaitOptions, WaitSet};

use super::many::{Sleepers, order};
use crate::cast::{Actor, Cast, stay, until};
use crate::machine::{Pinning, now};
use crate::options::Options;
use crate::plot::{self, Caption, Curve, Unit};
use crate::report::{Report, Row, Score, in_turns};
use crate::stage::{Performer, Role, Tally, play};
use crate::subjects::slots::unique_name;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Waiters,
    Queues,
    Participants,
    Entries,
    Enrolled,
    Dead,
}

impl Axis {
    const ALL: [Axis; 6] =
        [Axis::Waiters, Axis::Queues, Axis::Participants, Axis::Entries, Axis::Enrolled, Axis::Dead];

    fn name(self) -> &'static str {
        match self {
            Axis::Waiters => "waiters asleep on the queue",
            Axis::Queues => "queues in the region",
            Axis::Participants => "processes attached",
            Axis::Entries => "entries that the region has",
            Axis::Enrolled => "entries enrolled on another queue",
            Axis::Dead => "processes that died before",
        }
    }

    /// As part of a file's name.
    fn picture(self) -> &'static str {
        match self {
            Axis::Waiters => "waiters",
            Axis::Queues => "queues",
            Axis::Participants => "participants",
            Axis::Entries => "size",
            Axis::Enrolled => "enrolled",
            Axis::Dead => "dead",
        }
    }

    fn counts(self) -> &'static [usize] {
        match self {
            Axis::Waiters | Axis::Participants | Axis::Dead => &[1, 4, 16, 64, 256],
            Axis::Queues => &[4, 16, 64, 256, 1024, 4096],
            Axis::Entries => &[1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20],
            Axis::Enrolled => &[16, 64, 256, 1024, 4096, 16_384],
        }
    }
}

/// A call that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    WakeNobody,
    Holds,
    Enrol,
    WakeOne,
    Attach,
    FindQueue,
    JoinSet,
}

impl Call {
    const ALL: [Call; 7] = [
        Call::WakeNobody,
        Call::Holds,
        Call::Enrol,
        Call::WakeOne,
        Call::Attach,
        Call::FindQueue,
        Call::JoinSet,
    ];

    fn name(self) -> &'static str {
        match self {
            Call::WakeNobody => "wake_up, nobody there",
            Call::Holds => "wait_event that holds",
            Call::Enrol => "enrol and leave",
            Call::WakeOne => "wake one, and its reply",
            Call::Attach => "attach and detach",
            Call::FindQueue => "find a queue by name",
            Call::JoinSet => "a set of 32",
        }
    }

    fn is_hot(self) -> bool {
        !matches!(self, Call::Attach | Call::FindQueue | Call::JoinSet)
    }

    /// How many calls a sample is the mean of.
    fn batch(self) -> u32 {
        match self {
            Call::WakeNobody | Call::Holds => 1000,
            Call::Enrol => 100,
            _ => 1,
        }
    }

    fn samples(self) -> u32 {
        match self {
            Call::WakeNobody | Call::Holds | Call::Enrol => 100,
            Call::WakeOne => 400,
            Call::Attach => 50,
            Call::FindQueue | Call::JoinSet => 100,
        }
    }
}

/// Measures all calls along all axes.
pub fn growth(bench: &str) {
    let options = Options::read();
    let mut report = Report::new(bench, "a call, in a region with so much of one thing");
    for axis in Axis::ALL {
        let mut curves = Call::ALL.map(|call| Curve { name: call.name().into(), points: Vec::new() });
        for count in axis.counts() {
            let filled = Filled::new(axis, *count);
            let scores =
                in_turns(&options, &Call::ALL, |call, counted| filled.play(*call, &options, counted));
            report.case(json!({"growing": axis.name(), "count": count, "pinning": Pinning::TwoCpus.name()}));
            for ((call, score), curve) in Call::ALL.iter().zip(&scores).zip(&mut curves) {
                let nanos = time_of(*call, score);
                curve.points.push((*count as f64, nanos));
                let more = json!({"ns": nanos, "hot": call.is_hot()});
                let subject = format!("waitqueue, {}", call.name());
                report.row(&Row { subject, policy: "sleep", note: "", score, ratios: Vec::new(), more });
            }
        }
        report.case(json!({"grows with": axis.name()}));
        for (call, curve) in Call::ALL.iter().zip(&curves) {
            let more = json!({"order": order(&curve.points), "hot": call.is_hot()});
            report.fact(&format!("waitqueue, {}", call.name()), "sleep", more);
        }
        let title = format!("Calls against {}", axis.name());
        let (x, y) = ((axis.name(), Unit::Count), ("a call", Unit::Time));
        let caption = Caption { title: &title, about: "flat is better", x, y };
        plot::curves(&report.picture(axis.picture()), &caption, &curves);
    }
}

/// Of those that are sampled in batches, which are too short for the clock, the processor time.
fn time_of(call: Call, score: &Score) -> f64 {
    score.median(|round| if call.batch() == 1 { round.p50 } else { round.cpu(0) })
}

/// A region with those who fill it; they end with it.
struct Filled {
    name: String,
    actors: Vec<Actor>,
}

/// The question and its reply, as everybody has them open.
struct Open {
    region: Region,
    question: Object<AtomicU32>,
    reply: Object<AtomicU32>,
    queue: Queue,
    back: Queue,
}

impl Open {
    fn new(name: &str) -> Open {
        let region = Region::open(name).expect("the region");
        let word = |name| region.object(name).expect("memory");
        let queue = |name| region.queue(name).expect("memory");
        let (question, reply, queue, back) = (word("question"), word("reply"), queue("queue"), queue("back"));
        Open { region, question, reply, queue, back }
    }

    /// Replies for ever, if it is its turn.
    fn answer(&self) -> ! {
        let options = WaitOptions::new().spin(Duration::ZERO).exclusive();
        loop {
            let is_asked = || self.question.compare_exchange(1, 0, AcqRel, Relaxed).is_ok();
            self.queue.wait_event_with(&options, is_asked).expect("wait");
            self.reply.store(1, Release);
            self.back.wake_up().expect("wake");
        }
    }

    fn ask(&self, options: &WaitOptions) {
        self.question.store(1, Release);
        self.queue.wake_up().expect("wake");
        self.back.wait_event_with(options, || self.reply.swap(0, AcqRel) != 0).expect("wait");
    }
}

impl Filled {
    fn new(axis: Axis, count: usize) -> Filled {
        let name = unique_name();
        let of = |which: Axis, otherwise: usize| if axis == which { count } else { otherwise };
        let builder =
            Region::builder().participants(600).threads(1200).entries(of(Axis::Entries, 20_000) as u64);
        let region = builder.objects(4200).create(&name).expect("a new region");
        (0..of(Axis::Queues, 4)).for_each(|at| drop(region.queue(&format!("other {at}")).expect("memory")));
        drop(region);
        let mut filled = Filled { name, actors: Vec::new() };
        let mut cast = Cast::new(Duration::from_secs(60));
        (0..of(Axis::Waiters, 1)).for_each(|_| filled.start(&mut cast, |open| open.answer()));
        (0..of(Axis::Participants, 0)).for_each(|_| filled.start(&mut cast, |_| stay()));
        if axis == Axis::Enrolled {
            filled.start(&mut cast, |open| enrol(&open, count));
        }
        filled.mourn(&mut cast, of(Axis::Dead, 0));
        filled
    }

    /// Starts one who attaches, and waits until he rests.
    fn start(&mut self, cast: &mut Cast, body: impl FnOnce(Open)) {
        let actor = cast.start(|steps| {
            // (The caller has the other processor to himself.)
            Pinning::TwoCpus.seat(0).take();
            let open = Open::new(&self.name);
            steps.advance();
            body(open);
        });
        self.actors.push(actor);
        let actor = self.actors.last_mut().expect("just started");
        actor.until(1);
        Sleepers::these(std::iter::once(actor.pid())).until_asleep();
    }

    /// So many attach, die, and are cleaned up after.
    fn mourn(&mut self, cast: &mut Cast, count: usize) {
        let living = self.actors.len();
        (0..count).for_each(|_| self.start(cast, |_| stay()));
        let mut dying = self.actors.split_off(living);
        dying.iter().for_each(Actor::shoot);
        dying.iter_mut().for_each(Actor::kill);
        let deaths = || Region::builder().inspect(&self.name).expect("the region").deaths;
        until("the dead are cleaned up after", || deaths() >= count as u64);
    }

    fn play(&self, call: Call, options: &Options, counted: bool) -> Vec<Tally> {
        let samples = options.operations(call.samples());
        let body = |me: &mut Performer| {
            let open = Open::new(&self.name);
            let empty = open.region.queue("other 0").expect("memory");
            let last = self.last_queue(&open);
            let wait = WaitOptions::new().spin(Duration::ZERO);
            let once = || match call {
                Call::WakeNobody => drop(black_box(empty.wake_up().expect("wake"))),
                Call::Holds => {
                    open.back.wait_event(|| black_box(&open.reply).load(Acquire) == 0).expect("wait")
                }
                Call::Enrol => drop(open.queue.prepare_to_wait(&wait.exclusive()).expect("an entry")),
                Call::WakeOne => open.ask(&wait),
                Call::Attach => drop(Region::open(&self.name).expect("the region")),
                Call::FindQueue => drop(open.region.queue(&last).expect("it is there")),
                Call::JoinSet => drop(set_of(&open, &empty, 32)),
            };
            me.ready();
            (0..samples.min(20)).for_each(|_| once());
            me.begin();
            for _ in 0..samples {
                let start = now();
                (0..call.batch()).for_each(|_| once());
                me.sample((now() - start) / u64::from(call.batch()));
            }
            me.end(u64::from(samples * call.batch()));
        };
        play(counted, samples as usize, vec![Role::new("caller", Pinning::TwoCpus.seat(1), body)])
    }

    /// The one that was made last.
    fn last_queue(&self, open: &Open) -> String {
        let mut names = open.region.snapshot().queues.into_iter().map(|queue| queue.name);
        names.rfind(|name| name.starts_with("other")).expect("there are some")
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.actors.iter().for_each(Actor::shoot);
        self.actors.clear();
        Region::unlink(&self.name).expect("it was created");
    }
}

fn set_of(open: &Open, queue: &Queue, count: usize) -> WaitSet {
    let mut set = WaitSet::new(&open.region).expect("a set");
    for _ in 0..count {
        set.add(queue, &WaitOptions::new()).expect("an entry");
    }
    set
}

/// Stays enrolled on a queue so often.
fn enrol(open: &Open, count: usize) -> ! {
    let queue = open.region.queue("elsewhere").expect("memory");
    let _set = set_of(open, &queue, count);
    stay()
}
