//! Named places in the protocol where a test can make a process die, and named steps it can leave out.
//!
//! `crash_point!("lock: taken")` is where a debug build with the feature `fault_injection` kills itself when
//! the environment says `WAITQUEUE_CRASH=lock: taken` (or `…@3` for the third time it gets there).
//! With `WAITQUEUE_STOP` instead it stops there (SIGSTOP), so that a test can let others act in between; with
//! `WAITQUEUE_EXIT` that one thread ends there, and its process lives on.
//! `mutant("no fence A")` is true where the environment names it in `WAITQUEUE_MUTANT=no fence A,…`; every such step is
//! one that the promises rest on, and a test shows that leaving it out is noticed.
//!
//! In every other build the first is nothing and the second is the constant `false`. Under loom nobody dies, but steps
//! can be left out.

#[cfg(all(not(loom), feature = "fault_injection", debug_assertions))]
pub(crate) mod active {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use crate::sys::process::End;

    const WAYS: [(&str, End); 3] =
        [("WAITQUEUE_CRASH", End::Process), ("WAITQUEUE_STOP", End::Stop), ("WAITQUEUE_EXIT", End::Thread)];

    /// The crash point asked for, at which pass, and what to do there.
    fn wanted() -> &'static Option<(String, u32, End)> {
        static WANTED: OnceLock<Option<(String, u32, End)>> = OnceLock::new();
        WANTED.get_or_init(|| {
            let asked = |(variable, end): &(&str, End)| Some((std::env::var(variable).ok()?, *end));
            let (text, end) = WAYS.iter().find_map(asked)?;
            match text.rsplit_once('@') {
                Some((name, nth)) => Some((name.to_owned(), nth.parse().ok()?, end)),
                None => Some((text, 1, end)),
            }
        })
    }

    pub(crate) fn crash_point(name: &str) {
        static HITS: AtomicU32 = AtomicU32::new(0);
        if let Some((point, nth, end)) = wanted()
            && point == name
            && HITS.fetch_add(1, Relaxed) + 1 == *nth
        {
            end.here();
        }
    }

    /// Reads the environment now: later it may be inside a lock, where nothing may be allocated.
    pub(crate) fn arm() {
        let _ = wanted();
        let _ = super::mutant("");
    }
}

#[cfg(all(not(loom), feature = "fault_injection", debug_assertions))]
pub(crate) use active::arm;

#[cfg(not(any(loom, all(feature = "fault_injection", debug_assertions))))]
#[inline(always)]
pub(crate) const fn arm() {}

#[cfg(any(loom, all(feature = "fault_injection", debug_assertions)))]
pub(crate) fn mutant(name: &str) -> bool {
    use std::sync::OnceLock;
    static MUTANTS: OnceLock<String> = OnceLock::new();
    MUTANTS
        .get_or_init(|| std::env::var("WAITQUEUE_MUTANT").unwrap_or_default())
        .split(',')
        .any(|mutant| mutant == name)
}

#[cfg(not(any(loom, all(feature = "fault_injection", debug_assertions))))]
#[inline(always)]
pub(crate) const fn mutant(_name: &str) -> bool {
    false
}

/// Marks a place where a test can kill this process. Expands to nothing in a normal build.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(all(not(loom), feature = "fault_injection", debug_assertions))]
        $crate::crash::active::crash_point($name);
    };
}
pub(crate) use crash_point;
