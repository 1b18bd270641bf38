//! The parent: a feeder who hands out text, a keeper who kills and starts workers, and a collector who counts.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use waitqueue::{Error, Object, ParticipantId, Queue, Region, Source, WaitOptions, wait_many};

use crate::board::{Board, Count};
use crate::progress::Progress;
use crate::{Args, Result, signals, text};

/// How long the workers of a parent that was killed may take to notice it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look after the workers when none is killed.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// What the three threads of the parent share with each other, beside what they share with the workers.
struct Run<'a> {
    args: &'a Args,
    region: Region,
    board: Object<Board>,
    /// Workers sleep here until there is something to take.
    work: Queue,
    /// The feeder, until a slot is free.
    room: Queue,
    /// The collector, until a slot is done.
    results: Queue,
    /// Whoever should hear that all is handed out, or that it is over.
    control: Queue,
    /// How many pieces were handed out; known when there are no more.
    pieces: OnceLock<u64>,
    kills: AtomicU64,
    is_over: AtomicBool,
}

/// Counts, reports, and compares.
pub(crate) fn count(args: &Args) -> Result<ExitCode> {
    let texts = text::read(&args.paths)?;
    let run = Run::new(args)?;
    signals::interrupt_waits_of(&run.region)?;
    let start = Instant::now();
    let counted = std::thread::scope(|scope| {
        let feeder = scope.spawn(|| run.or_end(|| run.feed(&texts)));
        let keeper = scope.spawn(|| run.or_end(|| run.keep()));
        let counted = {
            let _end = EndOnDrop(&run);
            run.collect()
        };
        let joined = [feeder.join(), keeper.join()].map(|thread| thread.expect("no thread panics"));
        joined.into_iter().collect::<Result<()>>().and(counted)
    });
    if let Some(name) = &args.name {
        Region::unlink(name)?;
    }
    let counted = counted?;
    run.report(counted, start.elapsed());
    if signals::was_interrupted() {
        println!("interrupted");
        return Ok(ExitCode::from(130));
    }
    let mut expected = Count::default();
    for once in texts.iter().map(|text| text::count_plainly(text)) {
        expected.lines += once.lines * args.repeat;
        expected.words += once.words * args.repeat;
    }
    if counted == expected {
        println!("exact");
        return Ok(ExitCode::SUCCESS);
    }
    println!("WRONG: counted {counted:?}, expected {expected:?}");
    Ok(ExitCode::FAILURE)
}

impl<'a> Run<'a> {
    fn new(args: &'a Args) -> Result<Run<'a>> {
        let region = match &args.name {
            Some(name) => args.region().open_or_create(name)?,
            None => args.region().create_memfd("pipeline")?,
        };
        let run = Run {
            args,
            board: region.object("board")?,
            work: region.queue("work")?,
            room: region.queue("room")?,
            results: region.queue("results")?,
            control: region.queue("control")?,
            region,
            pieces: OnceLock::new(),
            kills: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        run.begin()?;
        Ok(run)
    }

    /// Makes the region ours, also if a former parent was killed in it, whose workers may not have noticed yet.
    fn begin(&self) -> Result<()> {
        let (me, run) = (self.region.me(), &self.board.run);
        let former = run.load(Acquire);
        let is_run_by_another = ParticipantId::new(former).is_some_and(|parent| self.region.is_alive(parent));
        if is_run_by_another || run.compare_exchange(former, me.get(), AcqRel, Relaxed).is_err() {
            return Err(format!("another pipeline runs in {}", self.region.name()).into());
        }
        self.work.wake_up_all()?;
        let alone = || self.region.participants().iter().all(|other| other.id == me || !other.alive);
        let others =
            |_| format!("others are attached to {}: end them, or use another name", self.region.name());
        self.control.wait_event_timeout(alone, PATIENCE).map_err(others)?;
        self.board.clear();
        Ok(())
    }

    /// Hands out all text, as often as asked.
    fn feed(&self, texts: &[Vec<u8>]) -> Result<()> {
        let (mut turn, mut pieces) = (0, 0);
        let all = (0..self.args.repeat).flat_map(|_| texts).flat_map(|text| text::pieces(text));
        for piece in all {
            self.room.wait_event(|| self.board.fill(piece, &mut turn) || self.is_over.load(Acquire))?;
            if self.is_over.load(Acquire) {
                return Ok(());
            }
            self.work.wake_up()?;
            pieces += 1;
        }
        self.pieces.set(pieces).expect("there is one feeder");
        self.control.wake_up()?;
        Ok(())
    }

    /// Adds up what the workers have counted, until it is all, or over.
    fn collect(&self) -> Result<Count> {
        let (mut pieces, mut counted) = (0, Count::default());
        let mut progress = Progress::new();
        while !self.is_over.load(Acquire) && !signals::was_interrupted() && self.pieces.get() != Some(&pieces)
        {
            let mut news = (0, Count::default());
            let fired = wait_many(
                &mut [
                    Source::new(&self.results, &mut || {
                        news = self.board.collect();
                        news.0 > 0
                    }),
                    Source::new(&self.control, &mut || {
                        self.is_over.load(Acquire) || self.pieces.get() == Some(&pieces)
                    }),
                ],
                &WaitOptions::new().interrupter(signals::interrupter()).timeout(progress.pause()),
            );
            match fired {
                Ok(_) | Err(Error::TimedOut { .. } | Error::Interrupted { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if news.0 > 0 {
                self.room.wake_up()?;
            }
            pieces += news.0;
            counted.lines += news.1.lines;
            counted.words += news.1.words;
            progress.show(|| self.status(counted));
        }
        Ok(counted)
    }

    /// Keeps the workers many, and kills one now and then.
    fn keep(&self) -> Result<()> {
        let mut random = Random::new(self.args.seed);
        let mut workers = (0..self.args.workers).map(|_| self.start_worker()).collect::<Result<Vec<_>>>()?;
        let pause = match self.args.kill_every {
            0 => LOOK_AFTER,
            milliseconds => Duration::from_millis(milliseconds),
        };
        while !self.ends_within(pause)? {
            if self.args.kill_every != 0 {
                let victim = random.below(workers.len());
                workers[victim].kill()?;
            }
            for worker in &mut workers {
                if let Some(status) = worker.try_wait()? {
                    self.bury(status)?;
                    *worker = self.start_worker()?;
                }
            }
        }
        workers.iter_mut().try_for_each(|worker| self.bury(worker.wait()?))
    }

    /// A worker may be killed, by us or others, or find that the run is over; anything else is an error.
    fn bury(&self, status: ExitStatus) -> Result<()> {
        match status.signal() {
            Some(libc::SIGKILL) => self.kills.fetch_add(1, Relaxed),
            Some(libc::SIGINT | libc::SIGTERM) => 0,
            None if status.success() => 0,
            _ => return Err(format!("a worker ended with {status}").into()),
        };
        Ok(())
    }

    fn start_worker(&self) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(self.region.me().get().to_string());
        match &self.args.name {
            Some(name) => command.arg("--name").arg(name).stdin(Stdio::null()),
            None => command.stdin(self.region.try_clone_fd()?),
        };
        if self.args.no_tick {
            command.arg("--no-tick");
        }
        Ok(command.spawn()?)
    }

    /// Sleeps; true if it is over before the time is.
    fn ends_within(&self, pause: Duration) -> Result<bool> {
        match self.control.wait_event_timeout(|| self.is_over.load(Acquire), pause) {
            Ok(_) => Ok(true),
            Err(Error::TimedOut { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets workers and threads leave.
    fn end(&self) {
        self.is_over.store(true, Release);
        self.board.run.store(0, Release);
        for queue in [&self.work, &self.room, &self.control] {
            queue.wake_up_all().expect("our own region is usable");
        }
    }

    /// A thread that fails takes the others with it.
    fn or_end(&self, job: impl FnOnce() -> Result<()>) -> Result<()> {
        let end = EndOnDrop(self);
        job().inspect(|()| std::mem::forget(end))
    }

    fn status(&self, counted: Count) -> String {
        let kills = self.kills.load(Relaxed);
        format!("{} lines, {} words, {kills} kills", counted.lines, counted.words)
    }

    fn report(&self, counted: Count, time: Duration) {
        let snapshot = self.region.snapshot();
        let sum = |of: fn(&waitqueue::QueueInfo) -> u64| snapshot.queues.iter().map(of).sum::<u64>();
        let (lines, seconds) = (counted.lines, time.as_secs_f64());
        println!("lines        {lines}");
        println!("words        {}", counted.words);
        println!("kills        {}", self.kills.load(Relaxed));
        println!("handed on    {} wakes of {} that chose a waiter", sum(|q| q.hand_ons), sum(|q| q.claims));
        println!("recoveries   {} deaths, {} lists made anew", snapshot.deaths, sum(|q| q.recoveries));
        println!("tick rescues {}", sum(|q| q.rescues.into()));
        println!("time         {seconds:.2} s, {:.0} lines/s", lines as f64 / seconds);
    }
}

/// However a thread ends that was not done, the others have to hear of it.
struct EndOnDrop<'a>(&'a Run<'a>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A small generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: Option<u64>) -> Random {
        let time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
        Random(seed.unwrap_or_else(time) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
