//! Checks `Content-Encoding` against the bytes: often it is a label that an uploader set on an
//! archive that really is gzip, and sometimes a server compresses in transit, so that the bytes
//! differ from the stored ones.

use model::error::{Error, Result};
use model::release::compression::Compression;
use std::io::Read;

/// Enough bytes to detect an encoding: a block of tar.
pub(super) const HEAD: usize = 512;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The magic of a skippable frame, with which pzstd begins; its first byte is 0x50 to 0x5f.
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// Refuses bytes that were encoded as `label` in transit. `head` is the first [`HEAD`] bytes, or
/// all.
pub(super) fn check(url: &str, label: &str, head: &[u8]) -> Result<()> {
    if !is_encoded(url, label, head) {
        return Ok(());
    }
    Err(Error::source(format!("{url} cannot be read"))
        .because(format!(
            "it comes with Content-Encoding: {label}, and so its bytes are not the file's own"
        ))
        .help(
            "let the server send archives and env as they are (nginx: `gzip off`, Apache: \
             `SetEnv no-gzip 1`, Caddy: no `encode`); in S3, store them without another gzip \
             around them",
        ))
}

fn is_encoded(url: &str, label: &str, head: &[u8]) -> bool {
    let label = label.trim().to_ascii_lowercase();
    let ends_with = |kind: Compression| url.ends_with(kind.archive_name());
    if head.is_empty() || label == "identity" {
        false
    } else if ends_with(Compression::Gzip) {
        let twice = || label.contains("gzip") && inflated(head).starts_with(GZIP);
        !head.starts_with(GZIP) || twice()
    } else if ends_with(Compression::Zstd) {
        let skippable = head[0] & 0xf0 == 0x50 && head.get(1..4) == Some(SKIPPABLE);
        !head.starts_with(ZSTD) && !skippable
    } else if ends_with(Compression::Plain) {
        let is_tar = head.get(257..262) == Some(b"ustar");
        let is_known = head.starts_with(GZIP) || head.starts_with(ZSTD);
        !is_tar && (is_known || (label != "gzip" && label != "zstd" && label != "aws-chunked"))
    } else {
        head.starts_with(GZIP) || head.starts_with(ZSTD) || !is_text(head)
    }
}

/// Whether the bytes are UTF-8; the last character may be cut.
fn is_text(head: &[u8]) -> bool {
    std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// Returns the first bytes inside a gzip stream, as far as `head` reaches.
fn inflated(head: &[u8]) -> Vec<u8> {
    let mut first = Vec::new();
    // Decoding fails where `head` ends: the bytes before that are enough.
    let _ = flate2::read::GzDecoder::new(head).take(2).read_to_end(&mut first);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::error::Exit;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn is_refused(name: &str, label: &str, bytes: &[u8]) -> bool {
        let head = &bytes[..bytes.len().min(HEAD)];
        let checked = check(&format!("https://host/{name}"), label, head);
        if let Err(error) = &checked {
            assert_eq!(error.exit(), Exit::Source);
            assert!(error.chain().contains(&format!("Content-Encoding: {label}")));
        }
        checked.is_err()
    }

    /// A tar of bytes that cannot be compressed much.
    fn tar() -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        let noise: Vec<u8> =
            (0..9000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        header.set_size(noise.len() as u64);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, "noise", &noise[..]).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn a_label_without_an_encoding_is_accepted() {
        for label in ["gzip", "GZIP", "x-gzip", "aws-chunked", "aws-chunked,gzip", "identity"] {
            assert!(!is_refused("source.tar.gz", label, &gzip(&tar())), "{label}");
        }
        assert!(!is_refused("source.tar.zst", "zstd", &zstd::encode_all(&tar()[..], 1).unwrap()));
        assert!(!is_refused("source.tar", "gzip", &tar()));
        assert!(!is_refused("env", "gzip", "export A='ä'\n".as_bytes()));
        assert!(!is_refused("env", "gzip", b""));
    }

    #[test]
    fn refuses_bytes_compressed_in_transit() {
        assert!(is_refused("source.tar.gz", "gzip", &gzip(&gzip(&tar()))));
        assert!(is_refused("source.tar.gz", "br", b"\x8b\x02\x80and so on"));
        assert!(is_refused("source.tar.zst", "gzip", &gzip(b"\x28\xb5\x2f\xfdzstd")));
        assert!(is_refused("source.tar", "gzip", &gzip(&tar())));
        assert!(is_refused("source.tar", "zstd", &zstd::encode_all(&tar()[..], 1).unwrap()));
        assert!(is_refused("env", "gzip", &gzip(b"A=1\n")));
        assert!(is_refused("current", "br", b"\x0b\x01\x80r42\n\x03"));
    }
}
