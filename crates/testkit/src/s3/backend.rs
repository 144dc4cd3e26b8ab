//! The operations that the agent, the tests and `aws s3` use.

use super::objects::{Entry, Found, Objects, Stored};
use bytes::Bytes;
use futures_util::TryStreamExt;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

pub struct Backend(pub Arc<Objects>);

/// The pairs of keys that are accepted; any other is refused as Amazon does.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<String, Key>>);

enum Key {
    Valid(SecretKey),
    Expired,
}

impl Keys {
    pub fn accept(&self, access_key: &str, secret_key: &str) {
        self.set(access_key, Key::Valid(secret_key.into()));
    }

    pub fn expire(&self, access_key: &str) {
        self.set(access_key, Key::Expired);
    }

    fn set(&self, access_key: &str, key: Key) {
        self.0.lock().expect("no panic with the keys locked").insert(access_key.to_owned(), key);
    }
}

pub struct Auth(pub Arc<Keys>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.0.lock().expect("no panic with the keys locked").get(access_key) {
            Some(Key::Valid(secret_key)) => Ok(secret_key.clone()),
            Some(Key::Expired) => Err(s3_error!(ExpiredToken, "The provided token has expired.")),
            None => {
                Err(s3_error!(InvalidAccessKeyId, "The access key does not exist in our records."))
            }
        }
    }
}

impl Backend {
    fn get(&self, bucket: &str, key: &str, version: Option<&str>) -> S3Result<Entry> {
        match self.0.get(bucket, key, version) {
            Found::Object(entry) => Ok(*entry),
            Found::NoKey => Err(s3_error!(NoSuchKey)),
            Found::NoBucket => Err(s3_error!(NoSuchBucket)),
            Found::Denied => Err(s3_error!(AccessDenied, "Access Denied")),
        }
    }
}

fn check(
    entry: &Entry,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.as_strong() == Some(entry.etag.as_str()),
    };
    if if_match.is_some_and(|condition| !is(condition)) {
        return Err(s3_error!(PreconditionFailed, "the ETag is another one"));
    }
    if if_none_match.is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// Whether the conditions of a write hold for the object that is there.
fn permits(
    there: Option<&Entry>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> bool {
    let is = |condition: &ETagCondition| match (condition, there) {
        (_, None) => false,
        (ETagCondition::Any, Some(_)) => true,
        (ETagCondition::ETag(etag), Some(entry)) => etag.as_strong() == Some(entry.etag.as_str()),
    };
    if_match.is_none_or(is) && !if_none_match.is_some_and(is)
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    let chunks: Vec<Bytes> =
        body.try_collect().await.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
    Ok(chunks.concat().into())
}

fn tag(entry: &Entry) -> Option<ETag> {
    (!entry.etag.is_empty()).then(|| ETag::Strong(entry.etag.clone()))
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let entry = self.get(&input.bucket, &input.key, input.version_id.as_deref())?;
        check(&entry, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let sums = input.checksum_mode.map(|_| entry.checksum.clone()).unwrap_or_default();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(entry.bytes.len()).ok(),
            e_tag: tag(&entry),
            last_modified: Some(entry.modified),
            version_id: entry.version,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let entry = self.get(&input.bucket, &input.key, input.version_id.as_deref())?;
        check(&entry, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let size = entry.bytes.len() as u64;
        let range = input.range.map(|range| range.check(size)).transpose();
        let range = range.map_err(|error| s3_error!(error, InvalidRange))?;
        let bytes = match &range {
            Some(range) => entry.bytes.slice(range.start as usize..range.end as usize),
            None => entry.bytes.clone(),
        };
        // S3 has no checksum of a range.
        let whole = range.is_none().then_some(input.checksum_mode).flatten();
        let sums = whole.map(|_| entry.checksum.clone()).unwrap_or_default();
        let content_range =
            range.map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1));
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(bytes.len()).ok(),
            content_range,
            body: Some(s3s::Body::from(bytes).into()),
            e_tag: tag(&entry),
            last_modified: Some(entry.modified),
            version_id: entry.version,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            ..Default::default()
        }))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let bytes = collect(input.body).await?.to_vec();
        let (if_match, if_none_match) = (input.if_match, input.if_none_match);
        let holds =
            |there: Option<&Entry>| permits(there, if_match.as_ref(), if_none_match.as_ref());
        let (stored, place) = (Stored::Right("CRC64NVME"), (&*input.bucket, &*input.key));
        let entry = self.0.put_if(place, bytes, stored, holds);
        let entry =
            entry.ok_or_else(|| s3_error!(PreconditionFailed, "a condition does not hold"))?;
        let (e_tag, version_id) = (tag(&entry), entry.version);
        Ok(S3Response::new(PutObjectOutput { e_tag, version_id, ..Default::default() }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput { bucket, key, if_match, .. } = request.input;
        if !self.0.delete_if(&bucket, &key, |there| permits(there, if_match.as_ref(), None)) {
            return Err(s3_error!(PreconditionFailed, "a condition does not hold"));
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(request.input.bucket),
            key: Some(request.input.key),
            upload_id: Some(self.0.begin_upload()),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let bytes = collect(input.body).await?;
        let etag = self.0.put_part(&input.upload_id, input.part_number, bytes);
        let e_tag = Some(ETag::Strong(etag.ok_or_else(|| s3_error!(NoSuchUpload))?));
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let entry = self.0.end_upload(&input.bucket, &input.key, &input.upload_id);
        let entry = entry.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: tag(&entry),
            version_id: entry.version,
            ..Default::default()
        }))
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.create_bucket(&request.input.bucket);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        if self.0.is_listing_denied() {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        let found = self.0.list(&input.bucket, &prefix).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let mut directories = BTreeSet::new();
        let mut contents = Vec::new();
        for (key, entry) in found {
            let rest = &key[prefix.len()..];
            let delimited =
                input.delimiter.as_deref().and_then(|delimiter| rest.split_once(delimiter));
            match delimited {
                Some((directory, _)) => {
                    directories.insert(format!("{prefix}{directory}/"));
                }
                None => contents.push(Object {
                    key: Some(key),
                    size: i64::try_from(entry.bytes.len()).ok(),
                    e_tag: tag(&entry),
                    last_modified: Some(entry.modified),
                    ..Default::default()
                }),
            }
        }
        let directories = directories.into_iter();
        let common_prefixes =
            directories.map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            prefix: Some(prefix),
            is_truncated: Some(false),
            ..Default::default()
        }))
    }
}
