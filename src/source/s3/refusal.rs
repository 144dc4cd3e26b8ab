//! Turns an error response of S3 into a plain error.
//!
//! The codes are those of Amazon's list of S3 error responses. A HEAD response has no body and so
//! no code.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use model::error::Error;
use model::reason::Reason;
use model::text;
use std::fmt;
use std::time::{Duration, SystemTime};

/// S3's message is shown up to this length.
const LONGEST_MESSAGE: usize = 300;

/// The object of a request.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The error for the operator, and its kind for the code.
pub(super) struct Refused {
    pub kind: Kind,
    pub error: Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    /// The object is unchanged, as the request's precondition asked.
    Same,
    /// Forbidden, or missing: S3 reveals which only to callers that may list.
    Denied,
    /// The response gave no reason.
    Nameless,
    /// No request was sent: there are no credentials.
    NoCredentials,
    /// S3 no longer accepts these credentials.
    Expired,
    /// The object is not the version that the request named.
    Changed,
    /// A retry may succeed.
    Transient,
    Other,
}

/// The parts of a response with the reason.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub status: u16,
    pub code: Option<String>,
    pub message: Option<String>,
    pub bucket_region: Option<String>,
    pub skew: Option<Skew>,
}

/// The difference between this instance's clock and S3's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Skew {
    Behind(Duration),
    Ahead(Duration),
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, how) = match self {
            Skew::Behind(by) => (by, "behind"),
            Skew::Ahead(by) => (by, "ahead of"),
        };
        write!(f, "this instance's clock is {} s {how} S3's", by.as_secs())
    }
}

impl Answer {
    /// `None` without a response.
    pub fn of<E: ProvideErrorMetadata>(error: &SdkError<E>, now: SystemTime) -> Option<Answer> {
        let response = error.raw_response()?;
        let header = |name| response.headers().get(name).map(str::to_owned);
        let date = header("date")
            .and_then(|date| DateTime::from_str(&date, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| SystemTime::try_from(date).ok());
        Some(Answer {
            status: response.status().as_u16(),
            code: error.code().map(str::to_owned),
            message: error.message().map(|text| text::line(text, LONGEST_MESSAGE)),
            bucket_region: header("x-amz-bucket-region"),
            skew: date.map(|server| match server.duration_since(now) {
                Ok(behind) => Skew::Behind(behind),
                Err(ahead) => Skew::Ahead(ahead.duration()),
            }),
        })
    }

    fn kind(&self) -> Kind {
        match (self.code.as_deref().unwrap_or_default(), self.status) {
            (_, 304) => Kind::Same,
            ("NoSuchKey" | "NoSuchVersion" | "NotFound", _) | ("", 404) => Kind::Missing,
            ("AccessDenied" | "Forbidden", _) | ("", 403) => Kind::Denied,
            ("PreconditionFailed" | "InvalidRange", _) | (_, 412 | 416) => Kind::Changed,
            ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => Kind::Expired,
            ("SlowDown" | "RequestTimeout" | "InternalError", _) => Kind::Transient,
            (_, 408 | 429 | 500..) => Kind::Transient,
            ("", _) if self.bucket_region.is_none() => Kind::Nameless,
            _ => Kind::Other,
        }
    }
}

impl Answer {
    fn reason(&self) -> Reason {
        match (self.code.as_deref().unwrap_or_default(), self.kind()) {
            ("RequestTimeTooSkewed" | "RequestExpired", _) => Reason::ClockWrong,
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            ) => Reason::WrongRegion,
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) | (_, Kind::Denied) => {
                Reason::AccessDenied
            }
            (_, Kind::Expired) => Reason::CredentialsExpired,
            ("NoSuchBucket", _) | (_, Kind::Missing) => Reason::ReleaseMissing,
            (_, Kind::NoCredentials) => Reason::CredentialsMissing,
            (_, Kind::Transient) => Reason::SourceBusy,
            (_, Kind::Changed) => Reason::ChangedWhileRead,
            (_, Kind::Same | Kind::Nameless | Kind::Other) => Reason::SourceFailed,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3 answers {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

pub(super) fn explain(asked: Asked<'_>, our_region: &str, answer: &Answer) -> Refused {
    let (what, help) = describe(asked, our_region, answer);
    let error = Error::source(format!("{asked}: {what}")).because(answer.to_string()).help(help);
    Refused { kind: answer.kind(), error: error.with_reason(answer.reason()) }
}

/// Returns the explanation of a refusal, with advice.
fn describe(asked: Asked<'_>, our_region: &str, answer: &Answer) -> (String, String) {
    let bucket = asked.bucket;
    let region = answer.bucket_region.as_deref().filter(|region| *region != our_region);
    match (answer.code.as_deref().unwrap_or_default(), answer.status) {
        (
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException",
            _,
        )
        | ("", 301 | 307 | 400) => match region {
            Some(region) => (
                format!("the bucket is in {region}, and {our_region} was asked"),
                format!("set AWS_REGION={region} in /etc/deploy/agent.env"),
            ),
            None => (
                format!("the bucket is not in {our_region}, which was asked"),
                format!(
                    "set AWS_REGION in /etc/deploy/agent.env to what `aws s3api \
                     get-bucket-location --bucket {bucket}` says"
                ),
            ),
        },
        ("RequestTimeTooSkewed" | "RequestExpired", _) => (
            answer.skew.map_or_else(
                || "this instance's clock is wrong".to_owned(),
                |skew| skew.to_string(),
            ),
            "set the clock: `timedatectl` shows it, chrony or systemd-timesyncd keeps it"
                .to_owned(),
        ),
        ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken", _) => (
            "the credentials have expired".to_owned(),
            "a role of the instance renews its own: remove AWS_SESSION_TOKEN and the keys beside \
             it from /etc/deploy/agent.env and the profile files, or renew them"
                .to_owned(),
        ),
        ("InvalidAccessKeyId", _) => (
            "S3 does not know the access key".to_owned(),
            "check AWS_ACCESS_KEY_ID in /etc/deploy/agent.env and the profile files, or remove it \
             there to use the instance's role"
                .to_owned(),
        ),
        ("SignatureDoesNotMatch", _) => (
            "the secret key is not the access key's".to_owned(),
            "check AWS_SECRET_ACCESS_KEY in /etc/deploy/agent.env and the profile files (and that \
             no proxy changes the request)"
                .to_owned(),
        ),
        ("InvalidObjectState", _) => (
            "the object is archived".to_owned(),
            format!(
                "restore it (`aws s3api restore-object --bucket {bucket} --key …`), or publish the release again"
            ),
        ),
        ("NoSuchBucket", _) => (
            format!("there is no bucket {bucket}"),
            "check the bucket's name in the URL, and AWS_ENDPOINT_URL if that is set".to_owned(),
        ),
        _ => of_kind(asked, answer),
    }
}

fn of_kind(asked: Asked<'_>, answer: &Answer) -> (String, String) {
    let Asked { bucket, key } = asked;
    let prefix = key.rsplit_once('/').map_or(key, |(prefix, _)| prefix);
    match answer.kind() {
        Kind::Denied => (
            "S3 denies access, or there is no such object".to_owned(),
            format!(
                "allow the instance's role s3:GetObject (where the bucket keeps versions, \
                 s3:GetObjectVersion too) on arn:aws:s3:::{bucket}/{prefix}/*, and kms:Decrypt if a \
                 KMS key encrypts it; without s3:ListBucket on arn:aws:s3:::{bucket} a missing object \
                 is denied as well, so check the release's name too"
            ),
        ),
        Kind::Missing => (
            "there is no such object".to_owned(),
            "check the release's name, and that its upload is complete".to_owned(),
        ),
        Kind::Transient => (
            "S3 has trouble, or too many requests".to_owned(),
            "run the deploy again in a minute; Amazon's health dashboard tells of wider trouble".to_owned(),
        ),
        _ => (
            "S3 refuses the request".to_owned(),
            "check the URL, the region and AWS_ENDPOINT_URL; the code is in Amazon's list of S3 error responses"
                .to_owned(),
        ),
    }
}
