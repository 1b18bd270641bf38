//! What opening does with a name that leads to something else than a region: it says so, at once, and neither makes nor
//! changes anything there.

#![allow(unsafe_code)]

mod common;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::stage::thread;
use common::{Name, options};
use waitqueue::{Error, Region};

/// A folder of its own, in shared memory, where names are looked up too.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let folder = Path::new("/dev/shm").join(format!("waitqueue-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All that can be seen of a file, without following it, and what is in it.
fn look(path: &Path) -> Option<([u64; 6], Vec<u8>)> {
    let stat = std::fs::symlink_metadata(path).ok()?;
    let bytes = if stat.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
    let (mode, owner, changed) = (stat.mode().into(), stat.uid().into(), stat.mtime_nsec() as u64);
    Some(([stat.ino(), mode, owner, stat.size(), changed, stat.nlink()], bytes))
}

/// Every way to open what is there, each in a thread, because none may wait for anything.
fn open_every_way(path: &Path) -> Vec<(&'static str, Error)> {
    type Way = fn(&Path) -> waitqueue::Result<Region>;
    let ways: [(&str, Way); 5] = [
        ("open", |path| options().open_at(path)),
        ("open or create", |path| options().open_or_create_at(path)),
        ("replace", |path| options().replace_dead().open_or_create_at(path)),
        ("replace by more", |path| options().replace_dead().memory(1 << 21).open_or_create_at(path)),
        ("create", |path| options().create_at(path)),
    ];
    let open = |(way, open): (&'static str, Way)| {
        let path = path.to_owned();
        let outcome = thread(move || open(&path).map(|region| region.name().to_owned())).join();
        (way, outcome.expect_err(way))
    };
    ways.into_iter().map(open).collect()
}

/// Refuses the file in every way, saying so, and leaves it and its folder as they were.
fn refused(path: &Path, why: &str) {
    let entries = || std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    let before = (look(path), entries());
    for (way, error) in open_every_way(path) {
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{way} of {path:?}: {text}");
        match way {
            "create" => assert!(matches!(error, Error::NameTaken { .. }), "{way} of {path:?}: {text}"),
            _ => assert!(text.contains(why), "{way} of {path:?}: {text:?} lacks {why:?}"),
        }
    }
    assert_eq!((look(path), entries()), before, "{path:?} is as it was");
}

fn fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a string that ends.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

fn regular(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_and_left_alone() {
    let folder = Folder::new("kinds");
    let real = folder.path("real");
    drop(options().create_at(&real).unwrap());
    symlink(&real, folder.path("link")).unwrap();
    symlink(folder.path("nothing"), folder.path("dangling")).unwrap();
    symlink(folder.path("loop"), folder.path("loop")).unwrap();
    fifo(&folder.path("fifo"));
    let _listener = std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    std::fs::create_dir(folder.path("folder")).unwrap();
    for (name, why) in [
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("loop", "symbolic link"),
        ("fifo", "it is a pipe"),
        ("socket", "a socket"),
        ("folder", "it is a directory"),
    ] {
        refused(&folder.path(name), why);
    }
    assert!(!folder.path("nothing").exists(), "nothing was made behind the link");
    drop(options().open_at(&real).expect("it is none of these"));
    for device in ["/dev/null", "/dev/zero"].map(Path::new) {
        assert!(std::fs::symlink_metadata(device).unwrap().file_type().is_char_device());
        refused(device, "device");
    }
}

#[test]
fn a_region_of_several_names_is_refused_under_each_of_them() {
    let folder = Folder::new("links");
    let (one, two) = (folder.path("one"), folder.path("two"));
    drop(options().create_at(&one).unwrap());
    std::fs::hard_link(&one, &two).unwrap();
    refused(&one, "2 names");
    refused(&two, "2 names");
    std::fs::remove_file(&one).unwrap();
    drop(options().open_at(&two).expect("the other name is its only one now"));
}

#[test]
fn a_file_that_somebody_else_may_change_or_owns_is_refused() {
    let folder = Folder::new("owners");
    let path = folder.path("region");
    drop(options().create_at(&path).unwrap());
    for mode in [0o666, 0o606, 0o602, 0o601, 0o604, 0o667, 0o777] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        refused(&path, "every user may open it");
    }
    // SAFETY: no arguments.
    let (me, root) = unsafe { (libc::getegid(), libc::geteuid() == 0) };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().gid(), me);
    drop(options().open_at(&path).expect("our own group may open it"));
    if !root {
        return println!("skipped: only root can give files away");
    }
    let give = |user, group, mode| {
        std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    give(me, 4321, 0o660);
    refused(&path, "a group that is not ours");
    for (user, group) in [(4321, me), (4321, 4321), (65534, 65534)] {
        give(user, group, 0o600);
        refused(&path, "belongs to user");
    }
    for builder in [options().accept_owner(65534), options().accept_group(65534)] {
        let error = builder.open_at(&path).unwrap_err();
        assert!(matches!(error, Error::WrongOwner { .. }), "the overflow ids identify nobody: {error}");
    }
}

#[test]
fn a_file_of_a_wrong_size_or_with_holes_is_refused() {
    let folder = Folder::new("sizes");
    let model = folder.path("model");
    drop(options().create_at(&model).unwrap());
    let bytes = std::fs::read(&model).unwrap();
    let path = folder.path("file");
    for (size, why) in [
        (0, "it has 0 bytes"),
        (1, "it has 1 bytes"),
        (4095, "it has 4095 bytes"),
        (4096, "size in the header"),
        (4097, "not a multiple of 8"),
        (4104, "size in the header"),
        (bytes.len() - 4096, "size in the header"),
        (bytes.len() - 8, "size in the header"),
        (bytes.len() - 1, "not a multiple of 8"),
    ] {
        regular(&path, &bytes[..size], 0o600);
        refused(&path, why);
    }
    let longer = [&bytes[..], &[0; 4096]].concat();
    regular(&path, &longer, 0o600);
    refused(&path, "size in the header");
    regular(&path, &vec![0; bytes.len()], 0o600);
    refused(&path, "it starts with 0x0000000000000000");
    regular(&path, &vec![0xff; bytes.len()], 0o600);
    refused(&path, "it starts with 0xffff");
    // The size of a region, and nothing behind it.
    regular(&path, &bytes[..4096], 0o600);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64).unwrap();
    refused(&path, "sparse");
    regular(&path, &bytes, 0o600);
    drop(options().open_at(&path).expect("all of it is there"));
}

#[test]
fn names_in_shared_memory_get_the_same_looks() {
    let name = Name::new();
    let path = Path::new("/dev/shm").join(name.0.trim_start_matches('/'));
    fifo(&path);
    type Way = fn(&str) -> waitqueue::Result<()>;
    let ways: [Way; 4] = [
        |name| Region::open(name).map(drop),
        |name| Region::open_or_create(name).map(drop),
        |name| Region::create(name).map(drop),
        // Opens for reading only, which would wait for a writer.
        |name| options().inspect(name).map(drop),
    ];
    for way in ways {
        let wanted = name.0.clone();
        let text = thread(move || way(&wanted)).join().unwrap_err().to_string();
        assert!(text.contains(&name.0), "{text}");
    }
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    std::fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    let error = Region::open_or_create(&name.0).unwrap_err();
    assert!(matches!(error, Error::NotARegion { .. }), "{error}");
    Region::unlink(&name.0).expect("the name is taken away, not what it leads to");
    assert!(Path::new("/dev/null").exists() && std::fs::symlink_metadata(&path).is_err());
}

#[test]
fn names_that_lead_elsewhere_are_no_names() {
    let folder = Folder::new("names");
    let victim = folder.path("victim");
    regular(&victim, b"text", 0o600);
    let inside = victim.strip_prefix("/dev/shm").unwrap().to_str().unwrap();
    let long = "n".repeat(201);
    for name in
        ["", "/", ".", "..", "/.", "/..", "../etc/passwd", "a/../b", inside, "nul\0", "/nul\0/", &long]
    {
        for outcome in [
            Region::open(name).map(drop),
            Region::create(name).map(drop),
            Region::open_or_create(name).map(drop),
            Region::unlink(name),
            options().inspect(name).map(drop),
        ] {
            assert!(matches!(outcome, Err(Error::BadName { .. })), "{name:?}: {outcome:?}");
        }
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"text");
    for path in ["", "/", "..", "/dev/shm/..", "nul\0"] {
        for outcome in [options().open_at(path).map(drop), options().create_at(path).map(drop)] {
            assert!(matches!(outcome, Err(Error::BadName { .. })), "{path:?}: {outcome:?}");
        }
    }
    // Longer than a path may be: the kernel's word.
    let error = options().open_at(folder.path(&"n".repeat(300))).unwrap_err();
    assert_eq!(error.errno(), libc::ENAMETOOLONG, "{error}");
}
