//! The structs of options, and what they mean to the crate.

use std::ffi::c_int;
use std::time::Duration;

use waitqueue::{Interrupter, Region, RegionBuilder, WaitOptions};

use crate::call::{Array, Failure, Options, Result, Text, Users};

use numbers::*;

/// The numbers of the header, without their `WQ_`.
#[allow(missing_docs)]
pub mod numbers {
    // Flags of a wait.
    pub const EXCLUSIVE: u32 = 1;
    pub const PRIORITY: u32 = 2;
    pub const INTERRUPTIBLE: u32 = 4;
    pub const KILLABLE: u32 = 8;
    pub const NO_SPIN: u32 = 16;
    // Flags of a region.
    pub const PATH: u32 = 1;
    pub const REPLACE_DEAD: u32 = 2;
    pub const NO_TICK: u32 = 4;
    pub const NO_REGION_SPIN: u32 = 8;
    // States of a waiter.
    pub const EVALUATING: u32 = 0;
    pub const ASLEEP: u32 = 1;
    pub const CHOSEN: u32 = 2;
    pub const GONE: u32 = 3;
    // No limit of time.
    pub const FOREVER: u64 = u64::MAX;
    /// As the build script has read it in the header.
    pub const INTERFACE: u32 = match u32::from_str_radix(env!("WQ_INTERFACE"), 10) {
        Ok(number) => number,
        Err(_) => panic!("a decimal number"),
    };
}

/// Ends a wait from elsewhere.
#[allow(non_camel_case_types)]
pub struct wq_interrupter {
    pub(crate) interrupter: Interrupter,
    pub(crate) users: Users,
}

/// How to wait.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct wq_wait_options {
    pub size: usize,
    pub flags: u32,
    pub class_mask: u32,
    pub key: u32,
    pub signal_count: u32,
    pub signals: *const c_int,
    pub interrupter: *const wq_interrupter,
    pub label: Text,
    pub spin: u64,
}

/// How to create and open a region.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct wq_region_options {
    pub size: usize,
    pub flags: u32,
    pub mode: u32,
    pub participants: u64,
    pub threads: u64,
    pub entries: u64,
    pub objects: u64,
    pub memory: u64,
    pub tick: u64,
    pub patience: u64,
    pub spin: u64,
    pub owners: *const u32,
    pub owner_count: usize,
    pub groups: *const u32,
    pub group_count: usize,
}

// What the header says of them.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<wq_wait_options>() == 56 && size_of::<wq_region_options>() == 112);

fn known(flags: u32, all: u32, what: &str) -> Result<()> {
    match flags & !all {
        0 => Ok(()),
        unknown => Err(Failure::invalid(format!("unknown flags {unknown:#x} of {what}: known are {all:#x}"))),
    }
}

/// A mask in which 0 stands for the default.
fn mask<'a>(
    options: WaitOptions<'a>,
    mask: u32,
    apply: fn(WaitOptions<'a>, u32) -> WaitOptions<'a>,
) -> WaitOptions<'a> {
    if mask == 0 { options } else { apply(options, mask) }
}

/// The options that concern an entry.
pub(crate) fn entry<'a>(flags: u32, class_mask: u32, key: u32) -> Result<WaitOptions<'a>> {
    known(flags, EXCLUSIVE | PRIORITY, "a source")?;
    let mut options = WaitOptions::new();
    if flags & EXCLUSIVE != 0 {
        options = options.exclusive();
    }
    if flags & PRIORITY != 0 {
        options = options.priority();
    }
    Ok(mask(mask(options, class_mask, WaitOptions::class), key, WaitOptions::key))
}

/// The options of a sleep on many queues, whose entries have options of their own.
pub(crate) fn sleep<'a>(
    given: &Options<wq_wait_options>,
    nanoseconds: u64,
) -> Result<(WaitOptions<'a>, Option<&'a wq_interrupter>)> {
    if let Some(options) = given.get("wq_wait_options")?
        && (options.flags & (EXCLUSIVE | PRIORITY), options.class_mask, options.key) != (0, 0, 0)
    {
        return Err(Failure::invalid(
            "WQ_EXCLUSIVE, WQ_PRIORITY, class_mask and key concern an entry: give them with each source or member",
        ));
    }
    wait(given, nanoseconds)
}

/// The options of a wait, and the handle that it uses.
pub(crate) fn wait<'a>(
    given: &Options<wq_wait_options>,
    nanoseconds: u64,
) -> Result<(WaitOptions<'a>, Option<&'a wq_interrupter>)> {
    let timed = |options: WaitOptions<'a>| match nanoseconds {
        FOREVER => options,
        _ => options.timeout(Duration::from_nanos(nanoseconds)),
    };
    let Some(given) = given.get("wq_wait_options")? else {
        return Ok((timed(WaitOptions::new()), None));
    };
    known(given.flags, EXCLUSIVE | PRIORITY | INTERRUPTIBLE | KILLABLE | NO_SPIN, "wq_wait_options")?;
    let mut options = timed(entry(given.flags & (EXCLUSIVE | PRIORITY), 0, given.key)?);
    let signals = Array::new(given.signals, given.signal_count as usize).get("signals")?;
    if given.flags & INTERRUPTIBLE != 0 {
        options = options.interruptible();
    }
    if given.flags & KILLABLE != 0 {
        options = options.killable();
    }
    if !signals.is_empty() {
        options = options.signals(signals);
    }
    if given.spin != 0 || given.flags & NO_SPIN != 0 {
        options = options.spin(Duration::from_nanos(given.spin));
    }
    if let Some(label) = given.label.optional("label")? {
        options = options.label(label);
    }
    // SAFETY: NULL, or a handle that is not freed while a wait has it.
    let interrupter = unsafe { given.interrupter.as_ref() };
    if let Some(wq_interrupter { interrupter, .. }) = interrupter {
        options = options.interrupter(interrupter);
    }
    Ok((mask(options, given.class_mask, WaitOptions::class), interrupter))
}

/// A region's builder, and whether its name is a path.
pub(crate) fn region(given: &Options<wq_region_options>) -> Result<(RegionBuilder, bool)> {
    let Some(given) = given.get("wq_region_options")? else {
        return Ok((Region::builder(), false));
    };
    known(given.flags, PATH | REPLACE_DEAD | NO_TICK | NO_REGION_SPIN, "wq_region_options")?;
    let mut builder = Region::builder();
    type Setter = fn(RegionBuilder, u64) -> RegionBuilder;
    let settings: [(u64, Setter); 8] = [
        (given.participants, RegionBuilder::participants),
        (given.threads, RegionBuilder::threads),
        (given.entries, RegionBuilder::entries),
        (given.objects, RegionBuilder::objects),
        (given.memory, RegionBuilder::memory),
        (given.tick, |builder, tick| builder.tick(Some(Duration::from_nanos(tick)))),
        (given.patience, |builder, patience| builder.patience(Duration::from_nanos(patience))),
        (given.spin, |builder, spin| builder.spin(Duration::from_nanos(spin))),
    ];
    for (value, set) in settings.into_iter().filter(|(value, _)| *value != 0) {
        builder = set(builder, value);
    }
    if given.mode != 0 {
        builder = builder.mode(given.mode);
    }
    if given.flags & REPLACE_DEAD != 0 {
        builder = builder.replace_dead();
    }
    if given.flags & NO_TICK != 0 {
        builder = builder.tick(None);
    }
    if given.flags & NO_REGION_SPIN != 0 {
        builder = builder.spin(Duration::ZERO);
    }
    for owner in Array::new(given.owners, given.owner_count).get("owners")? {
        builder = builder.accept_owner(*owner);
    }
    for group in Array::new(given.groups, given.group_count).get("groups")? {
        builder = builder.accept_group(*group);
    }
    Ok((builder, given.flags & PATH != 0))
}
