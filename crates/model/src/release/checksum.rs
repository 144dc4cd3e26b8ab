//! The checksum that S3 stores beside an object.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A checksum as S3 stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: Algorithm,
    /// Base64; a checksum of checksums has the number of its parts after a `-`.
    pub value: String,
    /// Whether it covers the object's bytes, not the checksums of its parts.
    pub full_object: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "CRC32")]
    Crc32,
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
}

impl Algorithm {
    /// The cheapest first: S3 may store several for one object.
    const ALL: [Algorithm; 5] =
        [Self::Crc64Nvme, Self::Crc32c, Self::Crc32, Self::Sha256, Self::Sha1];

    fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Checksum {
    /// Returns none if the algorithm, by S3's name for it, is not supported.
    ///
    /// A `-` in the value means a checksum of parts, whatever the type: S3 did not send the
    /// type before 2025, and not every S3-compatible server does today.
    pub fn new(algorithm: &str, value: &str, full_object: bool) -> Option<Checksum> {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == algorithm)?;
        let full_object = full_object && !value.contains('-');
        Some(Checksum { algorithm, value: value.to_owned(), full_object })
    }

    /// Whether the two cannot belong to the same bytes.
    pub fn contradicts(&self, other: &Checksum) -> bool {
        let whole = self.full_object && other.full_object;
        whole && self.algorithm == other.algorithm && self.value != other.value
    }
}
