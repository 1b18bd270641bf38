//! The examples in C, run as their first lines say, and killed. (The waiter and the waker: see `c_programs`.)

mod common;
mod running;

use std::time::Duration;

use common::process::{Name, Random, seed, until, until_asleep};
use common::{How, Program};
use running::Running;
use waitqueue::Region;

fn example(source: &str) -> Program {
    Program::new(&format!("../examples/c/{source}"), How::C)
}

/// Waits until so many wait in the region, on whatever queue.
fn until_waiting(region: &Region, count: usize) {
    let waiting = || region.snapshot().queues.iter().map(|queue| queue.waiters.len()).sum::<usize>();
    until(&format!("{count} waiters"), || waiting() == count);
}

/// The numbers in a line such as "put 3, sum 6; taken 3, sum 6".
fn numbers(line: &str) -> Vec<u64> {
    line.split(|char: char| !char.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_queue_between_processes_adds_up() {
    let (queue, name) = (example("queue.c"), Name::new());
    let takers = [Running::start(&queue, &name, &["take"]), Running::start(&queue, &name, &["take"])];
    until_waiting(&name.region(), 2);
    let putters =
        [Running::start(&queue, &name, &["put", "1000"]), Running::start(&queue, &name, &["put", "500"])];
    assert_eq!(putters.map(|putter| putter.end()), ["put 1000\n", "put 500\n"]);
    assert_eq!(
        Running::start(&queue, &name, &["end"]).end(),
        "put 1500, sum 625750; taken 1500, sum 625750\n"
    );
    assert_eq!(takers.map(|taker| numbers(&taker.end())[0]).iter().sum::<u64>(), 1500);
}

/// What was begun in the ring when its process was killed is there or is not, but never half of it.
#[test]
fn a_queue_between_processes_adds_up_whoever_is_killed() {
    let (queue, name) = (example("queue.c"), Name::new());
    let region = name.region();
    let mut random = Random(seed());
    let start =
        |is_taker| Running::start(&queue, &name, if is_taker { &["take"] } else { &["put", "1000000000"] });
    let is_taker = |at: usize| at == 0 || at == 2;
    let mut running: Vec<_> = (0..4).map(|at| start(is_taker(at))).collect();
    for _ in 0..60 {
        std::thread::sleep(Duration::from_micros(random.below(6000)));
        let at = random.below(4) as usize;
        running[at] = start(is_taker(at));
    }
    running.truncate(3);
    drop(running.remove(1));
    // Who starts after the end would begin another ring.
    let alive = || region.participants().iter().filter(|other| other.alive).count();
    until("two takers, beside this process", || alive() == 3);
    let line = Running::start(&queue, &name, &["end"]).end();
    let [put, sum_put, taken, sum_taken] = numbers(&line)[..] else { panic!("{line}") };
    assert_eq!((put, sum_put), (taken, sum_taken), "{line}");
    assert!(put > 0);
    running.into_iter().for_each(|taker| drop(taker.end()));
}

#[test]
fn one_thread_waits_on_many_queues() {
    let (many, name) = (example("many.c"), Name::new());
    let region = name.region();
    for how in ["once", "set"] {
        let killed = Running::start(&many, &name, &[how]);
        let mut receiver = Running::start(&many, &name, &[how]);
        until_asleep(&region, "stop", 2);
        drop(killed);
        // Whoever was killed consumes nothing.
        for mailbox in ["3", "0", "1", "2", "0"] {
            Running::start(&many, &name, &["send", mailbox]).end();
            assert_eq!(receiver.hear(), format!("a letter in mailbox {mailbox}"));
        }
        Running::start(&many, &name, &["stop"]).end();
        assert_eq!(receiver.end(), "stopped\n");

        let receiver = Running::start(&many, &name, &[how]);
        until_asleep(&region, "stop", 1);
        receiver.signal(libc::SIGINT);
        assert_eq!(receiver.end(), "interrupted\n");
    }
    region.check().unwrap();
}

#[test]
fn a_reader_sleeps_until_the_counter_changes_as_in_a_driver() {
    let (sleepy, name) = (example("sleepy.c"), Name::new());
    let mut readers = [(); 3].map(|()| Running::start(&sleepy, &name, &["read"]));
    let region = name.region();
    for count in 1..4 {
        until_waiting(&region, 3);
        Running::start(&sleepy, &name, &["write"]).end();
        for reader in &mut readers {
            assert_eq!(reader.hear(), count.to_string());
        }
    }
    until_waiting(&region, 3);
    let [first, second, killed] = readers;
    drop(killed);
    for mut reader in [first, second] {
        // A signal just before the sleep, such as that after the death, does not end it.
        until("the end of an interrupted reader", || {
            reader.signal(libc::SIGINT);
            std::thread::sleep(Duration::from_millis(5));
            reader.has_ended()
        });
        assert_eq!(reader.hear(), "interrupted");
        reader.end();
    }
}
