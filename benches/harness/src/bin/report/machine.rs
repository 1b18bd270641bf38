//! What it was measured on, and against which versions.
#![allow(unsafe_code)] // gnu_get_libc_version(3)

use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crates that benches compare with.
const CRATES: [&str; 4] = ["raw_sync", "iceoryx2", "event-listener", "parking_lot_core"];

/// A table; warns of what was measured in different places or in a hurry.
pub(crate) fn describe(repository: &Path, lines: &[&Value]) -> String {
    let machines: Vec<&Value> =
        lines.iter().map(|line| &line["machine"]).filter(|machine| machine.is_object()).collect();
    let same = |key: &str| {
        let mut values: Vec<String> = machines.iter().map(|machine| plain(&machine[key])).collect();
        values.sort();
        values.dedup();
        values.join("; ")
    };
    let loads = machines.iter().filter_map(|machine| machine["load"].as_f64());
    let (least, most) =
        loads.fold((f64::MAX, 0.0_f64), |(least, most), load| (least.min(load), most.max(load)));
    let virtual_machine = if same("virtual") == "true" { ", a virtual machine" } else { "" };
    let mut text = String::from("| | |\n|---|---|\n");
    let mut row = |what: &str, value: String| text += &format!("| {what} | {value} |\n");
    row("processor", format!("{}, {} of them{virtual_machine}", same("cpu"), same("cpus")));
    row("kernel: futex, eventfd, epoll, pipe, socket", format!("Linux {}", same("kernel")));
    row("C library: condition variable, mutex, semaphore", format!("glibc {}", libc_version()));
    row("compiler", compiler());
    let lock = fs::read_to_string(repository.join("Cargo.lock")).unwrap_or_default();
    for name in ["waitqueue"].iter().chain(&CRATES) {
        if let Some(version) = version_in(&lock, name) {
            row(name, version);
        }
    }
    row("rounds of each bench", rounds(lines));
    row("load before the benches", format!("{least:.2} to {most:.2}"));
    text + "\n"
}

/// How often each subject had its turn.
fn rounds(lines: &[&Value]) -> String {
    let mut all: Vec<u64> =
        lines.iter().filter_map(|line| line["rounds"].as_u64()).filter(|rounds| *rounds > 1).collect();
    all.sort_unstable();
    let (Some(least), Some(most)) = (all.first(), all.last()) else { return "none".into() };
    let hurry = if *least < 9 { " (**quick runs are among them, which say nothing**)" } else { "" };
    if least == most { format!("{least}{hurry}") } else { format!("{least} to {most}{hurry}") }
}

fn version_in(lock: &str, name: &str) -> Option<String> {
    let package =
        lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').to_owned())
}

fn libc_version() -> String {
    // SAFETY: returns a static string.
    unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output
        .map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A value as one writes it in a table.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
