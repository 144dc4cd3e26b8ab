//! The object store as ship uses it: small documents that are read and changed under conditions,
//! and archives.

mod aside;
#[cfg(test)]
pub mod memory;
mod s3;

pub use aside::Aside;
pub use s3::{Bucket, chain, connect};

use async_trait::async_trait;
use jiff::Timestamp;
use model::error::{Error, Result};
use model::reason::Reason;
use std::path::Path;

/// A document and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub etag: String,
}

/// The condition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Any,
    /// There is no such object yet.
    Absent,
    /// The object is still the version with this ETag.
    Unchanged(String),
}

/// The result of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The new ETag.
    Done(String),
    /// Someone else has written meanwhile.
    Conflict,
}

/// The names below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The names up to the next `/`, without it.
    pub directories: Vec<String>,
    pub objects: Vec<String>,
}

/// A bucket with a prefix. Keys are relative to the prefix.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Asks for a document with little patience: fails within some ten seconds if the store does
    /// not respond, or refuses it.
    async fn responds(&self, key: &str) -> Result<()>;

    /// Reads a document of at most 1 MiB; none if it does not exist.
    async fn get(&self, key: &str) -> Result<Option<Object>>;

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Written>;

    /// Uploads a file.
    async fn upload(&self, key: &str, file: &Path) -> Result<()>;

    /// Copies an object of this store without downloading it.
    async fn copy(&self, from: &str, to: &str) -> Result<()>;

    /// Deletes an object that is still this version.
    async fn delete(&self, key: &str, etag: &str) -> Result<Written>;

    /// Lists what is directly below `prefix`, in the order of the names; at most `most` names.
    async fn list(&self, prefix: &str, most: usize) -> Result<Listing>;

    /// Returns the time by the clock of the store, as its last response had it.
    async fn now(&self) -> Result<Timestamp>;

    /// Returns the URL of a key, for people.
    fn url(&self, key: &str) -> String;
}

/// Whether a request failed because the store cannot be reached, or is out of order. A refusal is
/// a response.
pub fn is_silent(error: &Error) -> bool {
    matches!(error.reason(), Reason::NoAnswer | Reason::SourceBusy)
}
