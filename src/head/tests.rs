//! Heads and lists against a plain vector that does what the kernel's wait queues do; with damage, as a death under
//! the lock leaves it, and with whatever a hostile peer may write.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::layout::{HELD, IDLE, LOOK, OPEN, STATE, STICKY, WIDE};
use crate::lock::owner_bits;
use crate::{Region, RegionBuilder};

const ENTRIES: u32 = 8;

/// What happens to a queue. Entries are named by number; what a step cannot do to one, it leaves.
#[derive(Debug, Clone)]
enum Step {
    Enrol {
        entry: u32,
        flags: u32,
        class: u32,
        key: u32,
        asleep: bool,
    },
    Leave(u32),
    /// The owner evaluated false: commits to sleep, if nobody told it to look.
    Commit(u32),
    /// The owner woke up: looks again.
    Open(u32),
    Wake {
        count: u32,
        class: u32,
        key: u32,
    },
    PassOn(u32),
    Close,
    /// The owner of the lock died inside, having left these links behind.
    Die(Vec<Damage>),
    /// Died between raising the count, or unlinking, and becoming or ceasing to be a member.
    DieMiscounted(u32),
    /// A peer breaks a link of a head that nobody has locked.
    Break(Damage),
}

/// A wrong value in one of the fields that are only a cache.
#[derive(Debug, Clone, Copy)]
struct Damage {
    entry: u32,
    field: u32,
    value: u32,
}

fn damage(values: impl Strategy<Value = u32>) -> impl Strategy<Value = Damage> {
    (0..ENTRIES, 0..4u32, values).prop_map(|(entry, field, value)| Damage { entry, field, value })
}

fn mask() -> impl Strategy<Value = u32> {
    prop_oneof![Just(ALL), 1..8u32]
}

fn step() -> impl Strategy<Value = Step> {
    let entry = || 0..ENTRIES;
    let link = || damage(prop_oneof![0..=ENTRIES, any::<u32>()]);
    let enrol = (entry(), 0..8u32, mask(), mask(), any::<bool>())
        .prop_map(|(entry, flags, class, key, asleep)| Step::Enrol { entry, flags, class, key, asleep });
    let wake = (prop_oneof![Just(ALL), 1..4u32], mask(), mask()).prop_map(|(count, class, key)| Step::Wake {
        count,
        class,
        key,
    });
    prop_oneof![
        8 => enrol,
        3 => entry().prop_map(Step::Leave),
        6 => entry().prop_map(Step::Commit),
        3 => entry().prop_map(Step::Open),
        6 => wake,
        3 => entry().prop_map(Step::PassOn),
        1 => Just(Step::Close),
        2 => prop::collection::vec(link(), 0..6).prop_map(Step::Die),
        1 => (0..20u32).prop_map(Step::DieMiscounted),
    ]
}

fn region() -> Region {
    RegionBuilder::default()
        .entries(u64::from(ENTRIES))
        .threads(8)
        .participants(2)
        .create_memfd("heads")
        .unwrap()
}

/// A queue and its entries, all of them their own leads.
struct Real {
    thread: Rc<Thread>,
    at: u64,
    entries: Vec<u32>,
}

impl Real {
    fn new(region: &Region) -> Real {
        let thread = region.enter().unwrap();
        let entries: Vec<u32> = (0..ENTRIES).map(|_| thread.take_entry().unwrap()).collect();
        for index in &entries {
            thread.space().entries()[*index as usize].lead.store(*index, Relaxed);
        }
        Real { at: thread.space().memory().0, thread, entries }
    }

    fn lock(&self) -> LockedHead<'_> {
        lock(&self.thread, self.at).unwrap()
    }

    fn head(&self) -> &QueueHead {
        self.thread.space().head(self.at).unwrap()
    }

    fn entry(&self, entry: u32) -> &Entry {
        &self.thread.space().entries()[self.entries[entry as usize] as usize]
    }

    fn word(&self, entry: u32) -> WaiterWord<'_> {
        WaiterWord(&self.entry(entry).word)
    }

    /// The lock's owner is a thread that is no more.
    fn die(&self) {
        let nobody = self.thread.space().records().len() as u32 - 1;
        self.head().lock.store(owner_bits(nobody, 0), Relaxed);
    }

    fn damage(&self, damage: Damage) {
        let field = match damage.field {
            0 => &self.entry(damage.entry).next,
            1 => &self.entry(damage.entry).prev,
            2 => &self.head().first,
            _ => &self.head().last,
        };
        field.store(damage.value, Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiter {
    entry: u32,
    flags: u32,
    class: u32,
    key: u32,
    fired: u32,
}

/// What the kernel would do.
#[derive(Default)]
struct Plain {
    waiters: Vec<Waiter>,
    words: [u32; ENTRIES as usize],
    claims: [(u32, u32); ENTRIES as usize],
    closed: bool,
}

impl Plain {
    fn position(&self, entry: u32) -> Option<usize> {
        self.waiters.iter().position(|waiter| waiter.entry == entry)
    }

    /// Priority first, then non-exclusive ones, both newest first; then exclusive ones, oldest first.
    fn insert(&mut self, waiter: Waiter) {
        let rank = |waiter: &Waiter| match waiter.flags {
            flags if flags & PRIORITY != 0 => 0,
            flags if flags & EXCLUSIVE == 0 => 1,
            _ => 2,
        };
        let mine = rank(&waiter);
        let before = |other: &Waiter| rank(other) < mine || mine == 2;
        let at = self.waiters.iter().position(|other| !before(other)).unwrap_or(self.waiters.len());
        self.waiters.insert(at, waiter);
    }

    fn wake(&mut self, real: &Real, count: u32, class: u32, key: u32) -> Woken {
        let mut woken = Woken::default();
        for mut waiter in self.waiters.clone() {
            if woken.exclusive == count {
                break;
            }
            if waiter.class & class == 0 || waiter.key & key == 0 {
                continue;
            }
            let word = &mut self.words[waiter.entry as usize];
            let at = self.waiters.iter().position(|other| other.entry == waiter.entry).unwrap();
            self.waiters[at].fired += 1;
            if waiter.flags & EXCLUSIVE == 0 {
                woken.nonexclusive += 1;
                *word |= LOOK;
            } else if *word & STATE == ASLEEP {
                woken.exclusive += 1;
                *word = HELD | *word & STICKY | (real.entries[waiter.entry as usize] + 1) << 8;
                self.claims[waiter.entry as usize] = (class, key);
                if waiter.flags & PERSISTENT != 0 {
                    waiter = self.waiters.remove(at);
                    self.insert(waiter);
                }
            } else {
                *word |= LOOK;
            }
        }
        woken
    }

    /// Does a step to both, and compares what they answer.
    fn step(&mut self, real: &Real, step: &Step) {
        match *step {
            Step::Enrol { entry, flags, class, key, asleep } => {
                if self.position(entry).is_some() {
                    return;
                }
                real.word(entry).start(asleep);
                self.words[entry as usize] = if asleep { ASLEEP } else { OPEN };
                let answer = real.lock().enrol(real.entries[entry as usize], Enrolment { flags, class, key });
                let sole = EXCLUSIVE | PRIORITY;
                let taken = self.waiters.first().is_some_and(|first| first.flags & PRIORITY != 0);
                if self.closed {
                    assert_eq!(answer, Err(Refusal::Closed));
                } else if flags & sole == sole && taken {
                    assert_eq!(answer, Err(Refusal::PriorityTaken));
                } else {
                    assert_eq!(answer, Ok(()));
                    self.insert(Waiter { entry, flags, class, key, fired: 0 });
                }
            }
            Step::Leave(entry) => {
                real.lock().leave(real.entries[entry as usize]);
                self.waiters.retain(|waiter| waiter.entry != entry);
            }
            Step::Commit(entry) => {
                let word = &mut self.words[entry as usize];
                let may = *word & STATE != IDLE && *word & STICKY == 0;
                if *word & STATE != IDLE {
                    assert_eq!(real.word(entry).commit(false), may);
                }
                if may {
                    *word = ASLEEP;
                }
            }
            Step::Open(entry) => {
                let word = &mut self.words[entry as usize];
                real.word(entry).open();
                *word = if *word & STATE == HELD { *word & !STICKY } else { OPEN };
            }
            Step::Wake { count, class, key } => {
                let answer = real.lock().wake(Wake { count, class, key });
                assert_eq!(answer, self.wake(real, count, class, key));
            }
            Step::PassOn(entry) => {
                real.lock().pass_on(real.entries[entry as usize]);
                if self.words[entry as usize] & STATE == HELD {
                    let (class, key) = self.claims[entry as usize];
                    self.wake(real, 1, class, key);
                    let word = &mut self.words[entry as usize];
                    *word = OPEN | *word & STICKY;
                }
            }
            Step::Close => {
                assert_eq!(real.lock().close() as usize, self.waiters.len());
                self.closed = true;
                for waiter in self.waiters.drain(..) {
                    self.words[waiter.entry as usize] |= LOOK | WIDE;
                }
            }
            Step::Die(ref damages) => {
                damages.iter().for_each(|damage| real.damage(*damage));
                self.repair_after_death(real);
            }
            Step::DieMiscounted(count) => {
                real.head().waiting.store(count, Relaxed);
                self.repair_after_death(real);
            }
            Step::Break(damage) => real.damage(damage),
        }
    }

    /// The next owner of the lock makes good, and tells the sets.
    fn repair_after_death(&mut self, real: &Real) {
        real.die();
        drop(real.lock());
        for waiter in self.waiters.iter().filter(|waiter| waiter.flags & PERSISTENT != 0) {
            self.words[waiter.entry as usize] |= LOOK | WIDE;
        }
    }

    /// Whether both look alike now.
    fn compare(&self, real: &Real) {
        let locked = real.lock();
        locked.check().unwrap();
        let mut order = Vec::new();
        let mut next = locked.list.first().unwrap();
        while let Some(index) = next {
            let entry = real.entries.iter().position(|other| *other == index).unwrap() as u32;
            let fired = real.entry(entry).fired.load(Relaxed);
            let waiter = self.waiters[self.position(entry).expect("a member in both")];
            order.push(Waiter { fired, ..waiter });
            next = locked.list.after(index).unwrap();
        }
        assert_eq!(order, self.waiters);
        assert_eq!(real.head().waiting.load(Relaxed) as usize, order.len());
        assert_eq!(has_sleepers(real.head()), !order.is_empty());
        for entry in 0..ENTRIES {
            assert_eq!(real.word(entry).load(), self.words[entry as usize], "word of {entry}");
        }
    }
}

/// What a peer can write where it likes.
#[derive(Debug, Clone, Copy)]
struct Scribble {
    entry: u32,
    field: u32,
    value: u64,
}

fn scribble() -> impl Strategy<Value = Scribble> {
    let index = 0..=u64::from(ENTRIES);
    let value =
        prop_oneof![4 => index, 1 => any::<u64>(), 1 => (any::<u64>(), 0..8u64).prop_map(|(n, _)| n >> 32)];
    (0..ENTRIES, 0..15u32, value).prop_map(|(entry, field, value)| Scribble { entry, field, value })
}

impl Scribble {
    fn write(self, real: &Real) {
        let (entry, head, value) = (real.entry(self.entry), real.head(), self.value);
        let narrow = value as u32;
        match self.field {
            0 => entry.next.store(narrow, Relaxed),
            1 => entry.prev.store(narrow, Relaxed),
            2 => head.first.store(narrow, Relaxed),
            3 => head.last.store(narrow, Relaxed),
            4 => entry.lead.store(narrow, Relaxed),
            5 => entry.order.store(value, Relaxed),
            6 => entry.queue.store(if value % 2 == 0 { real.at } else { value }, Relaxed),
            7 => entry.flags.store(narrow, Relaxed),
            8 => entry.word.store(narrow, Relaxed),
            9 => entry.owner.store(value, Relaxed),
            10 => head.waiting.store(narrow, Relaxed),
            11 => head.tickets.store(value, Relaxed),
            12 => head.flags.store(0, Relaxed),
            13 => real.thread.space().header().entries_used.store(narrow, Relaxed),
            _ => real.die(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_is_what_the_kernels_is(steps in prop::collection::vec(step(), 1..40)) {
        let region = region();
        let (real, mut plain) = (Real::new(&region), Plain::default());
        for step in &steps {
            plain.step(&real, step);
            plain.compare(&real);
        }
    }

    /// Broken links are found where they are met, and made anew, as long as what they are a cache of is right.
    #[test]
    fn broken_links_lose_nothing(
        before in prop::collection::vec(step(), 1..20),
        damages in prop::collection::vec(damage(ENTRIES + 1..), 1..4),
        entry in 0..ENTRIES,
    ) {
        let region = region();
        let (real, mut plain) = (Real::new(&region), Plain::default());
        before.iter().for_each(|step| plain.step(&real, step));
        drop(real.lock());
        damages.into_iter().for_each(|damage| plain.step(&real, &Step::Break(damage)));
        plain.step(&real, &Step::Wake { count: ALL, class: ALL, key: ALL });
        plain.step(&real, &Step::Leave(entry));
    }

    #[test]
    fn a_hostile_peer_costs_time_only(
        steps in prop::collection::vec((step(), prop::collection::vec(scribble(), 0..6)), 1..30),
    ) {
        let region = region();
        let real = Real::new(&region);
        for (step, scribbles) in steps {
            scribbles.into_iter().for_each(|scribble| scribble.write(&real));
            let index = |entry: u32| real.entries[entry as usize];
            match step {
                Step::Enrol { entry, flags, class, key, .. } => {
                    let _ = real.lock().enrol(index(entry), Enrolment { flags, class, key });
                }
                Step::Leave(entry) | Step::Commit(entry) => real.lock().leave(index(entry)),
                Step::Open(entry) | Step::PassOn(entry) => real.lock().pass_on(index(entry)),
                Step::Wake { count, class, key } => drop(real.lock().wake(Wake { count, class, key })),
                Step::Close => drop(real.lock().close()),
                Step::Die(damages) => damages.into_iter().for_each(|damage| real.damage(damage)),
                Step::Break(damage) => real.damage(damage),
                Step::DieMiscounted(_) => real.die(),
            }
            let _ = real.lock().check();
        }
    }
}

/// A circle of links, all of them within the head: found by counting, because no single link is wrong.
#[test]
fn a_circle_of_links_ends() {
    let region = region();
    let real = Real::new(&region);
    for entry in 0..3 {
        real.word(entry).start(true);
        let enrolment = Enrolment { flags: EXCLUSIVE, class: 1, key: 1 };
        real.lock().enrol(real.entries[entry as usize], enrolment).unwrap();
    }
    real.entry(1).next.store(real.entries[0] + 1, Relaxed);
    let woken = real.lock().wake(Wake { count: ALL, class: ALL, key: ALL });
    assert_eq!(woken, Woken { exclusive: 3, nonexclusive: 0 });
    real.lock().check().unwrap();
}
