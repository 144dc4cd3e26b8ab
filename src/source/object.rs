//! One object at a source, pinned to what it was when the release was resolved.

use super::retry::Failure;
use super::{file, http, s3};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use model::error::Error;
use model::reason::Reason;
use model::release::identity::Validator;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes that one connection gives.
pub(super) type Body = BoxStream<'static, Result<Bytes, Failure>>;

/// A body that has begun, and the offset in the object of its first byte: not
/// always the one asked for.
pub(super) struct Opened {
    pub body: Body,
    pub offset: u64,
}

/// How an object is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// The identity that every later read must have.
    Head,
    /// Its bytes as well, which are few: that saves a round trip.
    Get,
}

#[derive(Clone)]
pub(super) struct Object {
    /// For messages alone; it holds no credentials.
    pub url: String,
    pub validator: Validator,
    pub reader: Reader,
    pub begun: Begun,
    /// `Content-Encoding`, where the answer had one.
    pub encoding: Option<String>,
}

/// A body that came with the answer, for whoever reads the object first.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Option<Body>>>);

impl Begun {
    pub fn with(body: Body) -> Begun {
        Begun(Arc::new(Mutex::new(Some(body))))
    }

    fn take(&self) -> Option<Opened> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Opened { body, offset: 0 })
    }
}

#[derive(Clone)]
pub(super) enum Reader {
    S3(s3::S3Object),
    Http(http::HttpObject),
    File(file::FileObject),
}

/// A Range header's value, RFC 9110 section 14; none for all of an object.
fn range(offset: u64, end: Option<u64>) -> Option<String> {
    match end {
        Some(end) => Some(format!("bytes={offset}-{}", end.saturating_sub(1))),
        None => (offset > 0).then(|| format!("bytes={offset}-")),
    }
}

/// The answer of a source to the question for a name.
pub(super) enum Lookup {
    Found(Box<Object>),
    /// As it was when it was known.
    Same,
    Missing,
    /// There may be such an object, but not for us.
    Refused(Error),
}

impl Object {
    /// The bytes from this offset on, no more than those before `end` where that is
    /// given; an error if it is no longer the same object.
    pub async fn open(&self, offset: u64, end: Option<u64>) -> Result<Opened, Failure> {
        if (offset, end) == (0, None)
            && let Some(begun) = self.begun.take()
        {
            return Ok(begun);
        }
        match &self.reader {
            Reader::S3(reader) => reader.open(self, range(offset, end)).await,
            Reader::Http(reader) => reader.open(self, range(offset, end)).await,
            Reader::File(reader) => Ok(reader.open(self, offset)),
        }
    }

    pub fn changed(&self, how: impl Into<String>) -> Error {
        let help = match &self.reader {
            Reader::Http(_) => {
                "run the deploy again; a release that is published should never change, and \
                 servers that share a name must give the same ETag and Last-Modified \
                 (`rsync --times` keeps them)"
            }
            Reader::S3(_) | Reader::File(_) => {
                "run the deploy again; a release that is published should never change"
            }
        };
        Error::source(format!("{} changed while it was being read", self.url))
            .with_reason(Reason::ChangedWhileRead)
            .because(how.into())
            .help(help)
    }

    /// An error where an answer to a later request is about another object.
    pub fn check(&self, answer: &Validator) -> Result<(), Failure> {
        match self.validator.contradiction(answer) {
            Some(how) => Err(Failure::Final(self.changed(how))),
            None => Ok(()),
        }
    }

    /// The server has refused the conditions of a request that names this object.
    pub fn is_another(&self) -> Error {
        self.changed(format!("the source no longer has the one with {}", self.validator))
    }
}
