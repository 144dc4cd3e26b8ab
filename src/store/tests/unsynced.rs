//! Tests of the mark of a release that is not on the disk yet.

use super::*;

/// r1 is current; r2 has its name, and its mark.
fn with_r2_unsynced() -> (World, Unsynced) {
    let world = World::installed(&["r1"]);
    let unsynced = world.staging("r2").finish(&manifest("r2", 2)).unwrap();
    (world, unsynced)
}

fn labels(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.releases.iter().map(|release| release.label.as_str()).collect()
}

fn after_power_loss(world: &World) -> App {
    world.store().after_boot("another").app(world.app.name())
}

#[test]
fn the_mark_is_there_before_the_first_file_and_goes_with_the_sync() {
    let world = World::new();
    let staging = world.staging("r1");
    let mark = fs::read_to_string(world.path("releases/.staging-r1/unsynced")).unwrap();
    assert_eq!(mark, crate::host::machine::boot_id());
    let unsynced = staging.finish(&manifest("r1", 1)).unwrap();
    assert_eq!(world.app.unsynced().unwrap(), [label("r1")]);
    unsynced.is_synced().unwrap();
    assert_eq!(world.app.unsynced().unwrap(), []);
    assert_eq!(names_in(&world.path("releases/r1")), ["app", "release.json"]);
}

#[test]
fn a_release_with_a_mark_is_installed_in_this_boot_and_in_no_other() {
    let (world, unsynced) = with_r2_unsynced();
    assert_eq!(labels(&world.snapshot()), ["r1", "r2"]);
    assert_eq!(labels(&after_power_loss(&world).snapshot().unwrap()), ["r1"]);
    unsynced.is_synced().unwrap();
    assert_eq!(labels(&after_power_loss(&world).snapshot().unwrap()), ["r1", "r2"]);
}

#[test]
fn a_release_with_a_mark_cannot_be_committed() {
    let (world, unsynced) = with_r2_unsynced();
    let error = world.app.commit(&label("r2")).unwrap_err();
    assert!(error.chain().contains("not on the disk yet"), "{}", error.chain());
    assert_eq!(world.app.current().unwrap(), Some(label("r1")));
    unsynced.is_synced().unwrap();
    world.app.commit(&label("r2")).unwrap();
}

#[test]
fn a_lost_release_is_left_out_of_what_is_known_of_a_damaged_app() {
    let (world, _unsynced) = with_r2_unsynced();
    world.app.keep_known();
    fs::write(world.path("releases/r1/release.json"), "").unwrap();
    assert_eq!(labels(&world.app.known().unwrap()), ["r1", "r2"]);
    assert_eq!(labels(&after_power_loss(&world).known().unwrap()), ["r1"]);
}

/// A directory in the place of the mark cannot be read as one.
#[test]
fn a_mark_that_cannot_be_read_takes_no_release_away() {
    let world = World::installed(&["r1", "r2"]);
    world.app.keep_known();
    for release in ["r1", "r2"] {
        fs::create_dir(world.path(&format!("releases/{release}/unsynced"))).unwrap();
    }
    let after = after_power_loss(&world);
    assert_eq!(labels(&after.snapshot().unwrap()), ["r1", "r2"]);
    assert_eq!(labels(&after.known().unwrap()), ["r1", "r2"]);
    assert_eq!(after.unsynced().unwrap(), []);
    assert!(after.is_unsynced(&label("r2")), "it cannot be committed");
}

#[test]
fn what_is_known_of_a_damaged_app_keeps_the_current_release() {
    let world = World::installed(&["r1"]);
    world.app.keep_known();
    fs::write(world.path("releases/r1/unsynced"), "another boot").unwrap();
    fs::write(world.path("releases/r1/release.json"), "").unwrap();
    assert_eq!(labels(&world.app.known().unwrap()), ["r1"]);
}

#[test]
fn a_lost_release_is_listed_for_removal_whatever_is_left_of_it() {
    let (world, _unsynced) = with_r2_unsynced();
    fs::remove_file(world.path("releases/r2/release.json")).unwrap();
    assert_eq!(after_power_loss(&world).unsynced().unwrap(), [label("r2")]);
}

#[test]
fn the_mark_of_a_later_release_of_the_same_label_stays() {
    let (world, unsynced) = with_r2_unsynced();
    world.app.retire(&label("r2")).unwrap();
    world.staging("r2").finish(&manifest("r2", 3)).unwrap();
    unsynced.is_synced().unwrap();
    assert!(world.app.is_unsynced(&label("r2")));
    world.app.sweep().unwrap();
    unsynced.is_synced().unwrap();
}
