//! Ensures that no crate that could do I/O becomes a dependency of the model unnoticed.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use std::process::Command;

/// The dependencies that are allowed: values, text, time zones as values, a hash.
const ALLOWED: [&str; 7] =
    ["envy", "jiff", "ring", "serde", "serde_json", "strsim", "deploy-model"];

/// Crates that do I/O or start threads, anywhere in the tree.
const NEVER: [&str; 9] =
    ["tokio", "nix", "zbus", "hyper", "reqwest", "axum", "rustix", "mio", "socket2"];

fn tree(arguments: &[&str]) -> Vec<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package=deploy-model", "--edges=normal"])
        .args(["--prefix=none", "--format={p}"])
        .args(arguments)
        .output()
        .expect("cargo");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let text = String::from_utf8(cargo.stdout).expect("text");
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn the_model_depends_on_values_alone() {
    let direct = tree(&["--depth=1"]);
    let other: Vec<_> = direct.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
    assert!(other.is_empty(), "{other:?} is not in the list of this test");
    let all = tree(&[]);
    assert!(all.len() > 5, "{all:?}");
    let never = |name: &&String| NEVER.contains(&name.as_str()) || name.starts_with("aws-");
    let found: Vec<_> = all.iter().filter(never).collect();
    assert!(found.is_empty(), "{found:?} does I/O");
}

/// The standard library can do I/O, too.
#[test]
fn the_model_does_no_io_by_the_standard_library() {
    let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            files.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        seen += 1;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if path.ends_with("tests.rs") {
            continue;
        }
        for word in [
            "std::fs",
            "TcpStream",
            "UdpSocket",
            "std::process",
            "std::thread",
            "std::env",
            "::now()",
        ] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
    assert!(seen > 20);
}
