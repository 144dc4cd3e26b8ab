//! The checksum that S3 stores beside an object, and its check over the bytes
//! that were really received.

use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_checksums::http::HttpChecksum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A checksum as S3 keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: Algorithm,
    /// Base64; a checksum of checksums has the number of its parts after a `-`.
    pub value: String,
    /// Whether it is of the object's bytes, and not of its parts' checksums.
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
    /// The cheapest first: S3 may store more than one for an object.
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

    fn digest(self) -> Box<dyn HttpChecksum> {
        match self {
            Self::Crc32 => ChecksumAlgorithm::Crc32,
            Self::Crc32c => ChecksumAlgorithm::Crc32c,
            Self::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
            Self::Sha1 => ChecksumAlgorithm::Sha1,
            Self::Sha256 => ChecksumAlgorithm::Sha256,
        }
        .into_impl()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Checksum {
    /// None where the algorithm, by S3's name for it, is none of ours.
    ///
    /// The `-` is looked at as well as the type: S3 did not send the type before
    /// 2025, and not every server that speaks S3 does today.
    pub fn new(algorithm: &str, value: &str, full_object: bool) -> Option<Checksum> {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == algorithm)?;
        let full_object = full_object && !value.contains('-');
        Some(Checksum { algorithm, value: value.to_owned(), full_object })
    }

    /// Whether these cannot be of the same bytes.
    pub(super) fn contradicts(&self, other: &Checksum) -> bool {
        let whole = self.full_object && other.full_object;
        whole && self.algorithm == other.algorithm && self.value != other.value
    }
}

/// Adds up the bytes of one object, in their order.
pub(crate) struct Verifier {
    stored: Checksum,
    digest: Box<dyn HttpChecksum>,
}

impl Verifier {
    /// None for a checksum of checksums: where its parts began is not known here.
    pub fn new(stored: &Checksum) -> Option<Verifier> {
        let digest = || stored.algorithm.digest();
        stored.full_object.then(|| Verifier { stored: stored.clone(), digest: digest() })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The error says which checksum does not match; it names no object.
    pub fn finish(self) -> Result<(), String> {
        let received = self.digest.header_value();
        if received.as_bytes() == self.stored.value.as_bytes() {
            return Ok(());
        }
        let algorithm = self.stored.algorithm;
        Err(format!("checksum {algorithm} of the bytes received does not match the stored one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the nine bytes "123456789", as the catalogues of these algorithms have it.
    const CHECK: [(&str, &str); 5] = [
        ("CRC32", "y/Q5Jg=="),
        ("CRC32C", "4waSgw=="),
        ("CRC64NVME", "rosUhgp5mIg="),
        ("SHA1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ("SHA256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];

    fn verified(algorithm: &str, stored: &str, bytes: &[u8]) -> Result<(), String> {
        let stored = Checksum::new(algorithm, stored, true).unwrap();
        let mut verifier = Verifier::new(&stored).unwrap();
        bytes.chunks(2).for_each(|chunk| verifier.update(chunk));
        verifier.finish()
    }

    #[test]
    fn each_algorithm_agrees_with_its_published_check_value() {
        for (algorithm, stored) in CHECK {
            assert_eq!(verified(algorithm, stored, b"123456789"), Ok(()), "{algorithm}");
        }
    }

    #[test]
    fn other_bytes_are_refused_by_name_of_the_algorithm() {
        for (algorithm, stored) in CHECK {
            let refused = verified(algorithm, stored, b"123456780").unwrap_err();
            assert!(refused.contains(&format!("checksum {algorithm} of")), "{refused}");
        }
    }

    #[test]
    fn a_checksum_of_checksums_is_kept_and_not_verified() {
        let typed = Checksum::new("CRC32C", "4waSgw==", false).unwrap();
        let marked = Checksum::new("CRC32C", "4waSgw==-3", true).unwrap();
        assert!(Verifier::new(&typed).is_none() && Verifier::new(&marked).is_none());
        assert_eq!(Checksum::new("XXHASH3", "AAAA", true), None);
    }
}
