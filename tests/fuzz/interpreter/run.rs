//! The steps of one input. What the calls return does not matter, only that they do.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use waitqueue::{
    Interrupter, Lock, Member, Queue, QueueHead, Region, Relock, RobustLock, Source, WaitOptions, WaitSet,
    WakeOptions, wait_many,
};

use super::input::{How, Step};
use super::world::{Own, World, options};

/// How many steps an input may have, and how deep they may lie in each other.
const STEPS: usize = 60;
const DEPTH: usize = 4;
/// Of guests: what others write while they leave may hide that from their bells, until those look around.
const TICK: Option<Duration> = Some(Duration::from_millis(20));
/// How many participants besides the one that stays.
const OTHERS: usize = 2;

pub struct Run {
    /// Whether participants attach, and threads start.
    others: bool,
    world: &'static World,
    steps: Vec<Step>,
    next: usize,
    depth: usize,
    regions: Vec<Region>,
    /// Whose turn it is.
    turn: usize,
    interrupter: Interrupter,
    sets: [Option<(WaitSet, Vec<Member>)>; 2],
}

impl Run {
    pub fn new(world: &'static World, steps: &[Step], others: bool) -> Run {
        let (regions, steps) = (vec![world.region.clone()], steps.iter().copied().take(STEPS).collect());
        let interrupter = Interrupter::new(&world.region);
        Run { others, world, steps, next: 0, depth: 0, regions, turn: 0, interrupter, sets: [None, None] }
    }

    pub fn all(mut self) {
        while self.one() {}
    }

    /// The steps inside of another.
    fn some(&mut self, count: u8) {
        if self.depth < DEPTH {
            self.depth += 1;
            let _ = (0..count % 8).all(|_| self.one());
            self.depth -= 1;
        }
    }

    /// The next step; false if there is none.
    fn one(&mut self) -> bool {
        let Some(step) = self.steps.get(self.next).copied() else { return false };
        self.next += 1;
        let _ = self.step(step);
        true
    }

    fn region(&self) -> &Region {
        &self.regions[self.turn % self.regions.len()]
    }

    fn queue(&self, nth: u8) -> waitqueue::Result<Queue> {
        let region = self.region();
        match nth % 4 {
            0 => region.queue("queue"),
            1 => region.queue("other"),
            2 => region.queue_at(&region.object::<Own>("own")?.head),
            _ => region.queue_at(&*region.object::<QueueHead>("other")?),
        }
    }

    fn lock(&self, nth: u8) -> waitqueue::Result<Lock> {
        let region = self.region();
        match nth % 2 {
            0 => region.lock_at(&*region.object::<RobustLock>("lock")?),
            _ => region.lock_at(&region.object::<Own>("own")?.lock),
        }
    }

    fn options(how: How, interrupter: &Interrupter) -> WaitOptions<'_> {
        // Long enough to begin to sleep.
        let timeout = [0, 1, 2, 3, 4, 6, 9, 15][usize::from(how.timeout % 8)];
        let mut options = WaitOptions::new().timeout(Duration::from_micros(timeout));
        let bit = |nth: u8| how.bits & 1 << nth != 0;
        if bit(0) {
            options = options.exclusive();
        }
        if bit(1) {
            options = options.priority();
        }
        if bit(2) {
            options = options.interrupter(interrupter);
        }
        if bit(3) {
            options = options.killable();
        }
        if bit(4) {
            options = options.interruptible();
        }
        if bit(5) {
            options = options.class(how.class.into()).key(how.key.into());
        }
        if bit(6) {
            options = options.spin(Duration::from_micros(1));
        }
        if bit(7) {
            options = options.label("somebody who waits, and has a long label to say why");
        }
        options
    }

    fn step(&mut self, step: Step) -> waitqueue::Result<()> {
        match step {
            Step::Write { .. } | Step::Copy { .. } | Step::Fill { .. } => self.scribble(step),
            Step::Attach if self.others && self.regions.len() <= OTHERS => {
                let fd = self.world.fd.try_clone().expect("a descriptor");
                self.regions.push(options().tick(TICK).open_fd(fd)?);
            }
            Step::Detach if self.regions.len() > 1 => drop(self.regions.pop()),
            Step::Attach | Step::Detach => {}
            Step::Turn(whose) => self.turn = whose.into(),
            Step::Meanwhile { inner } => self.meanwhile(inner),
            Step::Name { what, name } => self.name(what, name)?,
            Step::Wake { queue, count, class, key } => drop(self.wake(queue, count, class, key)?),
            Step::WakeSync { queue, inner } => drop(self.queue(queue)?.wake_up_sync(|| self.some(inner))?),
            Step::Close { queue } => drop(self.queue(queue)?.close()?),
            Step::Interrupt => self.interrupter.interrupt(),
            Step::Look { what } => self.look(what)?,
            Step::Lock { lock, inner, repaired } => {
                let lock = self.lock(lock)?;
                let guard = lock.lock()?;
                if repaired && guard.owner_died() {
                    guard.repaired();
                }
                self.some(inner);
            }
            wait => self.wait(wait)?,
        }
        Ok(())
    }

    fn scribble(&self, step: Step) {
        let world = self.world;
        match step {
            Step::Write { at, value } => {
                let word = world.word(at);
                word.store(world.value(value, word.load(Relaxed)), Release);
            }
            Step::Copy { from, to, words } => {
                for (from, to) in world.words(from, words).zip(world.words(to, words)) {
                    to.store(from.load(Relaxed), Release);
                }
            }
            Step::Fill { at, words, seed, small } => {
                let mut number = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
                for word in world.words(at, words) {
                    number = number.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                    word.store(if small { number >> 28 } else { number }, Release);
                }
            }
            _ => {}
        }
    }

    /// Some of the steps by another thread, while this one goes on behind them.
    fn meanwhile(&mut self, inner: u8) {
        if self.depth > 0 || !self.others {
            return;
        }
        let end = self.steps.len().min(self.next + usize::from(inner % 8));
        let (world, steps) = (self.world, self.steps[self.next..end].to_vec());
        let (regions, turn, interrupter) = (self.regions.clone(), self.turn, self.interrupter.clone());
        self.next = end;
        let other = std::thread::spawn(move || {
            Run { regions, turn, interrupter, depth: 1, ..Run::new(world, &steps, true) }.all();
        });
        self.some(inner);
        other.join().expect("no panic");
    }

    fn name(&self, what: u8, name: u8) -> waitqueue::Result<()> {
        let region = self.region();
        let name = ["queue", "other", "lock", "own", "new", "newer", "newest", ""][usize::from(name % 8)];
        match what % 5 {
            0 => drop(region.queue(name)?),
            1 => region.object::<Own>(name)?.number.store(1, Relaxed),
            2 => drop(region.object::<RobustLock>(name)?),
            3 => drop(region.object::<[std::sync::atomic::AtomicU8; 200]>(name)?[199].swap(1, Relaxed)),
            _ => drop(region.object_address(name, "any", 40, 8)?),
        }
        Ok(())
    }

    fn wake(&self, queue: u8, count: u8, class: u8, key: u8) -> waitqueue::Result<waitqueue::Woken> {
        let queue = self.queue(queue)?;
        let mut options = WakeOptions::new();
        options = match (count % 16, NonZeroU32::new((count % 16).into())) {
            (15, _) => options.all(),
            (_, Some(count)) => options.nr(count),
            (_, None) => options,
        };
        if count & 16 != 0 {
            options = options.class(class.into()).key(key.into());
        }
        queue.wake_up_with(&options)
    }

    fn look(&self, what: u8) -> waitqueue::Result<()> {
        let region = self.region();
        match what % 4 {
            0 => drop(region.snapshot().to_string()),
            1 => region.check()?,
            2 => drop(format!("{region:?}{:?}", self.queue(what)?)),
            _ => region.participants().iter().for_each(|other| _ = region.is_alive(other.id)),
        }
        Ok(())
    }

    fn wait(&mut self, step: Step) -> waitqueue::Result<()> {
        let interrupter = &self.interrupter.clone();
        match step {
            Step::Wait { queue, how, inner, turns } => {
                let queue = self.queue(queue)?;
                let condition = self.condition(inner, turns);
                queue.wait_event_with(&Self::options(how, interrupter), condition)?;
            }
            Step::WaitAround { queue, how, inner, turns } => {
                let queue = self.queue(queue)?;
                let mut turn = 0;
                let condition = |_: &mut Around| {
                    turn += 1;
                    turn > turns % 8
                };
                let mut around = Around { run: self, inner };
                queue.wait_event_locked(&Self::options(how, interrupter), &mut around, condition)?;
            }
            Step::WaitLocked { queue, lock, how, inner, turns } => {
                let (queue, lock) = (self.queue(queue)?, self.lock(lock)?);
                let mut guard = lock.lock()?;
                let mut condition = self.condition(inner, turns);
                queue.wait_event_locked(&Self::options(how, interrupter), &mut guard, |_| condition())?;
            }
            Step::WaitMany { queues, how, inner, turns } => {
                let [a, b, c] = queues.map(|nth| self.queue(nth));
                let (a, b, c) = (a?, b?, c?);
                let options = Self::options(how, interrupter);
                let shared = RefCell::new(self.condition(inner, turns));
                let (mut first, mut second) = (|| shared.borrow_mut()(), || shared.borrow_mut()());
                let mut never = || false;
                let mut sources = [
                    Source::with(&a, &options, &mut first),
                    Source::new(&b, &mut second),
                    Source::with(&c, &options, &mut never),
                ];
                wait_many(&mut sources, &options)?;
            }
            Step::WaitWoken { queue, how } => {
                let _ = self.queue(queue)?.wait_woken(&Self::options(how, interrupter))?;
            }
            Step::Prepare { queue, how, inner, end } => {
                let queue = self.queue(queue)?;
                let mut wait = queue.prepare_to_wait(&Self::options(how, interrupter))?;
                self.some(inner);
                wait.prepare();
                self.some(inner);
                let slept = wait.sleep();
                if end % 2 == 0 {
                    wait.finish();
                }
                slept?;
            }
            set => self.set(set, interrupter)?,
        }
        Ok(())
    }

    fn set(&mut self, step: Step, interrupter: &Interrupter) -> waitqueue::Result<()> {
        match step {
            Step::SetAdd { set, queue, how } => {
                let queue = self.queue(queue)?;
                let region = self.region().clone();
                let place = &mut self.sets[usize::from(set % 2)];
                if place.is_none() {
                    *place = Some((WaitSet::new(&region)?, Vec::new()));
                }
                if let Some((set, members)) = place {
                    members.push(set.add(&queue, &Self::options(how, interrupter))?);
                }
            }
            Step::SetRemove { set, member } => {
                if let Some((set, members)) = &mut self.sets[usize::from(set % 2)]
                    && !members.is_empty()
                {
                    set.remove(members[usize::from(member) % members.len()])?;
                }
            }
            Step::SetWait { set, how, inner, turns } => {
                // Taken out, because the steps inside may use the others.
                let place = usize::from(set % 2);
                let Some((mut set, members)) = self.sets[place].take() else { return Ok(()) };
                let outcome = {
                    let mut condition = self.condition(inner, turns);
                    set.wait(&Self::options(how, interrupter), |_| condition())
                };
                members.iter().for_each(|member| _ = set.take_fired(*member));
                self.sets[place] = Some((set, members));
                outcome?;
            }
            Step::SetDrop { set } => drop(self.sets[usize::from(set % 2)].take()),
            _ => {}
        }
        Ok(())
    }

    /// A condition in which steps happen, and which is true in the end.
    fn condition(&mut self, inner: u8, turns: u8) -> impl FnMut() -> bool {
        let mut turn = 0;
        move || {
            self.some(inner);
            turn += 1;
            turn > turns % 8
        }
    }
}

/// Steps between the commitment to sleep and the sleep, and after it: where the word is what wakers look for.
struct Around<'a> {
    run: &'a mut Run,
    inner: u8,
}

impl Relock for Around<'_> {
    fn release(&mut self) {
        self.run.some(self.inner);
    }

    fn retake(&mut self) -> waitqueue::Result<()> {
        self.run.some(self.inner / 8);
        Ok(())
    }
}
