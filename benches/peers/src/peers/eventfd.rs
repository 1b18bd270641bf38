//! An eventfd that counts, shared by inheritance.
#![allow(unsafe_code)] // eventfd(2)

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use super::{KNOWS_NOBODY, NO_LOCK, Peer};
use crate::scenarios::Scenario;

/// An opened one.
pub struct Eventfd(File);

impl Peer for Eventfd {
    const NAME: &'static str = "eventfd";
    type Place = OwnedFd;

    fn create(_name: &str) -> OwnedFd {
        // SAFETY: a new descriptor, which nobody else owns.
        unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_SEMAPHORE | libc::EFD_CLOEXEC)) }
    }

    fn open(place: &OwnedFd) -> Self {
        Eventfd(place.try_clone().expect("dup").into())
    }

    fn put(&self) {
        (&self.0).write_all(&1_u64.to_ne_bytes()).expect("write");
    }

    fn take(&self) {
        (&self.0).read_exact(&mut [0; 8]).expect("read");
    }

    fn locked(&self, _inside: impl FnOnce(bool)) {}

    fn lacks(scenario: Scenario) -> Option<&'static str> {
        match scenario {
            Scenario::Holder | Scenario::Recoverer => Some(NO_LOCK),
            Scenario::Watched => Some(KNOWS_NOBODY),
            Scenario::Restart => Some("an eventfd has no name: it is gone with the last who has it open"),
            _ => None,
        }
    }
}
