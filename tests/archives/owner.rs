//! The owner of the files, and the kernel's checks on the unpacking thread.

use super::{LIMITS, OWNER, World};
use deploy_agent::stage::unpack::unpack;
use model::error::{Error, Exit};
use nix::unistd::{getgroups, setfsgid, setfsuid};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use testkit::archive::*;

#[test]
fn everything_is_created_with_the_apps_user_as_owner() {
    let world = World::new();
    let entries = [
        directory("d"),
        file("d/f", b"x"),
        symlink("l", "d/f"),
        hard_link("h", "d/f"),
        file("i/f", b""),
    ];
    world.unpack(&archive(&entries)[..]).unwrap();
    let unpacked = world.unpacked();
    assert_eq!(unpacked.len(), 6);
    for (path, seen) in unpacked {
        assert_eq!(seen.owner, (OWNER.uid, OWNER.gid), "{path:?}");
    }
}

#[test]
fn the_kernel_refuses_a_write_outside_and_the_thread_regains_its_identity() {
    let world = World::new();
    let private = world.dir.path().join("private");
    fs::create_dir(&private).unwrap();
    let ids = || (setfsuid(u32::MAX.into()), setfsgid(u32::MAX.into()), getgroups().unwrap());
    let before = ids();

    // A directory owned by root stands for any place outside the release.
    let into = File::open(&private).unwrap();
    let tar = archive(&[file("f", b"x")]);
    let error = unpack(&tar[..], into.as_fd(), OWNER, LIMITS, &|_, _| {}).unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    assert!(error.chain().contains("EACCES"), "{}", error.chain());
    assert_eq!(fs::read_dir(&private).unwrap().count(), 0);
    assert_eq!(ids(), before);

    chown(&private, Some(OWNER.uid), Some(OWNER.gid)).unwrap();
    unpack(&tar[..], into.as_fd(), OWNER, LIMITS, &|_, _| {}).unwrap();
    assert_eq!(ids(), before);
}

#[test]
fn no_other_thread_changes_its_identity() {
    struct Watched<R>(R);
    impl<R: Read> Read for Watched<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert_eq!(setfsuid(u32::MAX.into()).as_raw(), OWNER.uid);
            assert_eq!(getgroups().unwrap(), []);
            // `/proc/self` shows the identity of the main thread.
            let first = fs::read_to_string("/proc/self/status").unwrap();
            let ids = |name: &str| {
                let line = first.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(ids("Uid:"), ["0"; 4]);
            assert_eq!(ids("Gid:"), ["0"; 4]);
            assert_eq!(ids("Groups:"), ["0", "1"]);
            self.0.read(buffer)
        }
    }
    let world = World::new();
    let into = File::open(world.release()).unwrap();
    let tar = archive(&[file("f", b"x")]);
    std::thread::scope(|scope| {
        let tar = BufReader::new(Watched(&tar[..]));
        scope.spawn(|| unpack(tar, into.as_fd(), OWNER, LIMITS, &|_, _| {}).unwrap());
    });
}

#[test]
fn an_error_of_the_source_keeps_its_exit_code() {
    struct Gone;
    impl Read for Gone {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(Error::source("S3 went away").help("look at the network")))
        }
    }
    let whole = archive(&[file("a", &[1; 5000]), file("b", b"")]);
    for keep in [0, 100, 512, 3000, 6144, whole.len()] {
        let error = World::new().unpack(whole[..keep].chain(Gone)).unwrap_err();
        assert_eq!(error.exit(), Exit::Source);
        assert_eq!(error.chain(), "S3 went away");
    }
}
