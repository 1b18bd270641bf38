//! What it takes to begin and to end: creating a region, attaching, detaching; and how large it all is.
#![allow(unsafe_code)] // bare memory

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::*;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use waitqueue::{QueueHead, Region, RegionBuilder};

use crate::machine::{Pinning, now};
use crate::memory::Words;
use crate::options::Options;
use crate::plot::{self, Caption, Panel, Unit};
use crate::report::{Report, Row, in_turns};
use crate::segment::Segment;
use crate::stage::{Performer, Role, Tally, play};
use crate::subjects::slots::unique_name;

/// What is measured, in a process that has nothing of it open; another one is attached where there is a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    MakeMemory,
    MapMemory,
    Create,
    Open,
    OpenOrCreate,
    Detach,
    Queue,
}

impl Job {
    const ALL: [Job; 7] =
        [Job::MakeMemory, Job::MapMemory, Job::Create, Job::Open, Job::OpenOrCreate, Job::Detach, Job::Queue];

    fn name(self) -> &'static str {
        match self {
            Job::MakeMemory => "bare shared memory, made",
            Job::MapMemory => "bare shared memory, mapped",
            Job::Create => "waitqueue, create",
            Job::Open => "waitqueue, open (attach)",
            Job::OpenOrCreate => "waitqueue, open_or_create",
            Job::Detach => "waitqueue, detach",
            Job::Queue => "waitqueue, a new queue",
        }
    }
}

/// Measures it with regions of default size.
pub fn attach(bench: &str) {
    let options = Options::read();
    let mut report =
        Report::new(bench, "a region of default size, 1 other process attached; or bare memory as large");
    let operations = options.operations(200);
    let scores = in_turns(&options, &Job::ALL, |job, counted| play_once(*job, operations, counted));
    report.case(json!({"pinning": Pinning::TwoCpus.name()}));
    let mut panel = Panel { title: "default size".into(), bars: Vec::new() };
    for (job, score) in Job::ALL.iter().zip(&scores) {
        panel.bars.push((job.name().into(), score.at(0.5), score.at(0.99)));
        let (ratios, more) = (Vec::new(), json!({}));
        report.row(&Row { subject: job.name().into(), policy: "", note: "", score, ratios, more });
    }
    sizes(&mut report);
    let caption = Caption {
        title: "Beginning and ending",
        about: plot::TO_THE_SLOWEST,
        x: ("", Unit::Time),
        y: ("", Unit::Time),
    };
    plot::bars(&report.picture(""), &caption, &mut [panel]);
}

fn play_once(job: Job, operations: u32, counted: bool) -> Vec<Tally> {
    let (words, name) = (&Words::new(8), &unique_name());
    let size = size_of(Region::builder()) as usize;
    let bare = matches!(job, Job::MakeMemory | Job::MapMemory);
    let segment = &bare.then(|| Segment::create_sized(name, size, |_| ()));
    if !bare {
        drop(Region::builder().objects(1024).create(name).expect("a new region"));
    }
    let guest = Role::new("guest", Pinning::TwoCpus.seat(0), |me| {
        me.ready();
        me.begin();
        for at in 0..operations {
            let nanos = match job {
                Job::MakeMemory => timed(me, || {
                    Segment::create_sized(&format!("{name}-new"), size, |segment| fill(segment, size))
                }),
                Job::MapMemory => timed(me, || Segment::open(segment.as_ref().expect("made above"))),
                Job::Create => {
                    let new = format!("{name}-new");
                    let nanos = timed(me, || Region::create(&new).expect("a new region"));
                    me.aside(|| Region::unlink(&new).expect("it was created"));
                    nanos
                }
                Job::Open => timed(me, || Region::open(name).expect("the region")),
                Job::OpenOrCreate => timed(me, || Region::open_or_create(name).expect("the region")),
                Job::Detach => {
                    let region = me.aside(|| Region::open(name).expect("the region"));
                    timed(me, || drop(region))
                }
                Job::Queue => {
                    let region = me.aside(|| Region::open(name).expect("the region"));
                    let nanos = timed(me, || region.queue(&at.to_string()).expect("a new queue"));
                    me.aside(|| drop(region));
                    nanos
                }
            };
            me.sample(nanos);
        }
        me.end(u64::from(operations));
        words[0].store(1, Release);
    });
    let other = Role::new("other", Pinning::TwoCpus.seat(1), |me: &mut Performer| {
        let region = (!bare).then(|| Region::open(name).expect("the region"));
        me.ready();
        me.begin();
        while words[0].load(Acquire) == 0 {
            sleep(Duration::from_millis(1));
        }
        me.end(u64::from(operations));
        drop(region);
    });
    let tallies = play(counted, operations as usize, vec![guest, other]);
    if !bare {
        Region::unlink(name).expect("it was created");
    }
    tallies
}

/// What is made is given back afterwards, which does not count.
fn timed<T>(me: &mut Performer, make: impl FnOnce() -> T) -> u64 {
    let start = now();
    let made = black_box(make());
    let nanos = now() - start;
    me.aside(|| drop(made));
    nanos
}

/// Takes the memory that `set_len` only promises, as a region does.
fn fill(segment: &Segment, size: usize) {
    for offset in (0..size).step_by(4096) {
        // SAFETY: a word of the segment.
        unsafe { segment.at::<std::sync::atomic::AtomicU64>(offset) }.store(0, Relaxed);
    }
}

fn size_of(builder: RegionBuilder) -> u64 {
    builder.create_memfd("size").expect("a region").snapshot().size
}

/// Bytes of regions, and by how many one more of each makes them larger.
fn sizes(report: &mut Report) {
    const MORE: u64 = 4096;
    // (The default memory grows with the number of objects.)
    let with = |change: fn(RegionBuilder, u64) -> RegionBuilder, count| {
        size_of(change(Region::builder().memory(MORE), count))
    };
    let each = |change| (with(change, 2 * MORE) - with(change, MORE)) as f64 / MORE as f64;
    report.case(json!({"what": "bytes"}));
    report.fact("a region of default size", "", json!({"bytes": size_of(Region::builder())}));
    let small = Region::builder().participants(4).threads(8).entries(16).objects(8).memory(4096);
    report.fact("4 processes, 8 threads, 16 entries, 8 queues", "", json!({"bytes": size_of(small)}));
    let large = Region::builder().participants(4096).threads(16_384).entries(1 << 20).objects(4096);
    report.fact("4096 processes, 2²⁰ entries", "", json!({"bytes": size_of(large)}));
    report.fact("each participant", "", json!({"bytes": each(RegionBuilder::participants)}));
    report.fact("each thread", "", json!({"bytes": each(RegionBuilder::threads)}));
    report.fact("each entry", "", json!({"bytes": each(RegionBuilder::entries)}));
    report.fact("each object", "", json!({"bytes": each(RegionBuilder::objects)}));
    let head = std::mem::size_of::<QueueHead>();
    report.fact("a queue, beside its object", "", json!({"bytes": head}));
    let before = (count("/proc/self/task"), count("/proc/self/fd"));
    let name = unique_name();
    let region = Region::create(&name).expect("a new region");
    let after = (count("/proc/self/task"), count("/proc/self/fd"));
    let touched = fs::metadata(format!("/dev/shm{name}")).map_or(0, |file| file.blocks() * 512);
    Region::unlink(&name).expect("it was created");
    drop(region);
    let own = json!({"threads": after.0 - before.0, "descriptors": after.1 - before.1});
    report.fact("an attached process has", "", own);
    report.fact("memory behind a new region", "", json!({"bytes": touched}));
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}
