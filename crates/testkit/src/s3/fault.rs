//! Named faults between the agent and S3.

use super::Asked;
use super::objects::{Found, Objects};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG};
use hyper::{Response, StatusCode};
use s3s::Body;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const CHUNK: usize = 16 * 1024;

/// A way for a request to fail.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is reset after this many bytes of the body.
    Reset(usize),
    /// The body ends after this many bytes, with a matching Content-Length.
    Truncate(usize),
    /// No byte comes after this many, and the connection stays open.
    Stall(usize),
    /// After this many bytes only single bytes come, with this pause before each.
    Trickle(usize, Duration),
    /// The request is read but gets no response.
    Silence,
    /// A response of this status with an error code of S3.
    Refused(u16, &'static str),
    /// A response of this status whose body is endless: 256 MiB.
    RefusedForEver(u16),
    /// A response of this status whose body begins and stalls.
    RefusedAndStalled(u16),
    /// The bucket is in this region.
    WrongRegion(&'static str),
    /// S3's clock is ahead by this.
    ClockSkew(Duration),
    /// Other bytes are stored under the key before the response.
    Replaced(Vec<u8>),
    /// The whole object is sent, whatever range is requested.
    IgnoreRange,
}

impl Fault {
    /// S3 throttles requests.
    pub const SLOW_DOWN: Fault = Fault::Refused(503, "SlowDown");
    /// S3 has an internal error.
    pub const INTERNAL_ERROR: Fault = Fault::Refused(500, "InternalError");
    /// The policy denies the request.
    pub const ACCESS_DENIED: Fault = Fault::Refused(403, "AccessDenied");
    /// The temporary credentials have expired.
    pub const EXPIRED_TOKEN: Fault = Fault::Refused(400, "ExpiredToken");

    /// Returns the whole response if the fault is one.
    pub(super) fn refusal(&self, asked: &Asked) -> Option<Response<Body>> {
        let mut response = Response::builder();
        let (status, code) = match self {
            Fault::RefusedForEver(status) => return Some(refused_for_ever(*status)),
            Fault::RefusedAndStalled(status) => return Some(refused_and_stalled(*status)),
            Fault::Refused(status, code) => (*status, *code),
            Fault::WrongRegion(region) => {
                response = response.header("x-amz-bucket-region", *region);
                (301, "PermanentRedirect")
            }
            Fault::ClockSkew(ahead) => {
                response = response.header(DATE, http_date(SystemTime::now() + *ahead));
                (403, "RequestTimeTooSkewed")
            }
            _ => return None,
        };
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
             <Message>asked of the tests' server</Message></Error>"
        );
        // The response to HEAD has no body, and S3 has no other place for the code.
        let text = if asked.method == "HEAD" { String::new() } else { text };
        let response = response.status(status).header(CONTENT_TYPE, "application/xml");
        Some(response.body(Body::from(text)).expect("a response"))
    }

    /// Returns the response with its body cut by the fault.
    pub(super) async fn cut(self, response: Response<Body>) -> Response<Body> {
        let length = match self {
            Fault::Silence => std::future::pending().await,
            Fault::Trickle(length, pause) => return trickle(length, pause, response).await,
            Fault::Reset(length) | Fault::Truncate(length) | Fault::Stall(length) => length,
            _ => return response,
        };
        let (mut head, bytes) = read(response).await;
        let bytes = bytes.slice(..length.min(bytes.len()));
        if matches!(self, Fault::Truncate(_)) {
            head.headers.insert(CONTENT_LENGTH, bytes.len().into());
        }
        let chunks = stream::iter(chunks(&bytes, CHUNK)).map(|chunk| Ok(Frame::data(chunk)));
        let end = stream::once(async move {
            // The chunks above must be on the wire first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            match self {
                Fault::Reset(_) => Some(Err(std::io::Error::other("cut by a fault"))),
                Fault::Stall(_) => std::future::pending().await,
                _ => None,
            }
        });
        let body = StreamBody::new(chunks.chain(end.filter_map(std::future::ready)));
        Response::from_parts(head, Body::http_body_unsync(body))
    }
}

/// How many bytes [`Fault::RefusedForEver`] has sent.
pub static GIVEN: AtomicU64 = AtomicU64::new(0);

fn refused_for_ever(status: u16) -> Response<Body> {
    let chunk = Bytes::from(vec![b' '; 64 << 10]);
    let chunks = stream::repeat(chunk).take(256 << 4).map(|chunk| {
        GIVEN.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Frame::data(chunk))
    });
    let body = Body::http_body_unsync(StreamBody::new(chunks));
    Response::builder().status(status).body(body).expect("a response")
}

fn refused_and_stalled(status: u16) -> Response<Body> {
    let begun = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("<Error>")))]);
    let body = Body::http_body_unsync(StreamBody::new(begun.chain(stream::pending())));
    Response::builder().status(status).body(body).expect("a response")
}

async fn trickle(length: usize, pause: Duration, response: Response<Body>) -> Response<Body> {
    let (head, mut bytes) = read(response).await;
    let at_once = bytes.split_to(length.min(bytes.len()));
    let at_once = stream::iter(chunks(&at_once, CHUNK));
    let slowly = stream::iter(chunks(&bytes, 1)).then(move |byte| async move {
        tokio::time::sleep(pause).await;
        byte
    });
    let frames = at_once.chain(slowly).map(|chunk| Ok::<_, std::io::Error>(Frame::data(chunk)));
    Response::from_parts(head, Body::http_body_unsync(StreamBody::new(frames)))
}

async fn read(response: Response<Body>) -> (hyper::http::response::Parts, Bytes) {
    let (head, body) = response.into_parts();
    (head, BodyExt::collect(body).await.expect("a body in memory").to_bytes())
}

fn chunks(bytes: &Bytes, size: usize) -> Vec<Bytes> {
    let offsets = (0..bytes.len()).step_by(size);
    offsets.map(|at| bytes.slice(at..(at + size).min(bytes.len()))).collect()
}

/// Returns the whole object, as a server without range support does.
pub(super) fn whole(objects: &Objects, asked: &Asked) -> Response<Body> {
    let (bucket, key) = asked.path.split_once('/').unwrap_or_default();
    let response = Response::builder();
    let response = match objects.get(bucket, key, None) {
        Found::Object(entry) => {
            response.header(ETAG, format!("\"{}\"", entry.etag)).body(Body::from(entry.bytes))
        }
        _ => response.status(StatusCode::NOT_FOUND).body(Body::empty()),
    };
    response.expect("a response")
}

fn http_date(time: SystemTime) -> String {
    let mut text = Vec::new();
    let format = s3s::dto::TimestampFormat::HttpDate;
    s3s::dto::Timestamp::from(time).format(format, &mut text).expect("a date");
    String::from_utf8(text).expect("a date in ASCII")
}

/// The faults that wait for a matching request.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Waiting>>);

struct Waiting {
    method: String,
    key: String,
    times: usize,
    fault: Fault,
}

impl Faults {
    pub fn add(&self, method: &str, key: &str, times: usize, fault: Fault) {
        let waiting = Waiting { method: method.to_owned(), key: key.to_owned(), times, fault };
        self.0.lock().expect("no panic with the faults locked").push(waiting);
    }

    /// Takes the oldest fault for this request, and counts it as used once.
    pub fn take(&self, asked: &Asked) -> Option<Fault> {
        let mut waiting = self.0.lock().expect("no panic with the faults locked");
        let fits = |one: &&mut Waiting| {
            one.times > 0
                && (one.method == "*" || one.method == asked.method)
                && asked.path.contains(&one.key)
        };
        let one = waiting.iter_mut().find(fits)?;
        one.times -= 1;
        Some(one.fault.clone())
    }
}
