//! Reads a part of one object, or all of it, from first byte to last: resumes where a connection
//! broke.

use super::object::{Body, Object, Opened};
use super::retry::{Failure, Timing};
use super::stall_guard::StallGuard;
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use model::error::{Error, Result};

/// The bytes between two offsets, in order.
///
/// `next` is cancel safe: bytes that were not returned are returned by the next call.
pub(super) struct Span {
    object: Object,
    timing: Timing,
    connection: Option<Connection>,
    /// Offset of the next byte to return.
    at: u64,
    /// Offset of the next part; `None` if this part reaches to the end.
    end: Option<u64>,
    /// Failures in a row, and the offset of the last one.
    failures: u32,
    failed_at: u64,
}

/// The connection in use.
struct Connection {
    body: Body,
    /// Offset in the object of the connection's next byte.
    offset: u64,
    pace: StallGuard,
}

/// Why a part cannot be read.
pub(super) enum Stop {
    Failed(Error),
    /// The source does not support ranges: it sends the whole object instead of a part.
    NoRanges,
}

impl Span {
    pub fn new(object: Object, timing: Timing, at: u64, end: Option<u64>) -> Span {
        Span { object, timing, connection: None, at, end, failures: 0, failed_at: at }
    }

    /// Returns the next bytes; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        loop {
            if self.is_complete() {
                return Ok(None);
            }
            let next = match self.open().await {
                Ok(true) => self.read().await,
                Ok(false) => return Err(Stop::NoRanges),
                Err(failure) => Err(failure),
            };
            match next {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(Failure::Final(error)) => return Err(Stop::Failed(error)),
                Err(Failure::Transient(error)) => self.pause(error).await.map_err(Stop::Failed)?,
            }
        }
    }

    /// An empty object is requested all the same: it may have changed.
    fn is_complete(&self) -> bool {
        let whole = || self.connection.is_none() && self.object.validator.size == Some(self.at);
        self.end == Some(self.at) || (self.at > 0 && whole())
    }

    /// Opens a connection if there is none; returns false if the source ignored the range.
    async fn open(&mut self) -> Result<bool, Failure> {
        if self.connection.is_some() {
            return Ok(true);
        }
        let Opened { body, offset } = self.object.open(self.at, self.end).await?;
        if offset > self.at {
            return Err(Failure::Final(self.skipped(offset)));
        }
        if offset < self.at && self.end.is_some() {
            return Ok(false);
        }
        self.connection = Some(Connection { body, offset, pace: StallGuard::default() });
        Ok(true)
    }

    /// Returns the next bytes of the open connection.
    async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(Connection { body, offset, pace }) = &mut self.connection {
            let Some(next) = pace.next(&self.timing, body.next()).await else {
                let slow = pace.describe(&self.timing);
                return Err(Failure::Transient(self.stopped().because(slow)));
            };
            let Some(mut bytes) = next.transpose()? else {
                return self.ended();
            };
            pace.came(bytes.len(), &self.timing);
            // A server without range support starts again at the first byte.
            let known = self.at.saturating_sub(*offset).min(bytes.len() as u64);
            *offset += bytes.len() as u64;
            bytes.advance(known as usize);
            if let Some(end) = self.end {
                bytes.truncate(usize::try_from(end - self.at).unwrap_or(usize::MAX));
            }
            if !bytes.is_empty() {
                return self.within_size(bytes);
            }
        }
        Ok(None)
    }

    fn ended(&self) -> Result<Option<Bytes>, Failure> {
        match self.end.or(self.object.validator.size) {
            Some(end) if self.at < end => Err(Failure::Transient(
                self.stopped().because("the connection ended before the last byte"),
            )),
            _ => Ok(None),
        }
    }

    fn within_size(&self, bytes: Bytes) -> Result<Option<Bytes>, Failure> {
        match self.object.validator.size {
            Some(size) if self.at + bytes.len() as u64 > size => {
                Err(Failure::Final(self.object.changed("it is longer than before")))
            }
            _ => Ok(Some(bytes)),
        }
    }

    /// Waits before the next attempt, or gives up with the failure's error.
    async fn pause(&mut self, error: Error) -> Result<()> {
        self.connection = None;
        if self.at - self.failed_at >= self.timing.progress {
            self.failures = 0;
        }
        self.failures += 1;
        self.failed_at = self.at;
        if self.failures >= self.timing.attempts {
            return Err(error);
        }
        let chain = error.chain();
        let (at, attempt) = (self.at, self.failures);
        tracing::warn!(offset = at, attempt, "{chain}; taking it up again at byte {at}");
        tokio::time::sleep(self.timing.pause(self.failures)).await;
        Ok(())
    }

    fn stopped(&self) -> Error {
        let size = self.object.validator.size.map(|size| format!(" of {size}")).unwrap_or_default();
        let url = &self.object.url;
        Error::source(format!("{url} stopped at byte {}{size}", self.at)).help(
            "check the network between this instance and the source, and run the deploy again",
        )
    }

    fn skipped(&self, offset: u64) -> Error {
        let why = format!("asked for byte {}, the source answers with byte {offset}", self.at);
        Error::source(format!("{} cannot be read", self.object.url))
            .because(why)
            .help("look for a proxy or cache that changes ranges, between here and the source")
    }
}
