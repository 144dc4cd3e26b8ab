//! One object at a source, pinned to its version when the release was resolved.

use super::retry::Failure;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use model::error::Error;
use model::reason::Reason;
use model::release::identity::Validator;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of one connection.
pub(super) type Body = BoxStream<'static, Result<Bytes, Failure>>;

/// A body, and the offset in the object of its first byte: not always the requested one.
pub(super) struct Opened {
    pub body: Body,
    pub offset: u64,
}

/// How an object is requested.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Its validator only, which every later read must match.
    Head,
    /// Its bytes as well, which are few: that saves a round trip.
    Get,
}

#[derive(Clone)]
pub(super) struct Object {
    /// For messages only; it contains no credentials.
    pub url: String,
    pub validator: Validator,
    pub reader: Arc<dyn Reader>,
    pub begun: Begun,
    /// `Content-Encoding`, if the response had one.
    pub encoding: Option<String>,
}

/// A body that came with the first response, kept for the first reader.
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

/// Reads one object in the way of its kind of source.
pub(super) trait Reader: Send + Sync {
    /// Opens `object` at `offset`, up to `end` if given.
    fn open<'a>(
        &'a self,
        object: &'a Object,
        offset: u64,
        end: Option<u64>,
    ) -> BoxFuture<'a, Result<Opened, Failure>>;

    /// Whether the object is on this machine, where a second connection gains nothing.
    fn is_local(&self) -> bool {
        false
    }

    /// What to do about an object that changed while it was being read.
    fn help_if_changed(&self) -> &'static str {
        "run the deploy again; a release that is published should never change"
    }
}

/// The value of a Range header, RFC 9110 section 14; `None` for the whole object.
pub(super) fn range(offset: u64, end: Option<u64>) -> Option<String> {
    match end {
        Some(end) => Some(format!("bytes={offset}-{}", end.saturating_sub(1))),
        None => (offset > 0).then(|| format!("bytes={offset}-")),
    }
}

/// The result of looking up a name at a source.
pub(super) enum Lookup {
    Found(Box<Object>),
    /// Unchanged since the known validator.
    Same,
    Missing,
    /// There may be such an object, but access is denied.
    Refused(Error),
}

impl Object {
    /// Opens the object at `offset`, up to `end` if given; an error if the object has changed.
    pub async fn open(&self, offset: u64, end: Option<u64>) -> Result<Opened, Failure> {
        if (offset, end) == (0, None)
            && let Some(begun) = self.begun.take()
        {
            return Ok(begun);
        }
        self.reader.open(self, offset, end).await
    }

    pub fn changed(&self, how: impl Into<String>) -> Error {
        Error::source(format!("{} changed while it was being read", self.url))
            .with_reason(Reason::ChangedWhileRead)
            .because(how.into())
            .help(self.reader.help_if_changed())
    }

    /// Returns an error if a later response is about another object.
    pub fn check(&self, answer: &Validator) -> Result<(), Failure> {
        match self.validator.contradiction(answer) {
            Some(how) => Err(Failure::Final(self.changed(how))),
            None => Ok(()),
        }
    }

    /// The error for a failed precondition of a request that names this object.
    pub fn is_another(&self) -> Error {
        self.changed(format!("the source no longer has the one with {}", self.validator))
    }
}
