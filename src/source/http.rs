//! A web server as a source: any that gives an ETag or a Last-Modified.

use super::network;
use super::object::{self, Ask, Begun, Body, Look, Object, Opened};
use super::retry::{Failure, Timing, retry};
use crate::error::{Error, Result};
use crate::release::identity::Validator;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

const REDIRECTS: usize = 5;

/// A directory of a web server.
pub(super) struct Directory {
    client: Client,
    url: String,
    timing: Timing,
}

#[derive(Clone)]
pub(super) struct Handle {
    client: Client,
}

pub(super) fn client(timing: &Timing) -> Result<Client> {
    Client::builder()
        .user_agent(concat!("deploy-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timing.connect)
        .read_timeout(timing.stall)
        .redirect(Policy::custom(redirect))
        .build()
        .map_err(|error| Error::failed("make the HTTP client").because(error))
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        attempt.error("it redirects from https to http")
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}

impl Directory {
    pub fn new(client: Client, url: String, timing: Timing) -> Directory {
        Directory { client, url, timing }
    }

    pub async fn look(&self, name: &str, known: Option<&Validator>, ask: Ask) -> Result<Look> {
        let url = format!("{}/{name}", self.url);
        retry(&self.timing, || self.ask(&url, known, ask)).await
    }

    async fn ask(&self, url: &str, known: Option<&Validator>, how: Ask) -> Result<Look, Failure> {
        let etag = known.and_then(|known| known.etag.as_deref());
        let modified = known.and_then(|known| known.last_modified.as_deref());
        let ask = |method| {
            let mut request = self.client.request(method, url);
            for (name, value) in
                [(header::IF_NONE_MATCH, etag), (header::IF_MODIFIED_SINCE, modified)]
            {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            send(url, request)
        };
        let method = if how == Ask::Get { Method::GET } else { Method::HEAD };
        let mut response = ask(method).await?;
        if matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
        {
            // Its headers are enough; the body is dropped with the connection.
            response = ask(Method::GET).await?;
        }
        // Where servers send a browser that asks for a directory.
        let is_directory = response.url().path().ends_with('/');
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Look::Missing),
            StatusCode::NOT_MODIFIED => Ok(Look::Same),
            status if status.is_success() && is_directory => Ok(Look::Missing),
            status if status.is_success() => {
                let validator = validator(response.headers());
                if validator.etag.is_none() && validator.last_modified.is_none() {
                    return Err(Failure::Final(unpinnable(url)));
                }
                let handle = object::Handle::Http(Handle { client: self.client.clone() });
                let begun = match how {
                    Ask::Get => Begun::with(body(url, response)),
                    Ask::Head => Begun::default(),
                };
                let object = Object { url: url.to_owned(), validator, handle, begun };
                Ok(Look::Found(Box::new(object)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Ok(Look::Refused(refused(url, response.status())))
            }
            status => Err(failure(url, status)),
        }
    }
}

impl Handle {
    pub async fn open(&self, object: &Object, range: Option<String>) -> Result<Opened, Failure> {
        let mut request = self.client.get(&object.url);
        let Validator { etag, last_modified, .. } = &object.validator;
        match (etag, last_modified) {
            (Some(etag), _) if !etag.starts_with("W/") => {
                request = request.header(header::IF_MATCH, etag)
            }
            (None, Some(modified)) => {
                request = request.header(header::IF_UNMODIFIED_SINCE, modified)
            }
            // A weak ETag matches nothing; it is compared below.
            _ => {}
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let response = send(&object.url, request).await?;
        let offset = begin(object, &response)?;
        let found = validator(response.headers());
        if (&found.etag, &found.last_modified) != (etag, last_modified) {
            return Err(Failure::Final(object.changed("another one is stored there now")));
        }
        Ok(Opened { body: body(&object.url, response), offset })
    }
}

fn body(url: &str, response: Response) -> Body {
    let url = url.to_owned();
    let lost = move |error: reqwest::Error| network::unreachable(&url, &error.without_url());
    response.bytes_stream().map_err(lost).boxed()
}

/// The offset at which the answer begins.
fn begin(object: &Object, response: &Response) -> Result<u64, Failure> {
    match response.status() {
        StatusCode::OK => Ok(0),
        StatusCode::PARTIAL_CONTENT => {
            let range = text(response.headers(), header::CONTENT_RANGE);
            range.as_deref().and_then(first_byte).ok_or_else(|| {
                let error = Error::source(format!("{} cannot be read", object.url));
                Failure::Final(error.because("its Content-Range makes no sense"))
            })
        }
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(Failure::Final(object.changed("another one is stored there now")))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(Failure::Final(object.changed("it was removed")))
        }
        status => Err(failure(&object.url, status)),
    }
}

/// Of `bytes 5-9/10`: 5.
pub(super) fn first_byte(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, Failure> {
    // The bytes as they are stored: their size is known and ranges count in them.
    let sent = request.header(header::ACCEPT_ENCODING, "identity").send().await;
    sent.map_err(|error| {
        // Where a redirect led may hold a signature.
        let error = error.without_url();
        let is_final = error.is_redirect() || error.is_builder();
        match network::unreachable(url, &error) {
            Failure::Transient(error) if is_final => Failure::Final(error),
            failure => failure,
        }
    })
}

fn validator(headers: &HeaderMap) -> Validator {
    let etag = text(headers, header::ETAG);
    let modified = || text(headers, header::LAST_MODIFIED);
    Validator {
        last_modified: etag.as_ref().map_or_else(modified, |_| None),
        etag,
        size: text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        ..Validator::default()
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn failure(url: &str, status: StatusCode) -> Failure {
    let transient = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let error = refused(url, status);
    if transient { Failure::Transient(error) } else { Failure::Final(error) }
}

fn refused(url: &str, status: StatusCode) -> Error {
    let help = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "let the server give it to this instance without a password, or publish to S3"
        }
        status if status.is_server_error() => {
            "look into the server's log, and run the deploy again"
        }
        _ => "check the URL",
    };
    Error::source(format!("{url} cannot be read"))
        .because(format!("the server answers {status}"))
        .help(help)
}

fn unpinnable(url: &str) -> Error {
    Error::source(format!("{url} cannot be pinned"))
        .because(
            "the server gives neither an ETag nor a Last-Modified, so a change would go unseen",
        )
        .help("let the server send an ETag (nginx, Apache and S3 do), or publish to S3")
}
