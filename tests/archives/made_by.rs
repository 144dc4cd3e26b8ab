//! Archives created by other tools, each stored as the tool wrote it.

use super::World;
use deploy_agent::stage::inflate::inflate;
use model::release::compression::Compression;

fn unpacked(archive: &[u8]) -> World {
    let world = World::new();
    world.unpack(inflate(archive, Compression::Gzip).unwrap()).unwrap();
    world
}

/// `tar czf - .` of macOS and FreeBSD fills its last block with zeros, after the gzip stream.
#[test]
fn bsdtar_writing_to_a_pipe() {
    let archive = include_bytes!("made_by/bsdtar.tar.gz");
    assert_eq!(archive.len(), 10_240);
    let world = unpacked(archive);
    assert_eq!(world.unpacked().len(), 2);
    assert_eq!(world.seen("Procfile").holds.len(), 20);
}

/// commons-compress with `LONGFILE_GNU` and pax headers for names that are not ASCII, which
/// gives one entry a name of each kind.
#[test]
fn commons_compress_naming_an_entry_twice() {
    let world = unpacked(include_bytes!("made_by/commons-compress.tar.gz"));
    let long = format!("{}/{}.txt", "ü".repeat(60), "é".repeat(70));
    assert!(world.unpacked().keys().any(|path| *path == *long), "{:?}", world.unpacked().keys());
    assert_eq!(world.seen(&long).holds.len(), 2);
}

/// Python's `tarfile`: `add(directory, arcname="/")`.
#[test]
fn python_naming_the_root() {
    let world = unpacked(include_bytes!("made_by/python.tar.gz"));
    assert_eq!(world.seen("Procfile").holds.len(), 17);
    assert_eq!(world.seen("bin/start").links, 2);
}
