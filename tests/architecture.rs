//! What `ARCHITECTURE.md` says of the source: who may use whom, where `unsafe` and the kernel are, and how large
//! things are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From here on the modules of `lib.rs` are handles, which know each other.
const HANDLES: &str = "// The handles that users hold";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that ends in `.rs`, with its path from the root of the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The library itself, without what only tests see.
fn library() -> Vec<(String, String)> {
    let is_test = |name: &str| {
        name.ends_with("/tests.rs") || name.starts_with("src/models") || name == "src/sys/model.rs"
    };
    sources("src").into_iter().filter(|(name, _)| !is_test(name)).collect()
}

/// A file without comments and texts, line by line.
fn code(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            let mut code = String::new();
            let (mut chars, mut in_text) = (line.chars().peekable(), false);
            while let Some(char) = chars.next() {
                match char {
                    '\\' if in_text => drop(chars.next()),
                    '"' => in_text = !in_text,
                    '/' if !in_text && chars.peek() == Some(&'/') => break,
                    _ if in_text => {}
                    char => code.push(char),
                }
            }
            code
        })
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// What follows `prefix` in a file's paths: `a` of `prefix::a::b`, and `a` and `c` of `prefix::{a::b, c}`.
fn paths_after(lines: &[String], prefix: &str) -> BTreeSet<String> {
    let text = lines.join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let is_whole = !text[..at].ends_with(|char: char| char.is_alphanumeric() || "_:$".contains(char));
        let rest = &text[at + prefix.len()..];
        if !is_whole {
        } else if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut name = String::new();
            for char in group.chars() {
                match char {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {}
                    char => {
                        name.push(char);
                        continue;
                    }
                }
                found.extend(words(&name).next().map(str::to_owned).filter(|_| depth <= 1));
                if depth == 1 {
                    name.clear();
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.extend(words(rest).next().map(str::to_owned));
        }
    }
    found
}

/// The modules that a file declares, in order.
fn modules(text: &str) -> Vec<String> {
    let declaration = |line: &String| {
        let line = line.trim().trim_start_matches("pub(crate) ");
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    };
    code(text).iter().filter_map(declaration).collect()
}

#[test]
fn a_file_uses_only_files_above_it() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let (core, handles) = lib.split_once(HANDLES).expect("lib.rs says where the handles begin");
    let (core, handles) = (modules(core), modules(handles));
    let order = |name: &str| core.iter().position(|module| module == name);
    assert!(core.len() > 10 && handles.len() > 5, "{core:?} {handles:?}");
    for (file, text) in library() {
        let module = file.split(['/', '.']).nth(1).unwrap();
        let Some(mine) = order(module) else {
            assert!(
                module == "lib" || handles.iter().any(|handle| handle == module),
                "{file} is in no order"
            );
            continue;
        };
        for used in paths_after(&code(&text), "crate::") {
            let is_handle = handles.contains(&used);
            let is_below = order(&used).is_some_and(|theirs| theirs > mine);
            assert!(!is_handle && !is_below, "{file} uses {used}, which is below it");
        }
    }
}

#[test]
fn a_file_of_sys_uses_only_files_above_it() {
    let order = modules(&fs::read_to_string(root().join("src/sys/mod.rs")).unwrap());
    assert!(order.len() > 5, "{order:?}");
    for (file, text) in library() {
        let Some(module) = file.strip_prefix("src/sys/").map(|rest| rest.split(['/', '.']).next().unwrap())
        else {
            continue;
        };
        if module == "mod" {
            continue;
        }
        let mine = order.iter().position(|other| other == module).unwrap_or_else(|| panic!("{file}"));
        let code = code(&text);
        let nested = file.matches('/').count() > 2;
        let mut used = paths_after(&code, "crate::sys::");
        used.extend(paths_after(&code, if nested { "super::super::" } else { "super::" }));
        for used in used {
            let is_below = order.iter().position(|other| *other == used).is_some_and(|theirs| theirs > mine);
            assert!(!is_below || used == "model", "{file} uses {used}, which is below it");
        }
    }
}

#[test]
fn unsafe_code_is_fenced_and_proved() {
    let fence = ["src/sys/", "src/offset.rs", "src/layout.rs", "src/region.rs", "ffi/src/"];
    for (file, text) in library().into_iter().chain(sources("ffi/src")) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, code) in code(&text).iter().enumerate() {
            if !words(code).any(|word| word == "unsafe") {
                continue;
            }
            assert!(fence.iter().any(|place| file.starts_with(place)), "{file}:{}: unsafe", at + 1);
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                let above = lines[..=at].iter().rev().take_while(|line| !line.trim().is_empty());
                assert!(
                    above.take(9).any(|line| line.contains("SAFETY:")),
                    "{file}:{}: no SAFETY comment",
                    at + 1
                );
            }
        }
    }
}

#[test]
fn only_sys_knows_the_kernel() {
    for (file, text) in library() {
        let is_sys = file.starts_with("src/sys/");
        for (at, line) in code(&text).iter().enumerate() {
            for name in words(line).filter(|word| ["rustix", "linux_futex", "memmap2", "libc"].contains(word))
            {
                // The error numbers of the C interface are libc's.
                let is_errno = file == "src/error.rs" && line.contains("libc::E");
                assert!(is_sys || is_errno, "{file}:{}: {name}", at + 1);
            }
        }
    }
}

#[test]
fn files_are_short_and_say_nothing_of_this_machine() {
    for (file, text) in ["src", "tests", "ffi", "examples", "benches"].into_iter().flat_map(sources) {
        let length = text.lines().count();
        assert!(!file.starts_with("src/") || length <= 500, "{file} has {length} lines");
        for mark in ["TO\u{44}O", "FIX\u{4d}E", "/wor\u{6b}/", "/roo\u{74}/", "/hom\u{65}/"] {
            assert!(!text.contains(mark), "{file} contains {mark}");
        }
    }
}

#[test]
fn a_normal_build_has_at_most_eight_crates() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-p", "waitqueue"])
        .current_dir(root());
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("linux-futex") && crates.len() <= 8, "{crates:?}");
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "ffi/README.md"] {
        let document = root().join(document);
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(document.with_file_name(link).exists(), "{}: {link}", document.display());
        }
    }
}
