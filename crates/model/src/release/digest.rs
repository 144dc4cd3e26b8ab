//! The SHA-256 of bytes read here: the only proof that two objects at different URLs are the
//! same.

use super::checksum::{Algorithm, Checksum};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A SHA-256 as `sha256sum` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sha256(String);

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Sha256 {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The first `digits` hexadecimal digits.
    pub fn begin(&self, digits: usize) -> &str {
        self.0.get(..digits).unwrap_or(&self.0)
    }

    /// Returns the SHA-256 that a store keeps of the whole object; none if it keeps another
    /// checksum, or one of parts.
    pub fn stored(checksum: &Checksum) -> Option<Sha256> {
        if checksum.algorithm != Algorithm::Sha256 || !checksum.full_object {
            return None;
        }
        let bytes = from_base64(&checksum.value)?;
        (bytes.len() == 32).then(|| Sha256::from_bytes(&bytes))
    }

    /// Parses 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Sha256> {
        let is_sum = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_sum.then(|| Sha256(text.to_ascii_lowercase()))
    }

    /// Returns the sum in padded Base64, as S3 and OpenSSH write it.
    pub(super) fn to_base64(&self) -> String {
        let digits: Vec<u32> = self.0.chars().filter_map(|digit| digit.to_digit(16)).collect();
        // Three hexadecimal digits are two of Base64; of the last, two bits are padding.
        let pairs = digits.chunks(3).flat_map(|three| {
            let bits = three.iter().fold(0, |bits, digit| bits << 4 | digit);
            match three.len() {
                3 => vec![bits >> 6, bits & 63],
                _ => vec![bits << 2],
            }
        });
        pairs.filter_map(base64_digit).chain(['=']).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Sha256 {
        Sha256(bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }
}

/// Hashes bytes in order. Uses ring, whose assembly is as fast in a debug build.
#[derive(Clone)]
pub struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Hasher(Context::new(&SHA256))
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.0.finish().as_ref())
    }
}

fn base64_digit(value: u32) -> Option<char> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    DIGITS.get(usize::try_from(value).ok()?).map(|digit| char::from(*digit))
}

/// Decodes padded Base64 (RFC 4648); none if the text is invalid.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of "123456789", by `sha256sum`.
    const CHECK: &str = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";

    #[test]
    fn agrees_with_sha256sum_for_any_split_of_the_bytes() {
        assert_eq!(Sha256::of(b"123456789"), Sha256(CHECK.into()));
        let mut hasher = Hasher::default();
        b"123456789".chunks(2).for_each(|chunk| hasher.update(chunk));
        assert_eq!(hasher.finish(), Sha256(CHECK.into()));
    }

    #[test]
    fn reads_hexadecimal_and_writes_base64() {
        let sum = Sha256::parse(&CHECK.to_uppercase()).unwrap();
        assert_eq!(sum, Sha256(CHECK.into()));
        assert_eq!(sum.to_base64(), "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
        for wrong in [&CHECK[1..], &CHECK.replace('1', "g"), &format!("{CHECK}0")] {
            assert_eq!(Sha256::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn takes_the_digest_of_a_whole_object_from_a_store() {
        let value = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
        let stored = |algorithm, value, whole| {
            Sha256::stored(&Checksum::new(algorithm, value, whole).unwrap())
        };
        assert_eq!(stored("SHA256", value, true), Some(Sha256::of(b"123456789")));
        assert_eq!(stored("SHA256", value, false), None);
        assert_eq!(stored("CRC64NVME", "rosUhgp5mIg=", true), None);
        for odd in ["", "FeKw", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsi?=", "===="] {
            assert_eq!(stored("SHA256", odd, true), None, "{odd}");
        }
    }
}
