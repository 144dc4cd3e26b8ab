//! The three checksums that S3 uses, by the interface of crc-fast 1.x that aws-smithy-checksums
//! calls. The original brings 660 KB of tables for some thirty more.

/// A checksum, by crc-fast's name.
#[derive(Clone, Copy, Debug)]
pub enum CrcAlgorithm {
    /// The usual CRC-32.
    Crc32IsoHdlc,
    /// CRC-32C.
    Crc32Iscsi,
    Crc64Nvme,
}

/// A checksum of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
    Crc64(crc64fast_nvme::Digest),
}

impl Digest {
    pub fn new(algorithm: CrcAlgorithm) -> Digest {
        Digest(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Crc32(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => State::Crc32c(0),
            CrcAlgorithm::Crc64Nvme => State::Crc64(crc64fast_nvme::Digest::new()),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
            State::Crc64(digest) => digest.write(bytes),
        }
    }

    /// Returns the sum; 32 bits of it are used by the two shorter ones.
    pub fn finalize(&self) -> u64 {
        match &self.0 {
            State::Crc32(hasher) => u64::from(hasher.clone().finalize()),
            State::Crc32c(sum) => u64::from(*sum),
            State::Crc64(digest) => digest.sum64(),
        }
    }
}

/// Returns the checksum of bytes that are there as a whole.
pub fn checksum(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm);
    digest.update(bytes);
    digest.finalize()
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of CRC algorithms: of the nine digits.
    #[test]
    fn the_check_values_are_right_in_one_piece_and_in_several() {
        for (algorithm, sum) in [
            (CrcAlgorithm::Crc32IsoHdlc, 0xcbf4_3926),
            (CrcAlgorithm::Crc32Iscsi, 0xe306_9283),
            (CrcAlgorithm::Crc64Nvme, 0xae8b_1486_0a79_9888),
        ] {
            assert_eq!(checksum(algorithm, b"123456789"), sum, "{algorithm:?}");
            let mut digest = Digest::new(algorithm);
            for piece in ["1", "2345", "", "6789"] {
                digest.update(piece.as_bytes());
            }
            assert_eq!(digest.finalize(), sum, "{algorithm:?}");
        }
    }
}
