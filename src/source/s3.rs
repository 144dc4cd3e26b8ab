//! S3, and servers with its protocol.

mod bounded;
mod client;
mod connection;
mod credentials;
mod endpoint;
mod examine;
mod query;
mod refusal;

pub(super) use client::S3;
pub(super) use examine::{Attempt, imds, instance_id, role};
pub use query::{Query, QueryRefused};

use super::connect_error;
use super::object::{Begun, Body, Fetch, Lookup, Object, Opened, Reader, range};
use super::retry::Failure;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use model::error::{Error, Result};
use model::release::checksum::Checksum;
use model::release::identity::Validator;
use refusal::{Asked, Kind, Refused};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Builds the validator from a response: HEAD and GET have different types.
macro_rules! validator {
    ($answer:expr) => {{
        let answer = &$answer;
        let etag = answer.e_tag().filter(|etag| is_told(etag));
        let whole = match answer.checksum_type() {
            Some(kind) => *kind == ChecksumType::FullObject,
            // Not every S3 server sends the type: for a multipart upload, the checksum may be one
            // of the parts' checksums.
            None => etag.is_some_and(|etag| !etag.contains('-')),
        };
        let checksums = [
            ("CRC64NVME", answer.checksum_crc64_nvme()),
            ("CRC32C", answer.checksum_crc32_c()),
            ("CRC32", answer.checksum_crc32()),
            ("SHA256", answer.checksum_sha256()),
            ("SHA1", answer.checksum_sha1()),
        ];
        let mut checksums = checksums.into_iter();
        let checksum = checksums.find_map(|(name, value)| Checksum::new(name, value?, whole));
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let of_part = answer.content_range().map(super::http::whole_size);
        Validator {
            etag: etag.map(str::to_owned),
            // A bucket with suspended versioning has this version id.
            version_id: answer.version_id().filter(|id| *id != "null").map(str::to_owned),
            checksum,
            size: of_part.unwrap_or(length),
            last_modified: answer
                .last_modified()
                .and_then(|modified| modified.fmt(DateTimeFormat::HttpDate).ok()),
            ..Validator::default()
        }
    }};
}

/// Whether an ETag is meaningful: a MinIO without ETags gives all objects the same one.
fn is_told(etag: &str) -> bool {
    let digits = etag.trim_matches('"').split('-').next().unwrap_or_default();
    digits.bytes().any(|digit| digit != b'0')
}

/// Whether an ETag looks like an MD5 of the bytes: then equal ETags mean equal text, however soon
/// after each other two objects were written.
fn is_md5(etag: &str) -> bool {
    let digits = etag.trim_matches('"');
    digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// A prefix in a bucket.
pub(super) struct S3Backend {
    s3: Arc<S3>,
    bucket: String,
    prefix: String,
}

/// One version of one object.
#[derive(Clone)]
pub(super) struct S3Object {
    s3: Arc<S3>,
    bucket: String,
    key: String,
    etag: Option<String>,
    version: Option<String>,
    /// Without an ETag, the precondition is this time.
    unmodified_since: Option<DateTime>,
    /// Set once S3 has refused to read by version: that needs s3:GetObjectVersion, and the ETag
    /// pins the object as well.
    by_etag_alone: Arc<AtomicBool>,
}

impl S3 {
    pub fn directory(self: Arc<S3>, bucket: &str, prefix: &str) -> S3Backend {
        S3Backend { s3: self, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }
}

impl S3Backend {
    pub async fn look(&self, name: &str, known: Option<&Validator>, ask: Fetch) -> Result<Lookup> {
        let key = format!("{}/{name}", self.prefix);
        let known = known.and_then(|known| known.etag.as_deref()).filter(|etag| is_md5(etag));
        let mut found = self.ask(&key, known, ask).await;
        if found.as_ref().is_err_and(|refused| refused.kind == Kind::Nameless) {
            // A HEAD response has no body, so no error code with the reason.
            match self.reason(name).await {
                Some(reason) => return Err(reason),
                // The credentials were the reason, and they have been renewed.
                None => found = self.ask(&key, known, ask).await,
            }
        }
        match found {
            Ok(object) if !object.validator.pins() => Err(unpinnable(&object.url)),
            // Not every server supports conditional requests.
            Ok(object) if known.is_some() && known == object.validator.etag.as_deref() => {
                Ok(Lookup::Same)
            }
            Ok(object) => Ok(Lookup::Found(Box::new(object))),
            Err(Refused { kind: Kind::Missing, .. }) => Ok(Lookup::Missing),
            Err(Refused { kind: Kind::Same, .. }) => Ok(Lookup::Same),
            Err(Refused { kind: Kind::Denied, error }) => Ok(Lookup::Refused(error)),
            Err(Refused { error, .. }) => Err(error),
        }
    }

    async fn ask(&self, key: &str, known: Option<&str>, ask: Fetch) -> Result<Object, Refused> {
        let asked = Asked { bucket: &self.bucket, key };
        let known = known.map(str::to_owned);
        match ask {
            Fetch::Head => {
                let head = |client: Client| {
                    let head = client.head_object().bucket(&self.bucket).key(key);
                    let head = head.set_if_none_match(known.clone());
                    let head = head.set_request_payer(self.s3.payer());
                    head.checksum_mode(ChecksumMode::Enabled).send()
                };
                let head = self.s3.ask(asked, head).await?;
                let encoding = head.content_encoding().map(str::to_owned);
                Ok(self.found(key, validator!(head), Begun::default(), encoding))
            }
            Fetch::Get => {
                let get = |client: Client| {
                    let get = client.get_object().bucket(&self.bucket).key(key);
                    let get = get.set_if_none_match(known.clone());
                    let get = get.set_request_payer(self.s3.payer());
                    get.checksum_mode(ChecksumMode::Enabled).send()
                };
                let get = self.s3.ask(asked, get).await?;
                let validator = validator!(get);
                let url = format!("s3://{}/{key}", self.bucket);
                let encoding = get.content_encoding().map(str::to_owned);
                Ok(self.found(key, validator, Begun::with(body(url, get.body)), encoding))
            }
        }
    }

    fn found(
        &self,
        key: &str,
        validator: Validator,
        begun: Begun,
        encoding: Option<String>,
    ) -> Object {
        let modified = validator.last_modified.as_deref().filter(|_| validator.etag.is_none());
        let modified =
            modified.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let url = format!("s3://{}/{key}", self.bucket);
        let reader = Arc::new(S3Object {
            s3: self.s3.clone(),
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            etag: validator.etag.clone(),
            version: validator.version_id.clone(),
            unmodified_since: modified,
            by_etag_alone: Arc::default(),
        });
        Object { url, validator, reader, begun, encoding }
    }

    /// Returns the reason that S3 gives for any of these objects, or else `error`.
    pub async fn explain(&self, names: &[&str], error: Error) -> Error {
        let reasons = join_all(names.iter().map(|name| self.reason(name))).await;
        reasons.into_iter().flatten().next().unwrap_or(error)
    }

    /// Requests one byte, since a GET response has the reason of a refusal. `None` if it succeeds,
    /// or if the object is missing.
    async fn reason(&self, name: &str) -> Option<Error> {
        let key = format!("{}/{name}", self.prefix);
        let asked = Asked { bucket: &self.bucket, key: &key };
        let get = |client: Client| {
            let get = client.get_object().bucket(&self.bucket).key(&key).range("bytes=0-0");
            get.set_request_payer(self.s3.payer()).send()
        };
        let refused = self.s3.ask(asked, get).await.err()?;
        // An empty object has no first byte: not a refusal either.
        (!matches!(refused.kind, Kind::Missing | Kind::Changed)).then_some(refused.error)
    }
}

impl Reader for S3Object {
    fn open<'a>(
        &'a self,
        object: &'a Object,
        offset: u64,
        end: Option<u64>,
    ) -> BoxFuture<'a, Result<Opened, Failure>> {
        self.request(object, range(offset, end)).boxed()
    }
}

impl S3Object {
    async fn request(&self, object: &Object, range: Option<String>) -> Result<Opened, Failure> {
        let version = self.version.as_ref().filter(|_| !self.by_etag_alone.load(Ordering::Relaxed));
        let get = |client: Client| {
            let get = client.get_object().bucket(&self.bucket).key(&self.key);
            let get = get.set_request_payer(self.s3.payer());
            let get = get.set_if_match(self.etag.clone()).set_version_id(version.cloned());
            let get = get.set_if_unmodified_since(self.unmodified_since);
            get.set_range(range.clone()).send()
        };
        let asked = Asked { bucket: &self.bucket, key: &self.key };
        let refused = match self.s3.ask_once(asked, get).await {
            Ok(output) => return self.opened(object, output),
            Err(refused) => refused,
        };
        match refused.kind {
            Kind::Denied if version.is_some() && self.etag.is_some() => {
                self.by_etag_alone.store(true, Ordering::Relaxed);
                Err(Failure::Transient(refused.error))
            }
            Kind::Changed => Err(Failure::Final(object.is_another())),
            Kind::Missing => Err(Failure::Final(object.changed("it was removed"))),
            // There were credentials at resolve: the instance's role may provide them again.
            Kind::Transient | Kind::NoCredentials | Kind::Expired => {
                Err(Failure::Transient(refused.error))
            }
            Kind::Same | Kind::Denied | Kind::Nameless | Kind::Other => {
                Err(Failure::Final(refused.error))
            }
        }
    }

    fn opened(&self, object: &Object, output: GetObjectOutput) -> Result<Opened, Failure> {
        // Not every S3 server supports the preconditions.
        object.check(&validator!(output))?;
        let begin = output.content_range().map(super::http::first_byte);
        let offset = match begin {
            Some(Some(offset)) => offset,
            None => 0,
            Some(None) => {
                let error = Error::source(format!("{} cannot be read", object.url));
                return Err(Failure::Final(
                    error.because("S3 answers with another range than asked"),
                ));
            }
        };
        Ok(Opened { body: body(object.url.clone(), output.body), offset })
    }
}

fn unpinnable(url: &str) -> Error {
    Error::source(format!("{url} cannot be pinned"))
        .because(
            "the store gives neither an ETag nor a version nor a Last-Modified, so a change \
             would go unseen",
        )
        .help("let the store keep ETags (JuiceFS: `juicefs gateway --keep-etag`)")
}

fn body(url: String, bytes: ByteStream) -> Body {
    let next = move |mut bytes: ByteStream| {
        let url = url.clone();
        async move {
            let lost = |error| connect_error::unreachable(&url, None, &error);
            Some((bytes.next().await?.map_err(lost), bytes))
        }
    };
    futures_util::stream::unfold(bytes, next).boxed()
}
