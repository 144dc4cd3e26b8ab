//! Builds the seeds of `archive`: no tool would write most of them.

use super::corpus_at;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use testkit::archive::*;

type Seeds = Vec<(&'static str, Vec<u8>)>;

/// `UPDATE_SEEDS=1` rewrites the seeds. The compressed ones are rewritten but not compared,
/// since another version of a compressor may write other bytes.
#[test]
fn the_archives_are_those_that_are_built_here() {
    let update = std::env::var_os("UPDATE_SEEDS").is_some();
    let tars = good().into_iter().chain(names()).chain(links()).chain(kinds()).chain(headers());
    let tars = tars.map(|(name, tar)| (name, [b"t", &tar[..]].concat()));
    let packed = if update { compressed() } else { Vec::new() };
    for (name, seed) in tars.chain(packed) {
        let path = corpus_at("archive").join(name);
        if update {
            fs::create_dir_all(corpus_at("archive")).unwrap();
            fs::write(&path, &seed).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(stored == seed, "{name} is not what is built here: UPDATE_SEEDS=1");
    }
}

fn good() -> Seeds {
    let sparse_1_0 = [&b"1\n8000\n3\n"[..], &[0; 503], b"end"].concat();
    let rich = [
        pax(b'g', &[("comment", b"commit")]),
        directory("./"),
        with_mode(b'5', "d", 0o555),
        file("d/f", &[7; 700]),
        symlink("l", "d/f"),
        hard_link("h", "d/f"),
        long(b'L', "n/".repeat(60) + "f"),
        file("short", b"x"),
        pax(b'x', &[("path", b"d/pax"), ("mtime", b"1.5"), ("size", b"4")]),
        file("x", b"abcd"),
    ];
    vec![
        (
            "good-app",
            archive(&[file("Procfile", b"web: ./serve\n"), file("serve", b"#!/bin/sh\n")]),
        ),
        ("good-rich", archive(&rich)),
        ("good-root-by-slash", archive(&[directory("/"), directory("//."), file("f", b"x")])),
        ("good-setgid-directory", archive(&[with_mode(b'5', "d", 0o2775)])),
        (
            "good-gnu-and-pax-agree",
            archive(&[long(b'L', "a"), pax(b'x', &[("path", b"a")]), file("x", b"")]),
        ),
        (
            "good-sparse-0.1",
            archive(&[
                pax(b'x', &[("GNU.sparse.size", b"5000"), ("GNU.sparse.map", b"512,512,4096,10")]),
                file("s", &[1; 522]),
            ]),
        ),
        (
            "good-sparse-1.0",
            archive(&[
                pax(
                    b'x',
                    &[
                        ("GNU.sparse.major", b"1"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.realsize", b"9000"),
                    ],
                ),
                file("t", &sparse_1_0),
            ]),
        ),
        (
            "good-sparse-gnu",
            archive(&[with_header(b'S', "gnu", b"0123456789", |header| {
                let gnu = header.as_gnu_mut().unwrap();
                gnu.set_real_size(4106);
                gnu.sparse[0].set_offset(4096);
                gnu.sparse[0].set_length(10);
            })]),
        ),
        (
            "good-later-counts",
            archive(&[
                file("f", b"first"),
                hard_link("h", "f"),
                symlink("f", "h"),
                directory("f"),
                file("f/x", b""),
            ]),
        ),
        ("good-unreadable-directory", archive(&[with_mode(b'5', "d", 0), file("d/f", b"x")])),
        ("good-dangling-links", archive(&[symlink("l", "no/where"), symlink("a/m", "../l/x")])),
        ("good-deep", archive(&[long(b'L', "d/".repeat(255) + "f"), file("x", b"")])),
        ("good-bytes-in-name", archive(&[file(b"caf\xe9 \\\n\x1b", b"")])),
        ("good-v7", archive(&[entry(0, "d/", b""), entry(0, "d/f", b"x")])),
    ]
}

fn names() -> Seeds {
    vec![
        ("bad-absolute", archive(&[file("/etc/cron.d/x", b"x")])),
        ("bad-parent", archive(&[file("../outside/secret", b"x")])),
        ("bad-parent-in-the-middle", archive(&[file("a/../../outside/secret", b"x")])),
        ("bad-parent-by-pax", archive(&[pax(b'x', &[("path", b"../x")]), file("x", b"")])),
        ("bad-parent-by-gnu", archive(&[long(b'L', "../x"), file("x", b"")])),
        ("bad-empty-name", archive(&[file("", b"x")])),
        ("bad-nul-in-name", archive(&[pax(b'x', &[("path", b"a\0b")]), file("x", b"")])),
        ("bad-long-name", archive(&[long(b'L', "n/".repeat(2100)), file("x", b"")])),
        ("bad-long-part", archive(&[long(b'L', "n".repeat(256)), file("x", b"")])),
        ("bad-too-deep", archive(&[long(b'L', "n/".repeat(257)), file("x", b"")])),
        ("bad-file-as-root", archive(&[file("./.", b"x")])),
        ("bad-escapes-in-name", archive(&[file("../\x1b[2J\x07", b"")])),
        ("bad-beneath-a-link", archive(&[directory("d"), symlink("l", "d"), file("l/f", b"x")])),
        (
            "bad-directory-became-link",
            archive(&[directory("d"), symlink("d", "e"), file("d/f", b"")]),
        ),
        ("bad-beneath-a-file", archive(&[file("f", b""), file("f/x", b"")])),
        ("bad-over-directory-in-use", archive(&[file("d/f", b""), file("d", b"")])),
    ]
}

fn links() -> Seeds {
    vec![
        ("bad-link-absolute", archive(&[symlink("l", "/etc/passwd")])),
        ("bad-link-out", archive(&[symlink("l", "../outside"), file("l/secret", b"x")])),
        (
            "bad-link-out-through-link",
            archive(&[symlink("a/b/up", "../.."), symlink("l", "a/b/up/../outside/secret")]),
        ),
        (
            "bad-link-out-by-later-link",
            archive(&[
                symlink("l", "d/e/../../x"),
                directory("a"),
                symlink("d", "a/../a"),
                symlink("a/e", ".."),
            ]),
        ),
        ("bad-link-in-a-circle", archive(&[symlink("l", "m"), symlink("m", "l")])),
        ("bad-link-to-nothing", archive(&[symlink("l", "")])),
        ("bad-hard-link-out", archive(&[hard_link("l", "../outside/secret")])),
        ("bad-hard-link-absolute", archive(&[hard_link("l", "/etc/shadow")])),
        ("bad-hard-link-to-later", archive(&[hard_link("l", "x"), file("x", b"")])),
        ("bad-hard-link-to-itself", archive(&[file("f", b""), hard_link("./f", "f")])),
        ("bad-hard-link-to-directory", archive(&[file("d/f", b""), hard_link("l", "d")])),
        (
            "bad-hard-link-through-link",
            archive(&[file("d/f", b""), symlink("l", "d"), hard_link("x", "l/f")]),
        ),
        (
            "bad-hard-link-to-moved-link",
            archive(&[file("x", b""), symlink("a/l", "../x"), hard_link("l", "a/l")]),
        ),
    ]
}

fn kinds() -> Seeds {
    vec![
        ("bad-character-device", archive(&[entry(b'3', "null", b"")])),
        ("bad-block-device", archive(&[entry(b'4', "sda", b"")])),
        ("bad-fifo", archive(&[entry(b'6', "pipe", b"")])),
        ("bad-unknown-type", archive(&[entry(0x1b, "x", b"")])),
        ("bad-setuid", archive(&[with_mode(b'0', "su", 0o4755)])),
        ("bad-setgid", archive(&[with_mode(b'0', "sg", 0o2755)])),
        ("bad-large-file", with_header(b'0', "f", b"", |header| header.set_size(1 << 40))),
        (
            "bad-large-by-pax",
            [pax(b'x', &[("size", b"18446744073709551615")]), file("f", b"")].concat(),
        ),
        (
            "bad-large-hole",
            archive(&[
                pax(
                    b'x',
                    &[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")],
                ),
                file("f", b"x"),
            ]),
        ),
        ("bad-large-extended-header", with_header(b'x', "x", b"", |h| h.set_size(8 << 30))),
    ]
}

fn headers() -> Seeds {
    let whole = archive(&[file("a", &[7; 700]), file("b", b"b")]);
    let mut flipped = whole.clone();
    flipped[1536 + 5] ^= 1;
    vec![
        ("bad-two-long-names", archive(&[long(b'L', "a"), long(b'L', "b"), file("x", b"")])),
        (
            "bad-gnu-and-pax",
            archive(&[long(b'L', "a"), pax(b'x', &[("path", b"b")]), file("x", b"")]),
        ),
        ("bad-name-for-all", archive(&[pax(b'g', &[("path", b"a")]), file("x", b"")])),
        ("bad-no-entry", archive(&[long(b'L', "a")])),
        ("bad-directory-with-content", archive(&[entry(b'5', "d", b"x")])),
        ("bad-pax-record", archive(&[entry(b'x', "p", b"99 path=a\n"), file("x", b"")])),
        ("bad-size-field", with_header(b'0', "f", b"", |h| h.as_old_mut().size = [b'z'; 12])),
        (
            "bad-sparse-map",
            archive(&[
                pax(b'x', &[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,2")]),
                file("f", b"xx"),
            ]),
        ),
        ("bad-checksum", flipped),
        ("bad-truncated-in-content", whole[..600].to_vec()),
        ("bad-no-end-mark", whole[..2560].to_vec()),
        ("bad-second-archive", whole.repeat(2)),
        ("bad-empty", archive(&[])),
        ("bad-not-a-tar", [b"PK\x03\x04".to_vec(), vec![9; 600]].concat()),
    ]
}

fn compressed() -> Seeds {
    let tar = archive(&[file("Procfile", b"web: ./serve\n"), file("serve", &[7; 700])]);
    let (front, back) = tar.split_at(700);
    let of = |letter: &[u8], parts: &[&[u8]]| [letter, &parts.concat()].concat();
    let (gz, zst) = (gzip(&tar), zstd(&tar, 10));
    // More zeros after the archive than its limits allow.
    let bomb = [&tar[..], &vec![0; 28 << 20]].concat();
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip";
    vec![
        ("good-mended", [b"m", &tar[..]].concat()),
        ("good-in-pieces", [b"T", &tar[..]].concat()),
        ("good-gzip", of(b"g", &[&gz])),
        ("good-gzip-in-pieces", of(b"G", &[&gz])),
        ("good-gzip-members", of(b"g", &[&gzip(front), &gzip(b""), &gzip(back)])),
        ("good-gzip-padded", of(b"G", &[&gz, &[0; 600]])),
        ("good-zstd", of(b"z", &[&zst])),
        ("good-zstd-in-pieces", of(b"Z", &[&zst])),
        ("good-zstd-frames", of(b"z", &[&zstd(front, 10), skippable, &zstd(back, 27)])),
        ("bad-gzip-truncated", of(b"g", &[&gz[..gz.len() - 5]])),
        ("bad-gzip-checksum", of(b"g", &[&gz[..gz.len() - 8], &[0; 8]])),
        ("bad-gzip-tail", of(b"g", &[&gz, b"<html>"])),
        ("bad-gzip-padded-and-more", of(b"G", &[&gz, &[0; 600], &gz])),
        ("bad-gzip-bomb", of(b"g", &[&gzip(&bomb)])),
        ("bad-zstd-truncated", of(b"z", &[&zst[..zst.len() - 1]])),
        ("bad-zstd-checksum", of(b"z", &[&zst[..zst.len() - 4], &[0; 4]])),
        ("bad-zstd-tail", of(b"z", &[&zst, b"<html>"])),
        ("bad-zstd-bomb", of(b"z", &[&zstd(&bomb, 27)])),
        ("bad-zstd-window", of(b"z", &[&zstd(&tar, 31)])),
        ("bad-zstd-named-gzip", of(b"g", &[&zst])),
    ]
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with a window of two to the power of `window` bytes.
fn zstd(data: &[u8], window: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.window_log(window).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
