//! Keeps symlinks inside the release: checked as text when they are created, and again by the
//! kernel when everything is unpacked.
//!
//! Neither check is enough alone. The text does not show that a component is itself a link; the
//! kernel cannot resolve a target that does not exist yet.

use super::entry_error::EntryError;
use super::name::{Name, components};
use super::shown::shown;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::os::fd::BorrowedFd;

/// The longest target that the kernel accepts, without its final NUL (`PATH_MAX` - 1).
const MAX_BYTES: usize = 4095;

/// How often a lookup is retried after a rename elsewhere on the instance disturbed it: openat2(2)
/// cannot ensure that `..` stayed beneath the root while names move.
const TRIES: usize = 1000;

/// Returns advice for a link that leads out of the release, by its target.
fn advice(target: &[u8]) -> &'static str {
    let parts: Vec<&[u8]> = components(target).collect();
    let last = parts.last().copied().unwrap_or_default();
    let is_absolute = target.starts_with(b"/");
    match parts.as_slice() {
        [b"dev" | b"proc", ..] if is_absolute => {
            "log to stdout and stderr, which the journal keeps, in place of a file"
        }
        _ if last.starts_with(b"python") => {
            "make the Python environment in `build` (python3 -m venv venv), or pack one of \
             `python3 -m venv --copies` and start programs as `venv/bin/python3 -m NAME`: its \
             scripts name the directory that it was made in"
        }
        _ if parts.contains(&&b"shared"[..]) => {
            "make the link in `build`, to the app's shared directory: `ln -s \"$DEPLOY_SHARED/uploads\" \
             uploads`"
        }
        _ => "point links inside the release, relatively, or pack what they point to: tar -h",
    }
}

/// Refuses a target that leaves the root at any point, resolved as text from the directory of
/// `link`.
pub(super) fn check_target(link: &Name, target: &[u8]) -> Result<(), EntryError> {
    let refused = |why: &str| {
        Err(EntryError::refused(format!("it links to \"{}\", {why}", shown(target)))
            .with_help(advice(target)))
    };
    if target.is_empty() || target.contains(&0) || target.len() > MAX_BYTES {
        return refused("which no link can");
    }
    if target.starts_with(b"/") {
        return refused("an absolute path");
    }
    let mut depth = link.depth();
    for part in components(target) {
        depth = match (part, depth) {
            (b"..", 0) => return refused("which leaves the release"),
            (b"..", _) => depth - 1,
            _ => depth + 1,
        };
    }
    Ok(())
}

/// Refuses a link that the kernel follows out of `root`, or without end. A dangling link is
/// allowed: many packages ship some.
pub(super) fn check_resolved(root: BorrowedFd<'_>, link: &[u8]) -> Result<(), EntryError> {
    match resolve(root, link) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        Err(Errno::EXDEV) => {
            Err(EntryError::refused("the link leads out of the release").with_help(advice(b"")))
        }
        Err(Errno::ELOOP) => {
            Err(EntryError::refused("the link leads in a circle or through too many others"))
        }
        Err(errno) => Err(EntryError::System { call: "openat2", errno }),
    }
}

fn resolve(root: BorrowedFd<'_>, link: &[u8]) -> nix::Result<()> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    for _ in 1..TRIES {
        match openat2(root, link, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done.map(drop),
        }
    }
    openat2(root, link, how).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    fn why(result: Result<(), EntryError>) -> String {
        match result {
            Err(EntryError::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_may_go_up_to_the_root_but_not_beyond() {
        let link = Name::parse(b"a/b/link").unwrap();
        for target in [&b"c"[..], b"../..", b"../../x/../y", b"./../b/./c", b"x//y/", b"..."] {
            assert!(check_target(&link, target).is_ok());
        }
        for target in [&b"../../.."[..], b"../../../r", b"x/../../../../r/a", b"../.././.."] {
            assert!(why(check_target(&link, target)).contains("leaves the release"));
        }
        assert!(why(check_target(&link, b"/usr/bin/python3")).contains("an absolute path"));
        assert!(why(check_target(&link, b"")).contains("no link can"));
        for (target, help) in [
            (&b"/usr/bin/python3.11"[..], "python3 -m venv"),
            (b"/dev/stdout", "log to stdout"),
            (b"../../../../shared/log", "$DEPLOY_SHARED"),
            (b"/srv/my-app/shared/uploads", "$DEPLOY_SHARED"),
            (b"../../../../x", "tar -h"),
        ] {
            let Err(EntryError::Refused { help: Some(said), .. }) = check_target(&link, target)
            else {
                panic!("{target:?} is accepted");
            };
            assert!(said.contains(help), "{said}");
        }
        assert!(why(check_target(&link, b"a\0b")).contains("no link can"));
        assert!(why(check_target(&link, &[b'a'; 4096])).contains("no link can"));
    }

    #[test]
    fn the_kernel_check_finds_links_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        symlink("a/b", at("deep")).unwrap();
        symlink("deep/../../x", at("inside")).unwrap();
        symlink("a", at("shallow")).unwrap();
        symlink("a/../shallow/../../x", at("outside")).unwrap();
        symlink("/etc/passwd", at("absolute")).unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        symlink("file/x", at("through")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let check = |name: &str| check_resolved(root.as_fd(), name.as_bytes());
        for inside in ["deep", "inside", "dangling", "through"] {
            assert!(check(inside).is_ok(), "{inside}");
        }
        assert!(why(check("outside")).contains("out of the release"));
        assert!(why(check("absolute")).contains("out of the release"));
        assert!(why(check("circle")).contains("in a circle"));
    }
}
