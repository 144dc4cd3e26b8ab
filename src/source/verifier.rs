//! Verifies the received bytes against the checksum that S3 stores.

use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_checksums::http::HttpChecksum;
use model::release::checksum::{Algorithm, Checksum};

/// Computes the checksum of one object's bytes, in order.
pub(crate) struct Verifier {
    stored: Checksum,
    digest: Box<dyn HttpChecksum>,
}

impl Verifier {
    /// `None` for a checksum of checksums: the boundaries of its parts are unknown.
    pub fn new(stored: &Checksum) -> Option<Verifier> {
        stored
            .full_object
            .then(|| Verifier { stored: stored.clone(), digest: digest(stored.algorithm) })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Compares the checksums. The error names the algorithm, but no object.
    pub fn finish(self) -> Result<(), String> {
        let received = self.digest.header_value();
        if received.as_bytes() == self.stored.value.as_bytes() {
            return Ok(());
        }
        let algorithm = self.stored.algorithm;
        Err(format!("checksum {algorithm} of the bytes received does not match the stored one"))
    }
}

fn digest(algorithm: Algorithm) -> Box<dyn HttpChecksum> {
    match algorithm {
        Algorithm::Crc32 => ChecksumAlgorithm::Crc32,
        Algorithm::Crc32c => ChecksumAlgorithm::Crc32c,
        Algorithm::Crc64Nvme => ChecksumAlgorithm::Crc64Nvme,
        Algorithm::Sha1 => ChecksumAlgorithm::Sha1,
        Algorithm::Sha256 => ChecksumAlgorithm::Sha256,
    }
    .into_impl()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values for the nine bytes "123456789", from the catalogues of these algorithms.
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
    fn other_bytes_are_refused_with_the_algorithms_name() {
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
