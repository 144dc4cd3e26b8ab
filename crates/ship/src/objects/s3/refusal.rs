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
    /// No response of S3 at all.
    Silent(String),
    /// S3 itself is out of order, or has too many requests, after all tries.
    OutOfOrder(String),
    /// A response that is none of S3's.
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
        return match &error {
            _ if text.contains("credentials") => Refused::NoCredentials(text),
            SdkError::DispatchFailure(failure) if !failure.is_user() => Refused::Silent(text),
            SdkError::TimeoutError(_) => Refused::Silent(text),
            SdkError::ResponseError(response) if response.raw().status().is_server_error() => {
                Refused::OutOfOrder(text)
            }
            _ => Refused::Unreachable(text),
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
        (_, 500 | 502..=504) => Refused::OutOfOrder(text),
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
            Refused::Silent(why) => unreachable(error.because(why), Reason::NoAnswer),
            Refused::OutOfOrder(why) => unreachable(error.because(why), Reason::SourceBusy),
            Refused::Unreachable(why) => unreachable(error.because(why), Reason::SourceFailed),
            Refused::Other(why) => {
                error.because(why).help("check bucket and region, and repeat the command")
            }
        }
    }
}

fn unreachable(error: Error, reason: Reason) -> Error {
    let error = error.with_exit(Exit::NoAgent).with_reason(reason);
    error.help("check network, proxy and region, and repeat the command")
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
