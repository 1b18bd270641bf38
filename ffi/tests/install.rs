//! What `install.sh` installs: found by pkg-config and CMake, linked into programs outside the tree, and removed again.
//! The program and the CMake file are those of `README.md`. All paths have spaces in them.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use common::{here, libraries, run};

fn read(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap()
}

/// Whether a tool is there; if not, says that a test does less without it.
fn has(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("skipped: there is no {tool}");
    }
    is_there
}

/// A new folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("waitqueue install {} {}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What is in it but folders.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.insert(entry.path().strip_prefix(&self.0).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The script, by `sh`, with nothing of this process's environment that it would heed.
fn script(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.arg(at).args(args);
    for name in ["PREFIX", "LIBDIR", "INCLUDEDIR", "DESTDIR"] {
        command.env_remove(name);
    }
    command
}

fn option(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

/// Installs what is built below a folder.
fn install(prefix: &Path) {
    let (prefix, library) = (option("prefix", prefix), option("library", libraries()));
    run(&mut script(&here("install.sh"), &[&prefix, &library]));
}

/// The number of the interface, and the names of the shared library with it, and with the version.
fn sonames() -> (String, String) {
    let header = read("include/waitqueue.h");
    let number = header.lines().find_map(|line| line.strip_prefix("#define WQ_INTERFACE ")).unwrap();
    let soname = format!("libwaitqueue.so.{number}");
    let file = format!("{soname}.{}", env!("CARGO_PKG_VERSION"));
    (soname, file)
}

/// The first block of that language in the page.
fn block(language: &str) -> String {
    let page = read("README.md");
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// The page's program, in a folder of its own.
fn program() -> Folder {
    let folder = Folder::new();
    fs::write(folder.at("program.c"), block("c")).unwrap();
    folder
}

/// Compiles the page's program by a shell, which reads once more what pkg-config says: it escapes the spaces.
fn compile(folder: &Folder, prefix: &Path, how: &str) {
    let line = format!("eval \"cc -std=c11 -Wall -Wextra -Wpedantic -Werror {how} -o program\"");
    run(Command::new("sh")
        .args(["-c", &line])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .current_dir(&folder.0));
}

/// Lets it wake, and then find that it was woken.
fn play(program: &Path, libraries: Option<&Path>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("/waitqueue-install-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
    let play = |words: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg("30").arg(program).arg(&name).args(words).env_remove("LD_LIBRARY_PATH");
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        run(&mut command)
    };
    let said = (play(&["now"]), play(&[]));
    waitqueue::Region::unlink(&name).unwrap();
    assert_eq!(said, ("ready\n".to_owned(), "ready\n".to_owned()));
}

/// The names that a library defines for others, as `nm` tells with these options.
fn names(library: &Path, options: &[&str]) -> BTreeSet<String> {
    let said = run(Command::new("nm").args(options).args(["--extern-only", "--defined-only"]).arg(library));
    said.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect()
}

#[test]
fn what_is_installed_is_found_by_pkg_config_and_runs() {
    if !has("pkg-config") {
        return;
    }
    let (root, program) = (Folder::new(), program());
    install(&root.0);
    let at = program.at("program");
    compile(&program, &root.0, "$(pkg-config --cflags waitqueue) program.c $(pkg-config --libs waitqueue)");
    play(&at, Some(&root.at("lib")));

    let can_be_static = "echo 'int main(void) { return 0; }' | cc -static -x c - -o program";
    if Command::new("sh").args(["-c", can_be_static]).current_dir(&program.0).status().unwrap().success() {
        compile(&program, &root.0, "-static program.c $(pkg-config --static --cflags --libs waitqueue)");
        play(&at, None);
    } else {
        println!("skipped: there is no static C library");
    }
    fs::remove_file(root.at("lib/libwaitqueue.so")).unwrap();
    compile(&program, &root.0, "program.c $(pkg-config --static --cflags --libs waitqueue)");
    play(&at, None);
}

#[test]
fn what_is_visible_is_the_interface() {
    let root = Folder::new();
    install(&root.0);
    let (soname, file) = sonames();
    let shared = root.at("lib").join(&file);
    let visible = names(&shared, &["--dynamic"]);
    assert!(visible.len() > 50, "{visible:?}");
    let in_static = names(&root.at("lib/libwaitqueue.a"), &[]);
    let others: Vec<_> = in_static.symmetric_difference(&visible).take(9).collect();
    assert!(others.is_empty(), "{others:?}");
    let header = read("include/waitqueue.h");
    for name in &visible {
        assert!(name.starts_with("wq_") && header.contains(&format!("{name}(")), "{name}");
    }

    let dynamic = run(Command::new("readelf").args(["--dynamic", "--wide"]).arg(&shared));
    assert!(dynamic.contains(&format!("soname: [{soname}]")), "{dynamic}");
    // The bell's thread is in it.
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for (link, target) in [("lib/libwaitqueue.so", &soname), (&format!("lib/{soname}"), &file)] {
        assert_eq!(fs::read_link(root.at(link)).unwrap(), Path::new(target), "{link}");
    }
}

#[test]
fn two_static_libraries_made_of_rust_do_not_meet() {
    let (root, folder) = (Folder::new(), program());
    install(&root.0);
    fs::write(
        folder.at("other.rs"),
        "#[unsafe(no_mangle)] pub extern \"C\" fn other() -> usize { std::env::args().count() }",
    )
    .unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    run(Command::new(rustc)
        .args(["--crate-type", "staticlib", "--edition", "2024", "other.rs"])
        .current_dir(&folder.0));
    // All of both, where otherwise the linker would take what both have from the first.
    run(Command::new("cc")
        .arg("-I")
        .arg(root.at("include"))
        .args(["program.c", "-o", "program", "-Wl,--whole-archive", "libother.a"])
        .arg(root.at("lib/libwaitqueue.a"))
        .args(["-Wl,--no-whole-archive", "-pthread", "-lm", "-ldl"])
        .current_dir(&folder.0));
    play(&folder.at("program"), None);
}

#[test]
fn cmake_finds_it() {
    if !has("pkg-config") || !has("cmake") {
        return;
    }
    let (root, folder) = (Folder::new(), program());
    install(&root.0);
    fs::write(folder.at("CMakeLists.txt"), block("cmake")).unwrap();
    let configure = ["-S", ".", "-B", "build"];
    for arguments in [&configure[..], &["--build", "build"]] {
        run(Command::new("cmake")
            .args(arguments)
            .env("PKG_CONFIG_PATH", root.at("lib/pkgconfig"))
            .current_dir(&folder.0));
    }
    play(&folder.at("build/program"), None);
}

#[test]
fn a_package_is_staged_from_a_tree_elsewhere() {
    let (tree, root) = (Folder::new(), Folder::new());
    std::os::unix::fs::symlink(here(".."), tree.at("the tree")).unwrap();
    let library = option("library", libraries());
    let said = run(script(&tree.at("the tree/ffi/install.sh"), &[&library])
        .env("DESTDIR", root.at("a root"))
        .env("PREFIX", "/usr")
        .env("LIBDIR", "lib/here")
        .env("INCLUDEDIR", "/usr/include/there"));
    let installed: BTreeSet<_> = said.lines().map(|line| line.to_owned()).collect();
    let there = root.files().iter().map(|file| root.at(file).to_str().unwrap().to_owned()).collect();
    assert_eq!(installed, there);
    let found = fs::read_to_string(root.at("a root/usr/lib/here/pkgconfig/waitqueue.pc")).unwrap();
    let expected = "prefix=/usr\nlibdir=${prefix}/lib/here\nincludedir=${prefix}/include/there\n";
    assert!(found.starts_with(expected), "{found}");
    assert!(found.contains(&format!("\nVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{found}");

    if has("pkg-config") {
        let flags = run(Command::new("pkg-config")
            .args(["--cflags", "--libs", "waitqueue"])
            .env("PKG_CONFIG_PATH", root.at("a root/usr/lib/here/pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", "/sysroot"));
        assert!(flags.contains("-I/sysroot/usr/include/there "), "{flags}");
        assert!(flags.contains("-L/sysroot/usr/lib/here -lwaitqueue"), "{flags}");
    }
}

#[test]
fn it_can_be_installed_again_and_uninstalled() {
    let root = Folder::new();
    let (soname, file) = sonames();
    install(&root.0);
    let first = root.files();
    assert!(first.contains(&format!("lib/{file}")) && first.contains("include/waitqueue.h"), "{first:?}");
    for (path, is_ours) in [(format!("lib/{soname}.0.0.1"), true), ("lib/libother.so.1".to_owned(), false)] {
        fs::write(root.at(&path), "").unwrap();
        install(&root.0);
        assert_eq!(root.files().contains(&path), !is_ours, "{path}");
    }
    for _ in 0..2 {
        run(&mut script(&here("install.sh"), &["uninstall", &option("prefix", &root.0)]));
        assert_eq!(root.files(), BTreeSet::from(["lib/libother.so.1".to_owned()]));
    }
    assert_eq!(first.difference(&root.files()).count(), first.len());
}

#[test]
fn the_script_says_what_it_does_not_know() {
    let root = Folder::new();
    assert!(run(&mut script(&here("install.sh"), &["--help"])).contains("--prefix=DIR"));
    let missing = [option("prefix", &root.0), option("library", &root.0)];
    let missing: Vec<_> = missing.iter().map(String::as_str).collect();
    for (arguments, complaint) in [(&["--prefix"][..], "--prefix"), (&missing, "no static library")] {
        let output = script(&here("install.sh"), arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{said}");
    }
    assert_eq!(root.files(), BTreeSet::new());
    if has("shellcheck") {
        run(Command::new("shellcheck").arg(here("install.sh")));
    }
}

/// By cargo, which takes long because the profile does; `.ci/run` asks for it.
#[test]
#[ignore = "builds the library with all optimisation"]
fn the_script_builds_the_library() {
    let (root, program) = (Folder::new(), program());
    let built = run(&mut script(&here("install.sh"), &["build"]));
    assert!(Path::new(built.trim_end()).join("libwaitqueue_ffi.a").exists(), "{built}");
    run(&mut script(&here("install.sh"), &[&option("prefix", &root.0), "--", "--offline"]));
    let (_, file) = sonames();
    for library in [file.as_str(), "libwaitqueue.a"] {
        let size = fs::metadata(root.at("lib").join(library)).unwrap().len();
        println!("{library}: {size} bytes");
        assert!(size < 2_000_000, "{library}: {size} bytes");
    }
    run(Command::new("cc")
        .args(["program.c", "-o", "program", "-pthread", "-lwaitqueue"])
        .arg("-I")
        .arg(root.at("include"))
        .arg("-L")
        .arg(root.at("lib"))
        .current_dir(&program.0));
    play(&program.at("program"), Some(&root.at("lib")));
}

#[test]
fn the_page_speaks_of_what_the_header_has() {
    let (page, header) = (read("README.md"), read("include/waitqueue.h"));
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let ours = words.filter(|word| word.starts_with("wq_") || word.starts_with("WQ_"));
        ours.filter(|word| !word.ends_with('_')).map(str::to_owned).collect()
    };
    let (page, header) = (words(&page), words(&header));
    // The kernel's own.
    let kernels = BTreeSet::from(["wq_has_sleeper".to_owned(), "wq_has_single_sleeper".to_owned()]);
    let unknown: Vec<_> = page.difference(&header).filter(|word| !kernels.contains(*word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let is_call = |word: &&String| {
        let is_type = ["options", "info", "waiter", "was_"].iter().any(|part| word.contains(part));
        !is_type
            && ["wait_", "wake_up", "_wait"].iter().any(|part| word.contains(part))
            && word.starts_with("wq_")
    };
    let missing: Vec<_> = header.difference(&page).filter(is_call).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_header_is_good_doxygen() {
    if !has("doxygen") {
        return;
    }
    let pages = Folder::new();
    let settings = format!("{}\nOUTPUT_DIRECTORY = \"{}\"\n", read("Doxyfile"), pages.0.display());
    fs::write(pages.at("Doxyfile"), settings).unwrap();
    run(Command::new("doxygen").arg(pages.at("Doxyfile")).current_dir(here("")));
    assert!(pages.at("html/waitqueue_8h.html").exists());
}
