//! Tests of the store's guarantees about the disk.

mod known;
mod machine;
mod staging;
mod unsynced;

use super::*;
use crate::host::user::Ids;
use jiff::Timestamp;
use model::error::Exit;
use model::fixtures::manifest;
use model::history::Entry;
use model::release::state::State;
use model::retention;
use nix::unistd::{getgid, getuid};
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A temporary store, and the lock of one app in it.
struct World {
    root: TempDir,
    app: Locked,
}

impl World {
    fn new() -> World {
        let root = tempfile::tempdir().expect("a temporary directory");
        let app = Store::at(root.path()).app(&"my-app".parse().unwrap());
        let app = app.lock().expect("the lock");
        World { root, app }
    }

    fn store(&self) -> Store {
        Store::at(self.root.path())
    }

    /// Creates a staging directory that belongs to the user of the tests.
    fn staging(&self, name: &str) -> Staging {
        let owner = Ids { uid: getuid().as_raw(), gid: getgid().as_raw() };
        self.app.begin_staging(&label(name), owner, owner).expect("a staging directory")
    }

    /// Installs a release; a later time is newer.
    fn install(&self, name: &str, time: i64, state: State) {
        let manifest = Manifest { state, ..manifest(name, time) };
        let unsynced = self.staging(name).finish(&manifest).expect("installed");
        unsynced.is_synced().expect("without its mark");
    }

    /// Installs good releases, the last one as current.
    fn installed(names: &[&str]) -> World {
        let world = World::new();
        for (name, time) in names.iter().zip(0..) {
            world.install(name, time, State::Good);
            world.app.commit(&label(name)).expect("committed");
        }
        world
    }

    fn snapshot(&self) -> Snapshot {
        self.app.snapshot().expect("a snapshot")
    }

    fn labels(&self) -> Vec<String> {
        self.snapshot().releases.iter().map(|manifest| manifest.label.to_string()).collect()
    }

    fn rollback_target(&self) -> Option<String> {
        self.snapshot().rollback_target().map(|manifest| manifest.label.to_string())
    }

    fn prunable(&self, keep: usize) -> Vec<String> {
        retention::prunable(&self.snapshot(), keep).iter().map(Label::to_string).collect()
    }

    fn spare(&self) -> Vec<String> {
        retention::spare(&self.snapshot()).iter().map(Label::to_string).collect()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.app.dir().join(relative)
    }
}

fn label(name: &str) -> Label {
    name.parse().expect("a label")
}

fn names_in(dir: &Path) -> Vec<String> {
    names(dir).expect("a directory")
}

#[test]
fn an_empty_directory_holds_no_app() {
    let root = tempfile::tempdir().expect("a temporary directory");
    assert!(Store::at(root.path()).apps().expect("read").is_empty());
    assert!(Store::at(root.path().join("missing")).apps().expect("read").is_empty());
}

#[test]
fn apps_are_listed_by_name_and_strange_names_are_not_apps() {
    let world = World::installed(&["r1"]);
    for name in ["b", "a", ".hidden", "with space"] {
        fs::create_dir(world.root.path().join("apps").join(name)).unwrap();
    }
    let apps = world.store().apps().unwrap();
    let names: Vec<_> = apps.iter().map(|app| app.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "my-app"]);
    assert_eq!(apps.iter().map(App::exists).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn releases_are_listed_by_age_and_those_of_one_moment_by_name() {
    let world = World::new();
    for (name, time) in [("r10", 3), ("r9", 1), ("b", 2), ("a", 2), ("r1", 4)] {
        world.install(name, time, State::Good);
    }
    assert_eq!(world.labels(), ["r9", "a", "b", "r10", "r1"]);
}

#[test]
fn current_is_the_last_commit() {
    let world = World::installed(&["r1", "r2"]);
    assert_eq!(world.app.current().unwrap(), Some(label("r2")));
    assert_eq!(fs::read_link(world.path("current")).unwrap(), Path::new("releases/r2"));
    world.app.commit(&label("r1")).unwrap();
    assert_eq!(world.snapshot().current().unwrap().label, label("r1"));
    world.app.uncommit().unwrap();
    world.app.uncommit().unwrap();
    assert_eq!(world.app.current().unwrap(), None);
    assert!(world.snapshot().current().is_none());
}

#[test]
fn a_commit_survives_the_remains_of_an_interrupted_one() {
    let world = World::installed(&["r1", "r2"]);
    symlink("releases/r1", world.path("current.new")).unwrap();
    world.app.commit(&label("r1")).unwrap();
    assert_eq!(world.app.current().unwrap(), Some(label("r1")));
    assert!(!world.path("current.new").is_symlink());
}

#[test]
fn a_current_link_to_elsewhere_is_an_error() {
    let world = World::installed(&["r1"]);
    for target in ["/etc", "releases/../../../etc", "r1", "releases/r1/app", "releases/"] {
        fs::remove_file(world.path("current")).unwrap();
        symlink(target, world.path("current")).unwrap();
        let error = world.app.current().expect_err(target);
        assert!(error.chain().contains("not to a release"), "{target}: {}", error.chain());
        assert!(world.app.snapshot().is_err(), "{target}");
    }
}

#[test]
fn one_unreadable_release_hides_no_other() {
    let world = World::installed(&["r1", "r2", "r3", "r4", "r5"]);
    let json = |name: &str| world.path(&format!("releases/{name}/release.json"));
    fs::write(json("r2"), "{ not json").unwrap();
    fs::remove_file(json("r3")).unwrap();
    fs::copy(json("r1"), json("r4")).unwrap();
    fs::write(world.path("releases/a file"), "").unwrap();
    assert_eq!(world.labels(), ["r1", "r5"]);

    let newer = fs::read_to_string(json("r1")).unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(json("r1"), newer).unwrap();
    assert_eq!(world.labels(), ["r5"]);
}

/// Running processes must not count as uninstalled, and be stopped.
#[test]
fn an_unreadable_current_release_is_an_error() {
    let world = World::installed(&["r1", "r2"]);
    fs::write(world.path("releases/r2/release.json"), "{ not json").unwrap();
    let error = world.app.snapshot().expect_err("it is current");
    assert!(error.chain().contains("releases/r2/release.json"), "{}", error.chain());
}

#[test]
fn a_second_holder_of_the_lock_is_refused() {
    let world = World::new();
    let app = world.store().app(world.app.name());
    let error = app.lock().expect_err("it is held");
    assert_eq!(error.exit(), Exit::Busy);
    let other = world.store().app(&"other".parse().unwrap());
    drop(other.lock().expect("another app has another lock"));
    drop(world.app);
    app.lock().expect("its holder is gone");
}

#[test]
fn a_rollback_goes_to_the_good_release_that_was_replaced() {
    let world = World::installed(&["r1", "r2", "r3"]);
    assert_eq!(world.rollback_target().as_deref(), Some("r2"));
    let replaced = Manifest { replaced: Some(label("r1")), ..manifest("r3", 2) };
    world.app.write_manifest(&replaced).unwrap();
    assert_eq!(world.rollback_target().as_deref(), Some("r1"));
    world.app.set_state(&label("r1"), State::Failed).unwrap();
    assert_eq!(world.rollback_target().as_deref(), Some("r2"));
    world.app.set_state(&label("r2"), State::Proved).unwrap();
    assert_eq!(world.rollback_target(), None);

    world.app.commit(&label("r1")).unwrap();
    assert_eq!(world.rollback_target(), None, "r3 is newer, and r1 did not replace it");
    world.app.uncommit().unwrap();
    assert_eq!(world.rollback_target(), None);
}

#[test]
fn pruning_keeps_the_newest_good_releases_and_any_that_are_needed() {
    let world = World::installed(&["r1", "r2", "r3", "r4"]);
    assert_eq!(world.prunable(3), ["r1"]);
    assert_eq!(world.prunable(1), ["r2", "r1"], "the rollback target stays");
    assert!(world.prunable(9).is_empty());

    world.app.commit(&label("r1")).unwrap();
    assert_eq!(world.prunable(2), ["r2"], "the current release stays, however old");
}

#[test]
fn only_good_releases_count_as_kept() {
    let world = World::installed(&["r1", "r2", "r3"]);
    world.app.set_state(&label("r2"), State::Failed).unwrap();
    world.install("r4", 4, State::Proved);
    world.install("r5", 5, State::Staged);
    assert_eq!(world.prunable(2), ["r4", "r2"], "r5 was staged for later, r1 is good");

    world.install("r6", 6, State::Good);
    world.app.commit(&label("r6")).unwrap();
    assert!(world.prunable(9).contains(&"r5".to_owned()), "it is older than the current release");
}

#[test]
fn as_many_releases_staged_ahead_are_kept() {
    let world = World::installed(&["r1"]);
    for (name, time) in ["r2", "r3", "r4"].iter().zip(2..) {
        world.install(name, time, State::Staged);
    }
    assert_eq!(world.prunable(2), ["r2"]);
}

#[test]
fn failed_releases_are_retired_unless_current() {
    let world = World::installed(&["r1", "r2", "r3"]);
    for name in ["r1", "r3"] {
        world.app.set_state(&label(name), State::Failed).unwrap();
    }
    world.app.retire_failed().unwrap();
    assert_eq!(world.labels(), ["r2", "r3"]);
}

#[test]
fn a_label_is_the_first_free_variant_of_the_releases_name() {
    let world = World::installed(&["r1", "r1.2", "r2.2"]);
    let free = |name: &str| world.app.free_label(&name.parse().unwrap()).to_string();
    assert_eq!([free("r1"), free("r2"), free("r3")], ["r1.3", "r2", "r3"]);
    fs::write(world.path("releases/r3"), "in the way").unwrap();
    assert_eq!(free("r3"), "r3.2");
}

#[test]
fn stopped_processes_are_remembered() {
    let world = World::installed(&["r1"]);
    assert_eq!(world.snapshot().stopped, Stopped::default());
    let stopped = Stopped(["web", "worker.2"].map(str::to_owned).into());
    world.app.set_stopped(&stopped).unwrap();
    let read = world.snapshot().stopped;
    assert_eq!(read, stopped);
    let covered = ["web.1", "web.2", "worker.2", "worker.1", "webby.1", "clock.1"];
    assert_eq!(covered.map(|name| read.covers(name)), [true, true, true, false, false, false]);
    assert!(Stopped([Stopped::ALL.to_owned()].into()).covers("clock.1"));

    world.app.set_stopped(&Stopped::default()).unwrap();
    assert_eq!(world.snapshot().stopped, Stopped::default());
    assert!(!world.path("stopped").exists());
}

#[test]
fn a_removed_release_is_gone_and_others_stay() {
    let world = World::installed(&["r1", "r2"]);
    fs::write(world.app.tree(&label("r1")).join("file"), "x").unwrap();
    world.app.retire(&label("r1")).unwrap();
    assert_eq!(world.labels(), ["r2"]);
    assert!(world.app.retire(&label("r1")).is_err(), "it is gone");
    fs::create_dir(world.path("releases/r1")).unwrap();
    world.app.retire(&label("r1")).expect("another release of that name");
    world.app.sweep().unwrap();
    assert_eq!(names_in(&world.path("releases")), ["r2"]);
}

#[test]
fn only_interrupted_work_is_removed() {
    let world = World::installed(&["r1"]);
    for name in [".staging-r2", ".removing-r0", ".other"] {
        fs::create_dir_all(world.path("releases").join(name).join("app")).unwrap();
    }
    for name in ["current.new", "releases/r1/release.new", "releases/file"] {
        fs::write(world.path(name), "").unwrap();
    }
    assert_eq!(world.app.unfinished().unwrap(), [label("r2")]);
    assert_eq!(world.labels(), ["r1"], "leftovers are not releases");
    world.app.remove_leftovers().unwrap();
    world.app.sweep().unwrap();
    assert_eq!(names_in(&world.path("releases")), [".other", "file", "r1"]);
    assert_eq!(names_in(&world.path("releases/r1")), ["app", "release.json"]);
    assert!(!world.path("current.new").exists());
}

#[test]
fn a_removed_app_leaves_nothing_beside_the_others() {
    let world = World::installed(&["r1"]);
    let other = world.store().app(&"other".parse().unwrap());
    drop(other.lock().unwrap());
    let World { root, app } = world;
    assert!(app.remove_app().unwrap().is_none());
    assert_eq!(names_in(&root.path().join("apps")), ["other"]);
}

#[test]
fn an_interrupted_removal_leaves_no_app_and_ends_later() {
    let world = World::installed(&["r1"]);
    let apps = world.root.path().join("apps");
    fs::create_dir_all(apps.join(".removing-old/releases/r1")).unwrap();
    assert_eq!(world.store().apps().unwrap().len(), 1);
    world.store().remove_leftovers().unwrap();
    assert_eq!(names_in(&apps), ["my-app"]);
}

#[test]
fn on_a_full_disk_old_releases_go_first_and_those_staged_ahead_last() {
    let world = World::installed(&["r1", "r2", "r3", "r4"]);
    assert_eq!(world.spare(), ["r1", "r2"], "neither the current nor the previous release");
    world.install("ahead", 9, State::Staged);
    world.install("behind", 1, State::Staged);
    world.install("proved", 8, State::Proved);
    assert_eq!(world.spare(), ["r1", "behind", "r2", "proved", "ahead"]);
    world.app.commit(&label("r1")).unwrap();
    assert!(!world.spare().contains(&"r1".to_owned()));

    let only = World::installed(&["r1"]);
    assert!(only.spare().is_empty());
    let nothing = World::installed(&["r1", "r2"]);
    nothing.app.uncommit().unwrap();
    assert_eq!(nothing.spare(), ["r1"], "a good release stays without a current one");
}
