//! A web server as a source: any that sends an ETag or a Last-Modified.

use super::connect_error;
use super::guard::{Forbidden, Guard};
use super::object::{Begun, Body, Fetch, Lookup, Object, Opened, Reader, range};
use super::proxy;
use super::retry::{Failure, Timing, retry};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use model::error::{Error, Result};
use model::release::identity::Validator;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use std::sync::Arc;

const REDIRECTS: usize = 5;

/// A directory of a web server.
pub(super) struct HttpBackend {
    client: Client,
    url: String,
    timing: Timing,
}

/// The client of all web servers.
#[derive(Clone)]
pub(super) struct Web {
    client: Client,
    guard: Guard,
}

#[derive(Clone)]
pub(super) struct HttpObject {
    client: Client,
}

pub(super) fn client(timing: &Timing) -> Result<Web> {
    let guard = Guard::new();
    let redirects = guard.clone();
    let client = super::http_client()
        .user_agent(concat!("deploy-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timing.connect)
        .read_timeout(timing.stall)
        .redirect(Policy::custom(move |attempt| redirect(&redirects, attempt)))
        .dns_resolver(guard.clone())
        .build()
        .map_err(|error| Error::failed("make the HTTP client").because(error))?;
    Ok(Web { client, guard })
}

fn redirect(guard: &Guard, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if let Err(forbidden) = guard.check(attempt.url()) {
        return attempt.error(forbidden);
    }
    let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        attempt.error("it redirects from https to http")
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}

impl HttpBackend {
    /// Creates the backend for a URL that the operator wrote.
    pub fn new(web: Web, url: String, timing: Timing) -> HttpBackend {
        web.guard.allow(&url);
        HttpBackend { client: web.client, url, timing }
    }

    pub async fn look(&self, name: &str, ask: Fetch) -> Result<Lookup> {
        let url = format!("{}/{name}", self.url);
        retry(&self.timing, || self.ask(&url, ask)).await
    }

    async fn ask(&self, url: &str, how: Fetch) -> Result<Lookup, Failure> {
        let ask = |method| send(url, self.client.request(method, url));
        let method = if how == Fetch::Get { Method::GET } else { Method::HEAD };
        let mut response = ask(method).await?;
        if matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
        {
            // The headers are enough; the body is dropped with the connection.
            response = ask(Method::GET).await?;
        }
        if how == Fetch::Head && response.status().is_success() && !validator(&response).pins() {
            // Some servers send an ETag or Last-Modified only with the body.
            response = ask(Method::GET).await?;
        }
        // Servers redirect a browser that requests a directory to this path.
        let is_directory = response.url().path().ends_with('/');
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Lookup::Missing),
            status if status.is_success() && is_directory => Ok(Lookup::Missing),
            status if status.is_success() => {
                let validator = validator(&response);
                if !validator.pins() {
                    return Err(Failure::Final(unpinnable(url)));
                }
                let reader = Arc::new(HttpObject { client: self.client.clone() });
                let encoding = text(response.headers(), header::CONTENT_ENCODING);
                let begun = match how {
                    Fetch::Get => Begun::with(body(url, response)),
                    Fetch::Head => Begun::default(),
                };
                let object = Object { url: url.to_owned(), validator, reader, begun, encoding };
                Ok(Lookup::Found(Box::new(object)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Ok(Lookup::Refused(refused(url, response.status())))
            }
            status => Err(failure(url, status)),
        }
    }
}

impl Reader for HttpObject {
    fn open<'a>(
        &'a self,
        object: &'a Object,
        offset: u64,
        end: Option<u64>,
    ) -> BoxFuture<'a, Result<Opened, Failure>> {
        self.request(object, range(offset, end)).boxed()
    }

    fn help_if_changed(&self) -> &'static str {
        "run the deploy again; a release that is published should never change, and servers that \
         share a name must give the same ETag and Last-Modified (`rsync --times` keeps them)"
    }
}

impl HttpObject {
    async fn request(&self, object: &Object, range: Option<String>) -> Result<Opened, Failure> {
        let mut request = self.client.get(&object.url);
        let last_modified = &object.validator.last_modified;
        match (object.validator.strong_etag(), last_modified) {
            (Some(etag), _) => request = request.header(header::IF_MATCH, etag),
            // A weak ETag never matches; it is compared below.
            (None, Some(modified)) => {
                request = request.header(header::IF_UNMODIFIED_SINCE, modified)
            }
            (None, None) => {}
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let response = send(&object.url, request).await?;
        let offset = begin(object, &response)?;
        object.check(&validator(&response))?;
        Ok(Opened { body: body(&object.url, response), offset })
    }
}

fn body(url: &str, response: Response) -> Body {
    let url = url.to_owned();
    let lost =
        move |error: reqwest::Error| connect_error::unreachable(&url, None, &error.without_url());
    response.bytes_stream().map_err(lost).boxed()
}

/// Returns the offset at which the response begins.
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
            Err(Failure::Final(object.is_another()))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(Failure::Final(object.changed("it was removed")))
        }
        status => Err(failure(&object.url, status)),
    }
}

/// Returns 10, the size of the whole object, for `bytes 5-9/10`.
pub(super) fn whole_size(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.trim().parse().ok()
}

/// Returns 5 for `bytes 5-9/10`.
pub(super) fn first_byte(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, Failure> {
    // Request the stored bytes: their size is known, and ranges count in them.
    let sent = request.header(header::ACCEPT_ENCODING, "identity").send().await;
    sent.map_err(|error| {
        // The URL of a redirect may contain a signature.
        let error = error.without_url();
        let is_final = error.is_redirect() || error.is_builder();
        if let Some(forbidden) = forbidden(&error) {
            let error = Error::source(format!("{url} cannot be read")).because(forbidden);
            return Failure::Final(
                error.help("let the server give the release itself, or deploy from where it leads"),
            );
        }
        let proxy = proxy::on_the_way_to(url);
        match connect_error::unreachable(url, proxy.as_deref(), &error) {
            Failure::Transient(error) if is_final => Failure::Final(error),
            failure => failure,
        }
    })
}

fn forbidden(error: &reqwest::Error) -> Option<String> {
    let mut reason: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = reason {
        if error.is::<Forbidden>() {
            return Some(error.to_string());
        }
        reason = error.source();
    }
    None
}

fn validator(response: &Response) -> Validator {
    let headers = response.headers();
    let range = text(headers, header::CONTENT_RANGE);
    let size = match response.status() {
        StatusCode::PARTIAL_CONTENT => range.as_deref().and_then(whole_size),
        _ => text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    };
    Validator {
        etag: text(headers, header::ETAG),
        last_modified: text(headers, header::LAST_MODIFIED),
        size,
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
    let proxy = proxy::on_the_way_to(url);
    let help = match status {
        status if proxy::may_answer(status.as_u16()) && proxy.is_some() => {
            proxy.as_deref().map(connect_error::answer_of_a_proxy).unwrap_or_default()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "let the server give it to this instance without a password, or publish to S3".into()
        }
        status if status.is_server_error() => {
            "look into the server's log, and run the deploy again".into()
        }
        _ => "check the URL".to_owned(),
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
