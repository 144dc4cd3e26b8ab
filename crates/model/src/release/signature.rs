//! `SHA256SUMS.sig`: a signature as `ssh-keygen -Y sign` makes it (OpenSSH, PROTOCOL.sshsig).
//! Nothing here verifies one.

use super::digest::{Sha256, from_base64};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of the object.
pub const SIGNATURE: &str = "SHA256SUMS.sig";
/// A signature that was made for another purpose is none for a release.
pub const NAMESPACE: &str = "deploy-release";
/// The size limit in bytes: an RSA key of 16,384 bits, with a certificate, has a quarter of it.
pub const LONGEST: usize = 16 << 10;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// The first bytes of the data, before a version of four bytes.
const MAGIC: &[u8] = b"SSHSIG";
/// Characters of a principal that are kept.
const LONGEST_PRINCIPAL: usize = 128;

/// The key that signed a release, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// As `allowed_signers` has it: an address, or a pattern.
    pub principal: String,
    /// The key's fingerprint.
    pub key: String,
}

impl Signer {
    pub fn new(principal: &str, key: String) -> Signer {
        Signer { principal: crate::text::line(principal, LONGEST_PRINCIPAL), key }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with the key {}", self.principal, self.key)
    }
}

/// What a signature says of itself. It is not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The Base64 text between its first line and its last, as one word.
    pub base64: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows a key or certificate.
    pub key: String,
    pub namespace: String,
}

impl Signature {
    /// Parses the text of a signature; none if it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Signature> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST)?;
        let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let base64: String = inner.split_ascii_whitespace().collect();
        let data = from_base64(&base64)?;
        let rest = data.strip_prefix(MAGIC)?.get(4..)?;
        let (key, rest) = field(rest)?;
        let (namespace, _) = field(rest)?;
        Some(Signature {
            key: fingerprint(key),
            namespace: crate::text::shortened(&String::from_utf8_lossy(namespace)),
            base64,
        })
    }
}

/// Splits off a string: its length in four bytes, then its bytes.
fn field(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Returns the fingerprint of the bytes of a public key.
fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", Sha256::of(key).to_base64().trim_end_matches('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `ssh-keygen -Y sign -n deploy-release`.
    const MADE: &str = include_str!("signature/made.sig");

    #[test]
    fn reads_the_key_and_the_namespace() {
        let signature = Signature::parse(MADE.as_bytes()).unwrap();
        assert_eq!(signature.namespace, NAMESPACE);
        assert_eq!(signature.key, "SHA256:kKOxhtarU3pGIEOmZbne75GUBSPszPg6fTVcMEc7XnQ");
        assert!(!signature.base64.contains('\n'));
        let windows = MADE.replace('\n', "\r\n");
        assert_eq!(Signature::parse(windows.as_bytes()), Some(signature));
    }

    #[test]
    fn other_texts_are_none() {
        for cut in (0..MADE.len() - 2).step_by(7) {
            assert_eq!(Signature::parse(&MADE.as_bytes()[..cut]), None, "{cut}");
        }
        let long = MADE.replace(END, &format!("{}{END}", "A".repeat(LONGEST)));
        let other = MADE.replace("U1NIU0lH", "U1NIU0lI");
        for text in ["", "\u{e9}", &format!("{BEGIN}{END}"), &long, &other] {
            assert_eq!(Signature::parse(text.as_bytes()), None);
        }
    }
}
