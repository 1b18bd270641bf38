//! The parts of `kill_everywhere.rs`.
#![allow(unreachable_pub)]

pub mod keeper;
pub mod mutants;
pub mod operations;
pub mod remains;
pub mod run;
pub mod trace;

use std::sync::Mutex;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Does every job on one of the processors there are, with two workers on each: while one waits for its victim to be
/// gone, the other works.
///
/// On one processor a victim and whoever traces it take turns without waking each other's.
pub fn on_every_processor<J: Send, W>(
    jobs: impl Iterator<Item = J> + Send,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, J) + Sync,
) {
    let myself = Pid::from_raw(0);
    let cpus = sched_getaffinity(myself).expect("processors");
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        let cpus = (0..CpuSet::count()).filter(|cpu| cpus.is_set(*cpu).unwrap_or(false));
        for cpu in cpus.flat_map(|cpu| [cpu, cpu]) {
            let (jobs, worker, work) = (&jobs, &worker, &work);
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu).and_then(|()| sched_setaffinity(myself, &only)).expect("a processor");
                let mut worker = worker();
                loop {
                    let Some(job) = jobs.lock().unwrap().next() else { break };
                    work(&mut worker, job);
                }
            });
        }
    });
}
