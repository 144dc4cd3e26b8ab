//! Why an entry of an archive was not unpacked, without the name of the entry.

use super::Unpacked;
use super::shown::shown;
use model::error::Error;
use model::reason::Reason;
use nix::errno::Errno;
use std::io;

#[derive(Debug)]
pub(super) enum EntryError {
    /// Reading the stream failed; the error is complete.
    Reading(Error),
    /// The archive asks for something that is not allowed.
    Refused { why: String, help: Option<&'static str> },
    /// The kernel refused `call`.
    System { call: &'static str, errno: Errno },
}

/// The advice against damage in transit, and against tools that pack oddly.
pub(super) const PACK_AGAIN: &str = "pack and upload the release again";

impl EntryError {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        EntryError::Refused { why: why.into(), help: None }
    }

    pub(super) fn with_help(self, help: &'static str) -> Self {
        match self {
            EntryError::Refused { why, .. } => EntryError::Refused { why, help: Some(help) },
            other => other,
        }
    }

    /// Returns a `map_err` function for the nix call named `call`.
    pub(super) fn of(call: &'static str) -> impl Fn(Errno) -> EntryError {
        move |errno| EntryError::System { call, errno }
    }

    /// A failure to read the stream. An [`Error`] inside `error` is returned unchanged.
    pub(super) fn reading(error: io::Error) -> Self {
        EntryError::Reading(match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::unusable("cannot read the archive")
                .because(error)
                .with_reason(Reason::InvalidArchive),
        })
    }

    pub(super) fn writing(error: io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        EntryError::System { call: "write", errno }
    }

    /// Returns the complete error: `place` is the entry it is about, `done` what was unpacked
    /// before.
    pub(super) fn about(self, place: &Place<'_>, done: Unpacked) -> Error {
        let what = match place {
            Place::Entry(name) => format!("cannot unpack \"{}\" of the archive", shown(name)),
            Place::Byte(at) => format!("cannot read the archive at byte {at}"),
        };
        match self {
            EntryError::Reading(error) => error,
            EntryError::Refused { why, help } => Error::unusable(what)
                .because(why)
                .help(help.unwrap_or(PACK_AGAIN))
                .with_reason(Reason::InvalidArchive),
            EntryError::System { call, errno } => system(what, call, errno, done),
        }
    }
}

/// The place in the archive where something is wrong.
pub(super) enum Place<'a> {
    Entry(&'a [u8]),
    /// Before the name of the entry is known.
    Byte(u64),
}

fn system(what: String, call: &str, errno: Errno, done: Unpacked) -> Error {
    let Unpacked { files, bytes } = done;
    let cause = format!("{call}: {errno}");
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => {
            // Keep the errno in the chain: the stage looks for it.
            let cause = Error::unusable(call).because(errno);
            Error::unusable(format!("no space left after unpacking {bytes} bytes in {files} files"))
                .because(Error::unusable(what).because(cause))
                .help("free space or inodes (df -h, df -i) or enlarge the volume")
                .with_reason(Reason::DiskFull)
        }
        Errno::ENAMETOOLONG => Error::unusable(what)
            .because("a part of its name is longer than the file system allows")
            .help("rename it in the release"),
        Errno::EINVAL | Errno::EILSEQ | Errno::EMLINK | Errno::EFBIG => Error::unusable(what)
            .because(cause)
            .help("the file system of the state directory cannot hold this entry"),
        Errno::EMFILE | Errno::ENFILE => Error::failed(what)
            .because(cause)
            .help("raise the limit of open files (LimitNOFILE=, fs.file-max)"),
        Errno::EIO | Errno::EROFS => Error::failed(what)
            .because(cause)
            .help("check the volume: the kernel's log (dmesg) says what is wrong with it"),
        _ => Error::failed(what)
            .because(cause)
            .help("check the owner, the mode and the mount of the release's directory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::disk;
    use model::error::Exit;

    fn error(error: EntryError) -> Error {
        error.about(&Place::Entry(b"a\x1b[31m"), Unpacked { files: 3, bytes: 4096 })
    }

    #[test]
    fn a_full_disk_has_a_plain_message() {
        let error = error(EntryError::System { call: "openat", errno: Errno::ENOSPC });
        assert_eq!(error.to_string(), "no space left after unpacking 4096 bytes in 3 files");
        assert!(error.chain().ends_with("openat: ENOSPC: No space left on device"));
        assert_eq!(error.exit(), Exit::Unusable);
        assert!(disk::is_full(&error));
    }

    #[test]
    fn a_failing_volume_is_not_the_archives_fault() {
        let error = error(EntryError::writing(io::Error::from_raw_os_error(5)));
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.chain().ends_with("write: EIO: I/O error"), "{}", error.chain());
    }

    #[test]
    fn an_error_handed_up_by_the_reader_wins() {
        let gone = io::Error::other(Error::source("S3 went away"));
        assert_eq!(error(EntryError::reading(gone)).exit(), Exit::Source);
        let plain = error(EntryError::reading(io::ErrorKind::InvalidData.into()));
        assert_eq!(plain.exit(), Exit::Unusable);
    }

    #[test]
    fn a_name_cannot_send_terminal_escapes() {
        assert_eq!(
            error(EntryError::refused("no")).to_string(),
            "cannot unpack \"a\\u{1b}[31m\" of the archive"
        );
    }
}
