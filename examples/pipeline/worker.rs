//! What a worker does until the run is over, or its parent dead, or itself killed.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::*;

use waitqueue::{ParticipantId, Region};

use crate::board::Board;
use crate::{Args, Result};

/// Counts words for the run whose parent has this id.
pub(crate) fn work(args: &Args, run: u64) -> Result<()> {
    let region = attach(args)?;
    let board = region.object::<Board>("board")?;
    let (work, results) = (region.queue("work")?, region.queue("results")?);
    let parent = ParticipantId::new(run).ok_or("a run's number is not 0")?;
    let is_over = || board.run.load(Acquire) != run || !region.is_alive(parent);
    let mut turn = 0;
    loop {
        let mut taken = None;
        work.wait_event_exclusive(|| {
            taken = board.take(&region, &mut turn);
            taken.is_some() || is_over()
        })?;
        let Some(slot) = taken else { return Ok(()) };
        slot.count_words(&region);
        results.wake_up()?;
    }
}

/// A region without a name is the worker's standard input.
fn attach(args: &Args) -> Result<Region> {
    Ok(match &args.name {
        Some(name) => args.region().open(name)?,
        None => args.region().open_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?,
    })
}
