//! What a region looks like, in the structs of the header.

use std::ffi::{CString, c_char, c_int};
use std::time::{SystemTime, UNIX_EPOCH};

use waitqueue::{QueueInfo, Snapshot, WaiterInfo, WaiterState};

use crate::call::{Failure, Options, Out, Result, Text, free, given, set, status};
use crate::options::{self, EXCLUSIVE, PRIORITY, wq_region_options};
use crate::region::wq_region;

/// A snapshot, with its texts as C has them.
#[allow(non_camel_case_types)]
pub struct wq_snapshot {
    snapshot: Snapshot,
    text: CString,
    name: CString,
    queues: Vec<(CString, Vec<CString>)>,
    objects: Vec<(CString, CString)>,
}

/// A region as a whole.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_region_info {
    pub name: *const c_char,
    pub size: u64,
    pub deaths: u64,
    pub participants: u32,
    pub queues: u32,
    pub objects: u32,
    pub entries_used: u32,
    pub entries: u32,
    pub threads_used: u32,
    pub threads: u32,
}

/// A participant.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_participant_info {
    pub id: u64,
    pub since: i64,
    pub process: u32,
    pub is_alive: u32,
}

/// A queue.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_queue_info {
    pub name: *const c_char,
    pub lock_owner: u64,
    pub wakes: u64,
    pub claims: u64,
    pub hand_ons: u64,
    pub recoveries: u64,
    pub rescues: u32,
    pub waiters: u32,
    pub is_closed: u32,
    pub reserved: u32,
}

/// A waiter.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_waiter_info {
    pub label: *const c_char,
    pub participant: u64,
    pub since: i64,
    pub process: u32,
    pub thread: u32,
    pub state: u32,
    pub flags: u32,
    pub is_persistent: u32,
    pub key: u32,
}

/// An object.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug)]
#[repr(C)]
pub struct wq_object_info {
    pub name: *const c_char,
    pub tag: *const c_char,
    pub size: u64,
}

/// A text as C has it, up to the first zero byte, which another process may have written into it.
fn text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl wq_snapshot {
    fn boxed(snapshot: Snapshot) -> Box<wq_snapshot> {
        let labels = |queue: &QueueInfo| queue.waiters.iter().map(|waiter| text(&waiter.label)).collect();
        Box::new(wq_snapshot {
            text: text(&snapshot.to_string()),
            name: text(&snapshot.region),
            queues: snapshot.queues.iter().map(|queue| (text(&queue.name), labels(queue))).collect(),
            objects: snapshot.objects.iter().map(|(name, tag, _)| (text(name), text(tag))).collect(),
            snapshot,
        })
    }
}

/// A part of a snapshot.
fn part<'a, T>(parts: &'a [T], at: u32, what: &str) -> Result<&'a T> {
    let count = parts.len();
    let none = || Failure::new(libc::ENOENT, format!("there is no {what} {at}: the snapshot has {count}"));
    parts.get(at as usize).ok_or_else(none)
}

/// What a region looks like now.
#[unsafe(no_mangle)]
pub extern "C" fn wq_region_snapshot(region: Option<&wq_region>, out: Out<Box<wq_snapshot>>) -> c_int {
    status(|| {
        let (region, out) = (given(region, "region")?, given(out, "out")?);
        Ok(set(Some(out), wq_snapshot::boxed(region.0.snapshot())))
    })
}

/// The same without attaching.
#[unsafe(no_mangle)]
pub extern "C" fn wq_inspect(
    name: Text,
    options: Options<wq_region_options>,
    out: Out<Box<wq_snapshot>>,
) -> c_int {
    status(|| {
        let (name, out) = (name.get("name")?, given(out, "out")?);
        let (builder, is_path) = options::region(&options)?;
        let snapshot = if is_path { builder.inspect_at(name) } else { builder.inspect(name) };
        Ok(set(Some(out), wq_snapshot::boxed(snapshot?)))
    })
}

/// The whole as text.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_text(snapshot: Option<&wq_snapshot>) -> *const c_char {
    snapshot.map_or(c"".as_ptr(), |snapshot| snapshot.text.as_ptr())
}

/// The region as a whole.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_region(snapshot: Option<&wq_snapshot>, out: Out<wq_region_info>) -> c_int {
    status(|| {
        let (this, out) = (given(snapshot, "snapshot")?, given(out, "out")?);
        let Snapshot { size, deaths, participants, queues, objects, entries, threads, .. } = &this.snapshot;
        let info = wq_region_info {
            name: this.name.as_ptr(),
            size: *size,
            deaths: *deaths,
            participants: participants.len() as u32,
            queues: queues.len() as u32,
            objects: objects.len() as u32,
            entries_used: entries.0,
            entries: entries.1,
            threads_used: threads.0,
            threads: threads.1,
        };
        Ok(set(Some(out), info))
    })
}

/// A participant.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_participant(
    snapshot: Option<&wq_snapshot>,
    at: u32,
    out: Out<wq_participant_info>,
) -> c_int {
    status(|| {
        let (this, out) = (given(snapshot, "snapshot")?, given(out, "out")?);
        let info = part(&this.snapshot.participants, at, "participant")?;
        let (id, since) = (info.id.get(), nanoseconds(info.since));
        let (process, is_alive) = (info.process, info.alive.into());
        Ok(set(Some(out), wq_participant_info { id, since, process, is_alive }))
    })
}

/// A queue.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_queue(
    snapshot: Option<&wq_snapshot>,
    at: u32,
    out: Out<wq_queue_info>,
) -> c_int {
    status(|| {
        let (this, out) = (given(snapshot, "snapshot")?, given(out, "out")?);
        let info = part(&this.snapshot.queues, at, "queue")?;
        let info = wq_queue_info {
            name: part(&this.queues, at, "queue")?.0.as_ptr(),
            lock_owner: info.lock_owner.map_or(0, |owner| owner.get()),
            wakes: info.wakes,
            claims: info.claims,
            hand_ons: info.hand_ons,
            recoveries: info.recoveries,
            rescues: info.rescues,
            waiters: info.waiters.len() as u32,
            is_closed: info.closed.into(),
            reserved: 0,
        };
        Ok(set(Some(out), info))
    })
}

/// A waiter of a queue.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_waiter(
    snapshot: Option<&wq_snapshot>,
    queue: u32,
    at: u32,
    out: Out<wq_waiter_info>,
) -> c_int {
    status(|| {
        let (this, out) = (given(snapshot, "snapshot")?, given(out, "out")?);
        let info: &WaiterInfo = part(&part(&this.snapshot.queues, queue, "queue")?.waiters, at, "waiter")?;
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let info = wq_waiter_info {
            label: part(&part(&this.queues, queue, "queue")?.1, at, "waiter")?.as_ptr(),
            participant: info.participant.get(),
            since: nanoseconds(info.since),
            process: info.process,
            thread: info.thread,
            state: match info.state {
                WaiterState::Evaluating => 0,
                WaiterState::Asleep => 1,
                WaiterState::Chosen => 2,
                _ => 3,
            },
            flags: flag(info.exclusive, EXCLUSIVE) | flag(info.priority, PRIORITY),
            is_persistent: info.persistent.into(),
            key: info.key,
        };
        Ok(set(Some(out), info))
    })
}

/// An object.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_object(
    snapshot: Option<&wq_snapshot>,
    at: u32,
    out: Out<wq_object_info>,
) -> c_int {
    status(|| {
        let (this, out) = (given(snapshot, "snapshot")?, given(out, "out")?);
        let (name, tag) = part(&this.objects, at, "object")?;
        let size = part(&this.snapshot.objects, at, "object")?.2;
        Ok(set(Some(out), wq_object_info { name: name.as_ptr(), tag: tag.as_ptr(), size }))
    })
}

/// Gives a handle back.
#[unsafe(no_mangle)]
pub extern "C" fn wq_snapshot_free(snapshot: *mut wq_snapshot) -> c_int {
    free(snapshot, |_| None)
}
