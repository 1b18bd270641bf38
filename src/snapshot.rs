//! What a region looks like: who is attached, who waits where and since when, who holds what, and what has happened.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::atomic::Ordering::*;
use crate::directory;
use crate::entry::state_of;
use crate::layout::{
    ASLEEP, CLOSED, EXCLUSIVE, Entry, FREE, GONE, HELD, OWNER, PERSISTENT, PRIORITY, QueueHead, Slot,
};
use crate::lock::record_of;
use crate::offset::{Shared, Space};
use crate::recover::id_of;
use crate::region::ParticipantId;

/// A region at one moment, read without a lock: while others work, its parts may be of slightly different moments.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// The region's name.
    pub region: String,
    /// Its size in bytes.
    pub size: u64,
    /// Who is attached, the dead that nobody has cleaned up after included.
    pub participants: Vec<ParticipantInfo>,
    /// Named queues, and heads inside objects that have waiters.
    pub queues: Vec<QueueInfo>,
    /// Named objects: name, type tag and size in bytes.
    pub objects: Vec<(String, String, u64)>,
    /// Entries in use, those that threads keep for their next waits included, and the capacity.
    pub entries: (u32, u32),
    /// Records of users' threads in use, and the capacity.
    pub threads: (u32, u32),
    /// Deaths that were cleaned up after.
    pub deaths: u64,
}

/// A participant of a region.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its id.
    pub id: ParticipantId,
    /// Its process, by its number in its own PID namespace.
    pub process: u32,
    /// Since when it is attached.
    pub since: SystemTime,
    /// Whether it is alive.
    pub alive: bool,
}

/// A wait queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name, or the offset of a head inside an object.
    pub name: String,
    /// Whether it was closed.
    pub closed: bool,
    /// Who holds its lock.
    pub lock_owner: Option<ParticipantId>,
    /// Who waits, in the order of waking.
    pub waiters: Vec<WaiterInfo>,
    /// Wakes that found waiters, those that were passed on included.
    pub wakes: u64,
    /// Exclusive waiters that wakes chose.
    pub claims: u64,
    /// Wakes that were passed on from a waiter that could not use them.
    pub hand_ons: u64,
    /// Times that the list was made anew, after a death under its lock or because it was broken.
    pub recoveries: u64,
    /// Times that only the tick found a condition true: 0 unless a wake was forgotten or stolen.
    pub rescues: u32,
}

/// A waiter on a queue.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// The participant it belongs to.
    pub participant: ParticipantId,
    /// Its process, by its number in its own PID namespace.
    pub process: u32,
    /// Its thread, likewise.
    pub thread: u32,
    /// What the wait was labelled with.
    pub label: String,
    /// Since when it waits.
    pub since: SystemTime,
    /// What it is doing.
    pub state: WaiterState,
    /// Whether it is exclusive.
    pub exclusive: bool,
    /// Whether it has priority.
    pub priority: bool,
    /// Whether it stays enrolled between waits.
    pub persistent: bool,
    /// Its key mask.
    pub key: u32,
}

/// What a waiter is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaiterState {
    /// Awake, evaluating its condition (or between the waits of a set).
    Evaluating,
    /// Asleep, or just about to be.
    Asleep,
    /// Chosen by a wake.
    Chosen,
    /// Believed dead, or about to be taken off by its process.
    Gone,
}

impl Snapshot {
    pub(crate) fn of(space: &Space, is_alive: &dyn Fn(u64) -> bool) -> Snapshot {
        let mut waiters: BTreeMap<u64, Vec<(u64, WaiterInfo)>> = BTreeMap::new();
        let entries = &space.entries()[..space.entries_used()];
        for entry in entries {
            let (owner, queue) = (entry.owner.load(Acquire), entry.queue.load(Acquire));
            if let Some(participant) = ParticipantId::new(owner)
                && queue != 0
            {
                let info = waiter(space, entry, participant);
                waiters.entry(queue).or_default().push((entry.order.load(Relaxed), info));
            }
        }
        let mut queues = Vec::new();
        let mut objects = Vec::new();
        for (object, name) in directory::objects(space) {
            let tag = object.tag.load();
            let offset = object.offset.load(Relaxed);
            if tag == <QueueHead as Shared>::TAG
                && let Some(head) = space.head(offset)
            {
                queues.push(queue(space, name, head, waiters.remove(&offset).unwrap_or_default()));
            } else {
                objects.push((name, tag, object.size.load(Relaxed)));
            }
        }
        for (offset, waiting) in waiters {
            if let Some(head) = space.head(offset) {
                queues.push(queue(space, format!("@{offset:#x}"), head, waiting));
            }
        }
        let bells = space.capacity().participants as usize;
        let records = space.records()[..space.records_used()].iter().skip(bells);
        Snapshot {
            region: space.label().to_string(),
            size: space.mapping().len() as u64,
            participants: participants(space, is_alive),
            queues,
            objects,
            entries: (
                entries.iter().filter(|entry| entry.owner.load(Relaxed) != 0).count() as u32,
                space.capacity().entries,
            ),
            threads: (
                records.filter(|record| record.owner.load(Relaxed) != 0).count() as u32,
                space.capacity().threads,
            ),
            deaths: space.header().deaths.load(Relaxed),
        }
    }
}

fn participants(space: &Space, is_alive: &dyn Fn(u64) -> bool) -> Vec<ParticipantInfo> {
    let used = (space.slots()[..space.slots_used()].iter().enumerate())
        .map(|(index, slot)| (slot, slot.state.load(Acquire), index))
        .filter(|(_, state, _)| *state as u32 != FREE);
    let info = |(slot, state, index): (&Slot, u64, usize)| {
        let id = id_of(index, state);
        Some(ParticipantInfo {
            id: ParticipantId::new(id)?,
            process: slot.pid.load(Relaxed),
            since: time(slot.since.load(Relaxed)),
            alive: is_alive(id),
        })
    };
    used.filter_map(info).collect()
}

fn queue(space: &Space, name: String, head: &QueueHead, mut waiters: Vec<(u64, WaiterInfo)>) -> QueueInfo {
    waiters.sort_by_key(|(order, _)| *order);
    let lock = head.lock.load(Relaxed);
    let owner = record_of(space, lock).filter(|_| lock & OWNER != 0).map(|record| record.owner.load(Relaxed));
    QueueInfo {
        name,
        closed: head.flags.load(Relaxed) & CLOSED != 0,
        lock_owner: owner.and_then(ParticipantId::new),
        waiters: waiters.into_iter().map(|(_, waiter)| waiter).collect(),
        wakes: head.wakes.load(Relaxed),
        claims: head.claims.load(Relaxed),
        hand_ons: head.hand_ons.load(Relaxed),
        recoveries: head.recoveries.load(Relaxed).into(),
        rescues: head.rescues.load(Relaxed),
    }
}

fn waiter(space: &Space, entry: &Entry, participant: ParticipantId) -> WaiterInfo {
    let lead = space.entries().get(entry.lead.load(Relaxed) as usize).unwrap_or(entry);
    let word = lead.word.load(Relaxed);
    let state = match state_of(word) {
        _ if word & GONE != 0 => WaiterState::Gone,
        ASLEEP => WaiterState::Asleep,
        HELD => WaiterState::Chosen,
        _ => WaiterState::Evaluating,
    };
    let flags = entry.flags.load(Relaxed);
    // Members of a set describe themselves, the entries of another wait have that in common.
    let about = if flags & PERSISTENT != 0 { entry } else { lead };
    let slot = space.slots().get(participant.get() as u32 as usize);
    let record = space.records().get(about.record.load(Relaxed) as usize);
    WaiterInfo {
        participant,
        process: slot.map_or(0, |slot| slot.pid.load(Relaxed)),
        thread: record.map_or(0, |record| record.tid.load(Relaxed)),
        label: about.label.load(),
        since: time(about.since.load(Relaxed)),
        state,
        exclusive: flags & EXCLUSIVE != 0,
        priority: flags & PRIORITY != 0,
        persistent: flags & PERSISTENT != 0,
        key: entry.key.load(Relaxed),
    }
}

/// Any number from shared memory is some time.
fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn ago(since: SystemTime) -> String {
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    format!("{:.1} s", age.as_secs_f64())
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, threads) = (self.entries, self.threads);
        writeln!(f, "region {}: {} bytes, {} deaths cleaned up after", self.region, self.size, self.deaths)?;
        writeln!(f, "entries {} of {}, threads {} of {}", entries.0, entries.1, threads.0, threads.1)?;
        for participant in &self.participants {
            let life = if participant.alive { "alive" } else { "dead" };
            let (id, process, since) = (participant.id, participant.process, ago(participant.since));
            writeln!(f, "participant {id}: process {process}, attached for {since}, {life}")?;
        }
        for queue in &self.queues {
            write!(f, "{queue}")?;
        }
        for (name, tag, size) in &self.objects {
            writeln!(f, "object {name:?}: {tag:?}, {size} bytes")?;
        }
        Ok(())
    }
}

impl fmt::Display for QueueInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {:?}: {} waiting", self.name, self.waiters.len())?;
        write!(f, ", wakes {}, claims {}, handed on {}", self.wakes, self.claims, self.hand_ons)?;
        write!(f, ", recoveries {}, tick rescues {}", self.recoveries, self.rescues)?;
        if self.closed {
            write!(f, ", closed")?;
        }
        if let Some(owner) = self.lock_owner {
            write!(f, ", locked by {owner}")?;
        }
        writeln!(f)?;
        for waiter in &self.waiters {
            write!(f, "  process {} thread {}", waiter.process, waiter.thread)?;
            write!(f, ": {:?} for {}", waiter.state, ago(waiter.since))?;
            for (flag, name) in
                [(waiter.exclusive, "exclusive"), (waiter.priority, "priority"), (waiter.persistent, "stays")]
            {
                if flag {
                    write!(f, ", {name}")?;
                }
            }
            if !waiter.label.is_empty() {
                write!(f, ", {:?}", waiter.label)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
