//! Arbitrary and damaged archives never cause a panic, a change outside the release (`World`
//! checks after each), or a link that leads out.

use super::World;
use deploy_agent::stage::unpack::Limits;
use proptest::prelude::*;
use std::io::ErrorKind;
use testkit::archive::*;

/// Unpacks the archive, and checks that no link leads out of the release.
fn unpack(tar: &[u8]) {
    let world = World::new();
    let limits = Limits { max_bytes: 1 << 20, max_files: 1000 };
    if world.unpack_within(tar, limits).is_err() {
        return;
    }
    let root = world.release().canonicalize().unwrap();
    for path in world.unpacked().into_keys() {
        match root.join(&path).canonicalize() {
            Ok(real) => assert!(real.starts_with(&root), "{path:?} leads to {real:?}"),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
                "{path:?}: {error}"
            ),
        }
    }
}

/// Short names that often collide.
fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[abc]", 2 => Just("..".to_owned()), 1 => Just(".".to_owned()), 1 => Just(String::new()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

/// A name that is accepted more often than not.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[abc](/[abc]){0,3}", 1 => path()]
}

fn any_entry() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (name(), 0..2000usize).prop_map(|(name, n)| file(name, &vec![b'x'; n])),
        4 => (name(), 0..0o2000u32).prop_map(|(name, mode)| with_mode(b'5', name, mode)),
        6 => (name(), path()).prop_map(|(name, target)| symlink(name, target)),
        4 => (name(), name()).prop_map(|(name, target)| hard_link(name, target)),
        1 => (any::<u8>(), name()).prop_map(|(kind, name)| entry(kind, name, b"")),
        1 => path().prop_map(|name| [long(b'L', name), file("x", b"y")].concat()),
        1 => path().prop_map(|name| [pax(b'x', &[("path", name.as_bytes())]), file("x", b"y")].concat()),
    ]
}

/// An archive with an entry of every kind.
fn rich() -> Vec<u8> {
    archive(&[
        pax(b'g', &[("comment", b"commit")]),
        directory("./"),
        with_mode(b'5', "d", 0o555),
        file("d/f", &[7; 1300]),
        symlink("l", "d/f"),
        hard_link("h", "d/f"),
        long(b'L', format!("{}/n", "n".repeat(110))),
        directory("x"),
        pax(b'x', &[("path", b"d/pax"), ("mtime", b"1.5"), ("size", b"4")]),
        file("x", b"abcd"),
        pax(b'x', &[("GNU.sparse.size", b"5000"), ("GNU.sparse.map", b"512,512,4096,10")]),
        file("s", &[1; 522]),
        pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"9000"),
            ],
        ),
        file("t", &[&b"1\n8000\n3\n"[..], &[0; 503], b"end"].concat()),
        with_header(b'S', "gnu", b"0123456789", |header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(4106);
            gnu.sparse[0].set_offset(4096);
            gnu.sparse[0].set_length(10);
        }),
    ])
}

/// Corrects every checksum, so that other damage is not caught by it.
fn mend(tar: &mut [u8]) {
    for block in tar.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum::<u32>() + 256
                - block[148..156].iter().map(|b| u32::from(*b)).sum::<u32>();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_entries(entries in prop::collection::vec(any_entry(), 1..14)) {
        unpack(&archive(&entries));
    }

    #[test]
    fn damaged_archives(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        mended in prop::bool::weighted(0.8),
        keep in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let mut tar = rich();
        for (at, byte) in damage {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if mended {
            mend(&mut tar);
        }
        if let Some(keep) = keep {
            tar.truncate(keep.index(tar.len()));
        }
        unpack(&tar);
    }

    #[test]
    fn blocks_out_of_order(order in prop::collection::vec(any::<prop::sample::Index>(), 1..40)) {
        let tar = rich();
        let blocks: Vec<_> = tar.chunks(512).collect();
        let shuffled: Vec<u8> = order.iter().flat_map(|at| at.get(&blocks).to_vec()).collect();
        unpack(&archive(&[shuffled]));
    }
}

#[test]
fn the_archive_that_damaged_archives_starts_from_is_valid() {
    let world = World::new();
    world.unpack(&rich()[..]).unwrap();
    assert_eq!(world.seen("s").holds.len(), 5000);
    assert_eq!(&world.seen("t").holds[7998..8004], b"\0\0end\0");
    assert_eq!(&world.seen("gnu").holds[4090..], b"\0\0\0\0\0\x000123456789");
}
