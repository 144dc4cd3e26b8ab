//! Trees packed by real programs are unpacked as they were.

use super::{OWNER, World, look};
use deploy_agent::stage::inflate::inflate;
use model::error::Exit;
use model::release::compression::Compression;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// A tree with most kinds of files that releases contain.
fn tree(long_names: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mode =
        |name: &str, mode| fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    fs::create_dir_all(at("node_modules/.bin")).unwrap();
    fs::create_dir_all(at("empty/er")).unwrap();
    fs::write(at("Procfile"), "web: ./serve\n").unwrap();
    fs::write(at("node_modules/serve.js"), vec![b'j'; 300_000]).unwrap();
    symlink("../serve.js", at("node_modules/.bin/serve")).unwrap();
    symlink("gone", at("dangling")).unwrap();
    fs::hard_link(at("Procfile"), at("node_modules/Procfile")).unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"caf\xe9")), "latin").unwrap();
    fs::write(at("é ✓"), "utf-8").unwrap();
    if long_names {
        let deep = format!("{}/{}", "d".repeat(90), "e".repeat(140));
        fs::create_dir_all(at(&deep)).unwrap();
        fs::write(at(&format!("{deep}/{}", "f".repeat(110))), "long").unwrap();
        symlink("t".repeat(150), at("long link")).unwrap();
    }
    mode("Procfile", 0o640);
    mode("node_modules/serve.js", 0o755);
    mode("node_modules", 0o750);
    mode("empty/er", 0o711);
    mode("empty", 0o555);
    dir
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program}: {done:?}");
}

fn tar(from: &Path, options: &[&str]) -> Vec<u8> {
    let done =
        Command::new("tar").args(options).arg("-C").arg(from).args(["-cf", "-", "."]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "tar: {done:?}");
    done.stdout
}

/// Checks that the trees are equal, except for owners and for times finer than the format
/// stores.
fn assert_same(world: &World, from: &Path, fractions: bool) {
    let seen = |root: &Path| {
        let mut all = look(root, Path::new(""));
        for seen in all.values_mut() {
            seen.owner = (OWNER.uid, OWNER.gid);
            if !fractions {
                seen.modified.1 = 0;
            }
            if seen.mode & 0o170000 == 0o120000 {
                seen.modified = (0, 0);
            }
        }
        all
    };
    assert_eq!(seen(&world.release()), seen(from));
}

#[test]
fn unpacks_every_format_of_gnu_tar() {
    for (format, long_names) in
        [("gnu", true), ("oldgnu", true), ("pax", true), ("ustar", false), ("v7", false)]
    {
        let from = tree(long_names);
        let world = World::new();
        world.unpack(&tar(from.path(), &[&format!("--format={format}")])[..]).unwrap();
        assert_same(&world, from.path(), format == "pax");
    }
}

#[test]
fn unpacks_sparse_files_of_every_version_with_their_holes() {
    let from = tempfile::tempdir().unwrap();
    let create = |name: &str, parts: &[(u64, usize)], size: u64| {
        let file = File::create(from.path().join(name)).unwrap();
        for (offset, len) in parts {
            file.write_all_at(&vec![b'x'; *len], *offset).unwrap();
        }
        file.set_len(size).unwrap();
    };
    create("ends in a hole", &[(0, 5000), (1 << 20, 4096)], 8 << 20);
    create("ends in data", &[(3 << 20, 777)], (3 << 20) + 777);
    create("all hole", &[], 2 << 20);
    let many: Vec<_> = (0..100).map(|n| (n * 65_536, 4096)).collect();
    create("many", &many, 8 << 20);
    create(&"long".repeat(50), &[(1 << 20, 10)], 2 << 20);
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let packed = tar(from.path(), &[options, &["--sparse"]].concat());
        assert!(packed.len() < 2 << 20, "{options:?}: tar found no holes");
        let world = World::new();
        world.unpack(&packed[..]).unwrap();
        assert_same(&world, from.path(), options[0] == "--format=pax");
        let blocks = world.release().join("many").metadata().unwrap().blocks();
        assert!(blocks * 512 < 2 << 20, "{options:?}: {blocks} blocks");
    }
}

#[test]
fn unpacks_archives_compressed_by_gzip_and_zstd() {
    let from = tree(true);
    let to = tempfile::tempdir().unwrap();
    let plain = to.path().join("source.tar");
    fs::write(&plain, tar(from.path(), &[])).unwrap();
    let plain = plain.to_str().unwrap();
    run("gzip", &["-k", plain]);
    run("zstd", &["-q", "--long=27", plain]);
    for how in Compression::ALL {
        let world = World::new();
        let packed = fs::read(to.path().join(how.archive_name())).unwrap();
        world.unpack(inflate(&packed[..], how).unwrap()).unwrap();
        assert_same(&world, from.path(), false);

        // The tar stream has ended long before: only reading to the end of the compressed data
        // shows it.
        let error = World::new()
            .unpack(inflate(&[&packed[..], b"<html>not here</html>"].concat()[..], how).unwrap());
        let error = error.unwrap_err();
        assert_eq!(error.exit(), Exit::Unusable);
        let said = error.chain();
        assert!(said.contains("after its end") || said.contains("follows the end"), "{said}");
    }
    for how in [Compression::Gzip, Compression::Zstd] {
        let packed = fs::read(to.path().join(how.archive_name())).unwrap();
        let cut = inflate(&packed[..packed.len() - 3], how).unwrap();
        let error = World::new().unpack(cut).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is truncated", how.archive_name()));
    }
}
