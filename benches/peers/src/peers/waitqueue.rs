//! This crate. Without the tick, so that nothing is found by looking around every second.

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use waitqueue::{Lock, Object, ParticipantId, Queue, QueueHead, Region, RegionBuilder, RobustLock};

use super::Peer;
use crate::scenarios::Scenario;

waitqueue::shared_struct! {
    /// What the actors share.
    #[tag = "peers' stage"]
    pub struct Stage {
        /// Where they wait for items.
        pub queue: QueueHead,
        /// For the second job.
        pub lock: RobustLock,
        /// How many there are.
        pub items: AtomicU32,
    }
}

/// An attached process.
pub struct Waitqueue {
    region: Region,
    /// What it shares with the others.
    pub stage: Object<Stage>,
    /// Its queue.
    pub queue: Queue,
    lock: Lock,
}

/// The region's name; unlinked when this is dropped.
pub struct Name(String);

/// Whoever holds a lock here holds it for as long as the director likes.
const PATIENCE: Duration = Duration::from_secs(3600);

fn options() -> RegionBuilder {
    let small = Region::builder().participants(16).threads(96).entries(96).objects(8).memory(4096);
    small.tick(None).patience(PATIENCE)
}

impl Peer for Waitqueue {
    const NAME: &'static str = "waitqueue";
    type Place = Name;

    fn create(name: &str) -> Name {
        drop(options().create(name).expect("a new region"));
        Name(name.to_owned())
    }

    fn open(place: &Name) -> Self {
        let region = options().open(&place.0).expect("the region can be opened");
        let stage = region.object::<Stage>("stage").expect("the stage");
        let queue = region.queue_at(&stage.queue).expect("the queue");
        let lock = region.lock_at(&stage.lock).expect("the lock");
        Waitqueue { region, stage, queue, lock }
    }

    fn put(&self) {
        self.stage.items.fetch_add(1, AcqRel);
        self.queue.wake_up().expect("wake");
    }

    fn take(&self) {
        let take = || self.stage.items.fetch_update(AcqRel, Acquire, |items| items.checked_sub(1)).is_ok();
        self.queue.wait_event_exclusive(take).expect("wait");
    }

    fn locked(&self, inside: impl FnOnce(bool)) {
        let guard = self.lock.lock().expect("lock");
        inside(guard.owner_died());
        guard.repaired();
    }

    fn me(&self) -> u64 {
        self.region.me().get()
    }

    fn await_death(&self, id: u64) {
        let id = ParticipantId::new(id).expect("an id");
        self.queue.wait_event(|| !self.region.is_alive(id)).expect("wait");
    }

    fn lacks(_scenario: Scenario) -> Option<&'static str> {
        None
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Region::unlink(&self.0);
    }
}
