//! What plays with many processes have in common.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use crate::crowds::{Crowd, Crowds};
use crate::options::Options;
use crate::stage::{Performer, Tally};

/// Takes those of one name, which follow each other, together: their work is added, and the longest counts.
pub(crate) fn merged(tallies: Vec<Tally>) -> Vec<Tally> {
    let mut all: Vec<Tally> = Vec::new();
    for tally in tallies {
        match all.last_mut() {
            Some(last) if last.role == tally.role => {
                last.operations += tally.operations;
                last.elapsed = last.elapsed.max(tally.elapsed);
                last.usage.cpu += tally.usage.cpu;
                last.usage.slept += tally.usage.slept;
                last.usage.preempted += tally.usage.preempted;
                last.usage.calls = last.usage.calls.zip(tally.usage.calls).map(|(one, other)| one + other);
                last.samples.extend(tally.samples);
            }
            _ => all.push(tally),
        }
    }
    all
}

/// Those that are wanted; the first is what the others are compared with.
pub(crate) fn among<'a>(options: &Options, crowds: &'a Crowds) -> Vec<&'a dyn Crowd> {
    let is_wanted = |at: usize, crowd: &dyn Crowd| at == 0 || crowd.name().contains(&options.only);
    let wanted = crowds.iter().enumerate().filter(|(at, crowd)| is_wanted(*at, &***crowd));
    wanted.map(|(_, crowd)| &**crowd).collect()
}

/// Processes whose sleep is looked at in `/proc`.
pub(crate) struct Sleepers(Vec<File>);

impl Sleepers {
    /// Those that play these roles; once they are ready.
    pub(crate) fn of(me: &Performer, roles: std::ops::Range<usize>) -> Sleepers {
        Sleepers::these(roles.map(|role| me.pid_of(role) as i32))
    }

    pub(crate) fn these(pids: impl Iterator<Item = i32>) -> Sleepers {
        Sleepers(pids.map(|pid| File::open(format!("/proc/{pid}/stat")).expect("a process")).collect())
    }

    /// Waits until all of them sleep, each of them seen twice: who sleeps for a lock only, on the way, has been woken
    /// by then.
    pub(crate) fn until_asleep(&self) {
        let mut asleep = 0;
        while asleep < 2 {
            asleep = if self.0.iter().all(is_asleep) { asleep + 1 } else { 0 };
            if asleep == 0 {
                sleep(Duration::from_micros(20));
            }
        }
    }
}

fn is_asleep(state: &File) -> bool {
    let mut text = [0; 256];
    let length = state.read_at(&mut text, 0).expect("stat");
    // "pid (name) state …"
    let rest = text[..length].rsplit(|byte| *byte == b')').next();
    rest.is_some_and(|rest| rest.starts_with(b" S"))
}

/// The power of x with which y grows: the slope of the line of least squares through their logarithms.
pub(crate) fn order(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (x, y) = (
        logs.iter().map(|log| log.0).sum::<f64>() / count,
        logs.iter().map(|log| log.1).sum::<f64>() / count,
    );
    let both: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    both / logs.iter().map(|log| (log.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn the_order_of_a_power_is_its_exponent() {
        let square: Vec<_> = [1.0, 3.0, 10.0, 50.0].map(|x: f64| (x, 7.0 * x * x)).into();
        assert!((order(&square) - 2.0).abs() < 1e-9);
        assert!(order(&[(1.0, 5.0), (100.0, 5.0)]).abs() < 1e-9);
    }
}
