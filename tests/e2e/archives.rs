//! Every hostile or odd input, deployed with the public command, is refused with its reason and
//! leaves the instance unchanged.

mod texts;

use flate2::write::GzEncoder;
use std::collections::HashSet;
use std::io::Write;
use std::time::{Duration, Instant};
use testkit::app::{BUCKET, url};
use testkit::archive::*;
use testkit::host::Host;
use testkit::instance::Output;

const GOOD: &[u8] = b"web: python3 -m http.server $PORT\n";

/// Limits for every test here; low, so that a bomb need not be large.
const LIMITS: &str = "DEPLOY_MAX_UNPACKED=32M\nDEPLOY_MAX_FILES=200\n";

/// A host that runs r1, and a snapshot of its file system from before a refusal.
struct World {
    host: Host,
    pids: [u64; 2],
    before: String,
}

impl World {
    fn new() -> World {
        let host = Host::running_r1();
        host.configure(LIMITS);
        host.write("/srv/sentinel", "untouched");
        let before = machine(&host);
        World { pids: host.pids(), before, host }
    }

    /// Deploys these objects as a release of the running app.
    fn deploy(&self, name: &str, archive: (&str, Vec<u8>), env: Vec<u8>) -> Output {
        let key = |file: &str| format!("my-app/production/{name}/{file}");
        self.host.s3().put(BUCKET, &key(archive.0), archive.1);
        self.host.s3().put(BUCKET, &key("env"), env);
        self.host.deploy(&[&url(name)])
    }

    /// Checks that the command gives the reason in one line and exits with 10, that the running
    /// release runs on, and that no file of the machine has changed.
    fn refused(&self, what: &str, archive: (&str, Vec<u8>), env: Vec<u8>, says: &str) {
        let said = self.deploy("bad", archive, env);
        assert_eq!(said.status, Some(10), "{what}: {said:#?}");
        assert!(said.stdout.starts_with("deploy failed (exit 10): "), "{what}: {said:#?}");
        assert_eq!(said.stdout.lines().count(), 1, "{what}: {said:#?}");
        assert!(said.stdout.contains(says), "{what}: no {says:?} in {said:#?}");
        assert!(!format!("{said:?}").contains(texts::SECRET), "{what}: {said:#?}");
        assert_eq!(self.host.pids(), self.pids, "{what}");
        assert_eq!(self.host.served().as_deref(), Some("r1"), "{what}");
        same(what, &self.before, &machine(&self.host));
    }

    fn refuses_archive(&self, what: &str, entries: &[Vec<u8>], says: &str) {
        let entries = [&[file("Procfile", GOOD)], entries].concat();
        self.refused(what, ("source.tar.gz", gzip(&archive(&entries))), Vec::new(), says);
    }
}

/// Lists every file with its ctime: a change of content, owner, mode or links cannot hide from
/// it, since only the kernel sets it. Leaves out logs, and the times of directories, since
/// staging creates and removes one.
fn machine(host: &Host) -> String {
    host.sh("find / -xdev \
        \\( -path /var/log -o -path /var/lib/systemd -o -name history.jsonl \\) -prune \
        -o -type d -printf '%p %m %U %G\\n' -o -printf '%p %l %m %U %G %s %i %C@\\n' | sort")
}

#[track_caller]
fn same(what: &str, before: &str, after: &str) {
    let lines = |text: &str, other: &str| {
        let other: HashSet<_> = other.lines().collect();
        let new = text.lines().filter(|line| !other.contains(line));
        new.collect::<Vec<_>>().join("\n")
    };
    if before != after {
        panic!("{what}: gone:\n{}\nnew:\n{}", lines(before, after), lines(after, before));
    }
}

#[test]
fn refuses_hostile_archives() {
    let world = World::new();
    let many = |count: usize| (0..count).map(|n| file(format!("f{n}"), b"")).collect::<Vec<_>>();
    let claims = |size: u64| with_header(b'0', "claims", b"", |header| header.set_size(size));
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        (
            "absolute name",
            vec![file("/etc/cron.d/x", b"* * * * * root id\n")],
            "cannot unpack \"/etc/cron.d/x\" of the archive: its name is absolute",
        ),
        (
            "parent",
            vec![file("../../../../../../../srv/sentinel", b"changed")],
            "its name has a component `..`",
        ),
        ("parent by pax", vec![pax(b'x', &[("path", b"a/../../x")]), file("x", b"")], "`..`"),
        ("parent by GNU", vec![long(b'L', "../x"), file("x", b"")], "`..`"),
        ("symlink out", vec![symlink("l", "/srv/sentinel")], "an absolute path"),
        ("symlink up", vec![symlink("d/l", "../../env")], "which leaves the release"),
        (
            "symlink chain",
            vec![symlink("a/b/up", "../.."), symlink("l", "a/b/up/../env")],
            "cannot unpack \"l\" of the archive: the link leads out of the release",
        ),
        (
            "file through a symlink",
            vec![symlink("d", "e"), file("d/f", b"x")],
            "it lies beneath a symlink",
        ),
        ("hard link out", vec![hard_link("l", "../env")], "hard link to \"../env\""),
        ("hard link to the machine", vec![hard_link("l", "/etc/shadow")], "its name is absolute"),
        ("character device", vec![entry(b'3', "null", b"")], "character device"),
        ("block device", vec![entry(b'4', "sda", b"")], "block device"),
        ("fifo", vec![entry(b'6', "pipe", b"")], "fifo"),
        ("setuid", vec![with_mode(b'0', "su", 0o4755)], "mode 4755 has the setuid"),
        ("setgid", vec![with_mode(b'0', "sg", 0o2755)], "setuid or setgid"),
        ("too many files", many(200), "the archive holds more than 200 entries"),
        ("too many bytes", vec![claims(33 << 20)], "unpacks to more than 33554432 bytes"),
        ("nearly endless", vec![claims(u64::MAX >> 1)], "unpacks to more than 33554432 bytes"),
        (
            "holes without end",
            vec![
                pax(
                    b'x',
                    &[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")],
                ),
                file("f", b"x"),
            ],
            "unpacks to more than 33554432 bytes",
        ),
        (
            "a name that speaks to terminals",
            vec![file("../\x1b[2J\x07", b"")],
            "\"../\\u{1b}[2J\\u{7}\"",
        ),
    ];
    for (what, entries, says) in cases {
        world.refuses_archive(what, &entries, says);
    }
}

#[test]
fn refuses_damaged_archives_and_files_that_are_no_archive() {
    let world = World::new();
    // Hardly compressible, so that half of the archive is cut in the middle of data.
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..300_000).map(|_| next()).collect();
    let tar = archive(&[file("Procfile", GOOD), file("noise", &noise)]);
    let (gz, zst) = (gzip(&tar), zstd(&tar));
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let more = |bytes: &[u8]| [bytes, b"<html>moved</html>"].concat();
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes
    };
    let (gz_name, zst_name) = ("source.tar.gz", "source.tar.zst");
    let cases = [
        ("gz, cut", gz_name, half(&gz), "source.tar.gz is truncated"),
        ("gz, flipped", gz_name, flipped(&gz), "source.tar.gz is corrupt"),
        ("gz, and more", gz_name, more(&gz), "source.tar.gz has other bytes after its end"),
        (
            "no gz",
            gz_name,
            b"<html>moved</html>".to_vec(),
            "source.tar.gz is not in the gzip format",
        ),
        ("zst, not gz", gz_name, zst.clone(), "source.tar.gz is not in the gzip format"),
        ("gz, empty", gz_name, Vec::new(), "source.tar.gz is truncated"),
        ("gz of a cut tar", gz_name, gzip(&half(&tar)), "truncated"),
        ("gz of two tars", gz_name, gzip(&[&tar[..], &tar[..]].concat()), "other data follows"),
        ("gz of no tar", gz_name, gzip(&noise), "it is not a tar archive"),
        ("gz of nothing", gz_name, gzip(&archive(&[])), "the archive is empty"),
    ];
    for (what, name, bytes, says) in cases {
        world.refused(what, (name, bytes), Vec::new(), says);
    }
    world.host.s3().delete(BUCKET, "my-app/production/bad/source.tar.gz");
    let cases = [
        ("zst, cut", half(&zst), "source.tar.zst is truncated"),
        ("zst, flipped", flipped(&zst), "source.tar.zst is corrupt"),
        ("zst, and more", more(&zst), "source.tar.zst has other bytes after its end"),
        ("no zst", gz, "source.tar.zst is not in the zstd format"),
    ];
    for (what, bytes, says) in cases {
        world.refused(what, (zst_name, bytes), Vec::new(), says);
    }
}

/// Ten gibibytes of zeros in several shapes; none is larger than a few megabytes as a download.
#[test]
fn a_bomb_is_refused_in_bounded_memory_and_time() {
    let world = World::new();
    let pid = world.host.sh("systemctl show --value --property=MainPID deployd");
    let pid = pid.trim();
    const PART: usize = 16 << 20;
    const PARTS: usize = 640;
    let header = |size: u64| with_header(b'0', "zeros", b"", |header| header.set_size(size));
    let procfile = file("Procfile", GOOD);
    let zeros = vec![0; PART];
    let part = [header(PART as u64), zeros.clone()].concat();
    let times = |part: Vec<u8>| part.repeat(PARTS);
    let too_much = "the archive unpacks to more than 33554432 bytes";
    let cases = [
        (
            "one file",
            "source.tar.zst",
            [zstd(&[&procfile[..], &header(10 << 30)].concat()), times(zstd(&zeros))].concat(),
            too_much,
        ),
        ("many files", "source.tar.zst", [zstd(&procfile), times(zstd(&part))].concat(), too_much),
        (
            "nothing behind the end",
            "source.tar.zst",
            [zstd(&procfile), times(zstd(&zeros))].concat(),
            "the archive is larger than its limits allow",
        ),
        (
            "many files, gzip",
            "source.tar.gz",
            [gzip(&procfile), times(gzip(&part))].concat(),
            too_much,
        ),
    ];
    for (what, name, bytes, says) in cases {
        for name in ["source.tar.zst", "source.tar.gz"] {
            world.host.s3().delete(BUCKET, &format!("my-app/production/bad/{name}"));
        }
        let start = Instant::now();
        world.refused(what, (name, bytes), Vec::new(), says);
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: {:?}", start.elapsed());
    }
    // `plan` searches the archive for the Procfile alone; that search is bounded too.
    world.host.s3().delete(BUCKET, "my-app/production/bad/source.tar.gz");
    world.host.s3().put(BUCKET, "my-app/production/bad/source.tar.zst", times(zstd(&part)));
    let said = world.host.deploy(&["plan", &url("bad")]).exits(10);
    assert!(said.stdout.contains("it is not within the first 33554432 bytes"), "{said:#?}");

    let peak = world.host.sh(&format!("awk '/^VmHWM/ {{ print $2 }}' /proc/{pid}/status"));
    let peak: u64 = peak.trim().parse().expect("kilobytes");
    assert!(peak < 64 << 10, "deployd took {peak} KiB");
}

#[test]
fn a_refused_first_release_leaves_only_an_empty_app() {
    let world = World::new();
    let key = |file: &str| format!("other/production/r1/{file}");
    let tar = archive(&[file("Procfile", GOOD), file("../x", b"")]);
    world.host.s3().put(BUCKET, &key("source.tar.gz"), gzip(&tar));
    world.host.s3().put(BUCKET, &key("env"), "");
    world.host.deploy(&[&format!("s3://{BUCKET}/other/production/r1")]).exits(10);
    let after = machine(&world.host);
    let kept = ["", "/lock", "/releases", "/shared"]
        .map(|kept| format!("/var/lib/deploy/apps/other{kept} "));
    let reserve = "/var/lib/deploy/apps/other/reserve";
    // The app keeps its users as long as any of its files exists.
    let users = ["passwd", "group", "shadow", "gshadow", ".pwd.lock"];
    let users = users.map(|file| format!("/etc/{file}"));
    let own = |line: &&str| {
        let begins = |with: &String| line.starts_with(with.as_str());
        kept.iter().chain(&users).any(begins) || line.starts_with(reserve)
    };
    let others = |text: &str| -> String {
        text.lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect()
    };
    same("another app", &others(&world.before), &others(&after));
}

#[test]
fn odd_but_valid_archives_are_unpacked_unchanged() {
    let world = World::new();
    let long_name = "d/".repeat(60) + "file";
    let tar = archive(&[
        pax(b'g', &[("comment", b"0123456789abcdef0123456789abcdef01234567")]),
        with_mode(b'5', "./", 0o777),
        file("./Procfile", GOOD),
        file(b"caf\xe9", b"latin"),
        file("new\nline", b"odd"),
        pax(b'x', &[("path", long_name.as_bytes())]),
        file("short", b"pax"),
        long(b'L', format!("gnu/{long_name}")),
        file("short", b"gnu"),
        hard_link("hard", "./Procfile"),
        symlink("soft", "gnu/../Procfile"),
        symlink("dangling", "log/later"),
        with_mode(b'5', "locked", 0o555),
        file("locked/later", b"x"),
        with_mode(b'0', "run", 0o755),
        pax(b'x', &[("GNU.sparse.size", b"1000000"), ("GNU.sparse.map", b"999999,1")]),
        file("sparse", b"!"),
    ]);
    let said = world.deploy("odd", ("source.tar", tar), b"export DEPLOY_WRITABLE=log\n".to_vec());
    assert_eq!(said.status, Some(0), "{said:#?}");
    world.host.sh(&format!(
        "cd /var/lib/deploy/apps/my-app/current/app
        [ \"$(cat $'caf\\xe9') $(cat $'new\\nline')\" = 'latin odd' ]
        [ \"$(cat {long_name}) $(cat gnu/{long_name})\" = 'pax gnu' ]
        [ hard -ef Procfile ] && [ soft -ef Procfile ]
        [ \"$(readlink dangling)\" = log/later ]
        [ \"$(stat -c '%a %U' locked run | xargs)\" = '555 app-my-app 755 app-my-app' ]
        [ \"$(stat -c %s sparse) $(tail -c 1 sparse)\" = '1000000 !' ]
        [ \"$(stat -c %b sparse)\" -lt 100 ]
        [ -z \"$(find . ! -user app-my-app)\" ]"
    ));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("compress");
    gzip.finish().expect("compress")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("compress");
    // The zstd program writes a checksum too.
    zstd.include_checksum(true).expect("compress");
    zstd.write_all(bytes).expect("compress");
    zstd.finish().expect("compress")
}
