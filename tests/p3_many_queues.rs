//! P3 and the rest of `wait_many`: an exclusive wake is consumed by one waiter at most, also of one that waits on many
//! queues, and a waiter learns which queue fired.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

use common::stage::{Stage, Thread, asleep, bounded, info, thread, woken};
use common::{Child, Name, options, say};
use waitqueue::{Error, Object, Queue, Region, Result, Source, WaitOptions, wait_many};

#[test]
fn role() {
    common::play(&[("both", both), ("taker", taker)]);
}

/// Two queues, each with a number of tokens.
#[derive(Clone)]
struct Pair {
    region: Region,
    queues: [Queue; 2],
    tokens: [Object<AtomicU32>; 2],
}

impl Pair {
    fn of(region: Region) -> Pair {
        let queues = ["a", "b"].map(|name| region.queue(name).unwrap());
        let tokens = ["tokens a", "tokens b"].map(|name| region.object(name).unwrap());
        Pair { region, queues, tokens }
    }

    fn take(&self, which: usize) -> bool {
        self.tokens[which].fetch_update(AcqRel, Acquire, |count| count.checked_sub(1)).is_ok()
    }

    /// Waits for a token of either; `wait_many` of two exclusive entries.
    fn take_either(&self, options: &WaitOptions) -> Result<usize> {
        let exclusive = options.exclusive();
        let (mut first, mut second) = (|| self.take(0), || self.take(1));
        wait_many(
            &mut [
                Source::with(&self.queues[0], &exclusive, &mut first),
                Source::with(&self.queues[1], &exclusive, &mut second),
            ],
            options,
        )
    }

    /// A thread that waits for a token of one.
    fn taker(&self, which: usize) -> Thread<Result<()>> {
        let pair = self.clone();
        let before = common::stage::waiters(&self.queues[which]).len();
        let taker = thread(move || {
            pair.queues[which].wait_event_with(&bounded().exclusive(), || pair.take(which)).map(drop)
        });
        asleep(&self.queues[which], before + 1);
        taker
    }
}

/// Takes one token of either, and says which.
fn both(args: &[String]) {
    let pair = Pair::of(common::region(&args[0]));
    say(&pair.take_either(&bounded()).unwrap().to_string());
}

#[test]
fn trap_09_two_wakes_on_two_queues_wake_two_waiters() {
    let name = Name::new();
    let pair = Pair::of(name.region());
    let mut child = Child::start("both", &[&name.0]);
    asleep(&pair.queues[0], 1);
    asleep(&pair.queues[1], 1);
    child.signal(libc::SIGSTOP); // so that it cannot answer the first wake before the second
    let behind = [pair.taker(0), pair.taker(1)];
    for (queue, tokens) in pair.queues.iter().zip(&pair.tokens) {
        tokens.store(1, Release);
        assert_eq!(queue.wake_up(), Ok(woken(1, 0)), "each wake has a waiter of its own");
    }
    let [first, second] = behind;
    assert_eq!(second.join(), Ok(()), "the wake of b went past the stopped waiter, who has that of a");
    child.signal(libc::SIGCONT);
    child.expect("0");
    child.end_well();
    pair.tokens[0].store(1, Release);
    pair.queues[0].wake_up().unwrap();
    assert_eq!(first.join(), Ok(()));
    assert_eq!((info(&pair.queues[0]).hand_ons, info(&pair.queues[1]).hand_ons), (0, 0));
}

#[test]
fn trap_48_a_waiter_satisfied_by_another_queue_passes_its_wake_on() {
    let name = Name::new();
    let pair = Pair::of(name.region());
    let mut child = Child::start("both", &[&name.0]);
    asleep(&pair.queues[0], 1);
    asleep(&pair.queues[1], 1);
    child.signal(libc::SIGSTOP);
    let behind = pair.taker(1);
    pair.tokens[1].store(1, Release);
    assert_eq!(pair.queues[1].wake_up(), Ok(woken(1, 0)), "b chooses the stopped one");
    pair.tokens[0].store(1, Release);
    assert_eq!(pair.queues[0].wake_up(), Ok(woken(0, 0)), "a finds him chosen");
    child.signal(libc::SIGCONT);
    child.expect("0");
    assert_eq!(behind.join(), Ok(()), "what b announced is taken by the one behind");
    child.end_well();
    assert_eq!((info(&pair.queues[0]).hand_ons, info(&pair.queues[1]).hand_ons), (0, 1));
}

/// Takes so many tokens of either queue, one after the other.
fn taker(args: &[String]) {
    let pair = Pair::of(common::region(&args[0]));
    let mut taken = [0_u32; 2];
    while let Ok(which) = pair.take_either(&bounded()) {
        taken[which] += 1;
    }
    say(&format!("{}", taken[0] + taken[1]));
}

#[test]
fn p3_among_processes_on_two_queues_no_wake_is_lost_and_no_token_taken_twice() {
    const TAKERS: usize = 4;
    const TOKENS: u32 = 3000;
    let name = Name::new();
    let pair = Pair::of(name.region());
    let mut takers: Vec<_> = (0..TAKERS).map(|_| Child::start("taker", &[&name.0])).collect();
    let givers = [0, 1].map(|which| {
        let pair = pair.clone();
        thread(move || {
            for _ in 0..TOKENS {
                pair.tokens[which].fetch_add(1, AcqRel);
                pair.queues[which].wake_up().unwrap(); // one wake for one token, and no tick
            }
        })
    });
    givers.into_iter().for_each(Thread::join);
    let left = || pair.tokens.iter().map(|tokens| tokens.load(Acquire)).sum::<u32>();
    common::until("all tokens are taken", || left() == 0);
    pair.queues.iter().map(Queue::close).collect::<Result<Vec<_>>>().unwrap();
    let taken: u32 = takers.iter_mut().map(|taker| taker.hear().parse::<u32>().unwrap()).sum();
    assert_eq!(taken, 2 * TOKENS);
    takers.iter_mut().for_each(Child::end_well);
    pair.region.check().unwrap();
}

#[test]
fn trap_39_the_same_queue_twice_is_woken_once() {
    let stage = Stage::new();
    let waiter = thread({
        let stage = stage.clone();
        move || {
            let exclusive = bounded().exclusive();
            let (mut one, mut two) = (|| stage.flag.load(Acquire) == 1, || stage.flag.load(Acquire) == 2);
            let first = Source::with(&stage.queue, &exclusive, &mut one);
            wait_many(&mut [first, Source::with(&stage.queue, &exclusive, &mut two)], &bounded())
        }
    });
    stage.asleep(2);
    let behind = thread({
        let queue = stage.queue.clone();
        move || queue.wait_woken(&bounded().exclusive())
    });
    stage.asleep(3);
    stage.set(2);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    assert_eq!(waiter.join(), Ok(1), "the second condition, whichever entry was chosen");
    stage.asleep(1);
    assert_eq!(stage.hand_ons(), 0, "the wake was used");
    stage.queue.wake_up().unwrap();
    assert!(behind.join().is_ok());
}

#[test]
fn trap_39_a_queue_that_fires_during_enrolment_is_seen() {
    let stage = Stage::new();
    let queues: Vec<Queue> = (0..9).map(|nth| stage.region.queue(&format!("q{nth}")).unwrap()).collect();
    for fires_at in 1..=queues.len() as u32 {
        // Fires by itself at each place of the first two rounds of evaluations: before and after the enrolment.
        let fired = AtomicU32::new(0);
        let looks = AtomicU32::new(0);
        let condition = |nth: usize| {
            if looks.fetch_add(1, AcqRel) == fires_at {
                fired.store(1, Release);
                queues[0].wake_up().unwrap();
            }
            nth == 0 && fired.load(Acquire) != 0
        };
        let conditions: Vec<_> = (0..queues.len()).map(|nth| move || condition(nth)).collect();
        let mut boxed: Vec<Box<dyn FnMut() -> bool>> =
            conditions.into_iter().map(|c| Box::new(c) as Box<dyn FnMut() -> bool>).collect();
        let mut sources: Vec<_> =
            queues.iter().zip(&mut boxed).map(|(queue, c)| Source::new(queue, &mut **c)).collect();
        assert_eq!(wait_many(&mut sources, &bounded()), Ok(0), "fires at look {fires_at}");
    }
}

#[test]
fn trap_39_a_pulse_with_nobody_there_has_no_effect() {
    let stage = Stage::new();
    stage.queue.wake_up_all().unwrap();
    let soon = WaitOptions::new().timeout(std::time::Duration::from_millis(2));
    let outcome = wait_many(&mut [Source::new(&stage.queue, &mut || false)], &soon);
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
}

#[test]
fn more_than_128_queues_can_be_waited_on_and_each_of_them_fires() {
    const QUEUES: usize = 300;
    let region = options().objects(512).create_memfd("wide").unwrap();
    let queues: Arc<Vec<Queue>> =
        Arc::new((0..QUEUES).map(|n| region.queue(&n.to_string()).unwrap()).collect());
    let chosen = region.object::<AtomicU32>("chosen").unwrap();
    let waiter = thread({
        let (queues, chosen) = (queues.clone(), chosen.clone());
        move || {
            let mut fired = Vec::new();
            for _ in 0..4 {
                let is_chosen =
                    |nth: usize| chosen.compare_exchange(nth as u32 + 1, 0, AcqRel, Acquire).is_ok();
                let mut conditions: Vec<Box<dyn FnMut() -> bool>> =
                    (0..QUEUES).map(|nth| Box::new(move || is_chosen(nth)) as Box<_>).collect();
                let mut sources: Vec<_> =
                    queues.iter().zip(&mut conditions).map(|(q, c)| Source::new(q, &mut **c)).collect();
                fired.push(wait_many(&mut sources, &bounded()).unwrap());
            }
            fired
        }
    });
    for nth in [299, 0, 128, 57] {
        asleep(&queues[QUEUES - 1], 1); // enrolled on the last, so on all
        chosen.store(nth as u32 + 1, Release);
        queues[nth].wake_up().unwrap();
        common::until("it is taken", || chosen.load(Acquire) == 0);
    }
    assert_eq!(waiter.join(), [299, 0, 128, 57]);
    assert!(queues.iter().all(|queue| !queue.has_sleepers()));
}

#[test]
fn queues_of_different_regions_and_no_queues_are_refused() {
    let (stage, other) = (Stage::new(), Stage::new());
    let outcome = wait_many(
        &mut [Source::new(&stage.queue, &mut || true), Source::new(&other.queue, &mut || true)],
        &bounded(),
    );
    assert!(matches!(outcome, Err(Error::ForeignObject { .. })), "{outcome:?}");
    assert!(matches!(wait_many(&mut [], &bounded()), Err(Error::BadCapacity { .. })));
}

#[test]
fn a_priority_place_that_is_taken_undoes_the_whole_enrolment() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let sole = WaitOptions::new().exclusive().priority();
    let _holder = stage.queue.prepare_to_wait(&sole).unwrap();
    let outcome = wait_many(
        &mut [Source::new(&other, &mut || false), Source::with(&stage.queue, &sole, &mut || false)],
        &bounded(),
    );
    assert_eq!(outcome, Err(Error::PriorityTaken { queue: stage.queue.name().into() }));
    assert!(!other.has_sleepers());
    assert_eq!(stage.waiters().len(), 1);
}
