//! Golden trees: an installed state, and the units that the generator writes for it. Each
//! folder below `tests/golden/` is a case; a new case is a new folder, without code.
//!
//! ```text
//! NN-name/agent.env              the agent's settings; may be missing
//! NN-name/APP/current            the label of the current release; missing before the first commit
//! NN-name/APP/stopped            the names that an operator has stopped, one a line; may be missing
//! NN-name/APP/LABEL/Procfile     an installed release; they were staged in the labels' order
//! NN-name/APP/LABEL/env          may be missing
//! NN-name/expected/              the expected content of systemd's generator directory
//! ```
//!
//! `UPDATE_GOLDEN=1` rewrites the expected trees: review the difference before you commit it.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use model::fixtures::release_of;
use model::installed::{Snapshot, Stopped};
use model::release::env::Env;
use model::release::manifest::{Manifest, Plan};
use model::release::procfile::Procfile;
use model::release::settings::{AgentSettings, ReleaseSettings};
use model::units::{Kernel, Unit, generate, generate_shared};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The setting of almost every machine.
const KERNEL: Kernel = Kernel { user_namespaces: true };

type Tree = BTreeMap<String, Unit>;

#[test]
fn every_golden_tree_is_what_the_generator_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = directories(&root);
    assert!(!cases.is_empty(), "no case below {}", root.display());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let wrong: Vec<_> = cases.iter().filter_map(|case| check(case, update)).collect();
    let advice = "if that is right, UPDATE_GOLDEN=1 writes it down";
    assert!(wrong.is_empty(), "{}\n{advice}", wrong.join("\n"));
}

/// Returns the differences of a case, if there are any.
fn check(case: &Path, update: bool) -> Option<String> {
    let expected = case.join("expected");
    let generated = generate_case(case);
    if update {
        write(&expected, &generated);
    }
    let differences = differences(&read(&expected), &generated);
    (!differences.is_empty()).then(|| format!("{}:\n{}", case.display(), differences.concat()))
}

fn generate_case(case: &Path) -> Tree {
    let agent = env(&case.join("agent.env"));
    let settings = AgentSettings::from_env(&agent).expect("agent.env");
    let mut units = Tree::new();
    let mut port = 20000;
    let mut snapshots = Vec::new();
    for dir in directories(case).iter().filter(|dir| !dir.ends_with("expected")) {
        let mut snapshot = snapshot(dir, &agent, &settings);
        for plan in snapshot.releases.iter_mut().map(|manifest| &mut manifest.plan) {
            plan.private_ports = (port..).take(plan.private_ports_needed()).collect();
            port += 10;
        }
        let theirs = generate(&snapshot, KERNEL);
        snapshots.push(snapshot);
        let before = units.len() + theirs.len();
        units.extend(theirs);
        assert_eq!(units.len(), before, "two apps of {} have the same unit", case.display());
    }
    units.extend(generate_shared(&snapshots));
    units
}

fn snapshot(dir: &Path, agent: &Env, settings: &AgentSettings) -> Snapshot {
    let app = name(dir);
    let releases = directories(dir).into_iter().zip(0..);
    let stopped = text(&dir.join("stopped")).unwrap_or_default();
    Snapshot {
        app: app.parse().expect("the app's name"),
        dir: settings.state_dir.join("apps").join(&app),
        current: text(&dir.join("current")).map(|label| label.trim().parse().expect("current")),
        releases: releases.map(|(dir, nth)| manifest(&app, &dir, nth, agent, settings)).collect(),
        stopped: Stopped(stopped.lines().map(str::to_owned).collect()),
    }
}

fn manifest(app: &str, dir: &Path, nth: i64, agent: &Env, settings: &AgentSettings) -> Manifest {
    let label = name(dir);
    let procfile = fs::read_to_string(dir.join("Procfile")).expect("Procfile");
    let parsed = Procfile::parse(procfile.as_bytes());
    let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let release = ReleaseSettings::merge(agent, &env(&dir.join("env"))).expect("env");
    let text = text(&dir.join("env")).unwrap_or_default();
    Manifest {
        uids: vec![999, 998],
        process_dirs: process_dirs(&env(&dir.join("env")), &release),
        plan: Plan::new(&parsed, &release, settings.user.as_deref().unwrap_or("app-my-app")),
        ..release_of(app, &label, nth, &procfile, &text)
    }
}

/// Directories configured by name; there is no tree in which others could be found.
fn process_dirs(env: &Env, settings: &ReleaseSettings) -> Vec<String> {
    let by_name = env.get("DEPLOY_PROCESS_DIRS").map(|_| settings.process_dirs.clone());
    by_name.unwrap_or_default()
}

fn env(path: &Path) -> Env {
    let text = text(path).unwrap_or_default();
    Env::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

/// Returns the subdirectories of a directory, ordered by name.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut directories: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name").to_owned()
}

fn read(expected: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut below = vec![expected.to_owned()];
    while let Some(dir) = below.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let unit = if let Ok(target) = fs::read_link(&path) {
                Unit::Link(target.to_str().expect("a UTF-8 target").to_owned())
            } else if path.is_dir() {
                below.push(path);
                continue;
            } else {
                Unit::Text(text(&path).expect("a unit"))
            };
            let relative = path.strip_prefix(expected).expect("below it");
            tree.insert(relative.to_str().expect("a UTF-8 name").to_owned(), unit);
        }
    }
    tree
}

fn write(expected: &Path, tree: &Tree) {
    if expected.exists() {
        fs::remove_dir_all(expected).expect("remove the expected tree");
    }
    for (name, unit) in tree {
        let path = expected.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        match unit {
            Unit::Text(text) => fs::write(path, text),
            Unit::Link(target) => symlink(target, path),
        }
        .expect("write a unit");
    }
}

/// Returns a paragraph for each unit that differs, with its first different lines.
fn differences(expected: &Tree, generated: &Tree) -> Vec<String> {
    let mut names: Vec<_> = expected.keys().chain(generated.keys()).collect();
    names.sort();
    names.dedup();
    let differs = names.into_iter().filter(|name| expected.get(*name) != generated.get(*name));
    differs
        .map(|name| match (expected.get(name), generated.get(name)) {
            (None, _) => format!("  {name} is not expected\n"),
            (_, None) => format!("  {name} is missing\n"),
            (Some(Unit::Text(expected)), Some(Unit::Text(generated))) => {
                let mut lines = expected.lines().zip(generated.lines());
                let first = lines.find(|(expected, generated)| expected != generated);
                let (expected, generated) = first.unwrap_or(("one length", "another"));
                format!("  {name}\n    - {expected}\n    + {generated}\n")
            }
            (Some(expected), Some(generated)) => {
                format!("  {name}\n    - {expected:?}\n    + {generated:?}\n")
            }
        })
        .collect()
}
