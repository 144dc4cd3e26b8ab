//! The archive's compression, derived from the name of its object.

use serde::{Deserialize, Serialize};

/// How the archive of a release is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    Zstd,
    Gzip,
    Plain,
}

impl Compression {
    /// The order in which a release is searched for its archive: the fastest first.
    pub const ALL: [Compression; 3] = [Compression::Zstd, Compression::Gzip, Compression::Plain];

    /// The name of the archive beside `env`.
    pub fn archive_name(self) -> &'static str {
        match self {
            Compression::Zstd => "source.tar.zst",
            Compression::Gzip => "source.tar.gz",
            Compression::Plain => "source.tar",
        }
    }
}
