//! What makes two releases the same: validators that the source itself gives,
//! never the release's name.

use super::checksum::Checksum;
use serde::{Deserialize, Serialize};

/// The identity of a release; two deploys of it are the same deploy.
///
/// It is kept in `release.json`, so a field that is missing there reads as none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub archive: Validator,
    pub env: Validator,
}

/// What `…/current` is known by: its pointer or, where there is none, the
/// release that lies there itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Pointer(Validator),
    Release(Identity),
}

/// All that a source says about one object that changes when its bytes do.
///
/// `last_modified` and `inode` are kept only where there is no ETag, so that the
/// same bytes published once more are the same release (unless the bucket keeps
/// versions: another version is another release).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validator {
    /// As the source wrote it, with its quotes and, if weak, its `W/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// As the source wrote it: an HTTP date, or a file's seconds and nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_reads_back_as_the_same_identity() {
        let archive = Validator {
            etag: Some("\"9b2c\"".into()),
            checksum: Checksum::new("CRC32C", "yZRlqg==", true),
            size: Some(11),
            ..Validator::default()
        };
        let env =
            Validator { inode: Some(7), last_modified: Some("1.5".into()), ..archive.clone() };
        let identity = Identity { archive, env };
        let stored = serde_json::to_string(&identity).unwrap();
        assert!(!stored.contains("null"), "{stored}");
        assert_eq!(serde_json::from_str::<Identity>(&stored).unwrap(), identity);
    }
}
