//! The header by itself: good C and good C++, and true of the library that it describes.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::mem::offset_of;
use std::process::Command;

use common::{How, Program, WARNINGS, here, run, shared_library};
use waitqueue_ffi::*;

fn header() -> String {
    std::fs::read_to_string(here("include/waitqueue.h")).unwrap()
}

/// The header without its comments.
fn code() -> String {
    let header = header();
    let after_comments = header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code));
    after_comments.collect()
}

/// A source in C in a file that is removed when dropped.
struct Source(std::path::PathBuf);

impl Source {
    fn of(name: &str, text: &str) -> Source {
        let path = std::env::temp_dir().join(format!("waitqueue-ffi-{}-{name}.c", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Source(path)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const LANGUAGES: [(&str, &str, &[&str]); 2] =
    [("cc", "c", &["c11", "c17", "gnu2x"]), ("c++", "c++", &["c++11", "c++14", "c++17", "c++20"])];

#[test]
fn it_needs_no_other_and_may_come_twice() {
    let source = Source::of("twice", "#include <waitqueue.h>\n#include <waitqueue.h>\nint unused(void);\n");
    for (compiler, language, standards) in LANGUAGES {
        for standard in standards {
            run(Command::new(compiler)
                .args(["-fsyntax-only", "-x", language, &format!("-std={standard}")])
                .args(WARNINGS)
                .arg("-I")
                .arg(here("include"))
                .arg(&source.0));
        }
    }
}

/// What it declares: lines that begin in the first column, with a type, which comments and definitions do not.
fn declared() -> BTreeSet<String> {
    let header = header();
    let starts = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let is_declaration =
        |line: &&str| !["typedef", "static", "inline"].iter().any(|word| line.starts_with(word));
    let names = starts.filter(is_declaration).filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        before.rsplit([' ', '*']).next().map(str::to_owned)
    });
    names.collect()
}

#[test]
fn it_declares_what_the_library_defines() {
    let mut defined = BTreeSet::new();
    for entry in std::fs::read_dir(here("src")).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for abi in ["extern \"C\" fn wq_", "extern \"C-unwind\" fn wq_"] {
            for part in source.split(abi).skip(1) {
                defined.insert(format!("wq_{}", part.split('(').next().unwrap()));
            }
        }
    }
    assert_eq!(declared(), defined);
}

#[test]
fn the_shared_library_exports_that_and_nothing_else() {
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(shared_library()));
    let exported = symbols.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned);
    // (A symbol's version follows an @.)
    let exported: BTreeSet<_> =
        exported.map(|name| name.split('@').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(exported, declared());
}

/// The fields of all structs that are not opaque: `("wq_woken", ["exclusive", "nonexclusive"])`.
fn structs() -> Vec<(String, Vec<String>)> {
    let code = code();
    let bodies = code.split("typedef struct ").skip(1).filter_map(|part| {
        let (name, rest) = part.split_once(|end: char| !end.is_alphanumeric() && end != '_')?;
        let body = rest.strip_prefix('{')?.split('}').next()?;
        let fields = body.split(';').flat_map(|line| line.split(',')).filter_map(|field| {
            let field = field.trim().split('[').next()?;
            field.rsplit([' ', '*', '\t']).next().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        Some((name.to_owned(), fields.collect()))
    });
    bodies.collect()
}

/// The constants: what is defined without arguments, as a number.
fn constants() -> Vec<String> {
    let code = code();
    let defines = code.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let names = defines.map(|(name, _)| name).filter(|name| name.starts_with("WQ_") && !name.contains('('));
    names.filter(|name| !name.ends_with("_INIT")).map(str::to_owned).collect()
}

/// What a C program says of them, each by its name.
fn as_c_has_them(how: How) -> BTreeMap<String, u64> {
    let mut text =
        "#include \"TESTS/check.h\"\nint main(void)\n{\n".replace("TESTS", here("tests/c").to_str().unwrap());
    let mut say = |name: &str, value: &str| {
        writeln!(text, "\tsay(\"%s %\" PRIu64, \"{name}\", (uint64_t)({value}));").unwrap();
    };
    for (name, fields) in structs() {
        say(&name, &format!("sizeof({name})"));
        say(&format!("{name} aligned"), &format!("offsetof(struct {{ char before; {name} it; }}, it)"));
        for field in fields {
            say(&format!("{name}.{field}"), &format!("offsetof({name}, {field})"));
            say(&format!("{name}.{field} size"), &format!("sizeof((({name} *)0)->{field})"));
        }
    }
    for name in constants() {
        say(&name, &name);
    }
    text += "\treturn 0;\n}\n";
    if how == How::Cplusplus {
        // A type may not be defined inside an offsetof there, and need not be.
        text = text
            .lines()
            .filter(|line| !line.contains(" aligned"))
            .fold(String::new(), |text, line| text + line + "\n");
    }
    let source = Source::of(if how == How::C { "layout" } else { "layout-of-c++" }, &text);
    let said = run(&mut Command::new(&Program::new(source.0.to_str().unwrap(), how).0));
    let of = |line: &str| {
        let (name, value) = line.strip_prefix("> ")?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    said.lines().filter_map(of).collect()
}

fn size_at<S, F>(_: fn(&S) -> &F) -> u64 {
    size_of::<F>() as u64
}

/// The same of the library's structs: every field by name, so that none can be missing here or there.
macro_rules! layout {
    ($into:ident, $($name:ident { $($field:ident),* })*) => {$(
        $into.insert(stringify!($name).to_owned(), size_of::<$name>() as u64);
        $into.insert(format!("{} aligned", stringify!($name)), align_of::<$name>() as u64);
        $(
            $into.insert(format!("{}.{}", stringify!($name), stringify!($field)), offset_of!($name, $field) as u64);
            $into.insert(format!("{}.{} size", stringify!($name), stringify!($field)), size_at(|it: &$name| &it.$field));
        )*
    )*};
}

fn as_the_library_has_them() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    layout!(all,
        wq_woken { exclusive, nonexclusive }
        wq_wait_options { size, flags, class_mask, key, signal_count, signals, interrupter, label, spin }
        wq_region_options {
            size, flags, mode, participants, threads, entries, objects, memory, tick, patience, spin, owners,
            owner_count, groups, group_count
        }
        wq_source { queue, condition, context, flags, class_mask, key, reserved }
        wq_region_info {
            name, size, deaths, participants, queues, objects, entries_used, entries, threads_used, threads
        }
        wq_participant_info { id, since, process, is_alive }
        wq_queue_info {
            name, lock_owner, wakes, claims, hand_ons, recoveries, rescues, waiters, is_closed, reserved
        }
        wq_waiter_info { label, participant, since, process, thread, state, flags, is_persistent, key }
        wq_object_info { name, tag, size }
    );
    let opaque = [
        ("wq_queue_head", size_of::<waitqueue::QueueHead>(), align_of::<waitqueue::QueueHead>()),
        ("wq_robust_lock", size_of::<waitqueue::RobustLock>(), align_of::<waitqueue::RobustLock>()),
        ("wq_wait", size_of::<wq_wait>(), align_of::<wq_wait>()),
    ];
    for (name, size, alignment) in opaque {
        let parts = [("", size), (" aligned", alignment), (".opaque", 0), (".opaque size", size)];
        all.extend(parts.map(|(what, value)| (format!("{name}{what}"), value as u64)));
    }
    let numbers: [(&str, u64); 21] = [
        ("EXCLUSIVE", numbers::EXCLUSIVE.into()),
        ("PRIORITY", numbers::PRIORITY.into()),
        ("INTERRUPTIBLE", numbers::INTERRUPTIBLE.into()),
        ("KILLABLE", numbers::KILLABLE.into()),
        ("NO_SPIN", numbers::NO_SPIN.into()),
        ("PATH", numbers::PATH.into()),
        ("REPLACE_DEAD", numbers::REPLACE_DEAD.into()),
        ("NO_TICK", numbers::NO_TICK.into()),
        ("NO_REGION_SPIN", numbers::NO_REGION_SPIN.into()),
        ("EVALUATING", numbers::EVALUATING.into()),
        ("ASLEEP", numbers::ASLEEP.into()),
        ("CHOSEN", numbers::CHOSEN.into()),
        ("GONE", numbers::GONE.into()),
        ("FOREVER", numbers::FOREVER),
        ("INTERFACE", numbers::INTERFACE.into()),
        // `WakeOptions::all` has the same.
        ("ALL", u32::MAX.into()),
        ("KEY_ANY", u32::MAX.into()),
        ("CLASS_INTERRUPTIBLE", waitqueue::class::INTERRUPTIBLE.into()),
        ("CLASS_UNINTERRUPTIBLE", waitqueue::class::UNINTERRUPTIBLE.into()),
        ("CLASS_NORMAL", waitqueue::class::NORMAL.into()),
        ("CLASS_ANY", waitqueue::class::ANY.into()),
    ];
    all.extend(numbers.map(|(name, value)| (format!("WQ_{name}"), value)));
    all
}

#[test]
fn its_structs_and_numbers_are_the_librarys() {
    let library = as_the_library_has_them();
    for how in [How::C, How::Cplusplus] {
        let header = as_c_has_them(how);
        let is_asked = |name: &str| how == How::C || !name.ends_with(" aligned");
        let names: BTreeSet<_> = header.keys().chain(library.keys()).filter(|name| is_asked(name)).collect();
        assert!(names.len() > 100, "{names:?}");
        let differences: Vec<_> =
            names.iter().filter(|name| header.get(**name) != library.get(**name)).collect();
        assert!(differences.is_empty(), "{how:?}: the header and the library differ in {differences:?}");
    }
}
