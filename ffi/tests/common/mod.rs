//! What the tests of the C interface share: C programs, compiled as C and as C++, played as children.
//!
//! A C program has roles, as a test binary has (see `tests/common`): `check.h` runs the one that it is asked for, which
//! prints what does not hold, and at its end "well".
#![allow(dead_code, unreachable_pub)]

#[path = "../../../tests/common/mod.rs"]
pub mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::*};

use process::{Child, Name};

pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command to its end, and returns what it said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let Output { stdout, stderr, .. } = &output;
    let (said, complaint) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert!(output.status.success(), "{command:?} ended with {}: {said}{complaint}", output.status);
    said.into_owned()
}

/// Where cargo has put the libraries of this profile, as new as this test.
pub fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a program");
        let profile = test.ancestors().nth(2).expect("target/profile/deps/test");
        let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile has a name");
        run(Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "waitqueue-ffi"])
            .args(["--profile", if name == "debug" { "dev" } else { name }])
            .arg("--target-dir")
            .arg(profile.parent().expect("target/profile"))
            .current_dir(env!("CARGO_MANIFEST_DIR")));
        // What the loader looks for is the name that it is installed by.
        let _ = std::os::unix::fs::symlink("libwaitqueue_ffi.so", profile.join("libwaitqueue.so.1"));
        profile.to_owned()
    })
}

pub fn shared_library() -> PathBuf {
    libraries().join("libwaitqueue_ffi.so")
}

/// How a program is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    C,
    /// With frames that can be unwound through, as in programs that mix C with C++.
    UnwindingC,
    /// With the shared library.
    SharedC,
    Cplusplus,
}

/// A compiled program, removed when dropped.
pub struct Program(pub PathBuf);

impl Program {
    /// Of a source in `tests/c`, or beside `tests`.
    pub fn new(source: &str, how: How) -> Program {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("waitqueue-ffi-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let program = Program(std::env::temp_dir().join(name));
        let language: &[&str] = match how {
            How::C | How::SharedC => &["cc", "-std=c11"],
            How::UnwindingC => &["cc", "-std=c11", "-fexceptions"],
            How::Cplusplus => &["c++", "-x", "c++", "-std=c++17"],
        };
        let source = if source.contains('/') { here(source) } else { here("tests/c").join(source) };
        let mut command = Command::new(language[0]);
        command.args(&language[1..]).args(["-D_GNU_SOURCE", "-O1", "-g"]).args(WARNINGS);
        command.arg("-I").arg(here("include")).arg("-o").arg(&program.0).arg(source).args(["-x", "none"]);
        if how == How::SharedC {
            command.arg(shared_library()).arg(format!("-Wl,-rpath,{}", libraries().display()));
        } else {
            command.arg(libraries().join("libwaitqueue_ffi.a")).args(["-ldl", "-lm"]);
        }
        run(command.arg("-pthread"));
        program
    }

    /// Begins to play a role.
    pub fn start(&self, role: &str, args: &[&str]) -> Child {
        Child::start_command(Command::new(&self.0), role, args, &[])
    }

    /// Plays a role to its end, which has to be a good one.
    pub fn plays(&self, role: &str, args: &[&str]) {
        self.start(role, args).ends_well(role);
    }

    /// The names of its roles.
    pub fn roles(&self) -> Vec<String> {
        let mut child = self.start("roles", &[]);
        let roles: Vec<_> = std::iter::from_fn(|| child.hear_or_end()).collect();
        assert!(!roles.is_empty());
        roles
    }

    /// Plays all of its roles, one after the other, each with a region of its own.
    pub fn plays_all(&self) {
        for role in self.roles() {
            self.plays(&role, &[&Name::new().0]);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What is asked of a child that plays a role in C.
pub trait EndsWell {
    /// It says nothing but "well", and ends.
    fn ends_well(self, role: &str);
}

impl EndsWell for Child {
    fn ends_well(mut self, role: &str) {
        let mut complaints = Vec::new();
        while let Some(line) = self.hear_or_end() {
            match line.as_str() {
                "well" => {
                    self.end_well();
                    return;
                }
                _ => complaints.push(line),
            }
        }
        panic!("{role} ended with {}: {}", self.end(), complaints.join("\n"));
    }
}
