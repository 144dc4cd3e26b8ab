//! Archives that exceed the limits for unpacking, by every route.

use super::World;
use deploy_agent::stage::unpack::Limits;
use model::error::{Error, Exit};
use std::io::Read;
use std::process::Command;
use testkit::archive::*;

fn over(limits: Limits, tar: impl Read + Send) -> Error {
    let world = World::new();
    let error = world.unpack_within(tar, limits).unwrap_err();
    assert_eq!(error.exit(), Exit::Unusable);
    error
}

#[test]
fn a_file_too_many_is_refused_before_it_is_created() {
    let limits = Limits { max_bytes: 1 << 20, max_files: 3 };
    let three = [file("a", b""), directory("d"), symlink("l", "a")];
    let world = World::new();
    assert_eq!(world.unpack_within(&archive(&three)[..], limits).unwrap().files, 3);

    for fourth in
        [file("b", b""), directory("e"), directory("d"), symlink("m", "a"), hard_link("h", "a")]
    {
        let tar = archive(&[three.concat(), fourth]);
        assert!(over(limits, &tar[..]).chain().contains("more than 3 entries"));
    }
    let implied = archive(&[file("a/b/c", b"")]);
    assert_eq!(World::new().unpack_within(&implied[..], limits).unwrap().files, 3);
    let implied = archive(&[file("a/b/c/d", b"")]);
    assert!(over(limits, &implied[..]).chain().contains("more than 3 entries"));
}

#[test]
fn a_byte_too_many_is_refused_before_it_is_written() {
    let limits = Limits { max_bytes: 1000, max_files: 10 };
    let world = World::new();
    let tar = archive(&[file("a", &[1; 400]), file("b", &[1; 600])]);
    assert_eq!(world.unpack_within(&tar[..], limits).unwrap().bytes, 1000);

    let tar = archive(&[file("a", &[1; 400]), file("b", &[1; 601])]);
    let error = over(limits, &tar[..]);
    assert!(error.chain().contains("\"b\" of the archive: with its 601 bytes"));
    assert!(error.advice().unwrap().contains("DEPLOY_MAX_UNPACKED"));

    let huge = |size: u64| with_header(b'0', "f", b"", |header| header.set_size(size));
    for size in [1 << 40, u64::MAX >> 1, u64::MAX] {
        assert!(over(limits, &huge(size)[..]).chain().contains("unpacks to more than 1000"));
    }
    let by_pax = [pax(b'x', &[("size", b"18446744073709551615")]), file("f", b"")].concat();
    assert!(over(limits, &by_pax[..]).chain().contains("unpacks to more than 1000"));
    let holes = archive(&[
        pax(b'x', &[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")]),
        file("f", b"x"),
    ]);
    assert!(over(limits, &holes[..]).chain().contains("unpacks to more than 1000"));
}

#[test]
fn an_endless_series_of_headers_is_given_up() {
    struct Again(Vec<u8>, usize);
    impl Read for Again {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = (&self.0[self.1..]).read(buffer)?;
            self.1 = (self.1 + count) % self.0.len();
            Ok(count)
        }
    }
    let limits = Limits { max_bytes: 1 << 20, max_files: 10 };
    for endless in [entry(b'V', "label", b""), pax(b'g', &[("comment", &[b'x'; 5000])])] {
        assert!(over(limits, Again(endless, 0)).chain().contains("larger than its limits"));
    }
    let whole = archive(&[file("a", b"")]);
    assert!(
        over(limits, whole[..].chain(std::io::repeat(0)))
            .chain()
            .contains("larger than its limits")
    );
}

/// Runs itself again in a mount namespace, where it can mount a small private disk.
#[test]
fn a_full_disk_is_named_plainly() {
    if std::env::var_os("SMALL_DISK").is_some() {
        let error =
            World::new().unpack(&archive(&[file("a", b"x"), file("big", &vec![1; 8 << 20])])[..]);
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with("no space left after unpacking"), "{error}");
        assert!(error.chain().contains("\"big\"") && error.chain().contains("in 2 files"));
        assert_eq!(error.exit(), Exit::Unusable);
        let small: Vec<_> = (0..600).map(|n| file(format!("small{n}"), &[1; 8192])).collect();
        let error = World::new().unpack(&archive(&small)[..]).unwrap_err();
        assert!(error.to_string().starts_with("no space left after unpacking"), "{error}");
        assert!(error.chain().contains("\"small"), "{}", error.chain());
        assert_eq!(error.exit(), Exit::Unusable);
        // The pending write of the big file holds all buffers of the reader.
        let apart = [pax(b'x', &[("comment", &[b'x'; 150_000])]), file("after", b"x")].concat();
        let tar = [file("big", &vec![1; 8 << 20]), apart.repeat(300)].concat();
        let error = World::new().unpack(&archive(&[tar])[..]).unwrap_err();
        assert!(error.to_string().starts_with("no space left after unpacking"), "{error}");
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=2m none "$TMPDIR" && exec "$0" "$@""#;
    let done = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "limits::a_full_disk_is_named_plainly"])
        .envs([("TMPDIR", disk.path().as_os_str()), ("SMALL_DISK", "yes".as_ref())])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && out.contains("1 passed"), "{done:?}");
}
