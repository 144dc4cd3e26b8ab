//! Reads single files of an archive without unpacking it: for `deploy plan`.

use super::fetch::Pieces;
use super::inflate::inflate;
use crate::source::Resolved;
use model::error::{Error, Result};
use std::io::Read;
use tokio::sync::mpsc;

/// The size limit of a Procfile in bytes. One more byte is read, so that the parser refuses a
/// larger one.
const PROCFILE: u64 = 64 << 10;

/// Returns the Procfile at the root of an archive. Stops the fetch once it is found; fails if it
/// is not within the first `most` bytes.
pub async fn procfile(resolved: &Resolved, most: u64) -> Result<Option<Vec<u8>>> {
    let (pieces, received) = mpsc::channel(16);
    let how = resolved.compression();
    let search = tokio::task::spawn_blocking(move || {
        let tar = inflate(Pieces::new(received), how)?;
        find(tar, most)
    });
    let mut archive = resolved.archive(0);
    while let Some(piece) = archive.next().await {
        let last = piece.is_err();
        if pieces.send(piece).await.is_err() || last {
            break;
        }
    }
    drop(pieces);
    let ended = search.await;
    ended.map_err(|e| Error::failed("look for Procfile in the archive").because(e))?
}

/// Finds the Procfile in a tar stream, with the same errors.
pub fn find(tar: impl Read, most: u64) -> Result<Option<Vec<u8>>> {
    let mut tar = tar.take(most);
    let found = search(&mut tar);
    let what = || Error::unusable("look for Procfile in the archive");
    if tar.limit() == 0 && !matches!(found, Ok(Some(_))) {
        let why = format!("it is not within the first {most} bytes");
        let help =
            "put it first in the archive, or raise DEPLOY_MAX_UNPACKED in /etc/deploy/agent.env";
        return Err(what().because(why).help(help));
    }
    found.map_err(|e| match e.downcast::<Error>() {
        Ok(error) => error,
        // Do not repeat the tar reader's message: it may hold a name, and with it terminal
        // escapes.
        Err(_) => what()
            .because("it is not a tar archive, or is corrupt")
            .help("pack and upload the release again"),
    })
}

fn search(tar: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let name = entry.path_bytes();
        if matches!(name.as_ref(), b"Procfile" | b"./Procfile")
            && entry.header().entry_type().is_file()
        {
            let mut text = Vec::new();
            entry.take(PROCFILE + 1).read_to_end(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::error::Exit;

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, name, content).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn finds_the_procfile_only_at_the_root() {
        let of = |name| find(&archive(name, b"web: a")[..], 1 << 20).unwrap();
        assert_eq!(of("Procfile").as_deref(), Some(&b"web: a"[..]));
        assert_eq!(of("./Procfile").as_deref(), Some(&b"web: a"[..]));
        assert_eq!(of("app/Procfile"), None);
    }

    #[test]
    fn an_error_repeats_no_name_and_gives_advice() {
        let mut damaged = archive("\u{1b}[2J", b"");
        damaged[148..156].fill(b'z');
        let error = find(&damaged[..], 1 << 20).unwrap_err();
        assert!(!error.chain().contains('\u{1b}'), "{:?}", error.chain());
        assert_eq!((error.exit(), error.advice().is_some()), (Exit::Unusable, true));
    }

    #[test]
    fn a_source_failure_keeps_its_exit_code() {
        struct Gone;
        impl Read for Gone {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other(Error::source("gone")))
            }
        }
        let whole = archive("other", &[0; 2000]);
        for read in [0, 100, 1000] {
            let error = find(whole[..read].chain(Gone), 1 << 20).unwrap_err();
            assert_eq!(error.exit(), Exit::Source, "{read}: {}", error.chain());
        }
    }

    #[test]
    fn gives_up_if_the_procfile_is_too_far_in() {
        let huge = archive("zeros", &[0; 8192]);
        let error = find(&huge[..], 4096).unwrap_err();
        assert_eq!(error.exit(), Exit::Unusable);
        assert!(error.chain().contains("within the first 4096 bytes"), "{}", error.chain());
    }
}
