//! The rest of a participant's life: it becomes another program or a daemon, one of its threads panics, it dumps core,
//! the system takes its memory back. Whatever it does while its threads are in the middle of everything, the survivors
//! go on, get what was on its way to it, and nothing of it is left.
#![allow(unsafe_code)]

mod common;
mod kill;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use common::{Child, LIMIT, listen, say, until, until_asleep};
use kill::turns::{id_of, stage};
use kill::{ASLEEP_ON_A, OF_A, OF_B, Survivors, World, nothing_leaked};
use waitqueue::{Error, ParticipantId, Source, WaitOptions, WaitSet, wait_many};

#[test]
fn role() {
    common::play(&[
        ("execs", execs),
        ("daemon", daemon),
        ("panics", panics),
        ("dumper", dumper),
        ("eater", eater),
    ]);
}

type Way = fn(&World);

/// How many entries an engaged process has on queue `a`.
const ENGAGED_ON_A: usize = 3;

/// Threads in the middle of everything: asleep in three ways, taking what comes, and one asleep with the lock in hand.
fn engage(world: &World) {
    let ways: [Way; 4] = [
        |world| while world.a.wait_event_exclusive(|| world.work(OF_A)).is_ok() {},
        |world| {
            let options = WaitOptions::new().exclusive();
            loop {
                let (mut on_a, mut on_b) = (|| world.work(OF_A), || world.work(OF_B));
                let a = Source::with(&world.a, &options, &mut on_a);
                let b = Source::with(&world.b, &options, &mut on_b);
                wait_many(&mut [a, b], &WaitOptions::new()).unwrap();
            }
        },
        |world| {
            let mut set = WaitSet::new(&world.region).unwrap();
            set.add(&world.a, &WaitOptions::new().exclusive()).unwrap();
            while set.wait(&WaitOptions::new(), |_| world.work(OF_A)).is_ok() {}
        },
        |world| {
            let _guard = world.lock.lock().unwrap();
            world.c.wait_event(|| false).unwrap();
        },
    ];
    for way in ways {
        let world = world.clone();
        std::thread::spawn(move || way(&world));
    }
}

/// Attached, engaged, and told to go on by the test.
fn engaged(name: &str) -> World {
    let world = World::open(name);
    engage(&world);
    say(&world.region.me().get().to_string());
    listen();
    world
}

/// Lets an engaged process end in some way, with wakes on their way to it, and looks for what is left of it.
fn ends(role: &str, args: &[&str], what: &str, end: impl FnOnce(&mut Child)) -> Child {
    let (name, world, _turn) = stage();
    let survivors = Survivors::start(&world);
    survivors.asleep(0);
    let mut victim = Child::start(role, &[&[name.0.as_str()], args].concat());
    let id = id_of(&mut victim);
    survivors.asleep(ENGAGED_ON_A);
    until_asleep(&world.region, "c", 1);
    end(&mut victim);
    has_ended(&world, survivors, id, what);
    victim
}

/// What is owed to the survivors of a participant that is ending, or has ended.
fn has_ended(world: &World, survivors: Survivors, id: ParticipantId, what: &str) {
    for item in OF_A.take(16) {
        world.put(item);
        world.a.wake_up().unwrap();
    }
    until(&format!("{what}: its death is noticed"), || !world.region.is_alive(id));
    world.settled(what);
    let guard = world.lock.lock_timeout(LIMIT).unwrap();
    assert!(guard.owner_died(), "{what}");
    guard.repaired();
    drop(guard);
    until(&format!("{what}: only survivors wait"), || {
        let queues = world.region.snapshot().queues;
        let on = |name| queues.iter().find(|queue| queue.name == name).map_or(0, |queue| queue.waiters.len());
        on("a") == ASLEEP_ON_A && on("c") == 0
    });
    world.put_more(4);
    world.settled(what);
    survivors.stop(what);
    nothing_leaked(&world.region, (0, 1, 1), what);
}

/// One of its threads turns the process into another program, which ends when the test closes its input.
fn execs(args: &[String]) {
    let _world = engaged(&args[0]);
    let other = std::thread::spawn(|| {
        let argv = [c"cat".as_ptr(), std::ptr::null()];
        // SAFETY: strings that end, in an array that ends.
        unsafe { libc::execvp(argv[0], argv.as_ptr()) }
    });
    panic!("exec: {:?}", other.join());
}

#[test]
fn p2_a_process_that_becomes_another_program_while_its_threads_wait_is_dead() {
    for round in 0..5 {
        let mut victim = ends("execs", &[], &format!("exec {round}"), |victim| victim.tell("exec"));
        assert!(!victim.has_ended(), "its process runs on");
    }
}

/// Becomes a daemon, reports, and is engaged; attached before as well, if the test says so.
fn daemon(args: &[String]) {
    let before = (args[1] == "attached").then(|| World::open(&args[0]));
    // SAFETY: children that have one thread each; this process waits for nobody, and leaves by `_exit`.
    unsafe {
        if libc::fork() != 0 {
            libc::_exit(0);
        }
        assert!(libc::setsid() > 0);
        if libc::fork() != 0 {
            libc::_exit(0);
        }
        libc::chdir(c"/".as_ptr());
        libc::umask(0);
        libc::close(0);
        libc::close(1);
        libc::close(2);
        libc::alarm(2 * LIMIT.as_secs() as u32); // so that nobody has to look for it after a failure
    }
    let refused = before.as_ref().is_none_or(|before| {
        let forked = |outcome: waitqueue::Result<()>| matches!(outcome, Err(Error::Forked { .. }));
        forked(before.a.wake_up().map(drop)) && forked(before.a.wait_event(|| false))
    });
    let world = World::open(&args[0]);
    engage(&world);
    // Its output goes to a number that nothing of the region may have.
    println!("{}", "a daemon without standard output ".repeat(1000));
    let report = world.region.object::<AtomicU64>("daemon").unwrap();
    report.store(if refused { world.region.me().get() } else { u64::MAX }, Release);
    world.b.wake_up_all().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn p2_a_daemon_attaches_after_it_has_become_one_and_has_nothing_of_what_it_attached_before() {
    for before in ["", "attached"] {
        let (name, world, _turn) = stage();
        let survivors = Survivors::start(&world);
        survivors.asleep(0);
        let report = world.region.object::<AtomicU64>("daemon").unwrap();
        let mut first = Child::start("daemon", &[&name.0, before]);
        first.end_well();
        until("the daemon has attached", || report.load(Acquire) != 0);
        assert_ne!(report.load(Acquire), u64::MAX, "what was attached before says Forked");
        let id = ParticipantId::new(report.load(Acquire)).unwrap();
        survivors.asleep(ENGAGED_ON_A);
        let mine = |found: &Vec<waitqueue::ParticipantInfo>| found.iter().any(|found| found.id == id);
        until("its first process is gone", || world.region.participants().len() == 2);
        let found = world.region.participants();
        assert!(mine(&found), "{found:?}");
        drop(common::options().open(&name.0).expect("nothing was printed into the region"));
        let process = found.iter().find(|found| found.id == id).unwrap().process;
        // SAFETY: the daemon's own number, since it lives.
        assert_eq!(unsafe { libc::kill(process.cast_signed(), libc::SIGKILL) }, 0);
        has_ended(&world, survivors, id, "daemon");
    }
}

/// Ways in which a thread panics while it is first in line, having been chosen.
const PANICS: [(&str, Way); 4] = [
    ("in the condition", |world| {
        let looks = AtomicU32::new(0);
        let _ = world.a.wait_event_exclusive(|| {
            assert!(looks.fetch_add(1, Relaxed) < 2, "on purpose");
            false
        });
    }),
    ("in a section between prepare and finish", |world| {
        let mut wait = world.a.prepare_to_wait(&WaitOptions::new().exclusive()).unwrap();
        wait.prepare();
        wait.sleep().unwrap();
        panic!("on purpose");
    }),
    ("in a set", |world| {
        let (looks, options) = (AtomicU32::new(0), WaitOptions::new().exclusive());
        let mut set = WaitSet::new(&world.region).unwrap();
        set.add(&world.b, &options).unwrap();
        set.add(&world.a, &options).unwrap();
        let _ = set.wait(&WaitOptions::new(), |_| {
            assert!(looks.fetch_add(1, Relaxed) < 2, "on purpose");
            false
        });
    }),
    ("with the lock", |world| {
        let guard = world.lock.lock().unwrap();
        world.a.wait_woken(&WaitOptions::new().exclusive()).unwrap();
        world.a.wake_up().unwrap(); // it took the wake, so it passes it on
        drop(guard);
        panic!("on purpose");
    }),
];

/// A thread panics, others of the process go on and take the next item.
fn panics(args: &[String]) {
    std::panic::set_hook(Box::new(|_| {}));
    let world = World::open(&args[0]);
    say("attached");
    for (_, way) in PANICS {
        let doomed = std::thread::spawn({
            let world = world.clone();
            move || catch_unwind(AssertUnwindSafe(|| way(&world))).is_err()
        });
        until_asleep(&world.region, "a", 1);
        let sibling = std::thread::spawn({
            let world = world.clone();
            move || world.a.wait_event_exclusive(|| world.work(OF_A)).is_ok()
        });
        until_asleep(&world.region, "a", 2);
        say("asleep");
        listen();
        let panicked = common::join("the doomed thread", doomed);
        let goes_on = common::join("its sibling", sibling);
        assert!(panicked && goes_on);
        say("went on");
        listen();
    }
}

#[test]
fn p4_a_thread_that_panics_passes_on_what_it_was_woken_for_and_its_process_goes_on() {
    let (name, world, _turn) = stage();
    world.region.check().unwrap(); // this thread has a record from here on
    let mut child = Child::start("panics", &[&name.0]);
    child.expect("attached");
    for (item, (way, _)) in PANICS.iter().enumerate() {
        child.expect("asleep");
        world.put(item);
        assert_eq!(world.a.wake_up().map(|woken| woken.exclusive), Ok(1), "{way}");
        world.settled(way);
        child.tell("join");
        child.expect("went on");
        assert!(!world.a.has_sleepers() && !world.b.has_sleepers(), "{way}");
        until(&format!("{way}: all entries are given back"), || {
            kill::owned(&world.region.snapshot()).0 <= 1 // the one that the child's main thread may keep
        });
        child.tell("next");
    }
    child.end_well();
    nothing_leaked(&world.region, (0, 1, 1), "panics");
}

/// A directory that is removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = common::Name::new().0.clone();
        // In memory: a disk that others keep busy may take longer for a core than any test waits.
        let folder = Path::new("/dev/shm").join(name.trim_start_matches('/'));
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Has much to dump, and says so.
fn dumper(args: &[String]) {
    std::env::set_current_dir(&args[1]).unwrap();
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: plain numbers; without the right to it there is no core.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const all) };
    // A shell that starts the tests in the background has SIGQUIT ignored, which is inherited.
    // SAFETY: this process has no handler of its own.
    unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
    let much = vec![1_u8; 64 << 20];
    let world = engaged(&args[0]);
    say("ready");
    listen();
    drop((world, much));
}

#[test]
fn p2_trap_34_a_process_that_dumps_core_is_dead_when_it_has_done_so() {
    for signal in [libc::SIGQUIT, libc::SIGABRT] {
        let folder = Folder::new();
        // The survivors are woken while it writes.
        let mut victim = ends("dumper", &[folder.0.to_str().unwrap()], "core dump", |victim| {
            victim.tell("go on");
            victim.expect("ready");
            victim.signal(signal);
        });
        if !victim.end().core_dumped() {
            println!("no core was dumped here: this shows the death by a signal alone");
        }
    }
}

/// A control group with little memory, below our own.
struct Group(PathBuf);

impl Group {
    /// `None`, said aloud, where that is not permitted.
    fn new(limit: u64) -> Option<Group> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let ours = |line: &str| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            // Version 1 has a hierarchy for memory, version 2 one for everything.
            let (mount, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return None,
            };
            let name = common::Name::new().0.clone();
            let group = Group(Path::new(mount).join(path).join(name.trim_start_matches('/')));
            std::fs::create_dir(&group.0).ok()?;
            std::fs::write(group.0.join(file), limit.to_string()).ok()?;
            let _ = std::fs::write(group.0.join("memory.swap.max"), "0");
            let _ = std::fs::write(group.0.join("memory.memsw.limit_in_bytes"), limit.to_string());
            Some(group)
        };
        let group = groups.lines().find_map(ours);
        if group.is_none() {
            println!("skipped: no control group for memory can be made here");
        }
        group
    }

    fn add(&self, child: &Child) {
        std::fs::write(self.0.join("cgroup.procs"), child.pid().to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Busy until the last page of the dead is gone.
        for _ in 0..1000 {
            match std::fs::remove_dir(&self.0) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

/// Eats memory until it is killed for it.
fn eater(args: &[String]) {
    let _world = engaged(&args[0]);
    loop {
        std::hint::black_box(vec![1_u8; 1 << 20].leak());
    }
}

#[test]
fn p2_a_process_that_is_killed_for_its_memory_is_dead() {
    for round in 0..3 {
        let Some(group) = Group::new(48 << 20) else { return };
        let mut victim = ends("eater", &[], &format!("out of memory {round}"), |victim| {
            group.add(victim);
            victim.tell("eat");
        });
        victim.end_killed();
    }
}
