//! Unpacks the archive of a release into its directory, and nowhere else.
//!
//! Three walls protect the instance from an archive, and each alone stops most attacks: names are
//! checked as text, every operation is relative to open directories and follows no link, and the
//! thread has the app user's identity for the kernel. [`unpack`] lists what is refused and what is
//! kept.

mod blocks;
mod directories;
mod entries;
mod entry_error;
mod file_writer;
mod dir_cache;
mod identity;
mod links;
mod name;
mod pax;
mod shown;
mod sparse;
mod quota;
mod tree;

use super::buffer_channel::Share;
use directories::Attributes;
use entries::{Archive, Entry, Kind};
use entry_error::{EntryError, Place};
use file_writer::{Files, Unfilled};
use identity::Identity;
use model::error::Error;
use name::Name;
use quota::Quota;
use shown::shown;
use sparse::Content;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::thread;
use tree::Tree;

/// The owner of unpacked files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// How much an archive may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content, the holes of sparse files included (DEPLOY_MAX_UNPACKED).
    pub max_bytes: u64,
    /// Entries of every kind (DEPLOY_MAX_FILES).
    pub max_files: u64,
}

/// Number and total size of the unpacked files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of every kind, and directories that exist only in the names of entries.
    pub files: u64,
    /// Bytes of content, holes included.
    pub bytes: u64,
}

/// Unpacks the tar stream below `into`, an open, empty directory of `owner`, and
/// reads the stream to its end.
///
/// Meanwhile, also while it reads `tar`, the calling thread has the owner's file-system identity;
/// only root can take that of another user. `progress` is often called with the entries and bytes
/// so far.
///
/// Kept from the archive: names byte for byte, permissions whatever the umask, modification times,
/// hard links, symlinks, holes. Of two entries with one name the later one wins. Not kept: owners,
/// extended attributes, access times, the sticky bit, setuid and setgid of directories, write
/// permission for others, times of symlinks, and the mode of the root, which is the caller's.
///
/// # Errors
///
/// An archive that breaks a rule is unusable, and the error names the entry: names that are
/// absolute, contain `..` or lie beneath a link; links that leave the release; hard links to
/// anything not unpacked before; devices, fifos, unknown types; files with setuid or setgid; more
/// than `limits`; damage, truncation, or data after the end. An [`Error`] inside an `io::Error` of
/// `tar` is returned unchanged. Files unpacked so far stay: the caller removes them.
pub fn unpack(
    tar: impl Share,
    into: BorrowedFd<'_>,
    owner: Owner,
    limits: Limits,
    progress: &dyn Fn(u64, u64),
) -> Result<Unpacked, Error> {
    let _identity = Identity::take(owner)?;
    let mut tree = Tree::new(into, Quota::new(limits, progress));
    let (mut files, writer) = file_writer::pair();
    let (unpacked, filled) = thread::scope(|scope| {
        let thread = thread::Builder::new().name("fill".into());
        let thread = thread.spawn_scoped(scope, || writer.fill(owner));
        let thread =
            thread.map_err(|e| Error::failed("start the thread that fills files").because(e))?;
        let unpacked = unpack_all(&mut Archive::new(tar, limits), &mut tree, &mut files);
        let unpacked = unpacked.map(|()| files.end());
        Ok::<_, Error>((unpacked, thread.join()))
    })?;
    let done = tree.quota().done();
    // An error of the file writer is about an earlier entry: it takes precedence.
    match filled {
        Ok(Ok(())) => unpacked?,
        Ok(Err(Unfilled::One(name, error))) => {
            return Err(error.about(&Place::Entry(name.bytes()), done));
        }
        Ok(Err(Unfilled::All(error))) => return Err(error),
        Err(_) => return Err(file_writer::lost()),
    }
    tree.finish(owner)?;
    match done.files {
        0 => Err(Error::unusable("the archive is empty")
            .help("pack the release's files, with the Procfile at the root of the archive")),
        _ => Ok(done),
    }
}

fn unpack_all<R: Share>(
    archive: &mut Archive<R>,
    tree: &mut Tree<'_>,
    files: &mut Files,
) -> Result<(), Error> {
    loop {
        match unpack_next(archive, tree, files) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(error.about(&archive.place(), tree.quota().done())),
        }
    }
}

/// Unpacks one entry; returns whether there was one.
fn unpack_next<R: Share>(
    archive: &mut Archive<R>,
    tree: &mut Tree<'_>,
    files: &mut Files,
) -> Result<bool, EntryError> {
    let Some(Entry { name, kind, mode, modified }) = archive.next()? else { return Ok(false) };
    let name = Name::parse(&name)?;
    let attributes = Attributes { mode, modified };
    if !matches!(kind, Kind::Symlink(_) | Kind::Directory) {
        check_mode(mode)?;
    }
    match kind {
        Kind::Directory => tree.directory(&name, attributes)?,
        Kind::File(content) => {
            tree.quota().check(content.size)?;
            let file = tree.file(&name, attributes)?;
            if content.has_holes() {
                fill(file, &content, archive, tree.quota(), attributes)?;
            } else {
                files.begin_file(name, file);
                hand_over(files, &content, archive, tree.quota())?;
                files.end_file(attributes)?;
            }
        }
        Kind::Symlink(target) => tree.symlink(&name, &target)?,
        Kind::HardLink(source) => tree.hard_link(&name, &link_source(&source)?)?,
        Kind::Other(kind) => return Err(not_unpacked(kind)),
    }
    Ok(true)
}

/// Passes the content to the thread that writes files.
fn hand_over<R: Share>(
    files: &mut Files,
    content: &Content,
    archive: &mut Archive<R>,
    quota: &mut Quota<'_>,
) -> Result<(), EntryError> {
    archive.content(content.size, |data| {
        quota.wrote(data.len() as u64);
        files.write(data)
    })?;
    archive.content_end(content.size)
}

/// Writes the content of a sparse file, keeping its holes.
fn fill<R: Share>(
    mut file: File,
    content: &Content,
    archive: &mut Archive<R>,
    quota: &mut Quota<'_>,
    attributes: Attributes,
) -> Result<(), EntryError> {
    let mut end = 0;
    for part in &content.parts {
        if part.offset != end {
            file.seek(SeekFrom::Start(part.offset)).map_err(EntryError::writing)?;
            quota.wrote(part.offset - end);
        }
        archive.content(part.len, |data| {
            file.write_all(&data).map_err(EntryError::writing)?;
            quota.wrote(data.len() as u64);
            Ok(())
        })?;
        end = part.offset + part.len;
    }
    if end != content.size {
        file.set_len(content.size).map_err(EntryError::writing)?;
        quota.wrote(content.size - end);
    }
    attributes.date(&file)?;
    archive.content_end(content.stored())
}

/// Refuses setuid and setgid on files: anyone who runs the program would act as the app's user.
/// The sticky bit, and setuid and setgid on directories (build servers have setgid directories,
/// for a common group), mean nothing among files of one owner, and are dropped.
fn check_mode(mode: u32) -> Result<(), EntryError> {
    match mode & 0o6000 {
        0 => Ok(()),
        _ => Err(EntryError::refused(format!("its mode {mode:04o} has the setuid or setgid bit"))
            .with_help("clear these bits before packing: chmod u-s,g-s FILE")),
    }
}

fn link_source(raw: &[u8]) -> Result<Name, EntryError> {
    Name::parse(raw).map_err(|error| match error {
        EntryError::Refused { why, help } => {
            let why = format!("it is a hard link to \"{}\", and {why}", shown(raw));
            EntryError::Refused { why, help }
        }
        other => other,
    })
}

fn not_unpacked(kind: tar::EntryType) -> EntryError {
    let what = match kind {
        tar::EntryType::Char => "it is a character device".to_owned(),
        tar::EntryType::Block => "it is a block device".to_owned(),
        tar::EntryType::Fifo => "it is a fifo".to_owned(),
        other => format!("its type '{}' is not known", char::from(other.as_byte()).escape_debug()),
    };
    EntryError::refused(what).with_help("a release holds files, directories and links only")
}
