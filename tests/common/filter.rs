//! System call filters (seccomp), which imitate older kernels, container runtimes and sandboxes.

/// Whom a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// All threads of the process.
    All,
    /// The calling thread, and those that it starts from now on.
    ThisThread,
}

/// `action` where system call `number` has `second` as its second argument, or always, if that is `None`.
pub fn filter(number: libc::c_long, second: Option<u32>, action: u32, whom: Whom) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The low half of the second argument, on a little-endian machine.
    let argument = [op(LOAD, 0, 0, 24), op(EQUAL, 0, 1, second.unwrap_or(0))];
    let argument = if second.is_some() { &argument[..] } else { &[] };
    let mut program =
        vec![op(LOAD, 0, 0, 0), op(EQUAL, 0, 1 + argument.len() as u8, number.cast_unsigned() as u32)];
    program.extend(argument);
    program.extend([op(RETURN, 0, 0, action), op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW)]);
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = if whom == Whom::All { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    // SAFETY: a valid program; the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const fprog), 0);
    }
}

/// As if the kernel did not have the call, or forbade it.
pub fn refuse(number: libc::c_long, errno: i32, whom: Whom) {
    filter(number, None, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(), whom);
}
