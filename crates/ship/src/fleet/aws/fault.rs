//! Why a call of AWS failed, as far as that matters.

use super::api::{Fault, Kind};
use crate::objects::chain;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use std::error::Error as StdError;

/// The fault of a request that cannot be made, or of an answer that cannot be read.
pub fn unusable(why: impl ToString) -> Fault {
    Fault { kind: Kind::Other, why: why.to_string() }
}

/// Returns why a call failed.
pub fn fault<E>(error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let SdkError::ServiceError(answer) = &error else {
        let why = chain(&error);
        let is_ours = why.contains("credentials");
        let kind = if is_ours { Kind::NoCredentials } else { Kind::Unanswered };
        return Fault { kind, why };
    };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or_default();
    let why = match answer.err().message() {
        Some(message) => model::text::line(&format!("{code}: {message}"), 300),
        None if code.is_empty() => format!("HTTP status {status}"),
        None => model::text::line(code, 300),
    };
    Fault { kind: kind(code, status), why }
}

/// Returns what the code and the status of a refusal mean.
pub fn kind(code: &str, status: u16) -> Kind {
    match code {
        _ if code.contains("Throttl") || code == "RequestLimitExceeded" => Kind::Throttled,
        "TooManyRequestsException" | "SlowDown" | "RateExceeded" => Kind::Throttled,
        "InvalidInstanceId" => Kind::NotManaged,
        "InvocationDoesNotExist" => Kind::Unanswered,
        _ if code.starts_with("ExpiredToken") => Kind::NoCredentials,
        "UnrecognizedClientException" | "InvalidClientTokenId" => Kind::NoCredentials,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Unanswered,
        _ if code.starts_with("AccessDenied") || matches!(status, 401 | 403) => Kind::Denied,
        "UnauthorizedOperation" => Kind::Denied,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_kind() {
        assert_eq!(kind("ThrottlingException", 400), Kind::Throttled);
        assert_eq!(kind("Throttling", 400), Kind::Throttled);
        assert_eq!(kind("AccessDeniedException", 400), Kind::Denied);
        assert_eq!(kind("AccessDenied", 403), Kind::Denied);
        assert_eq!(kind("ExpiredTokenException", 400), Kind::NoCredentials);
        assert_eq!(kind("InternalServerError", 500), Kind::Unanswered);
        assert_eq!(kind("ServiceUnavailable", 503), Kind::Unanswered);
        assert_eq!(kind("InvalidInstanceId", 400), Kind::NotManaged);
        assert_eq!(kind("ValidationError", 400), Kind::Other);
    }
}
