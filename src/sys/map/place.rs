//! Where a region has its name.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Label, Result};

/// Where a region has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under /dev/shm; with one slash at its start.
    Named(String),
    /// Absolute, so that a later `chdir` does not change its meaning.
    Path(PathBuf),
}

impl Place {
    pub(crate) fn named(name: &str) -> Result<Place> {
        let bare = name.strip_prefix('/').unwrap_or(name);
        let rule = match bare {
            "" => "it is empty",
            "." | ".." => "it must not be . or ..",
            _ if bare.contains('/') => "it may have a slash at its start only",
            _ if bare.contains('\0') => "it must not contain NUL",
            _ if bare.len() > 200 => "it is longer than 200 bytes",
            _ => return Ok(Place::Named(format!("/{bare}"))),
        };
        Err(bad_name(name, rule))
    }

    pub(crate) fn path(path: &Path) -> Result<Place> {
        let bad = |rule| bad_name(&path.to_string_lossy(), rule);
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(bad("it must not contain NUL"));
        }
        if path.file_name().is_none() {
            return Err(bad("it must end in the name of a file"));
        }
        std::path::absolute(path).map(Place::Path).map_err(|_| bad("the current directory is gone"))
    }

    pub(crate) fn label(&self) -> Label {
        match self {
            Place::Named(name) => name.as_str().into(),
            Place::Path(path) => path.to_string_lossy().into(),
        }
    }

    pub(super) fn full(&self) -> PathBuf {
        match self {
            Place::Named(name) => Path::new("/dev/shm").join(name.trim_start_matches('/')),
            Place::Path(path) => path.clone(),
        }
    }

    /// The last part of the path; there is one, or the place would not have been made.
    pub(super) fn file_name(&self) -> OsString {
        self.full().file_name().unwrap_or_default().to_owned()
    }
}

pub(super) fn bad_name(name: &str, rule: &'static str) -> Error {
    Error::BadName { what: "region", name: name.chars().take(80).collect(), rule }
}
