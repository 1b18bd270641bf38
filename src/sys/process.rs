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

/// Dies at once, like by anybody's `kill -9`.
#[cfg(all(feature = "fault_injection", debug_assertions))]
pub(crate) fn kill_myself() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
