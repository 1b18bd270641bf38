//! Waiting on many queues at once: for one wait, or with entries that stay enrolled between waits.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::enrolled::{Enrolled, Spot, Start};
use crate::error::{Error, Result};
use crate::layout::PERSISTENT;
use crate::options::WaitOptions;
use crate::pending::{Asking, Pending};
use crate::queue::Queue;
use crate::region::Region;
use crate::sleep::JustSleep;
use crate::wait::{self, Conditions, Ended, Sources};
use crate::waiting::Waiting;

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
    let region = region_of(sources.iter().map(|source| source.queue))?;
    let mut sources = Many(sources);
    if let Some(at) = sources.evaluate() {
        return Ok(at);
    }
    let ended = if options.is_poll() {
        let closed = sources.0.iter().position(|source| source.queue.is_closed());
        wait::poll(closed, &mut sources)
    } else {
        wait::wait(&region.enter()?, &mut sources, &options.manner(region)?, &mut JustSleep)?
    };
    outcome(sources.0.iter().map(|source| source.queue), ended)
}

struct Many<'a, 's>(&'a mut [Source<'s>]);

impl Conditions for Many<'_, '_> {
    fn evaluate(&mut self) -> Option<usize> {
        self.0.iter_mut().position(|source| (source.condition)())
    }
}

impl Sources for Many<'_, '_> {
    fn spots(&self) -> impl Iterator<Item = Spot> {
        self.0.iter().map(|source| source.queue.spot(&source.options, 0))
    }
}

/// The region that all the queues of a wait are in.
pub(crate) fn region_of<'a>(mut queues: impl Iterator<Item = &'a Queue>) -> Result<&'a Region> {
    let none =
        Error::BadCapacity { what: "number of queues of wait_many", asked: 0, max: u64::from(u32::MAX) };
    let region = queues.next().ok_or(none)?.region();
    match queues.all(|queue| queue.region().is_same(region)) {
        true => Ok(region),
        false => Err(Error::ForeignObject { region: region.label().clone(), what: "queue of wait_many" }),
    }
}

/// The public result of a wait on many queues; errors name the queue that is their reason, or the first.
pub(crate) fn outcome<'a>(mut queues: impl Iterator<Item = &'a Queue>, ended: Ended) -> Result<usize> {
    let at = match ended {
        Ended::Fired(at) => return Ok(at),
        Ended::Closed(at) | Ended::PriorityTaken(at) => at,
        Ended::TimedOut | Ended::Interrupted => 0,
    };
    match queues.nth(at) {
        Some(queue) => queue.outcome(ended).map(|()| at),
        None => Err(Error::TimedOut { queue: "an empty set".into() }),
    }
}

/// A set of queues whose entries stay enrolled between waits: for waiting on the same queues again and again. A wait costs
/// as much as there is to do, whether the set has one member or ten thousand.
///
/// A member is asked, by the condition that each wait is given, when it is new, when a wake has met it since it was last
/// asked, and for as long as it answers true; all are asked after a death, at the tick, and before a wait ends for
/// another reason. So a member's condition has to be about what is woken for, as in every wait, and it has to be the
/// same one in every wait: after asking something else, call [`WaitSet::ask_all`].
///
/// Exclusive members that are chosen move to the end of their queue. While the owner is awake, a wake that finds only
/// him makes his next wait evaluate at once.
///
/// Dropping it leaves all queues and passes on a wake that nobody has answered; forgetting it (`mem::forget`) swallows
/// one wake for each exclusive member, until the process ends. It belongs to the thread that made it. Corresponds to
/// `add_wait_queue`, `wait_woken` and `remove_wait_queue`; in what it costs, to `epoll`.
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
    pub(crate) region: Region,
    pub(crate) enrolled: Enrolled,
    pub(crate) members: Vec<(Member, Queue)>,
    /// Where in `members` each is.
    places: HashMap<Member, usize>,
    next: u32,
    pub(crate) pending: Pending,
}

/// A queue's membership in a [`WaitSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member(u32);

impl Member {
    /// The number to tell it by where there are no types.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The member of that number.
    #[must_use]
    pub fn new(number: u32) -> Member {
        Member(number)
    }
}

impl WaitSet {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Forked`], [`Error::Evicted`], [`Error::Reentered`].
    pub fn new(region: &Region) -> Result<WaitSet> {
        let enrolled = Enrolled::new(&region.enter()?, "", Start::Set)?;
        let (members, places, pending) = Default::default();
        Ok(WaitSet { region: region.clone(), enrolled, members, places, next: 0, pending })
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
        options.check(&self.region)?;
        if let Err(refusal) = self.enrolled.add(queue.spot(options, PERSISTENT), options.text())? {
            queue.outcome(Ended::refused(refusal, 0))?;
        }
        // (After four thousand millions of them the numbers begin anew.)
        while self.places.contains_key(&Member(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let (member, at) = (Member(self.next), self.members.len());
        self.next = self.next.wrapping_add(1);
        self.members.push((member, queue.clone()));
        self.places.insert(member, at);
        self.pending.add();
        Ok(member)
    }

    /// Leaves a queue; a wake that chose this member and was not answered is passed on. Nothing happens if it is
    /// not in the set.
    ///
    /// # Errors
    ///
    /// [`Error::LockStuck`], and then it is still in the set.
    pub fn remove(&mut self, member: Member) -> Result<()> {
        if let Some(at) = self.places.get(&member).copied() {
            self.enrolled.leave_one(at)?;
            // Off its queue it is not noted any more; what was noted before has to be read before it can be used elsewhere.
            if !self.enrolled.take_ready(&mut |at| self.pending.push(at)) {
                self.ask_all();
            }
            self.pending.remove(at);
            self.enrolled.remove(at);
            self.members.swap_remove(at);
            self.places.remove(&member);
            if let Some((moved, _)) = self.members.get(at) {
                self.places.insert(*moved, at);
            }
        }
        Ok(())
    }

    /// Sleeps until `condition` is true of a member, and returns that member. `options` are those of the sleep.
    ///
    /// Members are asked in turn; one that was returned comes after the others.
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
        self.region.enter()?.flush();
        let manner = options.manner(&self.region)?;
        let (enrolled, members) = (&self.enrolled, &self.members);
        let ask = |at: usize| condition(members[at].0);
        let mut asking = Asking { enrolled, pending: &mut self.pending, ask };
        let outcome = wait::wait_enrolled(enrolled, &manner, &mut JustSleep, &mut asking);
        // Between waits it is awake, and its evaluation has answered the claim, or nobody will.
        let fired = match outcome {
            Ok(Ended::Fired(at)) => Some(at),
            _ => None,
        };
        // (If the lock is stuck it stays held, and the next wait's evaluation answers it.)
        let _ = self.enrolled.settle(fired);
        if let Some(at) = fired {
            return Ok(self.members[at].0);
        }
        self::outcome(members.iter().map(|(_, queue)| queue), outcome?).map(|at| members[at].0)
    }

    /// Begins a wait whose conditions the caller evaluates: see [`Waiting`].
    pub fn begin_wait<'a>(&'a mut self, options: &WaitOptions<'a>) -> Waiting<'a> {
        Waiting::on_set(self, options)
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

    /// Makes the next wait ask every member, because it will ask for something else than the last one did.
    pub fn ask_all(&mut self) {
        self.enrolled.look_everywhere();
    }

    /// How many wakes met this member since this was last asked: a hint where to look. Corresponds to
    /// `WQ_FLAG_WOKEN`.
    pub fn take_fired(&mut self, member: Member) -> u32 {
        self.places.get(&member).map_or(0, |at| self.enrolled.take_fired(*at))
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(|(_, queue)| queue)).finish()
    }
}
