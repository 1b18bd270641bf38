//! Compiles what the benches do in C.

fn main() {
    println!("cargo:rerun-if-changed=c/line.c");
    println!("cargo:rerun-if-changed=../../ffi/include/waitqueue.h");
    cc::Build::new().file("c/line.c").include("../../ffi/include").opt_level(2).compile("line");
}
