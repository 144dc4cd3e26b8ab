//! When two releases are the same: by the bytes of their archive and env, never by name.
//!
//! Digests compare any two releases. A source's metadata of an object (ETag, times, size) only
//! compares two responses for the same URL: another object elsewhere may have the same
//! metadata, as two files that were unpacked in the same second.

use super::checksum::Checksum;
use super::digest::Sha256;
use super::url::ReleaseUrl;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most further places at which a release was seen that are kept.
const PLACES: usize = 4;

/// The identity of an installed release.
///
/// It is stored in `release.json`; a field that is missing there is read as none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub archive: Validator,
    pub env: Validator,
    /// The digests of the bytes that were read; 0.1.0 did not store them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Places where the same content was found later, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Sighting>,
}

/// The digests of a release's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The digest of the archive as it is stored: compressed.
    pub archive: Sha256,
    pub env: Sha256,
}

/// A source's metadata of a release at one URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub url: ReleaseUrl,
    pub archive: Validator,
    pub env: Validator,
}

impl Sighting {
    /// Whether the same URL still has the same objects.
    pub fn is_same(&self, other: &Sighting) -> bool {
        self.url == other.url
            && self.archive.is_same(&other.archive)
            && self.env.is_same(&other.env)
    }
}

impl Identity {
    pub fn of(seen: Sighting, content: Option<Content>) -> Identity {
        Identity { archive: seen.archive, env: seen.env, content, also: Vec::new() }
    }

    /// Whether the release found is surely this one, which was staged from `url`. Its env was
    /// read, its archive was not. In doubt it is another release.
    pub fn is_found_in(&self, url: &ReleaseUrl, seen: &Sighting, env: &Sha256) -> bool {
        let stored = seen.archive.checksum.as_ref().and_then(Sha256::stored);
        match (&self.content, stored) {
            (Some(content), _) if content.env != *env => false,
            (Some(content), Some(stored)) => content.archive == stored,
            (Some(_), None) => {
                let at = |place: &Sighting| {
                    place.url == seen.url && place.archive.is_same(&seen.archive)
                };
                let first = *url == seen.url && self.archive.is_same(&seen.archive);
                first || self.also.iter().any(at)
            }
            (None, _) => {
                *url == seen.url
                    && self.archive.is_same(&seen.archive)
                    && self.env.is_same(&seen.env)
            }
        }
    }

    /// Whether both have the same content, by their digests or, without these, by the metadata
    /// of their common URL.
    pub fn is_same(&self, url: &ReleaseUrl, other: &Identity, other_url: &ReleaseUrl) -> bool {
        match (&self.content, &other.content) {
            (Some(content), Some(other)) => content == other,
            _ => {
                url == other_url
                    && self.archive.is_same(&other.archive)
                    && self.env.is_same(&other.env)
            }
        }
    }

    /// Keeps another place at which this release was found; returns false if it is known.
    pub fn remember(&mut self, url: &ReleaseUrl, seen: Sighting) -> bool {
        if *url == seen.url && self.archive == seen.archive && self.env == seen.env
            || self.also.contains(&seen)
        {
            return false;
        }
        self.also.retain(|place| place.url != seen.url);
        self.also.push(seen);
        let surplus = self.also.len().saturating_sub(PLACES);
        self.also.drain(..surplus);
        true
    }
}

/// The identity of `…/current`: its pointer or, without one, the release stored there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Pointer(Validator),
    Release(Box<Identity>),
}

/// All metadata of a source about one object that changes when its bytes do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validator {
    /// The last part of the object's URL, since a release may have several archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As the source sent it, with its quotes and, if weak, its `W/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Pins an object, but does not identify its bytes: the same bytes may be stored as another
    /// version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// As the source sent it: an HTTP date, or a file's seconds and nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// This and the following fields are for files only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// The ctime: no copy and no `touch` can choose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
}

impl Validator {
    /// Whether a later response about another object can be told apart.
    pub fn pins(&self) -> bool {
        self.etag.is_some() || self.version_id.is_some() || self.last_modified.is_some()
    }

    /// Returns the ETag if it is strong by RFC 9110, 8.8.1: equal for equal bytes only.
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
    }

    /// Whether a URL with this metadata earlier and `other` now still has the same object. A
    /// field that an older version did not store counts as equal.
    pub fn is_same(&self, other: &Validator) -> bool {
        let checksums = self.checksum.as_ref().zip(other.checksum.as_ref());
        let contradicted = checksums.is_some_and(|(one, another)| one.contradicts(another));
        if contradicted || differ(&self.size, &other.size) || differ(&self.name, &other.name) {
            return false;
        }
        if self.strong_etag().is_some() && self.strong_etag() == other.strong_etag() {
            return true;
        }
        if differ(&self.last_modified, &other.last_modified) {
            return false;
        }
        match (&self.etag, &other.etag) {
            (Some(weak), Some(other)) => weak == other,
            (None, None) => {
                let dated = self.last_modified.is_some() && other.last_modified.is_some();
                dated
                    && self.size.is_some()
                    && !differ(&self.version_id, &other.version_id)
                    && !differ(&self.inode, &other.inode)
                    && !differ(&self.device, &other.device)
                    && !differ(&self.changed, &other.changed)
            }
            _ => false,
        }
    }

    /// Returns how a response contradicts this pinned object, `before` and `now` in words. None
    /// if it is the same object, also if the source's digests match and the rest differs, as
    /// between mirrors.
    pub fn contradiction(&self, answer: &Validator) -> Option<String> {
        let digest = |of: &Validator| of.checksum.as_ref().and_then(Sha256::stored);
        let same_size = !differ(&self.size, &answer.size);
        if same_size && digest(self).is_some() && digest(self) == digest(answer) {
            return None;
        }
        if self.strong_etag().is_some() && self.strong_etag() == answer.strong_etag() {
            // A different length alone means a truncated response.
            return None;
        }
        let same = match (&self.etag, &answer.etag) {
            (Some(etag), Some(other)) if etag == other => {
                !differ(&self.last_modified, &answer.last_modified)
            }
            (None, None) => {
                // A response to a request with a version id is that version.
                let by_version = self.version_id.is_some() && self.version_id == answer.version_id;
                by_version || self.last_modified == answer.last_modified
            }
            _ => false,
        };
        (!same || !same_size).then(|| format!("it had {self} before, and has {answer} now"))
    }
}

fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.etag {
            Some(etag) => write!(f, "ETag {etag}")?,
            None => f.write_str("no ETag")?,
        }
        if let Some(modified) = &self.last_modified {
            write!(f, ", Last-Modified {modified}")?;
        }
        match self.size {
            Some(size) => write!(f, ", {size} bytes"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R1: &str = "https://host/app/production/r1";
    const R2: &str = "https://host/app/production/r2";

    fn sighting(url: &str, etag: &str) -> Sighting {
        let of =
            |etag: String| Validator { etag: Some(etag), size: Some(10), ..Validator::default() };
        let (archive, env) = (of(format!("\"{etag}\"")), of("\"e\"".into()));
        Sighting { url: url.parse().unwrap(), archive, env }
    }

    fn content(archive: &[u8]) -> Option<Content> {
        Some(Content { archive: Sha256::of(archive), env: Sha256::of(b"env") })
    }

    /// Whether `found` is r1 with this content and ETag.
    fn is_found(content: Option<Content>, found: &Sighting, env: &[u8]) -> bool {
        let identity = Identity::of(sighting(R1, "a"), content);
        identity.is_found_in(&R1.parse().unwrap(), found, &Sha256::of(env))
    }

    #[test]
    fn metadata_only_counts_at_the_same_url() {
        for known in [None, content(b"one")] {
            assert!(is_found(known.clone(), &sighting(R1, "a"), b"env"));
            assert!(!is_found(known.clone(), &sighting(R1, "b"), b"env"));
            assert!(!is_found(known, &sighting(R2, "a"), b"env"));
        }
        assert!(!is_found(content(b"one"), &sighting(R1, "a"), b"other env"));
    }

    #[test]
    fn a_digest_counts_everywhere_and_wins() {
        let stored = |bytes: &[u8], url, etag| {
            let mut found = sighting(url, etag);
            let value = match bytes {
                b"123456789" => "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
                _ => "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            };
            found.archive.checksum = Checksum::new("SHA256", value, true);
            found
        };
        let known = content(b"123456789");
        assert!(is_found(known.clone(), &stored(b"123456789", R2, "z"), b"env"));
        assert!(!is_found(known, &stored(b"", R1, "a"), b"env"));
    }

    #[test]
    fn remembers_a_bounded_number_of_places() {
        let mut identity = Identity::of(sighting(R1, "a"), content(b"one"));
        let url = R1.parse().unwrap();
        assert!(!identity.remember(&url, sighting(R1, "a")));
        for number in 0..9 {
            let again = sighting(&format!("{R2}-{number}"), "a");
            assert!(identity.remember(&url, again.clone()));
            assert!(!identity.remember(&url, again.clone()));
            assert!(identity.is_found_in(&url, &again, &Sha256::of(b"env")));
        }
        assert_eq!(identity.also.len(), PLACES);
    }

    #[test]
    fn another_version_or_checksum_of_the_same_etag_is_the_same() {
        let first = Validator {
            version_id: Some("v1".into()),
            checksum: Checksum::new("CRC64NVME", "rosUhgp5mIg=", true),
            ..sighting(R1, "a").archive
        };
        let again = |algorithm, value| Validator {
            version_id: Some("v2".into()),
            checksum: Checksum::new(algorithm, value, true),
            last_modified: Some("later".into()),
            ..first.clone()
        };
        assert!(first.is_same(&again("CRC32", "y/Q5Jg==")));
        assert!(!first.is_same(&again("CRC64NVME", "AAAAAAAAAAA=")));
    }

    #[test]
    fn without_an_etag_time_and_size_count_and_all_fields_of_a_file() {
        let dated = |seconds: &str| Validator {
            last_modified: Some(seconds.into()),
            size: Some(1),
            ..Validator::default()
        };
        assert!(dated("1").is_same(&dated("1")) && !dated("1").is_same(&dated("2")));
        assert!(!Validator::default().is_same(&Validator::default()));
        let file =
            Validator { inode: Some(1), device: Some(1), changed: Some("5".into()), ..dated("1") };
        assert!(file.is_same(&file) && file.is_same(&Validator { inode: Some(1), ..dated("1") }));
        for other in [
            Validator { device: Some(2), ..file.clone() },
            Validator { changed: Some("6".into()), ..file.clone() },
        ] {
            assert!(!file.is_same(&other));
        }
    }

    #[test]
    fn a_contradiction_describes_both_objects() {
        let (one, two) = (sighting(R1, "a").archive, sighting(R1, "b").archive);
        assert_eq!(one.contradiction(&one), None);
        let said = one.contradiction(&two).unwrap();
        assert_eq!(said, "it had ETag \"a\", 10 bytes before, and has ETag \"b\", 10 bytes now");
        let digest = Checksum::new("SHA256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=", true);
        let with = |of: &Validator| Validator { checksum: digest.clone(), ..of.clone() };
        assert_eq!(with(&one).contradiction(&with(&two)), None);
        let weak = Validator { etag: Some("W/\"a\"".into()), ..one.clone() };
        let longer = Validator { size: Some(11), ..weak.clone() };
        assert!(weak.contradiction(&longer).unwrap().ends_with("11 bytes now"));
    }

    #[test]
    fn a_stored_identity_reads_back_the_same() {
        let mut identity = Identity::of(sighting(R1, "a"), content(b"one"));
        identity.archive.checksum = Checksum::new("CRC32C", "yZRlqg==", true);
        identity.remember(&R1.parse().unwrap(), sighting(R2, "b"));
        let stored = serde_json::to_string(&identity).unwrap();
        assert!(!stored.contains("null"), "{stored}");
        assert_eq!(serde_json::from_str::<Identity>(&stored).unwrap(), identity);
    }

    #[test]
    fn reads_an_identity_of_0_1_0_and_finds_it_again() {
        let stored =
            r#"{"archive": {"etag": "\"a\"", "size": 10}, "env": {"etag": "\"e\"", "size": 10}}"#;
        let identity: Identity = serde_json::from_str(stored).unwrap();
        let found = sighting(R1, "a");
        let found = Sighting {
            archive: Validator {
                name: Some("source.tar".into()),
                last_modified: Some("x".into()),
                ..found.archive
            },
            ..found
        };
        assert!(identity.is_found_in(&R1.parse().unwrap(), &found, &Sha256::of(b"any")));
    }
}
