//! Archives that are refused, each with a part of its error message.

use super::World;
use model::error::Exit;
use testkit::archive::*;

fn refused(what: &str, tar: &[u8], says: &str) {
    let world = World::new();
    let error = match world.unpack(tar) {
        Ok(done) => panic!("{what}: unpacked {done:?}"),
        Err(error) => error,
    };
    let chain = error.chain();
    assert!(chain.contains(says), "{what}: {chain:?} does not say {says:?}");
    assert_eq!(error.exit(), Exit::Unusable, "{what}: {chain}");
    assert!(error.advice().is_some(), "{what}: no advice");
    assert!(chain.len() < 1000 && !chain.contains(char::is_control), "{what}: {chain:?}");
}

/// Tests each case alone and after a good entry, so that no refusal depends on being first.
fn each_refused(table: &[(&str, Vec<Vec<u8>>, &str)]) {
    for (what, entries, says) in table {
        refused(what, &archive(entries), says);
        refused(what, &archive(&[vec![file("good", b"x")], entries.clone()].concat()), says);
    }
}

#[test]
fn refuses_names_that_lead_out() {
    each_refused(&[
        (
            "absolute",
            vec![file("/etc/cron.d/x", b"x")],
            "\"/etc/cron.d/x\" of the archive: its name is absolute",
        ),
        ("absolute directory", vec![directory("/etc/")], "absolute"),
        ("absolute parent", vec![directory("/..")], "absolute"),
        ("file as /", vec![file("//", b"x")], "1 bytes of content"),
        ("link as /", vec![symlink("/", "x")], "release's own directory"),
        ("parent", vec![file("../outside/secret", b"x")], "`..`"),
        ("parent in the middle", vec![file("a/../../outside/secret", b"x")], "`..`"),
        ("parent directory", vec![directory("..")], "`..`"),
        ("parent by pax", vec![pax(b'x', &[("path", b"../x")]), file("x", b"")], "`..`"),
        ("parent by GNU", vec![long(b'L', "../x"), file("x", b"")], "`..`"),
        ("empty", vec![file("", b"x")], "its name is empty"),
        ("NUL", vec![pax(b'x', &[("path", b"a\0b")]), file("x", b"")], "NUL"),
        ("NUL by GNU", vec![long(b'L', "a\0b"), file("x", b"")], "NUL"),
        ("too long", vec![long(b'L', "n/".repeat(2100)), file("x", b"")], "longer than 4095 bytes"),
        (
            "too long a part",
            vec![long(b'L', "n".repeat(256)), file("x", b"")],
            "file system allows",
        ),
        ("too deep", vec![long(b'L', "n/".repeat(300)), file("x", b"")], "256 directories deep"),
        ("file as root", vec![file("./.", b"x")], "release's own directory"),
        ("link as root", vec![symlink(".", "x")], "release's own directory"),
        ("escapes", vec![file("../\x1b[2J\x07", b"")], "\"../\\u{1b}[2J\\u{7}\""),
    ]);
}

#[test]
fn refuses_entries_beneath_a_link_or_a_file() {
    each_refused(&[
        (
            "link out",
            vec![symlink("l", "../outside"), file("l/secret", b"x")],
            "leaves the release",
        ),
        (
            "link in",
            vec![directory("d"), symlink("l", "d"), file("l/f", b"x")],
            "\"l/f\" of the archive: it lies beneath a symlink",
        ),
        ("link to itself", vec![symlink("l", "l"), directory("l/d")], "beneath a symlink"),
        ("link to the root", vec![symlink("l", "."), file("l/l/f", b"")], "beneath a symlink"),
        (
            "directory that became a link",
            vec![directory("d"), symlink("d", "e"), file("d/f", b"")],
            "beneath a symlink",
        ),
        ("file", vec![file("f", b""), file("f/x", b"")], "not a directory"),
        ("link beneath a link", vec![symlink("l", "."), symlink("l/x", "y")], "beneath a symlink"),
    ]);
}

#[test]
fn refuses_links_that_leave_the_release() {
    each_refused(&[
        (
            "absolute",
            vec![symlink("python", "/usr/bin/python3")],
            "\"/usr/bin/python3\", an absolute path",
        ),
        ("parent", vec![symlink("l", "../outside/secret")], "leaves the release"),
        ("parent from below", vec![symlink("a/b/l", "../../../x")], "leaves the release"),
        ("in and out", vec![symlink("l", "x/../../release/y")], "leaves the release"),
        ("long", vec![long(b'K', "../".repeat(1300)), symlink("l", "x")], "leaves the release"),
        (
            "through a link",
            vec![symlink("a/b/up", "../.."), symlink("l", "a/b/up/../x")],
            "leads out",
        ),
        (
            "through a link that comes later",
            vec![
                symlink("l", "d/e/../../x"),
                directory("a"),
                symlink("d", "a/../a"),
                symlink("a/e", ".."),
            ],
            "leads out",
        ),
        ("in a circle", vec![symlink("l", "m"), symlink("m", "l")], "circle"),
        ("to nothing", vec![symlink("l", "")], "no link can"),
    ]);
}

#[test]
fn refuses_hard_links_to_anything_else() {
    let outside = "../outside/secret";
    each_refused(&[
        (
            "outside",
            vec![hard_link("l", outside)],
            "hard link to \"../outside/secret\", and its name has",
        ),
        ("absolute", vec![hard_link("l", "/etc/shadow")], "and its name is absolute"),
        (
            "missing",
            vec![hard_link("l", "later"), file("later", b"")],
            "not in the archive before it",
        ),
        ("itself", vec![file("f", b""), hard_link("./f", "f")], "hard link to itself"),
        ("directory", vec![directory("d"), hard_link("l", "d")], "hard link to the directory"),
        ("implied directory", vec![file("d/f", b""), hard_link("l", "d")], "to the directory"),
        ("root", vec![hard_link("l", ".")], "hard link to the directory"),
        (
            "through a link",
            vec![file("d/f", b""), symlink("l", "d"), hard_link("x", "l/f")],
            "not in the archive before it",
        ),
        (
            "through a file",
            vec![file("f", b""), hard_link("x", "f/f")],
            "not in the archive before it",
        ),
        (
            "to a link that would lead out from there",
            vec![file("x", b""), symlink("a/l", "../x"), hard_link("l", "a/l")],
            "leaves the release",
        ),
        ("nothing", vec![hard_link("l", "")], "and its name is empty"),
    ]);
}

#[test]
fn refuses_entries_other_than_files_directories_and_links() {
    each_refused(&[
        ("character device", vec![entry(b'3', "null", b"")], "character device"),
        ("block device", vec![entry(b'4', "sda", b"")], "block device"),
        ("fifo", vec![entry(b'6', "pipe", b"")], "fifo"),
        ("socket or other", vec![entry(b's', "x", b"")], "type 's' is not known"),
        ("part of a volume", vec![entry(b'M', "x", b"")], "type 'M' is not known"),
        ("escape", vec![entry(0x1b, "x", b"")], "type '\\u{1b}' is not known"),
        ("setuid", vec![with_mode(b'0', "su", 0o4755)], "mode 4755 has the setuid"),
        ("setgid", vec![with_mode(b'0', "sg", 0o2755)], "mode 2755 has the setuid"),
        (
            "setuid hard link",
            vec![
                file("f", b""),
                with_header(b'1', "l", b"", |header| {
                    header.set_mode(0o4755);
                    header.as_old_mut().linkname[0] = b'f';
                }),
            ],
            "setuid",
        ),
        (
            "file over a directory in use",
            vec![file("d/f", b""), file("d", b"")],
            "a directory of the same name, with files in it",
        ),
        (
            "link over a directory in use",
            vec![file("d/f", b""), symlink("d", "e")],
            "a directory of the same name, with files in it",
        ),
    ]);
}

#[test]
fn refuses_headers_that_tools_interpret_differently() {
    let two = |a: Vec<u8>, b: Vec<u8>| vec![a, b, file("x", b"")];
    each_refused(&[
        ("two long names", two(long(b'L', "a"), long(b'L', "b")), "two extended headers"),
        ("two long links", two(long(b'K', "a"), long(b'K', "b")), "two extended headers"),
        ("two pax", two(pax(b'x', &[("path", b"a")]), pax(b'x', &[])), "two extended headers"),
        ("GNU and pax", two(long(b'L', "a"), pax(b'x', &[("path", b"b")])), "name it differently"),
        ("pax and GNU", two(pax(b'x', &[("path", b"b/")]), long(b'L', "b")), "name it differently"),
        (
            "GNU and pax links",
            vec![long(b'K', "a"), pax(b'x', &[("linkpath", b"b")]), symlink("l", "a")],
            "name it differently",
        ),
        ("no entry", vec![long(b'L', "a")], "has no entry after it"),
        ("name for all", vec![pax(b'g', &[("path", b"a")]), file("x", b"")], "global pax header"),
        ("size for all", vec![pax(b'g', &[("size", b"0")]), file("x", b"")], "global pax header"),
        ("directory with content", vec![entry(b'5', "d", b"x")], "1 bytes of content"),
        ("link with content", vec![entry(b'2', "l", b"x")], "1 bytes of content"),
        ("v7 directory with content", vec![entry(0, "d/", b"x")], "1 bytes of content"),
        ("malformed pax", vec![entry(b'x', "p", b"99 path=a\n"), file("x", b"")], "malformed"),
        ("malformed pax size", vec![pax(b'x', &[("size", b"-1")]), file("x", b"")], "malformed"),
        (
            "malformed size",
            vec![with_header(b'0', "f", b"", |h| h.as_old_mut().size = *b"zzzzzzzzzzzz")],
            "size is not a number",
        ),
        (
            "malformed mode",
            vec![with_header(b'0', "f", b"", |h| h.as_old_mut().mode = *b"rwxrwxrw")],
            "mode is not a number",
        ),
        (
            "sparse without map",
            vec![pax(b'x', &[("GNU.sparse.major", b"1")]), file("f", b"")],
            "sparse",
        ),
        (
            "unknown sparse",
            vec![
                pax(b'x', &[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"1")]),
                file("f", b""),
            ],
            "not known",
        ),
        (
            "sparse map beyond the file",
            vec![
                pax(b'x', &[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,2")]),
                file("f", b"xx"),
            ],
            "sparse",
        ),
    ]);
}

#[test]
fn refuses_damage_truncation_and_data_after_the_end() {
    let good = archive(&[file("a", &[7; 700]), file("b", b"b")]);
    for keep in [0, 1, 511, 512, 600, 1212, 1535, 1536, 1537, 2048, 2559] {
        refused(&format!("cut at {keep}"), &good[..keep], "truncated");
    }
    let flipped = |at: usize| {
        let mut tar = good.clone();
        tar[at] ^= 1;
        tar
    };
    refused("first header", &flipped(5), "not a tar archive");
    refused("second header", &flipped(1536 + 5), "checksum of a header does not match");
    refused("after the end", &[&good[..], b"x"].concat(), "other data follows the end");
    refused("second archive", &[&good[..], &good[..]].concat(), "other data follows the end");
    refused("after one zero block", &[&good[..2560], &[0; 512], &good[..]].concat(), "other data");
    refused("nothing in it", &archive(&[]), "the archive is empty");
    refused("zip", &[b"PK\x03\x04".to_vec(), vec![9; 4096]].concat(), "not a tar archive");
}
