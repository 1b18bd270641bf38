//! Waiting on many queues at once: for one wait, or with entries that stay enrolled between waits.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::enrolled::Enrolled;
use crate::error::{Error, Result};
use crate::layout::PERSISTENT;
use crate::options::WaitOptions;
use crate::queue::Queue;
use crate::region::Region;
use crate::wait::{self, Ended, JustSleep};

/// One queue of a [`wait_many`], with its condition.
pub struct Source<'a> {
    queue: &'a Queue,
    options: WaitOptions<'a>,
    condition: &'a mut dyn FnMut() -> bool,
}

impl<'a> Source<'a> {
    /// A non-exclusive wait on `queue` for `condition`.
    pub fn new(queue: &'a Queue, condition: &'a mut dyn FnMut() -> bool) -> Source<'a> {
        Source { queue, options: WaitOptions::new(), condition }
    }

    /// The same, with the options that concern an entry: exclusive, priority, class and key. The others are
    /// ignored here; they are those of the sleep.
    pub fn with(
        queue: &'a Queue,
        options: &WaitOptions<'a>,
        condition: &'a mut dyn FnMut() -> bool,
    ) -> Source<'a> {
        Source { queue, options: *options, condition }
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.queue.name())
    }
}

/// Sleeps until the condition of any source is true; returns the index of the first that is.
///
/// The queues are any number of one region; the same queue may be there twice. `options` are those of the sleep:
/// timeout, signals, interrupter, spin, label. Conditions are evaluated in order, and none after the first that is
/// true.
///
/// Each exclusive wake is consumed by one waiter: a wake of a queue that is not the one whose condition was true is
/// passed on to the next waiter there.
///
/// # Crash safety
///
/// As for a wait on one queue.
///
/// # Errors
///
/// [`Error::ForeignObject`] if the queues are of different regions; [`Error::BadCapacity`] if there are none;
/// [`Error::Closed`] naming the queue that is closed; otherwise as [`Queue::wait_event_with`].
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::*};
/// use waitqueue::{Region, Source, WaitOptions, wait_many};
///
/// # fn main() -> waitqueue::Result<()> {
/// let region = Region::builder().create_memfd("example")?;
/// let (results, control) = (region.queue("results")?, region.queue("control")?);
/// let stop = region.object::<AtomicU32>("stop")?;
/// stop.store(1, Release);
/// let fired = wait_many(
///     &mut [
///         Source::new(&results, &mut || false),
///         Source::new(&control, &mut || stop.load(Acquire) != 0),
///     ],
///     &WaitOptions::new(),
/// )?;
/// assert_eq!(fired, 1);
/// # Ok(())
/// # }
/// ```
pub fn wait_many(sources: &mut [Source<'_>], options: &WaitOptions) -> Result<usize> {
    let Some(first) = sources.first() else {
        return Err(Error::BadCapacity {
            what: "number of queues of wait_many",
            asked: 0,
            max: u64::from(u32::MAX),
        });
    };
    let region = first.queue.region().clone();
    if sources.iter().any(|source| !source.queue.region().is_same(&region)) {
        return Err(Error::ForeignObject { region: region.label().clone(), what: "queue of wait_many" });
    }
    let evaluate = |sources: &mut [Source<'_>]| sources.iter_mut().position(|source| (source.condition)());
    if let Some(at) = evaluate(sources) {
        return Ok(at);
    }
    let queues: Vec<&Queue> = sources.iter().map(|source| source.queue).collect();
    if options.is_poll() {
        let closed = queues.iter().position(|queue| queue.is_closed());
        return outcome(&queues, wait::poll(closed, &mut || evaluate(sources)));
    }
    let spots: Vec<_> = sources.iter().map(|source| source.queue.spot(&source.options, 0)).collect();
    let thread = region.enter()?;
    let manner = options.manner(&region)?;
    let ended = wait::wait(&thread, &spots, &manner, &mut JustSleep, &mut || evaluate(sources))?;
    outcome(&queues, ended)
}

/// The public result of a wait on many queues; errors name the queue that is their reason, or the first.
fn outcome(queues: &[&Queue], ended: Ended) -> Result<usize> {
    let at = match ended {
        Ended::Fired(at) => return Ok(at),
        Ended::Closed(at) | Ended::PriorityTaken(at) => at,
        Ended::TimedOut | Ended::Interrupted => 0,
    };
    match queues.get(at) {
        Some(queue) => queue.outcome(ended).map(|()| at),
        None => Err(Error::TimedOut { queue: "an empty set".into() }),
    }
}

/// A set of queues whose entries stay enrolled between waits: cheaper than [`wait_many`] where the same queues are
/// waited on again and again, and without a moment in which a wake could find nobody.
///
/// Exclusive members that are chosen move to the end of their queue. While the owner is awake, a wake that finds only
/// him makes his next wait evaluate at once.
///
/// Dropping it leaves all queues and passes on a wake that nobody has answered; forgetting it (`mem::forget`) swallows
/// one wake for each exclusive member, until the process ends. It belongs to the thread that made it. Corresponds to
/// `add_wait_queue`, `wait_woken` and `remove_wait_queue`.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::*};
/// use waitqueue::{Region, WaitOptions, WaitSet};
///
/// # fn main() -> waitqueue::Result<()> {
/// let region = Region::builder().create_memfd("example")?;
/// let (items, stop) = (region.object::<AtomicU32>("items")?, region.object::<AtomicU32>("stop")?);
/// let mut set = WaitSet::new(&region)?;
/// let work = set.add(&region.queue("work")?, &WaitOptions::new().exclusive())?;
/// let control = set.add(&region.queue("control")?, &WaitOptions::new())?;
/// items.store(1, Release);
/// let fired = set.wait(&WaitOptions::new(), |member| match member {
///     member if member == work => items.swap(0, AcqRel) != 0,
///     _ => stop.load(Acquire) != 0,
/// })?;
/// assert_eq!(fired, work);
/// # let _ = control;
/// # Ok(())
/// # }
/// ```
pub struct WaitSet {
    region: Region,
    enrolled: Enrolled,
    members: Vec<(Member, Queue)>,
    next: u32,
    /// Where the next wait begins to evaluate, so that a busy queue does not hide the others.
    start: usize,
}

/// A queue's membership in a [`WaitSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member(u32);

impl WaitSet {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Forked`], [`Error::Evicted`], [`Error::Reentered`].
    pub fn new(region: &Region) -> Result<WaitSet> {
        let thread = region.enter()?;
        let enrolled = Enrolled::new(&thread, false, true)?;
        Ok(WaitSet { region: region.clone(), enrolled, members: Vec::new(), next: 0, start: 0 })
    }

    /// Enrols on a queue of the set's region, with the options that concern an entry, and the label.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::PriorityTaken`], [`Error::ForeignObject`]; as [`WaitSet::new`].
    pub fn add(&mut self, queue: &Queue, options: &WaitOptions) -> Result<Member> {
        if !queue.region().is_same(&self.region) {
            return Err(Error::ForeignObject { region: self.region.label().clone(), what: "queue of a set" });
        }
        let label = options.manner(&self.region)?.label;
        if let Err(refusal) = self.enrolled.add(queue.spot(options, PERSISTENT), label)? {
            queue.outcome(Ended::refused(refusal, 0))?;
        }
        let member = Member(self.next);
        self.next += 1;
        self.members.push((member, queue.clone()));
        Ok(member)
    }

    /// Leaves a queue; a wake that chose this member and was not answered is passed on. Nothing happens if it is
    /// not in the set.
    ///
    /// # Errors
    ///
    /// [`Error::LockStuck`], and then it is still in the set.
    pub fn remove(&mut self, member: Member) -> Result<()> {
        if let Some(at) = self.position(member) {
            self.enrolled.remove(at)?;
            self.members.remove(at);
            self.start = 0;
        }
        Ok(())
    }

    /// Sleeps until `condition` is true of a member, and returns that member. `options` are those of the sleep.
    ///
    /// Members are asked in turn, beginning after the one that was returned last.
    ///
    /// # Errors
    ///
    /// As [`wait_many`]; an empty set waits for the timeout or an interrupt.
    pub fn wait(
        &mut self,
        options: &WaitOptions,
        mut condition: impl FnMut(Member) -> bool,
    ) -> Result<Member> {
        // A check of the membership as a whole: the thread itself is the one that made the set.
        let thread: Rc<_> = self.region.enter()?;
        thread.flush();
        let (count, start) = (self.members.len(), self.start);
        let members = &self.members;
        let mut evaluate =
            || (0..count).map(|turn| (start + turn) % count).find(|at| condition(members[*at].0));
        let manner = options.manner(&self.region)?;
        let outcome = wait::wait_enrolled(&self.enrolled, &manner, &mut JustSleep, &mut evaluate);
        // Between waits it is awake, and its evaluation has answered the claim, or nobody will.
        let fired = match outcome {
            Ok(Ended::Fired(at)) => Some(at),
            _ => None,
        };
        // (If the lock is stuck it stays held, and the next wait's evaluation answers it.)
        let _ = self.enrolled.settle(fired);
        if let Some(at) = fired {
            self.start = (at + 1) % count;
        }
        let queues: Vec<&Queue> = self.members.iter().map(|(_, queue)| queue).collect();
        self::outcome(&queues, outcome?).map(|at| self.members[at].0)
    }

    /// The same, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; as [`WaitSet::wait`].
    pub fn wait_timeout(
        &mut self,
        timeout: Duration,
        condition: impl FnMut(Member) -> bool,
    ) -> Result<Member> {
        self.wait(&WaitOptions::new().timeout(timeout), condition)
    }

    /// How many wakes met this member since this was last asked: a hint where to look. Corresponds to
    /// `WQ_FLAG_WOKEN`.
    pub fn take_fired(&mut self, member: Member) -> u32 {
        self.position(member).map_or(0, |at| self.enrolled.take_fired(at))
    }

    fn position(&self, member: Member) -> Option<usize> {
        self.members.iter().position(|(other, _)| *other == member)
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(|(_, queue)| queue)).finish()
    }
}
