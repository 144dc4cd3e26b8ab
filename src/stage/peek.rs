//! Looks into an archive without unpacking it: for `deploy plan`.

use super::fetch::Pieces;
use super::inflate::inflate;
use crate::error::{Error, Result};
use crate::source::Resolved;
use std::io::Read;
use tokio::sync::mpsc;

/// The largest Procfile that is read; bytes.
const PROCFILE: u64 = 64 << 10;

/// The Procfile at the root of an archive; the fetch ends where it is found.
pub async fn procfile(resolved: &Resolved) -> Result<Option<Vec<u8>>> {
    let (pieces, received) = mpsc::channel(16);
    let how = resolved.compression();
    let search = tokio::task::spawn_blocking(move || {
        let tar = inflate(Pieces::new(received), how)?;
        find(tar).map_err(|e| match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::unusable("look for Procfile in the archive").because(e),
        })
    });
    let mut archive = resolved.archive();
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

fn find(tar: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let name = entry.path_bytes();
        if matches!(name.as_ref(), b"Procfile" | b"./Procfile")
            && entry.header().entry_type().is_file()
        {
            let mut text = Vec::new();
            entry.take(PROCFILE).read_to_end(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}
