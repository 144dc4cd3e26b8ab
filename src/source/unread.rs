//! Finds archives in formats that are not supported.

use super::Backend;
use super::object::{Fetch, Lookup};
use futures_util::future::join_all;
use model::error::Error;
use model::release::compression::Compression;
use model::release::url::ReleaseUrl;

const AS_TAR: &str = "pack it as a tar: `tar czf source.tar.gz -C my-app .`";

/// Their names, with advice for each.
const UNREAD: [(&str, &str); 7] = [
    ("source.zip", AS_TAR),
    ("source.tgz", "upload it as source.tar.gz"),
    ("source.tar.zstd", "upload it as source.tar.zst"),
    ("source.tzst", "upload it as source.tar.zst"),
    ("source.tar.xz", "compress it with zstd: `xz -dc source.tar.xz | zstd >source.tar.zst`"),
    ("source.tar.bz2", "compress it with zstd: `bzip2 -dc source.tar.bz2 | zstd >source.tar.zst`"),
    ("source.tar.lz4", "compress it with zstd: `lz4 -dc source.tar.lz4 | zstd >source.tar.zst`"),
];

/// Returns an error that names an unsupported archive in the release's directory. Requests all
/// names at once, and is called only after no supported archive was found.
pub(super) async fn find(directory: &Backend, url: &ReleaseUrl) -> Option<Error> {
    let looks = join_all(UNREAD.map(|(name, _)| directory.look(name, None, Fetch::Head))).await;
    let mut found =
        UNREAD.iter().zip(looks).filter(|(_, look)| matches!(look, Ok(Lookup::Found(_))));
    let ((name, help), _) = found.next()?;
    let names = Compression::ALL.map(Compression::archive_name).join(", ");
    let why = format!("there is {name}, and no archive that is read ({names})");
    Some(Error::source(format!("{url} is no release")).because(why).help(*help))
}
