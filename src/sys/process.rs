//! Who we are to the kernel: numbers of our own namespace, for display and for the kernel itself. No decision about
//! others rests on them.

/// The error number of a thread that could not be started.
pub(crate) const NO_MORE: i32 = libc::EAGAIN;

/// Of this process.
pub(crate) fn process_id() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().cast_unsigned()
}

/// Of the calling thread.
pub(crate) fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

/// The processor that the calling thread runs on; it may have changed by the time this returns.
#[inline]
pub(crate) fn processor() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// Dies at once, like by anybody's `kill -9`, or stops.
#[cfg(all(feature = "fault_injection", debug_assertions))]
pub(crate) fn end_here(for_good: bool) {
    use rustix::process::{Signal, getpid, kill_process};
    let _ = kill_process(getpid(), if for_good { Signal::KILL } else { Signal::STOP });
    // (A stop may reach another thread first, and this one some microseconds later.)
    std::thread::sleep(std::time::Duration::from_millis(50));
}
