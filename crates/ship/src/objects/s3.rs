//! S3, by the SDK.

mod connection;
mod refusal;
#[cfg(test)]
mod tests;

pub use connection::connect;
pub use refusal::chain;

use super::{Condition, Listing, Object, Objects, Written};
use crate::settings::Store;
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use connection::{Clock, hasty, patient};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use model::error::{Error, Result};
use refusal::{Refused, refused};
use std::path::Path;

/// A document is never larger than this; it is read into memory.
const LARGEST_DOCUMENT: i64 = 1 << 20;
/// Up to here a file is sent in one request.
const ONE_REQUEST: u64 = 16 << 20;
/// At least the size of a part; S3 allows 10,000 parts.
const PART: u64 = 16 << 20;
const MOST_PARTS: u64 = 10_000;
/// Parts that are sent at once.
const AT_ONCE: usize = 4;

/// A bucket with a prefix.
pub struct Bucket {
    s3: Client,
    store: Store,
    clock: Clock,
}

impl Bucket {
    pub fn new(config: &SdkConfig, store: Store) -> Bucket {
        let clock = Clock::default();
        let mut builder = aws_sdk_s3::config::Builder::from(config).interceptor(clock.clone());
        // A bucket at an endpoint of its own has no host name of its own.
        builder = builder.force_path_style(config.endpoint_url().is_some());
        Bucket { s3: Client::from_conf(builder.build()), store, clock }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.store.prefix)
    }

    async fn upload_in_parts(&self, key: &str, file: &Path, size: u64) -> Result<()> {
        let what = || format!("upload {}", self.url(key));
        let begun = self
            .s3
            .create_multipart_upload()
            .bucket(&self.store.bucket)
            .key(self.key(key))
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject);
        let begun = begun.send().await.map_err(|e| refused(e).error(what()))?;
        let id = begun.upload_id().unwrap_or_default();
        let sent = self.send_parts(key, id, file, size).await;
        let done = match sent {
            Ok(parts) => self.complete(key, id, parts).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            // Parts of an upload that never ends would be paid for.
            let abort = self.s3.abort_multipart_upload().bucket(&self.store.bucket);
            let _ = abort.key(self.key(key)).upload_id(id).send().await;
        }
        done
    }

    async fn send_parts(
        &self,
        key: &str,
        id: &str,
        file: &Path,
        size: u64,
    ) -> Result<Vec<CompletedPart>> {
        let part_size = PART.max(size.div_ceil(MOST_PARTS));
        let count = size.div_ceil(part_size);
        let sends = (0..count).map(|index| async move {
            let (offset, number) =
                (index * part_size, i32::try_from(index + 1).unwrap_or(i32::MAX));
            let body = ByteStream::read_from().path(file).offset(offset);
            let length = part_size.min(size - offset);
            let body = body.length(aws_sdk_s3::primitives::Length::Exact(length)).build().await;
            let what = || format!("upload part {number} of {count} of {}", self.url(key));
            let request = self
                .s3
                .upload_part()
                .bucket(&self.store.bucket)
                .key(self.key(key))
                .upload_id(id)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                .body(body.map_err(|e| Error::failed(what()).because(e))?);
            let sent = request.customize().config_override(patient()).send().await;
            let sent = sent.map_err(|e| refused(e).error(what()))?;
            let part = CompletedPart::builder().part_number(number);
            let part = part.set_e_tag(sent.e_tag).set_checksum_crc64_nvme(sent.checksum_crc64_nvme);
            Ok(part.build())
        });
        stream::iter(sends).buffered(AT_ONCE).try_collect().await
    }

    async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self
            .s3
            .complete_multipart_upload()
            .bucket(&self.store.bucket)
            .key(self.key(key))
            .upload_id(id)
            .checksum_type(ChecksumType::FullObject)
            .multipart_upload(parts);
        let done = request.customize().config_override(patient()).send().await;
        done.map(drop).map_err(|e| refused(e).error(format!("upload {}", self.url(key))))
    }
}

#[async_trait]
impl Objects for Bucket {
    async fn responds(&self, key: &str) -> Result<()> {
        let request = self.s3.get_object().bucket(&self.store.bucket).key(self.key(key));
        match request.customize().config_override(hasty()).send().await.map_err(refused) {
            Ok(_) | Err(Refused::Missing) => Ok(()),
            Err(refused) => Err(refused.error(format!("ask for {}", self.url(key)))),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let what = || format!("read {}", self.url(key));
        let request = self.s3.get_object().bucket(&self.store.bucket).key(self.key(key));
        let found = match request.send().await.map_err(refused) {
            Ok(found) => found,
            Err(Refused::Missing) => return Ok(None),
            Err(refused) => return Err(refused.error(what())),
        };
        if found.content_length().is_some_and(|length| length > LARGEST_DOCUMENT) {
            return Err(Error::source(what()).because("it is larger than 1 MiB"));
        }
        let etag = found.e_tag().unwrap_or_default().to_owned();
        let bytes = found.body.collect().await;
        let bytes = bytes.map_err(|e| Error::source(what()).because(e))?.to_vec();
        Ok(Some(Object { bytes, etag }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Written> {
        let request = self.s3.put_object().bucket(&self.store.bucket).key(self.key(key));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let request = match condition {
            Condition::Any => request,
            Condition::Absent => request.if_none_match("*"),
            Condition::Unchanged(etag) => request.if_match(etag),
        };
        match request.body(bytes.into()).send().await.map_err(refused) {
            Ok(put) => Ok(Written::Done(put.e_tag.unwrap_or_default())),
            Err(Refused::Conflict) => Ok(Written::Conflict),
            Err(refused) => Err(refused.error(format!("write {}", self.url(key)))),
        }
    }

    async fn upload(&self, key: &str, file: &Path) -> Result<()> {
        let what = || format!("upload {}", self.url(key));
        let size = std::fs::metadata(file).map_err(|e| Error::failed(what()).because(e))?.len();
        if size > ONE_REQUEST {
            return self.upload_in_parts(key, file, size).await;
        }
        let body = ByteStream::from_path(file).await;
        let body = body.map_err(|e| Error::failed(what()).because(e))?;
        let request = self.s3.put_object().bucket(&self.store.bucket).key(self.key(key));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256).body(body);
        let sent = request.customize().config_override(patient()).send().await;
        sent.map(drop).map_err(|e| refused(e).error(what()))
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let Store { bucket, prefix } = &self.store;
        let request = self.s3.copy_object().bucket(bucket).key(self.key(to));
        let request = request.copy_source(encoded(&format!("{bucket}/{prefix}{from}")));
        let copied = request.customize().config_override(patient()).send().await;
        let what = || format!("copy {} to {}", self.url(from), self.url(to));
        copied.map(drop).map_err(|e| refused(e).error(what()))
    }

    async fn delete(&self, key: &str, etag: &str) -> Result<Written> {
        let request = self.s3.delete_object().bucket(&self.store.bucket).key(self.key(key));
        match request.if_match(etag).send().await.map_err(refused) {
            Ok(_) => Ok(Written::Done(String::new())),
            Err(Refused::Conflict | Refused::Missing) => Ok(Written::Conflict),
            Err(refused) => Err(refused.error(format!("delete {}", self.url(key)))),
        }
    }

    async fn list(&self, prefix: &str, most: usize) -> Result<Listing> {
        let whole = self.key(prefix);
        let request = self.s3.list_objects_v2().bucket(&self.store.bucket);
        let mut pages = request.prefix(&whole).delimiter("/").into_paginator().send();
        let mut listing = Listing::default();
        while let Some(page) = pages.next().await {
            let what = || format!("list {}", self.url(prefix));
            let page = page.map_err(|e| refused(e).error(what()))?;
            let below = |name: &str| name.strip_prefix(&whole).map(str::to_owned);
            let directories = page.common_prefixes().iter().filter_map(|one| one.prefix());
            let directories = directories.filter_map(below);
            listing.directories.extend(directories.map(|one| one.trim_end_matches('/').to_owned()));
            let objects = page.contents().iter().filter_map(|one| one.key());
            listing.objects.extend(objects.filter_map(below));
            if listing.directories.len().max(listing.objects.len()) >= most {
                break;
            }
        }
        listing.directories.truncate(most);
        listing.objects.truncate(most);
        Ok(listing)
    }

    async fn now(&self) -> Result<Timestamp> {
        if let Some(time) = self.clock.last() {
            return Ok(time);
        }
        self.list("", 1).await?;
        let what = || format!("learn the time from {}", self.url(""));
        self.clock.last().ok_or_else(|| Error::source(what()).because("it sends no Date header"))
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.store.bucket, self.store.prefix)
    }
}

/// Returns a name as the header of a copy has it: percent-encoded.
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}
