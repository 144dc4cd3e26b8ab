//! Tests of a release being staged: complete or absent, and confined to its own tree.

use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_release_gets_its_name_only_when_it_is_complete() {
    let world = World::new();
    let staging = world.staging("r1");
    staging.write_env("A=\"secret\"\n").unwrap();
    assert_eq!(names_in(&world.path("releases")), [".staging-r1"]);
    let (now, later) = staging.tree_paths();
    assert!(now.is_dir() && later == world.app.tree(&label("r1")));
    staging.finish(&manifest("r1", 1)).unwrap().is_synced().unwrap();

    let release = world.path("releases/r1");
    assert_eq!(names_in(&world.path("releases")), ["r1"]);
    assert_eq!(names_in(&release), ["app", "env", "release.json"]);
    let mode = fs::metadata(release.join("env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "secrets are root's alone");
    assert_eq!(world.app.environment_file(&label("r1")).unwrap(), b"A=\"secret\"\n");
    assert_eq!(world.app.manifest(&label("r1")).unwrap(), manifest("r1", 1));
}

#[test]
fn an_abandoned_staging_leaves_nothing() {
    let world = World::new();
    let staging = world.staging("r1");
    staging.write_env("A=\"secret\"\n").unwrap();
    fs::write(staging.tree_paths().0.join("file"), "x").unwrap();
    drop(staging);
    assert!(names_in(&world.path("releases")).is_empty());
    assert!(world.app.shared().is_dir(), "the app's own files are not the release's");
}

#[test]
fn writable_directories_are_created_with_their_parents() {
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
fn no_link_leads_a_writable_path_out_of_the_tree() {
    let world = World::new();
    let outside = world.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let staging = world.staging("r1");
    let tree = staging.tree_paths().0;
    symlink(&outside, tree.join("tmp")).unwrap();
    symlink("../../../../outside", tree.join("up")).unwrap();
    for (path, at) in [("tmp", "tmp"), ("tmp/deep", "tmp"), ("up/a/b", "up")] {
        let found = staging.make_writable(path).expect_err(path);
        assert!(matches!(found.why, WhyUnwritable::Outside), "{path}: {found:?}");
        assert_eq!(found.at.to_str(), Some(at));
    }
    assert!(names_in(&outside).is_empty());
}

#[test]
fn files_and_inner_links_stay_when_made_writable() {
    let world = World::new();
    let staging = world.staging("r1");
    let tree = staging.tree_paths().0;
    fs::create_dir(tree.join("real")).unwrap();
    symlink("real", tree.join("inside")).unwrap();
    symlink("nowhere", tree.join("dangling")).unwrap();
    fs::write(tree.join("file"), "kept").unwrap();
    symlink("../file", tree.join("real/linked")).unwrap();
    for path in ["file", "inside", "inside/deep", "inside/linked"] {
        staging.make_writable(path).unwrap_or_else(|found| panic!("{path}: {found:?}"));
    }
    assert_eq!(fs::read(tree.join("file")).unwrap(), b"kept");
    assert!(tree.join("real/deep").is_dir() && tree.join("inside").is_symlink());
    let why = |path| staging.make_writable(path).unwrap_err().why;
    assert!(matches!(why("dangling"), WhyUnwritable::Dangling));
    assert!(matches!(why("dangling/deep"), WhyUnwritable::Dangling));
    assert!(matches!(why("file/deep"), WhyUnwritable::Kind));
}

#[test]
fn a_procfile_is_a_regular_file_of_bounded_size() {
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

/// Returns the target of a link; `None` for anything else.
fn target(path: PathBuf) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

fn begin(staging: &Staging) -> crate::store::Homes {
    staging.begin_homes().unwrap().expect("homes")
}

#[test]
fn a_home_links_to_the_old_home_and_to_the_files_of_the_build() {
    let world = World::new();
    let staging = world.staging("r1");
    let shared = world.app.shared();
    fs::create_dir(shared.join("uploads")).unwrap();
    fs::create_dir(shared.join(".pm2")).unwrap();
    fs::write(shared.join(".pgpass"), "").unwrap();
    let homes = begin(&staging);
    staging.make_build_home(&homes).unwrap();
    let (build, later) = staging.build_home().expect("the home of build");
    assert_eq!(later, world.path("releases/r1/home/build"));
    fs::create_dir_all(build.join(".local/bin")).unwrap();
    fs::write(build.join(".netrc"), "").unwrap();
    nix::unistd::mkfifo(&build.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    staging.make_homes(&homes, ["web.1", "web.2"].map(str::to_owned).into_iter()).unwrap();
    staging.finish(&manifest("r1", 1)).unwrap().is_synced().unwrap();

    let home = world.path("releases/r1/home/web.2");
    assert_eq!(names_in(&home), [".cache", ".local", ".netrc", ".npm", ".pgpass", "uploads"]);
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(target(home.join("uploads")), Some(shared.join("uploads")));
    assert_eq!(target(home.join(".cache")), Some(shared.join(".cache")));
    assert_eq!(target(home.join(".netrc")), Some("../build/.netrc".into()));
    assert_eq!(target(home.join(".local")), None, "each process has its own");
    assert_eq!(target(home.join(".local/bin")), Some("../../build/.local/bin".into()));
    assert!(home.join(".netrc").is_file() && home.join(".local/bin").is_dir());
}

#[test]
fn filling_a_home_follows_no_link_and_replaces_nothing() {
    let world = World::new();
    let outside = world.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    let staging = world.staging("r1");
    symlink(&outside, world.app.shared().join(".cache")).unwrap();
    let homes = begin(&staging);
    staging.make_build_home(&homes).unwrap();
    let (build, _) = staging.build_home().expect("the home of build");
    symlink(&outside, build.join(".config")).unwrap();
    staging.make_homes(&homes, ["web.1".to_owned()].into_iter()).unwrap();
    let home = build.with_file_name("web.1");
    assert_eq!(target(home.join(".config")), Some("../build/.config".into()));
    assert_eq!(names_in(&outside), ["secret"]);
    let error = staging.make_homes(&homes, ["web.1".to_owned()].into_iter()).unwrap_err();
    assert!(error.chain().contains("exists"), "{}", error.chain());
}

#[test]
fn the_links_of_a_home_are_bounded() {
    let world = World::new();
    let staging = world.staging("r1");
    let homes = begin(&staging);
    staging.make_build_home(&homes).unwrap();
    let (build, _) = staging.build_home().expect("the home of build");
    fs::create_dir(build.join("many")).unwrap();
    for number in 0..101 {
        fs::write(build.join(format!("many/{number}")), "").unwrap();
    }
    staging.make_homes(&homes, ["web.1".to_owned()].into_iter()).unwrap();
    let home = build.with_file_name("web.1");
    assert_eq!(target(home.join("many")), Some("../build/many".into()));
    for number in 0..1001 {
        fs::write(build.join(format!("file-{number}")), "").unwrap();
        fs::write(world.app.shared().join(format!("file-{number}")), "").unwrap();
    }
    let error = staging.make_homes(&homes, ["web.2".to_owned()].into_iter()).unwrap_err();
    assert!(error.chain().contains("$DEPLOY_SHARED"), "{}", error.chain());
    assert!(staging.begin_homes().unwrap().is_none(), "shared/ stays the home");
}

#[test]
fn a_process_directory_is_not_created_through_a_link_or_a_file() {
    let world = World::new();
    let outside = world.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let staging = world.staging("r1");
    let tree = staging.tree_paths().0;
    symlink(&outside, tree.join("tmp")).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    for path in ["tmp", "tmp/pids", "file", "file/deep"] {
        let error = staging.make_process_dir(path).expect_err(path);
        assert_eq!(error.exit(), Exit::Unusable, "{path}");
        assert!(!staging.has_directory(path), "{path}");
    }
    staging.make_process_dir("run/a").unwrap();
    assert!(staging.has_directory("run/a") && names_in(&outside).is_empty());
}
