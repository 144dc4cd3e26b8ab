//! A web server for the tests, with the habits of good and bad servers.

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// The behaviour of the server.
#[derive(Clone, Default)]
pub struct Habits {
    pub etag: Option<&'static str>,
    pub last_modified: Option<&'static str>,
    pub ignores_ranges: bool,
    pub knows_no_head: bool,
    /// Every body is cut after this many bytes, this many times.
    pub cut: (usize, usize),
    pub status: Option<u16>,
    /// Supports If-None-Match.
    pub conditional: bool,
    /// Its responses to HEAD have no validators.
    pub bare_head: bool,
    pub encoding: Option<&'static str>,
    /// Target of its redirects for all paths below `/old`.
    pub redirect: Option<String>,
}

#[derive(Clone)]
pub struct Web {
    pub url: String,
    pub habits: Arc<Mutex<Habits>>,
    pages: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl Web {
    /// Serves on the test's own runtime until that ends.
    pub async fn start(habits: Habits) -> Web {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let web = Web { url, habits: Arc::new(Mutex::new(habits)), pages: Arc::default() };
        let served = web.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let web = served.clone();
                let answer = hyper::service::service_fn(move |request| {
                    std::future::ready(Ok::<_, Infallible>(web.answer(&request)))
                });
                let connection = TokioIo::new(connection);
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(connection, answer));
            }
        });
        web
    }

    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.pages.lock().unwrap().insert(path.to_owned(), bytes.into());
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let mut habits = self.habits.lock().unwrap();
        let path = request.uri().path();
        let empty = |status: StatusCode| Response::builder().status(status);
        let no_body =
            || http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        if let (Some(to), Some(path)) = (&habits.redirect, path.strip_prefix("/old")) {
            let moved = empty(StatusCode::FOUND).header(LOCATION, format!("{to}{path}"));
            return moved.body(no_body()).unwrap();
        }
        if let Some(status) = habits.status {
            return empty(StatusCode::from_u16(status).unwrap()).body(no_body()).unwrap();
        }
        if habits.knows_no_head && request.method() == Method::HEAD {
            return empty(StatusCode::METHOD_NOT_ALLOWED).body(no_body()).unwrap();
        }
        let Some(bytes) = self.pages.lock().unwrap().get(path).cloned() else {
            return empty(StatusCode::NOT_FOUND).body(no_body()).unwrap();
        };
        let expected = request.headers().get(IF_MATCH).map(|etag| etag.to_str().unwrap());
        if expected.is_some_and(|expected| Some(expected) != habits.etag) {
            return empty(StatusCode::PRECONDITION_FAILED).body(no_body()).unwrap();
        }
        let known = request.headers().get(IF_NONE_MATCH).map(|etag| etag.to_str().unwrap());
        if habits.conditional && known.is_some() && known == habits.etag {
            return empty(StatusCode::NOT_MODIFIED).body(no_body()).unwrap();
        }
        let size = bytes.len();
        let range = request.headers().get(RANGE).filter(|_| !habits.ignores_ranges);
        let range = range.map(|range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            let (first, last) = range.split_once('-').unwrap();
            (first.parse().unwrap(), last.parse().map_or(size, |last: usize| last + 1))
        });
        let bytes = range.map_or(bytes.clone(), |(first, end)| bytes.slice(first..end));
        let mut response = Response::builder().header(CONTENT_LENGTH, bytes.len());
        if let Some((first, end)) = range {
            let range = format!("bytes {first}-{}/{size}", end - 1);
            response = response.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, range);
        }
        let is_bare = habits.bare_head && request.method() == Method::HEAD;
        for (name, value) in [
            (ETAG, habits.etag.filter(|_| !is_bare)),
            (LAST_MODIFIED, habits.last_modified.filter(|_| !is_bare)),
            (CONTENT_ENCODING, habits.encoding),
        ] {
            if let Some(value) = value {
                response = response.header(name, value);
            }
        }
        let (length, times) = habits.cut;
        let is_cut = times > 0 && bytes.len() > length && request.method() == Method::GET;
        if is_cut {
            habits.cut.1 -= 1;
        }
        let sent = if is_cut { bytes.slice(..length) } else { bytes };
        let frames = [Some(Ok(Frame::data(sent))), is_cut.then(|| Err(io::Error::other("cut")))];
        let frames = futures_util::stream::iter(frames.into_iter().flatten());
        let paced = futures_util::StreamExt::then(frames, async |frame| {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            frame
        });
        response.body(StreamBody::new(paced).boxed_unsync()).unwrap()
    }
}
