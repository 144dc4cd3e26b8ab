//! What a release in work promises: whole or nothing, and within its own tree.

use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_release_has_its_name_only_when_it_is_whole() {
    let world = World::new();
    let staging = world.staging("r1");
    staging.write_env("A=\"secret\"\n").unwrap();
    assert_eq!(names_in(&world.path("releases")), [".staging-r1"]);
    let (now, later) = staging.tree_paths();
    assert!(now.is_dir() && later == world.app.tree(&label("r1")));
    staging.finish(&manifest("r1", 1)).unwrap();

    let release = world.path("releases/r1");
    assert_eq!(names_in(&world.path("releases")), ["r1"]);
    assert_eq!(names_in(&release), ["app", "env", "release.json"]);
    let mode = fs::metadata(release.join("env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "secrets are root's alone");
    assert_eq!(world.app.environment_file(&label("r1")).unwrap(), b"A=\"secret\"\n");
    assert_eq!(world.app.manifest(&label("r1")).unwrap(), manifest("r1", 1));
}

#[test]
fn a_staging_that_is_given_up_leaves_nothing() {
    let world = World::new();
    let staging = world.staging("r1");
    staging.write_env("A=\"secret\"\n").unwrap();
    fs::write(staging.tree_paths().0.join("file"), "x").unwrap();
    drop(staging);
    assert!(names_in(&world.path("releases")).is_empty());
    assert!(world.app.shared().is_dir(), "the app's own files are not the release's");
}

#[test]
fn writable_directories_are_made_with_their_parents() {
    let world = World::new();
    let staging = world.staging("r1");
    let tree = staging.tree_paths().0;
    fs::create_dir(tree.join("log")).unwrap();
    for path in ["log", "public/uploads/new", "public"] {
        staging.make_writable(path).unwrap();
        assert!(tree.join(path).is_dir(), "{path}");
    }
}

#[test]
fn a_writable_directory_is_not_made_through_a_link_or_a_file() {
    let world = World::new();
    let outside = world.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let staging = world.staging("r1");
    let tree = staging.tree_paths().0;
    symlink(&outside, tree.join("tmp")).unwrap();
    symlink("real", tree.join("inside")).unwrap();
    fs::create_dir(tree.join("real")).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    for path in ["tmp", "tmp/deep", "inside/deep", "file", "file/deep"] {
        let error = staging.make_writable(path).expect_err(path);
        assert_eq!(error.exit(), Exit::Unusable, "{path}");
    }
    assert!(names_in(&outside).is_empty() && names_in(&tree.join("real")).is_empty());
}

#[test]
fn a_procfile_is_a_file_of_the_tree_and_no_novel() {
    let world = World::new();
    let staging = world.staging("r1");
    let path = staging.tree_paths().0.join("Procfile");
    assert_eq!(staging.procfile().unwrap(), None);
    fs::write(&path, "web: ./web\n").unwrap();
    assert_eq!(staging.procfile().unwrap().as_deref(), Some(&b"web: ./web\n"[..]));

    fs::write(&path, vec![b'#'; (64 << 10) + 1]).unwrap();
    let error = staging.procfile().unwrap_err();
    assert!(error.chain().contains("larger than 65536 bytes"), "{}", error.chain());

    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    let error = staging.procfile().unwrap_err();
    assert!(error.chain().contains("symbolic link"), "{}", error.chain());

    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = staging.procfile().unwrap_err();
    assert!(error.chain().contains("not a file"), "{}", error.chain());
}
