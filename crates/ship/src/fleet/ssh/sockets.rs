//! The directory of the sockets by which calls of ssh share a connection.
//!
//! Each ship has one of its own, and holds a lock in it. A shell beside it waits for its end: of one
//! that was killed, it ends the connections, by which the calls of ssh end as well, and removes the
//! directory. If the shell was killed too, the next ship finds that nobody holds the lock.

use model::error::{Error, Result};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A directory without a lock that is older than this belongs to a dead ship. A younger one may
/// belong to a ship that is starting.
const OLD: Duration = Duration::from_secs(60);

/// Waits until its standard input ends, which is when ship does. `$1` is the directory, and `$2` is
/// ssh.
const WATCH: &str = r#"read -r _; for s in "$1"/*; do
    if [ -S "$s" ]; then "$2" -O exit -o ControlPath="$s" -- ship; fi
done; rm -rf -- "$1""#;

pub struct Sockets {
    directory: TempDir,
    _lock: File,
    /// Open as long as this process lives, however it ends.
    _watched: Option<ChildStdin>,
}

impl Sockets {
    /// Makes the directory; `ssh` is the program that ends connections.
    pub fn new(ssh: &str) -> Result<Sockets> {
        let made = parent().and_then(|parent| Sockets::below(&parent, ssh));
        made.map_err(|why| Error::failed("make a directory for ssh").because(why))
    }

    fn below(parent: &Path, ssh: &str) -> io::Result<Sockets> {
        clear(parent, OLD);
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
        let lock = File::create(directory.path().join("lock"))?;
        lock.try_lock()?;
        // Without it, only a killed ship leaves something behind.
        let watched = watch(directory.path(), ssh).ok().flatten();
        Ok(Sockets { directory, _lock: lock, _watched: watched })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Starts the shell that cleans up after this process. In a group of its own, it is not reached by
/// Ctrl-C.
fn watch(directory: &Path, ssh: &str) -> io::Result<Option<ChildStdin>> {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCH, "sh"]).arg(directory).arg(ssh).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(shell.spawn()?.stdin.take())
}

/// Returns the user's own directory for them. The path of a socket may have 104 bytes, so that
/// it must be short.
fn parent() -> io::Result<PathBuf> {
    // A new file has the uid of its process.
    let uid = tempfile::tempfile()?.metadata()?.uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let path = match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(runtime) => runtime.join("ship"),
        None => PathBuf::from(format!("/tmp/ship-{uid}")),
    };
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != uid || found.permissions().mode() & 0o077 != 0 {
        let why = format!("{} is not a private directory of this user", path.display());
        return Err(io::Error::other(why));
    }
    Ok(path)
}

/// Removes the directories of ships that are no more.
fn clear(parent: &Path, age: Duration) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let is_old = fs::symlink_metadata(&path)
            .and_then(|found| found.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        let is_held = File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if is_old && !is_held {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_dead_ship_is_removed_by_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let living = Sockets::below(parent.path(), "ssh").unwrap();
        let left = tempfile::tempdir_in(parent.path()).unwrap().keep();
        fs::write(left.join("lock"), "").unwrap();
        assert!(left.is_dir());
        clear(parent.path(), OLD);
        assert!(left.is_dir(), "a ship that starts has no lock yet");
        clear(parent.path(), Duration::ZERO);
        assert!(!left.exists() && living.path().is_dir());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn the_connections_of_a_ship_that_is_killed_are_ended() {
        let parent = tempfile::tempdir().unwrap();
        let (ssh, said) = (parent.path().join("ssh"), parent.path().join("said"));
        crate::testing::program(&ssh, &format!("echo \"$*\" >>{}", said.display()));
        let mut killed = Sockets::below(parent.path(), ssh.to_str().unwrap()).unwrap();
        let socket = killed.path().join("0123abcd");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        killed.directory.disable_cleanup(true);
        let directory = killed.path().to_owned();
        drop(killed);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while directory.exists() {
            assert!(std::time::Instant::now() < end, "it is left");
            std::thread::yield_now();
        }
        let exit = format!("-O exit -o ControlPath={} -- ship\n", socket.display());
        assert_eq!(fs::read_to_string(said).unwrap(), exit);
    }
}
