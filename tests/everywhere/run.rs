//! One operation in one setting: recorded once, then a fresh region and a fresh victim for every point of its trace.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keeper::{Claim, Setting, now};
use super::operations::{Operation, Orders, Stimulus};
use super::remains::{Remains, essence};
use super::trace::{Arrival, Point, Step, Traced, Who};
use crate::common::{LIMIT, MARK, Name};

/// How often a point that was not reached is tried again: what others do at the same time can change the way to it.
const TRIES: u32 = 3;
/// What is worth a line, if lines are wanted.
const SLOW: Duration = Duration::from_millis(500);
/// A wait that times out: while every instruction is recorded, and else.
const SLOWLY: Duration = Duration::from_millis(800);
const QUICKLY: Duration = Duration::from_millis(15);

/// What came of one operation.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub instructions: usize,
    /// How many of them leave something else behind than the one before.
    pub states: usize,
    pub kills: usize,
    pub settings: usize,
    pub lost: usize,
    pub hung: usize,
    pub leaked: usize,
    /// Points that were not reached: something else happened there.
    pub missed: usize,
    pub slowest: Duration,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.instructions = self.instructions.max(other.instructions);
        self.states = self.states.max(other.states);
        self.kills += other.kills;
        self.settings += other.settings;
        self.lost += other.lost;
        self.hung += other.hung;
        self.leaked += other.leaked;
        self.missed += other.missed;
        self.slowest = self.slowest.max(other.slowest);
        self.failures.extend(other.failures.iter().cloned());
    }

    pub fn failed(&self) -> usize {
        self.lost + self.hung + self.leaked
    }

    fn note(&mut self, what: String, answer: Result<Duration, String>, verbose: bool) {
        self.kills += 1;
        match answer {
            Ok(took) => {
                if took > SLOW && verbose {
                    println!("slow: {took:?}: {what}");
                }
                self.slowest = self.slowest.max(took);
            }
            Err(text) => {
                let kind = match &*text {
                    text if text.starts_with("lost") => &mut self.lost,
                    text if text.starts_with("leaked") => &mut self.leaked,
                    _ => &mut self.hung,
                };
                *kind += 1;
                self.failures.push(format!("{what}: {text}"));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Points {
    /// So many.
    Some(usize),
    /// Those that leave something else behind than the one before; an eighth, where nobody is killed.
    States,
    /// Those that leave something else behind than the one before, and a share of the rest: each instruction in one
    /// setting, or every fourth in a trace of more than 10,000, which is mostly loops. All, where nobody is killed.
    All,
}

/// What is common to all jobs.
pub struct Plan {
    /// Which points of each trace are tried.
    pub points: Points,
    /// How long the living may take, after which they hang.
    pub patience: Duration,
    /// Whether to go on after a failure.
    pub stop_at_failure: bool,
    /// Whether to say what is under way, and which recoveries were slow.
    pub verbose: bool,
    /// The distinct regions that deaths have left, if they are to be collected.
    pub remains: Option<Mutex<HashMap<u64, Vec<u8>>>>,
}

/// What is done at one point.
pub struct Job {
    /// None: the victim attaches to these remains, and cleans up.
    pub operation: Option<&'static Operation>,
    pub remains: Option<(u64, Vec<u8>)>,
    pub setting: Setting,
    pub marks: bool,
    /// Which of how many jobs for the same operation this is.
    pub share: (usize, usize),
}

impl Job {
    pub fn name(&self) -> &'static str {
        self.operation.map_or("recovery", |operation| operation.name)
    }

    fn orders(&self, name: &Name, timeout: Duration) -> Orders {
        let operation = self.operation.map_or("attach", |operation| operation.name).to_owned();
        Orders { name: name.0.clone(), operation, marks: self.marks, timeout }
    }

    fn with_bell(&self) -> bool {
        self.operation.is_none_or(|operation| operation.with_bell)
    }

    fn wants(&self, stimulus: Stimulus) -> bool {
        self.operation.is_some_and(|operation| operation.stimulus == stimulus)
    }

    pub fn run(&self, plan: &Plan, keeper: &mut Keeper) -> Tally {
        let mut tally = Tally { settings: 1, ..Tally::default() };
        let mut trace = self.record(Who::Main, keeper);
        if self.with_bell() {
            let bell = self.record(Who::Bell, keeper);
            let is_its = |step: &Step| matches!(step.point, Point::Before { who: Who::Bell, .. });
            trace.extend(bell.into_iter().filter(is_its));
        }
        tally.instructions = trace.len();
        tally.states = trace.iter().filter(|step| step.differs).count();
        // (One that attaches or leaves sleeps until its bell is ready.)
        let asleep = trace.iter().position(|step| step.point == Point::Asleep && !self.with_bell());
        for index in self.choose(&trace, asleep, plan.points) {
            let point = trace[index].point;
            let claim = match asleep {
                _ if point == Point::End => Claim::Used,
                Some(asleep) if index == asleep + 1 => Claim::Owed,
                Some(asleep) if index > asleep => Claim::Maybe,
                _ => Claim::None,
            };
            self.kill_at(point, claim, plan, keeper, &mut tally);
            if plan.stop_at_failure && tally.failed() > 0 {
                break;
            }
        }
        tally
    }

    fn record(&self, who: Who, keeper: &mut Keeper) -> Vec<Step> {
        let name = self.stage(keeper);
        let mut victim = Traced::start(&self.orders(&name, SLOWLY).arguments(), self.with_bell());
        let trace = victim.record(who, &mut Remains::new(&name.0), |pid| self.stimulate(pid, keeper));
        victim.kill();
        keeper.after(Claim::Used, LIMIT).unwrap_or_else(|text| panic!("{}: {text}", self.name()));
        trace
    }

    fn stage(&self, keeper: &mut Keeper) -> Name {
        let name = Name::new();
        if let Some((_, bytes)) = &self.remains {
            let path = format!("/dev/shm{}", name.0);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(bytes)).expect("remains can be written");
        }
        let operation = self.operation.map_or("", |operation| operation.name);
        keeper.tell(&format!("stage\t{operation}\t{:?}\t{}", self.setting, name.0));
        keeper.hear(LIMIT).unwrap_or_else(|text| panic!("{}: {text}", self.name()));
        name
    }

    fn stimulate(&self, pid: Pid, keeper: &mut Keeper) {
        if self.wants(Stimulus::Wake) || self.wants(Stimulus::Company) {
            keeper.ask(&format!("asleep\t{pid}"));
        }
        if self.wants(Stimulus::Signal) || self.wants(Stimulus::Company) {
            let _ = kill(pid, Signal::SIGUSR1);
        }
    }

    /// Those around a sleep always; a sample is spread evenly, and others in every setting.
    fn choose(&self, trace: &[Step], asleep: Option<usize>, wanted: Points) -> Vec<usize> {
        let nobody_dies = self.setting == Setting::Interleaved;
        let (stride, all_states) = match wanted {
            Points::Some(count) => (trace.len().div_ceil(count).max(1), false),
            // Others change the region all the time.
            Points::States if self.setting == Setting::Busy => (8, false),
            Points::All if self.setting == Setting::Busy => (self.share.1, false),
            Points::States if nobody_dies => (8, true),
            Points::All if nobody_dies => (1, true),
            Points::States => (usize::MAX, true),
            Points::All if trace.len() > 10_000 => (4 * self.share.1, true),
            Points::All => (self.share.1, true),
        };
        let offset = match &self.remains {
            Some((hash, _)) => *hash as usize % stride,
            None => stride / self.share.1 * self.share.0 % stride,
        };
        let last = if nobody_dies { asleep.unwrap_or(trace.len()) } else { trace.len() };
        let is_special = |index: usize| {
            trace[index].point == Point::End
                || asleep.is_some_and(|asleep| index == asleep || index == asleep + 1)
        };
        let is_wanted = |index: &usize| {
            index % stride == offset || is_special(*index) || all_states && trace[*index].differs
        };
        (0..last).filter(is_wanted).collect()
    }

    fn kill_at(&self, point: Point, claim: Claim, plan: &Plan, keeper: &mut Keeper, tally: &mut Tally) {
        for _ in 0..TRIES {
            let name = self.stage(keeper);
            let mut victim = Traced::start(&self.orders(&name, QUICKLY).arguments(), self.with_bell());
            let arrival = victim.run_to(point, |pid| self.stimulate(pid, keeper));
            let (reached, mut went_on) = (arrival == Arrival::There, arrival != Arrival::SleepsOn);
            match self.setting {
                Setting::Barging if reached => keeper.ask("barge"),
                Setting::Interleaved if reached => {
                    keeper.ask("now");
                    went_on = victim.run_on();
                }
                _ => {}
            }
            let before = now();
            victim.kill();
            let end = Duration::from_nanos(now() - before);
            if plan.verbose && end > SLOW {
                println!("slow: {end:?} until the victim was gone");
            }
            self.collect(&name, plan);
            let answer = keeper.after_at(claim, before, plan.patience);
            let answer = if went_on { answer } else { Err("lost: the victim sleeps on".to_owned()) };
            if reached || answer.is_err() {
                let marks = if self.marks { "" } else { ", without marks" };
                let what = format!("{}, {:?}{marks}, {}", self.name(), self.setting, describe(point));
                return tally.note(what, answer, plan.verbose);
            }
        }
        tally.missed += 1;
        if plan.verbose {
            println!("missed: {}, {:?}, {}", self.name(), self.setting, describe(point));
        }
    }

    fn collect(&self, name: &Name, plan: &Plan) {
        let Some(remains) = &plan.remains else { return };
        if self.setting != Setting::Alone {
            return;
        }
        let Ok(bytes) = std::fs::read(format!("/dev/shm{}", name.0)) else { return };
        let hash = essence(&bytes);
        remains.lock().unwrap().entry(hash).or_insert(bytes);
    }
}

fn describe(point: Point) -> String {
    match point {
        Point::Before { who, address, nth } => {
            let bell = if who == Who::Bell { " of the bell" } else { "" };
            format!("before {address:#x}{bell}, pass {nth}")
        }
        other => format!("{other:?}"),
    }
}

/// The process of `keeper.rs`, replaced when it is broken.
pub struct Keeper {
    running: Option<Running>,
}

struct Running {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Keeper {
    pub fn new() -> Keeper {
        Keeper { running: None }
    }

    fn running(&mut self) -> &mut Running {
        self.running.get_or_insert_with(|| {
            let mut process = Command::new(std::env::current_exe().expect("a test has a program"))
                .arg("keeper")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn()
                .expect("this program starts");
            let input = process.stdin.take().expect("piped");
            let output = BufReader::new(process.stdout.take().expect("piped"));
            let (sender, lines) = channel();
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    let _ = sender.send(line.trim_start_matches(MARK).to_owned());
                }
            });
            Running { process, input, lines }
        })
    }

    fn tell(&mut self, line: &str) {
        // (If it has ended, that is noticed when it does not answer.)
        let _ = writeln!(self.running().input, "{line}");
    }

    fn hear(&mut self, patience: Duration) -> Result<String, String> {
        let line = self.running().lines.recv_timeout(patience);
        if let Ok(text) = &line
            && let Some(answer) = text.strip_prefix("ok ")
        {
            return Ok(answer.to_owned());
        }
        self.end();
        Err(line.unwrap_or_else(|error| format!("hung: no answer: {error}")))
    }

    fn ask(&mut self, command: &str) {
        self.tell(command);
        self.hear(LIMIT).unwrap_or_else(|text| panic!("{command}: {text}"));
    }

    fn after(&mut self, claim: Claim, patience: Duration) -> Result<Duration, String> {
        self.after_at(claim, now(), patience)
    }

    fn after_at(&mut self, claim: Claim, killed_at: u64, patience: Duration) -> Result<Duration, String> {
        self.tell(&format!("after\t{claim:?}\t{killed_at}"));
        let answer = self.hear(patience)?;
        Ok(Duration::from_micros(answer.parse().map_err(|_| format!("hung: it said {answer}"))?))
    }

    fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}
