//! A call of Auto Scaling's Query API: a signed form, and an answer in XML. Two calls are no
//! reason for another SDK.

use super::S3;
use super::connection::{Connections, Route, longest};
use super::credentials;
use crate::source::retry::{Failure, retry};
use crate::source::{connect_error, proxy};
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use aws_sdk_s3::primitives::SdkBody;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_xml::decode::{Document, try_data};
use http_body_util::{BodyExt, Limited};
use model::error::{Error, Result};
use model::reason::Reason;
use model::text;
use std::error::Error as StdError;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

const SERVICE: &str = "autoscaling";
const VERSION: &str = "2011-01-01";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The limits of an answer, in bytes, and of its message, in characters.
const LONGEST: usize = 64 << 10;
const LONGEST_MESSAGE: usize = 300;
/// The timeout of a call. It is short: the caller calls again.
const ANSWER: Duration = Duration::from_secs(10);

/// A call.
pub struct Query<'a> {
    pub action: &'static str,
    /// The region of the instance; by default the one that S3 is asked in.
    pub region: Option<&'a str>,
    pub params: &'a [(&'static str, &'a str)],
}

/// The refusal of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct QueryRefused {
    pub status: u16,
    /// Empty if the answer has none.
    pub code: String,
    pub message: String,
}

impl QueryRefused {
    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        const BUSY: [&str; 6] = [
            "RequestLimitExceeded",
            "ResourceContention",
            "ServiceUnavailable",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
        ];
        self.status >= 500 || self.status == 429 || BUSY.contains(&self.code.as_str())
    }
}

impl S3 {
    /// Sends a call, again if it is lost or throttled. The outer error: it got no answer.
    pub async fn query(&self, query: &Query<'_>) -> Result<Result<(), QueryRefused>> {
        let attempt = || async {
            match self.query_once(query).await {
                Ok(Err(refused)) if refused.is_transient() => {
                    Err(Failure::Transient(busy(&refused)))
                }
                Ok(answer) => Ok(answer),
                Err(failure) => Err(failure),
            }
        };
        retry(&self.timing, attempt).await
    }

    async fn query_once(&self, query: &Query<'_>) -> Result<Result<(), QueryRefused>, Failure> {
        let region = query.region.unwrap_or(&self.region);
        let url = match &self.scaling {
            Some(endpoint) => endpoint.0.clone(),
            None => amazon(region),
        };
        let keys = self.keys(query.action).await.map_err(Failure::Final)?;
        let request = signed(query, &url, region, keys)
            .map_err(|cause| Failure::Final(Error::failed("sign a request").because(cause)))?;
        let proxy = proxy::on_the_way_to(&url);
        let lost = |cause: &(dyn StdError + 'static)| {
            connect_error::unreachable(&url, proxy.as_deref(), cause)
        };
        let connections = Connections::new(Route::Proxy, self.trust.clone());
        let answer = async {
            let response = connections.send(request).await.map_err(|error| lost(&error))?;
            answer(response).await.map_err(|error| lost(error.as_ref()))
        };
        timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| Err(lost(&std::io::Error::from(std::io::ErrorKind::TimedOut))))
    }

    async fn keys(&self, action: &str) -> Result<Credentials> {
        let missing = |cause| {
            credentials::missing(format!("{action} cannot be sent without AWS credentials"), cause)
        };
        let provider = self.provider().await.ok_or_else(|| missing("none are set".to_owned()))?;
        match timeout(longest(&self.timing), provider.provide_credentials()).await {
            Err(_) => Err(missing("they did not come in time".to_owned())),
            Ok(Err(error)) => Err(missing(connect_error::joined(&error))),
            Ok(Ok(keys)) => Ok(keys),
        }
    }
}

/// Auto Scaling's own address in a region.
fn amazon(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{SERVICE}.{region}.amazonaws.com{suffix}/")
}

fn busy(refused: &QueryRefused) -> Error {
    let QueryRefused { status, code, message } = refused;
    let error = Error::source("Auto Scaling has trouble, or too many requests");
    error
        .because(format!("it answers {status} {code}: {message}"))
        .with_reason(Reason::SourceBusy)
        .help("call again in a minute")
}

/// Builds the request, with its signature in the headers.
fn signed(
    query: &Query<'_>,
    url: &str,
    region: &str,
    keys: Credentials,
) -> Result<HttpRequest, Box<dyn StdError + Send + Sync>> {
    let body = form(query)?;
    let identity = keys.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let headers = [("content-type", FORM)];
    let signable = SignableRequest::new(
        "POST",
        url,
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    )?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST")?;
    request.set_uri(url)?;
    let agent = concat!("deploy-agent/", env!("CARGO_PKG_VERSION"));
    for (name, value) in headers.into_iter().chain([("user-agent", agent)]) {
        request.headers_mut().try_insert(name, value)?;
    }
    for (name, value) in instructions.headers() {
        request.headers_mut().try_insert(name.to_owned(), value.to_owned())?;
    }
    Ok(request)
}

/// Encodes the parameters.
fn form(query: &Query<'_>) -> Result<String, Box<dyn StdError + Send + Sync>> {
    let fixed = [("Action", query.action), ("Version", VERSION)];
    let params = fixed.iter().chain(query.params);
    let url = reqwest::Url::parse_with_params("form:", params)?;
    Ok(url.query().unwrap_or_default().to_owned())
}

async fn answer(
    response: HttpResponse,
) -> Result<Result<(), QueryRefused>, Box<dyn StdError + Send + Sync>> {
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await?.to_bytes();
    if status.is_success() {
        return Ok(Ok(()));
    }
    let (code, message) = reason(&String::from_utf8_lossy(&body)).unwrap_or_default();
    let (code, message) = (text::line(&code, 80), text::line(&message, LONGEST_MESSAGE));
    Ok(Err(QueryRefused { status: status.as_u16(), code, message }))
}

/// Reads code and message of `<ErrorResponse><Error><Code>…`.
fn reason(xml: &str) -> Option<(String, String)> {
    let mut document = Document::new(xml);
    let mut response = document.root_element().ok()?;
    while let Some(mut error) = response.next_tag() {
        if !error.start_el().matches("Error") {
            continue;
        }
        let (mut code, mut message) = (String::new(), String::new());
        while let Some(mut field) = error.next_tag() {
            let target = match field.start_el().local() {
                "Code" => &mut code,
                "Message" => &mut message,
                _ => continue,
            };
            *target = try_data(&mut field).ok()?.into_owned();
        }
        return Some((code, message));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: [(&str, &str); 1] = [("AutoScalingGroupName", "a group/ü&=")];

    #[test]
    fn a_form_is_encoded_and_signed_with_the_session() {
        let query = Query { action: "CompleteLifecycleAction", region: None, params: &GROUP };
        let keys = Credentials::new("AKID", "secret", Some("a-session".into()), None, "test");
        let request = signed(&query, "http://host:80/path/", "eu-central-1", keys).unwrap();
        let body = request.body().bytes().unwrap();
        assert_eq!(
            String::from_utf8_lossy(body),
            "Action=CompleteLifecycleAction&Version=2011-01-01\
             &AutoScalingGroupName=a+group%2F%C3%BC%26%3D"
        );
        assert_eq!(request.headers().get("x-amz-security-token"), Some("a-session"));
        let signature = request.headers().get("authorization").unwrap();
        assert!(signature.contains("/eu-central-1/autoscaling/aws4_request"), "{signature}");
        assert!(!signature.contains("secret"));
    }

    #[test]
    fn code_and_message_are_read_whatever_else_is_sent() {
        let xml = "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://a/\"><Error><Type>Sender\
                   </Type><Code>ValidationError</Code><Message>No &lt;active&gt;</Message></Error>\
                   <RequestId>x</RequestId></ErrorResponse>";
        assert_eq!(reason(xml), Some(("ValidationError".into(), "No <active>".into())));
        for other in ["", "<html>", "<!DOCTYPE html><html><body>no</body></html>", "{}", "\u{0}<a"]
        {
            assert_eq!(reason(other), None, "{other:?}");
        }
    }

    #[test]
    fn busy_servers_are_asked_again_and_refusals_are_not() {
        let refused = |status, code: &str| {
            let (code, message) = (code.to_owned(), String::new());
            QueryRefused { status, code, message }.is_transient()
        };
        assert!(refused(400, "Throttling") && refused(503, "") && refused(500, "InternalFailure"));
        assert!(!refused(403, "AccessDenied") && !refused(400, "ValidationError"));
    }

    #[test]
    fn china_has_another_domain() {
        assert_eq!(amazon("eu-west-1"), "https://autoscaling.eu-west-1.amazonaws.com/");
        assert_eq!(amazon("cn-north-1"), "https://autoscaling.cn-north-1.amazonaws.com.cn/");
    }
}
