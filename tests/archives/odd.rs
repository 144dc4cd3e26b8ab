//! Archives that look strange but are valid, and what is unpacked from them.

use super::World;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use testkit::archive::*;

fn unpacked(entries: &[Vec<u8>]) -> World {
    let world = World::new();
    world.unpack(&archive(entries)[..]).unwrap();
    world
}

#[test]
fn names_are_kept_byte_for_byte() {
    let (long_one, long_two) = ("d/".repeat(150) + "gnu", "e/".repeat(150) + "pax");
    let long_same = "f/".repeat(150) + "gnu and pax";
    let world = unpacked(&[
        file(b"caf\xe9\xff", b"latin"),
        file("d\u{e9}j\u{e0} vu ✓", b"utf-8"),
        file(" \\ * \t", b"odd"),
        pax(b'x', &[("path", b"new\nline=1"), ("SCHILY.xattr.user.x", b"\n\0\n")]),
        file("short", b"pax"),
        long(b'L', &long_one),
        file("short", b"long"),
        pax(b'x', &[("path", long_two.as_bytes())]),
        file("short", b"long"),
        long(b'K', "t".repeat(200)),
        symlink("link", "short"),
        pax(b'x', &[("path", b""), ("linkpath", b"x\xffy")]),
        symlink("link2", "short"),
        long(b'L', &long_same),
        pax(b'x', &[("path", long_same.as_bytes()), ("linkpath", b"both")]),
        long(b'K', "both"),
        symlink("short", "short"),
    ]);
    assert_eq!(world.seen(&long_same).holds, b"both");
    let read = |name: &[u8]| fs::read(world.release().join(OsStr::from_bytes(name))).unwrap();
    assert_eq!(read(b"caf\xe9\xff"), b"latin");
    assert_eq!(read("d\u{e9}j\u{e0} vu ✓".as_bytes()), b"utf-8");
    assert_eq!(read(b" \\ * \t"), b"odd");
    assert_eq!(read(b"new\nline=1"), b"pax");
    assert_eq!(read(long_one.as_bytes()), b"long");
    assert_eq!(read(long_two.as_bytes()), b"long");
    assert_eq!(world.seen("link").holds, "t".repeat(200).as_bytes());
    assert_eq!(world.seen("link2").holds, b"x\xffy");
}

#[test]
fn modes_come_from_the_archive_whatever_the_umask() {
    drop(World::new()); // sets the umask of the process, once
    unshare(CloneFlags::CLONE_FS).unwrap();
    for mask in [0o000, 0o022, 0o077] {
        umask(Mode::from_bits_truncate(mask));
        modes_come_from_the_archive();
    }
}

fn modes_come_from_the_archive() {
    let world = unpacked(&[
        with_mode(b'5', "locked", 0o555),
        file("locked/later", b"x"),
        with_mode(b'5', "locked/deep", 0o000),
        file("locked/deep/later", b"x"),
        with_mode(b'5', "sticky", 0o1777),
        with_mode(b'5', "setgid", 0o2775),
        with_mode(b'5', "setuid", 0o4711),
        with_mode(b'5', "own", 0o700),
        with_mode(b'0', "none", 0o000),
        with_mode(b'0', "all", 0o777),
        with_mode(b'0', "type bits", 0o100640),
        file("implied/a/f", b""),
    ]);
    for (name, mode) in [
        ("locked", 0o40555),
        ("locked/deep", 0o40000),
        ("sticky", 0o40775),
        ("setgid", 0o40775),
        ("setuid", 0o40711),
        ("own", 0o40700),
        ("none", 0o100000),
        ("all", 0o100775),
        ("type bits", 0o100640),
        ("locked/later", 0o100644),
        ("implied", 0o40755),
        ("implied/a", 0o40755),
    ] {
        assert_eq!(world.seen(name).mode, mode, "{name}");
    }
    let root = world.release().metadata().unwrap();
    let world = unpacked(&[with_mode(b'5', "./", 0o777), file("./f", b"")]);
    assert_eq!(world.release().metadata().unwrap().mode(), root.mode());
}

#[test]
fn directories_inherit_no_mode_bit_from_their_parent() {
    let world = World::new();
    fs::set_permissions(world.release(), Permissions::from_mode(0o2755)).unwrap();
    let entries = [with_mode(b'5', "own", 0o700), with_mode(b'5', "all", 0o755), file("a/f", b"")];
    world.unpack(&archive(&entries)[..]).unwrap();
    for (name, mode) in [("own", 0o40700), ("all", 0o40755), ("a", 0o40755)] {
        assert_eq!(world.seen(name).mode, mode, "{name}");
    }
}

#[test]
fn a_thousand_directories_get_their_modes_and_times_at_any_depth() {
    const MODES: [u32; 8] = [0o755, 0o000, 0o555, 0o700, 0o311, 0o644, 0o777, 0o111];
    let named = |nth: usize| {
        let name = format!("{}/{}/{}", nth % 10, nth / 10 % 10, nth / 100);
        (name, MODES[nth * 7 / 5 % 8], 1_000_000_000 + nth as u64)
    };
    let directory = |(name, mode, time): (String, u32, u64)| {
        with_header(b'5', name, b"", |header| {
            header.set_mode(mode);
            header.set_mtime(time);
        })
    };
    // The outer directories come first, and again at the end with other modes.
    let outer = |mode| (0..10).map(move |nth| (nth.to_string(), mode, 2_000_000_000));
    let inner = || (0..1000).map(named);
    let mut entries: Vec<_> = outer(0o755).chain(inner()).map(directory).collect();
    entries.extend(inner().map(|(name, ..)| file(format!("{name}/f"), b"x")));
    entries.extend(outer(0o000).map(directory));
    let world = unpacked(&entries);
    for (name, mode, time) in inner().chain(outer(0o000)) {
        let seen = world.seen(&name);
        // Others never get write permission.
        let mode = 0o40000 | (mode & !0o002);
        assert_eq!((seen.mode, seen.modified), (mode, (time as i64, 0)), "{name}");
    }
}

#[test]
fn an_entry_for_the_root_alone_describes_the_root() {
    for root in ["/", "//", "/.", "/./", ".", "./"] {
        let world = World::new();
        let before = world.release().metadata().unwrap();
        let entries = [with_mode(b'5', root, 0o000), file("f", b"x")];
        world.unpack(&archive(&entries)[..]).unwrap();
        assert_eq!(world.unpacked().len(), 1, "{root}");
        let after = world.release().metadata().unwrap();
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()), "{root}");
    }
}

#[test]
fn times_are_kept_and_invalid_ones_are_no_error() {
    let at = |name: &str, mtime: &[u8]| [pax(b'x', &[("mtime", mtime)]), file(name, b"")].concat();
    let world = unpacked(&[
        with_header(b'5', "d", b"", |header| header.set_mtime(1_000_000_000)),
        file("d/f", b"x"),
        at("fraction", b"1500000000.25"),
        at("before", b"-10.5"),
        at("far", b"9223372036854775807"),
        at("near", b"-9223372036854775808"),
        at("nonsense", b"yesterday"),
        with_header(b'0', "octal", b"", |header| header.as_old_mut().mtime = *b"zzzzzzzzzzzz"),
        with_header(b'0', "binary", b"", |header| header.as_old_mut().mtime = [0xff; 12]),
    ]);
    assert_eq!(world.seen("d").modified, (1_000_000_000, 0));
    assert_eq!(world.seen("d/f").modified, (1_700_000_000, 0));
    assert_eq!(world.seen("fraction").modified, (1_500_000_000, 250_000_000));
    assert_eq!(world.seen("before").modified, (-11, 500_000_000));
    assert_eq!(world.seen("nonsense").modified, (1_700_000_000, 0));
    assert_eq!(world.seen("octal").modified, (0, 0));
    assert_eq!(world.seen("binary").modified, (-1, 0));
}

#[test]
fn the_later_of_two_entries_counts() {
    let world = unpacked(&[
        file("f", b"first"),
        hard_link("h", "f"),
        file("f", b"second"),
        file("target", b"untouched"),
        symlink("l", "target"),
        file("l", b"not through the link"),
        directory("d"),
        file("d/f", b"kept"),
        with_mode(b'5', "./d/", 0o700),
        directory("e"),
        file("e", b"over an empty directory"),
        file("g", b""),
        directory("g"),
        file("g/f", b""),
        symlink("m", "nowhere"),
        directory("m"),
        file("m/f", b""),
    ]);
    assert_eq!(world.seen("f").holds, b"second");
    assert_eq!(world.seen("h").holds, b"first");
    assert_eq!(world.seen("h").links, 1);
    assert_eq!(world.seen("target").holds, b"untouched");
    assert_eq!(world.seen("l").holds, b"not through the link");
    assert_eq!(world.seen("d/f").holds, b"kept");
    assert_eq!(world.seen("d").mode, 0o40700);
    assert_eq!(world.seen("e").holds, b"over an empty directory");
    assert_eq!(world.seen("g/f").mode & 0o170000, 0o100000);
    assert_eq!(world.seen("m").mode, 0o40755);
}

#[test]
fn links_are_unpacked_as_links() {
    let world = unpacked(&[
        file("a/f", b"x"),
        hard_link("h1", "a/f"),
        hard_link("b/h2", "./a//f"),
        symlink("a/up", "../a/f"),
        hard_link("a/up2", "a/up"),
        symlink("dangling", "not/here"),
        symlink("through", "a/f/x"),
        symlink("to root", "a/.."),
    ]);
    let inode = |name: &str| world.release().join(name).metadata().unwrap().ino();
    assert_eq!(inode("a/f"), inode("h1"));
    assert_eq!(inode("a/f"), inode("b/h2"));
    assert_eq!(world.seen("a/f").links, 3);
    assert_eq!(world.seen("a/up2").holds, b"../a/f");
    assert_eq!(world.seen("dangling").holds, b"not/here");
}

#[test]
fn entries_that_only_describe_the_archive_are_skipped() {
    let world = unpacked(&[
        entry(b'V', "a label", b""),
        pax(b'g', &[("comment", b"0123456789abcdef0123456789abcdef01234567")]),
        file("f", b"x"),
        entry(b'7', "contiguous", b"y"),
        entry(0, "v7 file", b"z"),
        entry(0, "v7 directory/", b""),
        pax(b'x', &[("size", b"3"), ("uid", b"0"), ("ctime", b"x"), ("GNU.unknown", b"")]),
        [with_header(b'0', "sized by pax", b"", |_| {}), b"abc".to_vec(), vec![0; 509]].concat(),
        file("last", b""),
    ]);
    assert_eq!(world.unpacked().len(), 6);
    assert_eq!(world.seen("sized by pax").holds, b"abc");
    assert_eq!(world.seen("v7 directory").mode, 0o40644);
}

#[test]
fn contents_of_every_length_are_unpacked() {
    let lengths = [0, 1, 511, 512, 513, 262_143, 262_144, 262_145, 3_000_000];
    let content = |length: usize| (0..length).map(|n| (n / 7) as u8).collect::<Vec<u8>>();
    let entries: Vec<_> = lengths.iter().map(|&n| file(n.to_string(), &content(n))).collect();
    let world = World::new();
    let done = world.unpack(&archive(&entries)[..]).unwrap();
    assert_eq!((done.files, done.bytes), (9, lengths.iter().sum::<usize>() as u64));
    for length in lengths {
        assert!(world.seen(&length.to_string()).holds == content(length), "{length}");
    }
}

/// Each pending file holds a buffer of the archive until it is written, and their number is
/// limited.
#[test]
fn files_may_lie_far_apart_in_the_archive() {
    let comment = [b'x'; 1_000_000];
    let entry = |nth: usize| {
        [pax(b'x', &[("comment", &comment)]), file(nth.to_string(), b"content")].concat()
    };
    let entries: Vec<_> = (0..100).map(entry).collect();
    let world = World::new();
    assert_eq!(world.unpack(&archive(&entries)[..]).unwrap().files, 100);
    assert!(world.unpacked().values().all(|file| file.holds == b"content"));
}

#[test]
fn any_number_of_zeros_may_end_an_archive() {
    let entries = file("f", b"x");
    for zeros in [512, 513, 1024, 10_240, 1_000_000] {
        let world = World::new();
        world.unpack(&[&entries[..], &vec![0; zeros]].concat()[..]).unwrap();
    }
}
