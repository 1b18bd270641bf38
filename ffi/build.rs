//! The shared library's name for the dynamic linker, which ends in the number of the interface that the header has.

fn main() {
    const HEADER: &str = "include/waitqueue.h";
    println!("cargo::rerun-if-changed={HEADER}");
    let header = std::fs::read_to_string(HEADER).expect("the header is beside this file");
    let interface = header.lines().find_map(|line| line.strip_prefix("#define WQ_INTERFACE "));
    let interface = interface.expect("the header has the number of its interface").trim();
    println!("cargo::rustc-env=WQ_INTERFACE={interface}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libwaitqueue.so.{interface}");
    // The bell's thread, and what is to be done at the ends of others, may outlive a dlclose.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
