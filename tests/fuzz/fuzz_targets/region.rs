//! Bytes of a region changed by a hostile peer, between and inside the calls of an honest participant.
//!
//! A sleep would give the processor away, so that most of the time nothing would be tried. Here all sleeps end at once, as
//! if time were up; the target `attach` has real ones.
#![no_main]

#[path = "../interpreter/mod.rs"]
mod interpreter;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};

libfuzzer_sys::fuzz_target!(init: end_sleeps(), |bytes: &[u8]| interpreter::run(bytes, false));

/// From here on the kernel answers this thread's sleeps on shared words, and no other call, with "timed out".
fn end_sleeps() {
    interpreter::run(&[], false); // the region's own bell keeps its sleep
    let load = |field: u32| op(BPF_LD | BPF_W | BPF_ABS, 0, 0, field);
    let unless = |value: i64, skipped: u8| op(BPF_JMP | BPF_JEQ | BPF_K, 0, skipped, value as u32);
    let end = |action: u32| op(BPF_RET | BPF_K, 0, 0, action);
    let mut program = [
        load(0),
        unless(libc::SYS_futex, 3),
        load(24), // the second argument's low half
        unless(libc::FUTEX_WAIT_BITSET.into(), 1),
        end(libc::SECCOMP_RET_ERRNO | libc::ETIMEDOUT as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let (set, quick) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    // SAFETY: a valid program, which the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, quick, &raw const filter), 0);
    }
}

fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}
