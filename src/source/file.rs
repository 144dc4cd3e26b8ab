//! A directory on this instance as a source: for a laptop, a mounted share and tests.

use super::object::{Begun, Lookup, Object, Opened, Reader};
use super::retry::Failure;
use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt, StreamExt};
use model::error::{Error, Result};
use model::release::identity::Validator;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

const CHUNK: usize = 256 * 1024;

/// One directory, held open: a symlink that changes meanwhile cannot mix two releases.
pub(super) struct FileBackend {
    path: PathBuf,
    /// `None` if the directory does not exist.
    opened: Option<Arc<OwnedFd>>,
}

/// An open file. Its bytes can change only in place, which its times show.
#[derive(Clone)]
pub(super) struct FileObject(Arc<File>);

impl FileBackend {
    pub async fn open(path: PathBuf) -> Result<FileBackend> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let below = path.clone();
        let opened = blocking(move || open(&below, flags, Mode::empty())).await?;
        match opened {
            Ok(opened) => Ok(FileBackend { path, opened: Some(Arc::new(opened)) }),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(FileBackend { path, opened: None }),
            Err(errno) => Err(unreadable(&format!("file://{}", path.display()), errno)),
        }
    }

    /// Looks up a file. A directory of this name counts as missing.
    pub async fn look(&self, name: &str) -> Result<Lookup> {
        let url = format!("file://{}/{name}", self.path.display());
        let Some(directory) = self.opened.clone() else {
            return Ok(Lookup::Missing);
        };
        let name = name.to_owned();
        // Without O_NONBLOCK, opening a fifo would block until it has a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = blocking(move || {
            let file = File::from(openat(&*directory, name.as_str(), flags, Mode::empty())?);
            let metadata = file.metadata()?;
            Ok::<_, std::io::Error>((file, metadata))
        });
        let (file, metadata) = match opened.await? {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Lookup::Missing);
            }
            Err(error) => return Ok(Lookup::Refused(unreadable(&url, error))),
        };
        if metadata.is_dir() {
            return Ok(Lookup::Missing);
        }
        if !metadata.is_file() {
            let error =
                Error::source(format!("{url} cannot be read")).because("it is no regular file");
            return Ok(Lookup::Refused(error.help("put a regular file there")));
        }
        let reader = Arc::new(FileObject(Arc::new(file)));
        let (validator, begun) = (validator(&metadata), Begun::default());
        let object = Object { url, validator, reader, begun, encoding: None };
        Ok(Lookup::Found(Box::new(object)))
    }
}

fn validator(metadata: &Metadata) -> Validator {
    Validator {
        size: Some(metadata.size()),
        last_modified: Some(format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())),
        inode: Some(metadata.ino()),
        device: Some(metadata.dev()),
        changed: Some(format!("{}.{:09}", metadata.ctime(), metadata.ctime_nsec())),
        ..Validator::default()
    }
}

/// Whether an open file was not written to: a new or removed hard link, or a change of its mode,
/// does not count.
fn is_unwritten(before: &Validator, now: &Validator) -> bool {
    (before.size, &before.last_modified) == (now.size, &now.last_modified)
}

impl Reader for FileObject {
    fn open<'a>(
        &'a self,
        object: &'a Object,
        offset: u64,
        _: Option<u64>,
    ) -> BoxFuture<'a, Result<Opened, Failure>> {
        future::ready(Ok(self.stream(object, offset))).boxed()
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl FileObject {
    fn stream(&self, object: &Object, offset: u64) -> Opened {
        let begun = (self.0.clone(), object.clone(), offset);
        let body = futures_util::stream::try_unfold(begun, async |(file, object, at)| {
            let reader = file.clone();
            let read = blocking(move || read(&reader, at)).await.map_err(Failure::Final)?;
            let unreadable = |error| Failure::Final(unreadable(&object.url, error));
            let (bytes, found) = read.map_err(unreadable)?;
            if !is_unwritten(&object.validator, &found) {
                return Err(Failure::Final(object.changed("it was written to")));
            }
            let next = at + bytes.len() as u64;
            Ok((!bytes.is_empty()).then_some((bytes, (file, object, next))))
        });
        Opened { body: body.boxed(), offset }
    }
}

/// Returns the next bytes, and the file's validator after the read.
fn read(file: &File, at: u64) -> std::io::Result<(Bytes, Validator)> {
    let mut buffer = vec![0; CHUNK];
    let length = file.read_at(&mut buffer, at)?;
    buffer.truncate(length);
    Ok((buffer.into(), validator(&file.metadata()?)))
}

fn unreadable(url: &str, cause: impl Into<std::io::Error>) -> Error {
    Error::source(format!("{url} cannot be read"))
        .because(cause.into())
        .help("check its permissions, and that its file system is mounted")
}

/// Runs `work` on a blocking thread: a disk or network share may hang.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| Error::failed("read a file").because(error))
}
