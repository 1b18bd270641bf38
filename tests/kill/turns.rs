//! A child that answers turn by turn, so that a test sees at every step that it is right and can be woken.

use std::sync::atomic::{AtomicU32, Ordering::*};

use waitqueue::{Object, ParticipantId, WaiterState};

use super::{World, nothing_leaked, small};
use crate::common::{Child, LIMIT, Name, join, listen, say, until, until_asleep};

/// A region of a test, with the turn's number.
pub fn stage() -> (Name, World, Object<AtomicU32>) {
    let name = Name::new();
    let region = small().create(&name.0).unwrap();
    let (world, turn) = (World::new(&region), region.object("turn").unwrap());
    (name, world, turn)
}

/// In a child: says its id, then waits for each turn, and says so.
pub fn take_turns(world: &World) {
    let turn = world.region.object::<AtomicU32>("turn").unwrap();
    say(&world.region.me().get().to_string());
    let first = turn.load(Acquire) + 1;
    for round in first.. {
        world.a.wait_event(|| turn.load(Acquire) >= round).unwrap();
        say(&format!("turn {round}"));
    }
}

/// Gives turns until the child has had them, each by one wake.
pub fn give_turns(world: &World, turn: &AtomicU32, child: &mut Child, count: u32) {
    for _ in 0..count {
        until_asleep(&world.region, "a", 1);
        let round = turn.fetch_add(1, AcqRel) + 1;
        world.a.wake_up().unwrap();
        child.expect(&format!("turn {round}"));
    }
}

pub fn id_of(child: &mut Child) -> ParticipantId {
    let line = child.hear();
    ParticipantId::new(line.parse().unwrap_or_else(|_| panic!("no id: {line}"))).unwrap()
}

/// Sleeps until the peer is dead, woken by nothing but its death.
pub fn sleep_until_dead(world: &World, peer: ParticipantId) -> std::thread::JoinHandle<()> {
    let waiting = world.clone();
    let thread = std::thread::spawn(move || {
        waiting.b.wait_event(|| !waiting.region.is_alive(peer)).unwrap();
    });
    until_asleep(&world.region, "b", 1);
    thread
}

/// Kills it; somebody asleep notices.
pub fn kill_noticed(world: &World, child: &mut Child, id: ParticipantId) {
    let sleeper = sleep_until_dead(world, id);
    child.kill();
    join("the death is noticed", sleeper);
}

/// How many bells a process has.
pub fn bells(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    // (A thread that has just ended has no name.)
    let names = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("comm")));
    names.filter(|comm| comm.contains("waitqueue-bell")).count()
}

/// In a child: says its id; holds the lock asleep, or waits for the end of who does, and then takes turns.
pub fn member_of_two(world: &World) {
    say(&world.region.me().get().to_string());
    let told = listen();
    if told == "hold" {
        let _guard = world.lock.lock().unwrap();
        world.c.wait_event(|| false).unwrap();
    }
    let peer = ParticipantId::new(told.parse().unwrap()).unwrap();
    world.b.wait_event(|| !world.region.is_alive(peer)).unwrap();
    assert!(world.lock.lock_timeout(LIMIT).unwrap().owner_died());
    say("noticed");
    listen();
    take_turns(world);
}

/// Two members and nobody else: the second notices the first one's death, takes its lock over and goes on.
pub fn two_members(start: [&dyn Fn(&Name) -> Child; 2], what: &str) {
    let name = Name::new();
    drop(World::new(&small().create(&name.0).unwrap()));
    let [mut holder, mut heir] = start.map(|start| start(&name));
    let (holders, heirs) = (id_of(&mut holder), id_of(&mut heir));
    holder.tell("hold");
    heir.tell(&holders.get().to_string());
    until(&format!("{what}: both sleep"), || {
        let queues = small().inspect(&name.0).unwrap().queues;
        let waiters = queues.iter().flat_map(|queue| &queue.waiters);
        waiters.filter(|waiter| waiter.state == WaiterState::Asleep).count() == 2
    });
    holder.kill();
    heir.expect("noticed");
    let world = World::open(&name.0);
    let turn = world.region.object("turn").unwrap();
    heir.tell("turns");
    assert_eq!(heir.hear(), heirs.get().to_string());
    give_turns(&world, &turn, &mut heir, 5);
    kill_noticed(&world, &mut heir, heirs);
    nothing_leaked(&world.region, (0, 1, 1), what);
}
