//! Sets that stay enrolled, loops written by hand, and waits without a condition.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use common::stage::{Gate, Stage, Thread, asleep, bounded, info, thread, woken};
use common::{Child, Name, say};
use waitqueue::{Error, Interrupter, Result, WaitOptions, WaitSet, WaiterState};

#[test]
fn role() {
    common::play(&[("woken", be_woken)]);
}

fn soon<'a>() -> WaitOptions<'a> {
    WaitOptions::new().timeout(Duration::from_millis(2))
}

fn is_timed_out<T>(outcome: Result<T>) -> bool {
    matches!(outcome, Err(Error::TimedOut { .. }))
}

/// A thread with a set of one exclusive member, which says how often it took a token until the queue is closed.
fn member(stage: &Stage, label: &'static str) -> Thread<u32> {
    let before = stage.waiters().len();
    let thread = thread({
        let stage = stage.clone();
        move || {
            let mut set = WaitSet::new(&stage.region).unwrap();
            set.add(&stage.queue, &WaitOptions::new().exclusive().label(label)).unwrap();
            let mut taken = 0;
            while set.wait(&bounded(), |_| stage.take()).is_ok() {
                taken += 1;
            }
            taken
        }
    });
    stage.asleep(before + 1);
    thread
}

#[test]
fn trap_21_members_that_stay_take_turns() {
    const ROUNDS: u32 = 30;
    let stage = Stage::new();
    let members = ["one", "two", "three"].map(|label| member(&stage, label));
    for round in 0..ROUNDS {
        let order = stage.labels();
        assert_eq!(order[0], ["one", "two", "three"][round as usize % 3], "round {round}: {order:?}");
        stage.set(1);
        assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
        common::until("the token is taken", || !stage.is_set());
        stage.asleep(3);
        stage.region.check().unwrap();
    }
    stage.queue.close().unwrap();
    assert_eq!(members.map(Thread::join), [ROUNDS / 3; 3], "nobody wins for ever");
}

#[test]
fn trap_19_a_wake_all_meets_members_that_it_moves_to_the_tail_once() {
    let stage = Stage::new();
    let members = ["one", "two", "three"].map(|label| member(&stage, label));
    for _ in 0..10 {
        stage.set(3);
        assert_eq!(stage.queue.wake_up_all(), Ok(woken(3, 0)));
        common::until("three tokens are taken", || !stage.is_set());
        stage.asleep(3);
    }
    stage.queue.close().unwrap();
    assert_eq!(members.map(Thread::join).iter().sum::<u32>(), 30);
}

#[test]
fn a_set_stays_enrolled_between_its_waits() {
    let stage = Stage::new();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let member = set.add(&stage.queue, &WaitOptions::new().label("stays")).unwrap();
    for _ in 0..3 {
        assert!(is_timed_out(set.wait(&soon(), |_| false)));
        set.ask_all();
        assert_eq!(set.wait(&bounded(), |_| true), Ok(member));
        assert_eq!(stage.waiters(), [("stays".to_owned(), WaiterState::Evaluating)]);
        assert!(stage.info().waiters[0].persistent);
    }
    drop(set);
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn a_set_counts_the_wakes_that_met_its_members() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let plain = set.add(&stage.queue, &WaitOptions::new()).unwrap();
    let exclusive = set.add(&other, &WaitOptions::new().exclusive()).unwrap();
    let keyed = set.add(&other, &WaitOptions::new().key(4)).unwrap();
    for _ in 0..3 {
        assert_eq!(stage.queue.wake_up(), Ok(woken(0, 1)));
    }
    other.wake_up_key(2).unwrap();
    other.wake_up_key(4).unwrap();
    let fired = |set: &mut WaitSet| [plain, exclusive, keyed].map(|member| set.take_fired(member));
    assert_eq!(fired(&mut set), [3, 2, 1]);
    assert_eq!(fired(&mut set), [0, 0, 0], "and begins anew");
}

#[test]
fn a_wake_that_chose_a_member_is_counted_once() {
    let stage = Stage::new();
    let members = ["one", "two"].map(|label| {
        let before = stage.waiters().len();
        let member = thread({
            let stage = stage.clone();
            move || {
                let mut set = WaitSet::new(&stage.region).unwrap();
                let member = set.add(&stage.queue, &WaitOptions::new().exclusive().label(label)).unwrap();
                set.wait(&bounded(), |_| stage.is_set()).unwrap();
                set.take_fired(member)
            }
        });
        stage.asleep(before + 1);
        member
    });
    stage.set(1);
    assert_eq!(stage.queue.wake_up_all(), Ok(woken(2, 0)));
    assert_eq!(members.map(Thread::join), [1, 1]);
}

#[test]
fn a_wake_while_the_owner_of_a_set_is_awake_makes_his_next_wait_evaluate() {
    for exclusive in [false, true] {
        let stage = Stage::new();
        let mut set = WaitSet::new(&stage.region).unwrap();
        let options = WaitOptions::new();
        let member = set.add(&stage.queue, &if exclusive { options.exclusive() } else { options }).unwrap();
        assert!(is_timed_out(set.wait(&soon(), |_| stage.take())));
        stage.set_and_wake();
        assert_eq!(set.wait(&bounded(), |_| stage.take()), Ok(member));
    }
}

#[test]
fn members_are_asked_in_turn_so_that_a_busy_queue_hides_no_other() {
    let stage = Stage::new();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let members: Vec<_> = (0..3)
        .map(|nth| set.add(&stage.region.queue(&nth.to_string()).unwrap(), &WaitOptions::new()).unwrap())
        .collect();
    let fired: Vec<_> = (0..6).map(|_| set.wait(&bounded(), |_| true).unwrap()).collect();
    assert_eq!(fired, [&members[..], &members[..]].concat());
}

#[test]
fn a_set_asks_only_the_members_that_wakes_have_met() {
    const MEMBERS: usize = 50;
    let region = common::options().entries(128).create_memfd("stage").unwrap();
    let queues: Vec<_> = (0..MEMBERS).map(|nth| region.queue(&nth.to_string()).unwrap()).collect();
    let stage = Stage::of(region);
    let mut set = WaitSet::new(&stage.region).unwrap();
    let members: Vec<_> = queues.iter().map(|queue| set.add(queue, &WaitOptions::new()).unwrap()).collect();
    let mut asked = Vec::new();
    let mut ask = |set: &mut WaitSet, fires: usize| {
        asked.clear();
        let fired = set.wait(&bounded(), |member| {
            asked.push(member);
            member == members[fires]
        });
        assert_eq!(fired, Ok(members[fires]));
        asked.clone()
    };
    assert_eq!(ask(&mut set, 49), members, "all of them are new");
    assert_eq!(ask(&mut set, 49), [members[49]], "it was true when it was last asked");
    queues[7].wake_up().unwrap();
    queues[7].wake_up().unwrap();
    assert_eq!(ask(&mut set, 7), [members[49], members[7]], "met, and once");
    queues[30].wake_up().unwrap();
    assert_eq!(ask(&mut set, 30), [members[7], members[30]]);
    set.remove(members[30]).unwrap();
    queues[8].wake_up().unwrap();
    set.remove(members[8]).unwrap();
    queues[9].wake_up().unwrap();
    assert_eq!(ask(&mut set, 9), [members[9]], "neither who left, nor who took their places");
    set.ask_all();
    assert!(ask(&mut set, 49).contains(&members[0]), "for something that no wake has announced");
}

#[test]
fn before_a_set_gives_up_it_asks_all() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let [first, _] = [&stage.queue, &other].map(|queue| set.add(queue, &WaitOptions::new()).unwrap());
    assert!(is_timed_out(set.wait(&soon(), |_| false)));
    stage.set(1); // and nobody is woken
    assert_eq!(set.wait(&soon(), |member| member == first && stage.is_set()), Ok(first));
    other.close().unwrap();
    for _ in 0..2 {
        assert!(matches!(set.wait(&bounded(), |_| false), Err(Error::Closed { .. })), "in every wait");
        assert_eq!(set.wait(&bounded(), |member| member == first), Ok(first), "a true condition beats it");
    }
}

#[test]
fn a_removed_member_is_off_its_queue_and_never_asked() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let first = set.add(&stage.queue, &WaitOptions::new()).unwrap();
    let second = set.add(&other, &WaitOptions::new()).unwrap();
    assert_eq!(set.wait(&bounded(), |member| member == first), Ok(first));
    set.remove(first).unwrap();
    set.remove(first).unwrap();
    assert!(!stage.queue.has_sleepers() && other.has_sleepers());
    assert_eq!(set.take_fired(first), 0);
    let asked_removed = |member| {
        assert_eq!(member, second);
        true
    };
    assert_eq!(set.wait(&bounded(), asked_removed), Ok(second));
    set.remove(second).unwrap();
    assert!(is_timed_out(set.wait(&soon(), |_| true)), "an empty set waits for its timeout");
    let third = set.add(&stage.queue, &WaitOptions::new()).unwrap();
    assert!(third != first && third != second);
    stage.region.check().unwrap();
}

#[test]
fn a_set_refuses_queues_of_other_regions_and_closed_ones() {
    let (stage, other) = (Stage::new(), Stage::new());
    let mut set = WaitSet::new(&stage.region).unwrap();
    let refused = set.add(&other.queue, &WaitOptions::new());
    assert!(matches!(refused, Err(Error::ForeignObject { .. })), "{refused:?}");
    stage.queue.close().unwrap();
    let refused = set.add(&stage.queue, &WaitOptions::new());
    assert_eq!(refused, Err(Error::Closed { queue: stage.queue.name().into() }));
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn a_set_is_interrupted_and_then_goes_on() {
    let stage = Stage::new();
    let handle = Interrupter::new(&stage.region);
    let mut set = WaitSet::new(&stage.region).unwrap();
    let member = set.add(&stage.queue, &WaitOptions::new()).unwrap();
    handle.interrupt();
    let limit = WaitOptions::new().timeout(common::LIMIT);
    let outcome = set.wait(&limit.interrupter(&handle), |_| false);
    assert!(matches!(outcome, Err(Error::Interrupted { .. })), "{outcome:?}");
    set.ask_all();
    assert_eq!(set.wait(&bounded().interrupter(&handle), |_| true), Ok(member));
}

#[test]
fn a_hand_written_loop_sleeps_until_its_condition() {
    for exclusive in [false, true] {
        let stage = Stage::new();
        let waiter = thread({
            let stage = stage.clone();
            move || {
                let options = if exclusive { bounded().exclusive() } else { bounded() };
                let mut wait = stage.queue.prepare_to_wait(&options).unwrap();
                loop {
                    wait.prepare();
                    if stage.take() {
                        break;
                    }
                    wait.sleep().unwrap();
                }
                wait.finish();
            }
        });
        stage.asleep(1);
        stage.queue.wake_up().unwrap();
        stage.asleep(1);
        stage.set_and_wake();
        waiter.join();
        assert_eq!(
            (stage.queue.has_sleepers(), stage.hand_ons()),
            (false, 0),
            "finished: nothing to pass on"
        );
    }
}

#[test]
fn a_wake_between_prepare_and_sleep_prevents_the_sleep() {
    let stage = Stage::new();
    for options in [bounded(), bounded().exclusive()] {
        let mut wait = stage.queue.prepare_to_wait(&options).unwrap();
        for _ in 0..3 {
            wait.prepare();
            stage.queue.wake_up().unwrap();
            assert_eq!(wait.sleep(), Ok(()));
        }
    }
}

#[test]
fn preparing_tells_whether_the_queue_was_empty() {
    let stage = Stage::new();
    let first = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    let second = stage.queue.prepare_to_wait(&WaitOptions::new()).unwrap();
    assert_eq!((first.was_empty(), second.was_empty()), (true, false));
    first.finish();
    second.finish();
    assert!(!stage.queue.has_sleepers());
}

#[test]
fn a_hand_written_loop_learns_of_its_deadline_and_interrupt() {
    let stage = Stage::new();
    let handle = Interrupter::new(&stage.region);
    let mut wait = stage.queue.prepare_to_wait(&soon().interrupter(&handle)).unwrap();
    wait.prepare();
    assert!(is_timed_out(wait.sleep()));
    drop(wait);
    let limit = WaitOptions::new().timeout(common::LIMIT);
    let mut wait = stage.queue.prepare_to_wait(&limit.interrupter(&handle)).unwrap();
    wait.prepare();
    handle.interrupt();
    assert!(matches!(wait.sleep(), Err(Error::Interrupted { .. })));
}

#[test]
fn a_claim_of_a_hand_written_loop_lasts_until_it_prepares_again_with_nothing_found() {
    let stage = Stage::new();
    let (chosen, gate) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let waiter = thread({
        let (stage, chosen, gate) = (stage.clone(), chosen.clone(), gate.clone());
        move || {
            let mut wait = stage.queue.prepare_to_wait(&bounded().exclusive()).unwrap();
            wait.prepare();
            wait.sleep().unwrap();
            chosen.open();
            gate.pass();
            wait.was_chosen()
        }
    });
    stage.asleep(1);
    assert_eq!(stage.queue.wake_up(), Ok(woken(1, 0)));
    chosen.pass();
    assert_eq!(stage.info().waiters[0].state, WaiterState::Chosen);
    gate.open();
    assert!(waiter.join());
}

/// Sleeps for wakes until the queue is closed; says how many it got.
fn be_woken(args: &[String]) {
    let stage = Stage::of(common::region(&args[0]));
    let options = if args[1] == "exclusive" { bounded().exclusive() } else { bounded() };
    let mut count = 0_u32;
    while stage.queue.wait_woken(&options).is_ok() {
        count += 1;
    }
    say(&count.to_string());
}

#[test]
fn p3_each_exclusive_wake_returns_from_one_wait_among_processes() {
    const SLEEPERS: usize = 5;
    const WAKES: u32 = 3000;
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut sleepers: Vec<_> =
        (0..SLEEPERS).map(|_| Child::start("woken", &[&name.0, "exclusive"])).collect();
    stage.asleep(SLEEPERS);
    let wakers = [(); 2].map(|()| {
        let queue = stage.queue.clone();
        thread(move || {
            let (mut chosen, mut tries) = (0, 0);
            while chosen < WAKES && tries < 100 * WAKES {
                chosen += queue.wake_up().unwrap().exclusive;
                tries += 1;
            }
            chosen
        })
    });
    let charged: u32 = wakers.into_iter().map(Thread::join).sum();
    stage.asleep(SLEEPERS);
    stage.queue.close().unwrap();
    let returned: u32 = sleepers.iter_mut().map(|sleeper| sleeper.hear().parse::<u32>().unwrap()).sum();
    assert_eq!(returned, charged, "as many returns as wakes that chose somebody");
    assert_eq!(info(&stage.queue).claims, u64::from(charged));
    sleepers.iter_mut().for_each(Child::end_well);
}

#[test]
fn each_nonexclusive_wake_returns_from_every_wait() {
    const SLEEPERS: usize = 4;
    const ROUNDS: u32 = 20;
    let name = Name::new();
    let stage = Stage::of(name.region());
    let mut sleepers: Vec<_> = (0..SLEEPERS).map(|_| Child::start("woken", &[&name.0, "all"])).collect();
    for _ in 0..ROUNDS {
        // One that was met by the last wake and has not left yet is asleep, too: so look at where they are.
        asleep(&stage.queue, SLEEPERS);
        // (Their times are some milliseconds out of date: from here on another time is another wait.)
        std::thread::sleep(Duration::from_millis(20));
        let queue = &stage.queue;
        let since: Vec<_> = info(queue).waiters.iter().map(|waiter| (waiter.thread, waiter.since)).collect();
        assert_eq!(queue.wake_up(), Ok(woken(0, SLEEPERS as u32)));
        common::until("all have come back", || {
            let now = info(queue).waiters;
            now.len() == SLEEPERS && now.iter().all(|waiter| !since.contains(&(waiter.thread, waiter.since)))
        });
    }
    asleep(&stage.queue, SLEEPERS);
    stage.queue.close().unwrap();
    for sleeper in &mut sleepers {
        sleeper.expect(&ROUNDS.to_string());
        sleeper.end_well();
    }
}

#[test]
fn wait_woken_returns_what_is_left_of_its_timeout() {
    let stage = Stage::new();
    assert!(is_timed_out(stage.queue.wait_woken(&WaitOptions::new().timeout(Duration::ZERO))));
    let counter = stage.region.object::<AtomicU32>("done").unwrap();
    let waiter = thread({
        let (queue, counter) = (stage.queue.clone(), counter.clone());
        move || {
            let left = queue.wait_woken(&bounded());
            counter.store(1, Release);
            left
        }
    });
    stage.asleep(1);
    stage.queue.wake_up().unwrap();
    let left = waiter.join().unwrap();
    assert!(left > Duration::ZERO && left <= common::stage::BEYOND);
    let untimed = thread({
        let queue = stage.queue.clone();
        move || queue.wait_woken(&WaitOptions::new())
    });
    stage.asleep(1);
    stage.queue.wake_up().unwrap();
    assert_eq!(untimed.join(), Ok(Duration::MAX));
}

#[test]
fn a_set_learns_of_a_close_although_another_member_fires_first() {
    let stage = Stage::new();
    let other = stage.region.queue("other").unwrap();
    let mut set = WaitSet::new(&stage.region).unwrap();
    let work = set.add(&stage.queue, &WaitOptions::new()).unwrap();
    set.add(&other, &WaitOptions::new()).unwrap();
    other.close().unwrap();
    assert_eq!(set.wait(&bounded(), |member| member == work), Ok(work));
    let ended = set.wait(&bounded(), |_| false);
    assert!(matches!(ended, Err(Error::Closed { .. })), "{ended:?}");
}
