//! The reasons for which S3 refuses a request, and their errors.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use model::error::{Error, Exit};
use model::reason::Reason;
use std::error::Error as StdError;

/// The answers that callers tell apart.
pub enum Refused {
    Missing,
    /// A condition did not hold, or another writer was faster.
    Conflict,
    Denied(String),
    NoBucket(String),
    NoCredentials(String),
    /// No answer of AWS at all.
    Unreachable(String),
    Other(String),
}

/// Returns the reason for which an operation failed.
pub fn refused<E>(error: SdkError<E, HttpResponse>) -> Refused
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = &error else {
        let text = chain(&error);
        return match text.contains("credentials") {
            true => Refused::NoCredentials(text),
            false => Refused::Unreachable(text),
        };
    };
    let code = answer.err().code().unwrap_or_default();
    let text = match answer.err().message() {
        Some(message) => format!("{code}: {message}"),
        None => format!("HTTP status {}", answer.raw().status().as_u16()),
    };
    match (code, answer.raw().status().as_u16()) {
        ("NoSuchKey", _) => Refused::Missing,
        ("PreconditionFailed" | "ConditionalRequestConflict", _) | (_, 409 | 412) => {
            Refused::Conflict
        }
        ("NoSuchBucket", _) => Refused::NoBucket(text),
        (_, 401 | 403) => Refused::Denied(text),
        _ => Refused::Other(text),
    }
}

impl Refused {
    /// Makes it the error of an operation, which `what` names.
    pub fn error(self, what: String) -> Error {
        let error = Error::source(what);
        match self {
            Refused::Missing => error
                .because("it does not exist")
                .with_reason(Reason::ReleaseMissing)
                .help("`ship releases` lists what there is"),
            Refused::NoBucket(why) => error
                .because(why)
                .help("name a bucket that exists: --store, SHIP_STORE, or `store` in ship.toml"),
            Refused::Conflict => error
                .because("someone else has changed it meanwhile")
                .with_exit(Exit::Busy)
                .help("look at it again, and repeat the command"),
            Refused::Denied(why) => error
                .because(why)
                .with_reason(Reason::AccessDenied)
                .help("allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"),
            Refused::NoCredentials(why) => error
                .because(why)
                .with_reason(Reason::CredentialsMissing)
                .help("log in (aws sso login), or set AWS_PROFILE; `aws sts get-caller-identity` must work"),
            Refused::Unreachable(why) => error
                .because(why)
                .with_exit(Exit::NoAgent)
                .with_reason(Reason::SourceFailed)
                .help("check network, proxy and region, and repeat the command"),
            Refused::Other(why) => {
                error.because(why).help("check bucket and region, and repeat the command")
            }
        }
    }
}

/// Returns the messages of an error and of its causes, each once.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let line = model::text::line(&error.to_string(), 200);
        if !text.contains(&line) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&line);
        }
        next = error.source();
    }
    text
}
