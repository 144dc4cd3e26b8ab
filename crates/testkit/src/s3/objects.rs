//! The objects of the tests' S3: bytes in memory, with their S3 metadata.

use bytes::Bytes;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ChecksumType, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::SystemTime;

/// The checksum that is stored with an object.
#[derive(Clone, Copy, Debug)]
pub enum Stored {
    /// No checksum.
    None,
    /// Computed for the whole object: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    Right(&'static str),
    /// A value that does not match the bytes.
    Wrong(&'static str, &'static str),
    /// A checksum of the parts' checksums, in the form of S3: `…-3`.
    OfParts(&'static str, &'static str),
}

#[derive(Clone)]
pub struct Entry {
    pub bytes: Bytes,
    pub etag: String,
    pub checksum: Checksum,
    pub modified: Timestamp,
    pub version: Option<String>,
}

#[derive(Default)]
pub struct Objects {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// All versions of each object, the newest last.
    buckets: BTreeMap<String, BTreeMap<String, Vec<Entry>>>,
    versioned: HashSet<String>,
    uploads: BTreeMap<String, BTreeMap<i32, Bytes>>,
    /// The next id of versions and uploads.
    next_id: u32,
    listing_denied: bool,
    without_etags: bool,
    /// Whether ETags contain the number of parts, and checksums have no type.
    untyped: bool,
}

pub enum Found {
    Object(Box<Entry>),
    NoKey,
    NoBucket,
    /// The response for a missing key to callers without the right to list.
    Denied,
}

impl State {
    fn newest(&self, bucket: &str, key: &str) -> Option<&Entry> {
        self.buckets.get(bucket)?.get(key)?.last()
    }

    fn insert(
        &mut self,
        bucket: &str,
        key: &str,
        bytes: Bytes,
        etag: String,
        stored: Stored,
    ) -> Entry {
        let state = self;
        state.next_id += 1;
        let version = state.versioned.contains(bucket).then(|| format!("v{}", state.next_id));
        let mut checksum = stored.checksum(&bytes);
        let etag = if state.without_etags { String::new() } else { etag };
        let etag = if state.untyped { format!("{etag}-2") } else { etag };
        if state.untyped {
            checksum.checksum_type = None;
        }
        let modified = SystemTime::now().into();
        let entry = Entry { bytes, etag, checksum, modified, version };
        let versions = state.buckets.entry(bucket.to_owned()).or_default();
        let versions = versions.entry(key.to_owned()).or_default();
        if entry.version.is_none() {
            versions.clear();
        }
        versions.push(entry.clone());
        entry
    }
}

impl Objects {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic with the objects locked")
    }

    pub fn create_bucket(&self, bucket: &str) {
        self.state().buckets.entry(bucket.to_owned()).or_default();
    }

    pub fn keep_versions(&self, bucket: &str) {
        self.state().versioned.insert(bucket.to_owned());
    }

    /// Stores objects without ETags from now on, as some gateways do.
    pub fn keep_no_etags(&self) {
        self.state().without_etags = true;
    }

    /// Stores objects as multipart uploads from now on, without the type of their checksums.
    pub fn tell_no_types(&self) {
        self.state().untyped = true;
    }

    pub fn deny_listing(&self) {
        self.state().listing_denied = true;
    }

    pub fn is_listing_denied(&self) -> bool {
        self.state().listing_denied
    }

    pub fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>, stored: Stored) -> Entry {
        let etag = hex(Md5::checksum(&bytes));
        self.insert(bucket, key, bytes.into(), etag, stored)
    }

    /// Stores an object if the condition holds for the one that is there.
    pub fn put_if(
        &self,
        (bucket, key): (&str, &str),
        bytes: Vec<u8>,
        stored: Stored,
        holds: impl FnOnce(Option<&Entry>) -> bool,
    ) -> Option<Entry> {
        let etag = hex(Md5::checksum(&bytes));
        let mut state = self.state();
        let there = holds(state.newest(bucket, key));
        there.then(|| state.insert(bucket, key, bytes.into(), etag, stored))
    }

    /// Deletes an object if the condition holds for it; returns whether it does.
    pub fn delete_if(
        &self,
        bucket: &str,
        key: &str,
        holds: impl FnOnce(Option<&Entry>) -> bool,
    ) -> bool {
        let mut state = self.state();
        let holds = holds(state.newest(bucket, key));
        if let Some(objects) = state.buckets.get_mut(bucket).filter(|_| holds) {
            objects.remove(key);
        }
        holds
    }

    fn insert(&self, bucket: &str, key: &str, bytes: Bytes, etag: String, stored: Stored) -> Entry {
        self.state().insert(bucket, key, bytes, etag, stored)
    }

    pub fn delete(&self, bucket: &str, key: &str) {
        if let Some(objects) = self.state().buckets.get_mut(bucket) {
            objects.remove(key);
        }
    }

    pub fn get(&self, bucket: &str, key: &str, version: Option<&str>) -> Found {
        let state = self.state();
        let Some(objects) = state.buckets.get(bucket) else {
            return Found::NoBucket;
        };
        let mut versions = objects.get(key).into_iter().flatten().rev();
        let found = match version {
            Some(_) => versions.find(|entry| entry.version.as_deref() == version),
            None => versions.next(),
        };
        match found {
            Some(entry) => Found::Object(Box::new(entry.clone())),
            None if state.listing_denied => Found::Denied,
            None => Found::NoKey,
        }
    }

    /// Returns none if there is no such bucket.
    pub fn list(&self, bucket: &str, prefix: &str) -> Option<Vec<(String, Entry)>> {
        let state = self.state();
        let objects = state.buckets.get(bucket)?.iter();
        let below = objects.filter(|(key, _)| key.starts_with(prefix));
        let newest =
            |(key, versions): (&String, &Vec<Entry>)| Some((key.clone(), versions.last()?.clone()));
        Some(below.filter_map(newest).collect())
    }

    pub fn begin_upload(&self) -> String {
        let mut state = self.state();
        state.next_id += 1;
        let id = format!("upload-{}", state.next_id);
        state.uploads.insert(id.clone(), BTreeMap::new());
        id
    }

    /// Returns the part's ETag; none if there is no such upload.
    pub fn put_part(&self, upload: &str, number: i32, bytes: Bytes) -> Option<String> {
        let etag = hex(Md5::checksum(&bytes));
        self.state().uploads.get_mut(upload)?.insert(number, bytes);
        Some(etag)
    }

    pub fn end_upload(&self, bucket: &str, key: &str, upload: &str) -> Option<Entry> {
        let parts = self.state().uploads.remove(upload)?;
        let digests: Vec<u8> = parts.values().flat_map(|part| Md5::checksum(part)).collect();
        let etag = format!("{}-{}", hex(Md5::checksum(&digests)), parts.len());
        let bytes: Vec<u8> = parts.into_values().flatten().collect();
        Some(self.insert(bucket, key, bytes.into(), etag, Stored::Right("CRC64NVME")))
    }
}

impl Stored {
    fn checksum(self, bytes: &[u8]) -> Checksum {
        let (algorithm, value, kind) = match self {
            Stored::None => return Checksum::default(),
            Stored::Right(algorithm) => return computed(algorithm, bytes),
            Stored::Wrong(algorithm, value) => (algorithm, value, ChecksumType::FULL_OBJECT),
            Stored::OfParts(algorithm, value) => (algorithm, value, ChecksumType::COMPOSITE),
        };
        let mut checksum = Checksum::default();
        *field(&mut checksum, algorithm) = Some(value.to_owned());
        checksum.checksum_type = Some(ChecksumType::from_static(kind));
        checksum
    }
}

fn field<'a>(checksum: &'a mut Checksum, algorithm: &str) -> &'a mut Option<String> {
    match algorithm {
        "CRC32" => &mut checksum.checksum_crc32,
        "CRC32C" => &mut checksum.checksum_crc32c,
        "CRC64NVME" => &mut checksum.checksum_crc64nvme,
        "SHA1" => &mut checksum.checksum_sha1,
        "SHA256" => &mut checksum.checksum_sha256,
        other => panic!("S3 has no checksum {other}"),
    }
}

fn computed(algorithm: &str, bytes: &[u8]) -> Checksum {
    let mut hasher = ChecksumHasher::default();
    match algorithm {
        "CRC32" => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
        "CRC32C" => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
        "CRC64NVME" => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
        "SHA1" => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
        "SHA256" => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        other => panic!("S3 has no checksum {other}"),
    }
    hasher.update(bytes);
    let mut checksum = hasher.finalize();
    checksum.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
    checksum
}

fn hex(digest: [u8; 16]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
