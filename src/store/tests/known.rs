//! Tests of the copy that replaces an app's damaged files.

use super::*;
use std::fs::create_dir;

/// Releases the lock of an app with these releases, which saves the copy.
fn released(names: &[&str]) -> (TempDir, App) {
    let World { root, app } = World::installed(names);
    let app = (*app).clone();
    (root, app)
}

fn labels(snapshot: &Snapshot) -> Vec<String> {
    snapshot.releases.iter().map(|manifest| manifest.label.to_string()).collect()
}

#[test]
fn a_damaged_app_is_reported_with_its_last_known_state() {
    type Damage = fn(&App);
    let damages: [(&str, Damage); 9] = [
        ("release.json", |app| fs::write(app.dir.join("releases/r2/release.json"), "{").unwrap()),
        ("release.json", |app| fs::write(app.dir.join("releases/r2/release.json"), "").unwrap()),
        ("release.json", |app| {
            fs::remove_file(app.dir.join("releases/r2/release.json")).unwrap();
            create_dir(app.dir.join("releases/r2/release.json")).unwrap();
        }),
        ("release.json", |app| fs::remove_dir_all(app.dir.join("releases/r2")).unwrap()),
        ("current", |app| {
            fs::remove_file(app.dir.join("current")).unwrap();
            fs::write(app.dir.join("current"), "").unwrap();
        }),
        ("current", |app| {
            fs::remove_file(app.dir.join("current")).unwrap();
            create_dir(app.dir.join("current")).unwrap();
        }),
        ("stopped", |app| create_dir(app.dir.join("stopped")).unwrap()),
        ("machine", |app| {
            fs::remove_file(app.dir.join("machine")).unwrap();
            create_dir(app.dir.join("machine")).unwrap();
        }),
        ("machine", |app| fs::write(app.dir.join("machine"), "\n").unwrap()),
    ];
    for (file, damage) in damages {
        let (_root, app) = released(&["r1", "r2"]);
        if file == "machine" && app.machine.is_empty() {
            continue;
        }
        damage(&app);
        let seen = app.seen();
        let damage = seen.damage.expect(file);
        assert!(damage.chain().contains(file), "{}", damage.chain());
        assert!(damage.advice().unwrap().contains("remove --force my-app"), "{file}");
        let snapshot = seen.snapshot.expect(file);
        assert_eq!(labels(&snapshot), ["r1", "r2"], "{file}");
        assert_eq!(snapshot.current().unwrap().label, label("r2"), "{file}");
        // Taking its lock without a change keeps the copy.
        drop(app.lock());
        assert!(app.seen().snapshot.is_some(), "{file}");
    }
}

#[test]
fn an_undamaged_app_ignores_the_copy() {
    let (_root, app) = released(&["r1", "r2"]);
    for copy in ["", "{", "{\"machine\":\"\"}"] {
        fs::write(app.known_path(), copy).unwrap();
        let seen = app.seen();
        assert!(seen.damage.is_none());
        assert_eq!(labels(&seen.snapshot.unwrap()), ["r1", "r2"]);
    }
    fs::write(app.dir.join("releases/r2/release.json"), "{").unwrap();
    assert!(app.seen().snapshot.is_none(), "nothing is known");
}

#[test]
fn a_copy_of_another_machine_is_ignored() {
    let (root, app) = released(&["r1"]);
    fs::write(app.dir.join("releases/r1/release.json"), "{").unwrap();
    let other = Store::at(root.path()).on("another").app(app.name());
    assert!(other.known().is_none());
}

#[test]
fn the_copy_follows_every_change_and_is_removed_with_the_last_release() {
    let (_root, app) = released(&["r1", "r2"]);
    let known = || app.known().map(|known| (known.current, known.stopped));
    let lock = || app.lock().unwrap();
    lock().commit(&label("r1")).unwrap();
    assert_eq!(known(), Some((Some(label("r1")), Stopped::default())));
    let stopped = Stopped(["web".to_owned()].into());
    lock().set_stopped(&stopped).unwrap();
    assert_eq!(known(), Some((Some(label("r1")), stopped)));
    let locked = lock();
    locked.uncommit().unwrap();
    for name in ["r1", "r2"] {
        locked.retire(&label(name)).unwrap();
    }
    locked.sweep().unwrap();
    drop(locked);
    assert!(!app.known_path().exists());
}

#[test]
fn a_file_among_the_apps_is_no_app() {
    let (root, _app) = released(&["r1"]);
    fs::write(root.path().join("apps/file"), "").unwrap();
    assert_eq!(Store::at(root.path()).seen().unwrap().len(), 1);
}
