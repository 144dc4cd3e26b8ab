//! Runs every file of the fuzz corpora through the functions that `cargo fuzz` runs:
//! docs/fuzzing.md.
//!
//! Files whose name begins with `good-` must be accepted, with `bad-` refused. Any other file
//! was found by a fuzzer, and only must not break a promise.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod seeds;
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;

/// Memory limit of this whole process in bytes, including a decompressor with a window of 128
/// MiB and the tests that run beside it.
const MOST_MEMORY: u64 = 192 << 20;

#[test]
fn procfile() {
    check("procfile", targets::procfile);
}

#[test]
fn env() {
    check("env", targets::env);
}

#[test]
fn url() {
    check("url", targets::url);
}

#[test]
fn settings() {
    check("settings", targets::settings);
}

/// Needs root: files must be created with another owner.
#[test]
fn archive() {
    check("archive", targets::archive);
    let most = peak_memory();
    assert!(most <= MOST_MEMORY, "the peak was {most} bytes of memory");
}

fn check(target: &str, accepts: fn(&[u8]) -> bool) {
    let seeds = corpus(target);
    for kind in ["good-", "bad-"] {
        let some = seeds.iter().any(|(name, _)| name.starts_with(kind));
        assert!(some, "the corpus of {target} has no {kind} seed");
    }
    for (name, bytes) in seeds {
        // If a promise is broken, this line names the file.
        println!("fuzz/corpus/{target}/{name}");
        let accepted = accepts(&bytes);
        assert!(!(accepted && name.starts_with("bad-")), "{name} was accepted");
        assert!(accepted || !name.starts_with("good-"), "{name} was refused");
    }
}

/// Returns the name and content of each file.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(corpus_at(target)).expect("a corpus");
    let paths = files.map(|file| file.expect("a file of a corpus").path());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs::read(path).expect("a file of a corpus"))
    };
    let mut seeds: Vec<_> = paths.map(read).collect();
    seeds.sort();
    seeds
}

fn corpus_at(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Peak memory of this process in bytes: proc_pid_status(5), VmHWM.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmHWM in kB") * 1024
}
