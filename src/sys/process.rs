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

/// The processor that the calling thread runs on; it may have changed by the time this returns. By libc, as the time is.
#[inline]
#[allow(unsafe_code)] // a call without arguments
pub(crate) fn processor() -> u32 {
    // SAFETY: it has no arguments, and touches no memory of ours.
    unsafe { libc::sched_getcpu() }.cast_unsigned()
}

/// How a test has a process end, or a part of it, at a named place.
#[cfg(all(feature = "fault_injection", debug_assertions))]
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// Like by anybody's `kill -9`.
    Process,
    /// This thread alone, without any of the work that Rust or libc do at its end.
    Thread,
    /// Stopped, until somebody continues it.
    Stop,
}

#[cfg(all(feature = "fault_injection", debug_assertions))]
impl End {
    #[allow(unsafe_code)] // the end of a thread
    pub(crate) fn here(self) {
        use rustix::process::{Signal, getpid, kill_process};
        let signal = match self {
            End::Process => Signal::KILL,
            End::Stop => Signal::STOP,
            End::Thread => loop {
                // SAFETY: nothing is expected of this thread any more, and it does not return.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            },
        };
        let _ = kill_process(getpid(), signal);
        // (A stop may reach another thread first, and this one some microseconds later.)
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Runs `body` with the cancellation of this thread (`pthread_cancel`) put off: it would unwind through us.
#[allow(unsafe_code)] // a declaration that libc lacks
pub(crate) fn uncancelled<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: as POSIX has it.
    unsafe extern "C" {
        safe fn pthread_setcancelstate(state: libc::c_int, before: Option<&mut libc::c_int>) -> libc::c_int;
    }
    struct PutOff(libc::c_int);
    impl Drop for PutOff {
        fn drop(&mut self) {
            pthread_setcancelstate(self.0, Some(&mut 0));
        }
    }
    const DISABLE: libc::c_int = 1;
    let mut before = 0;
    pthread_setcancelstate(DISABLE, Some(&mut before));
    let _put_off = PutOff(before);
    body()
}
