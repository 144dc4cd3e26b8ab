//! One object read from its first byte to its last, whatever the network does:
//! taken up again where it stopped, and checked at the end.

use super::object::{Body, Object, Opened};
use super::pace::Pace;
use super::retry::{Failure, Timing};
use crate::error::{Error, Result};
use crate::release::checksum::Verifier;
use bytes::{Buf, Bytes};
use futures_util::StreamExt;

/// The bytes of one object in their order.
///
/// `next` is cancel safe: what was not handed out is handed out by the next call.
pub struct Download {
    object: Object,
    timing: Timing,
    verifier: Option<Verifier>,
    connection: Option<Connection>,
    /// Bytes handed out so far.
    at: u64,
    /// In a row, and where the last one was.
    failures: u32,
    failed_at: u64,
    ended: bool,
}

/// The connection in use.
struct Connection {
    body: Body,
    /// In the object, of the next byte.
    offset: u64,
    pace: Pace,
}

impl Download {
    pub(super) fn new(object: Object, timing: Timing) -> Download {
        let verifier = object.validator.checksum.as_ref().and_then(Verifier::new);
        Download {
            object,
            timing,
            verifier,
            connection: None,
            at: 0,
            failures: 0,
            failed_at: 0,
            ended: false,
        }
    }

    /// The next bytes; none after the last one, once size and stored checksum
    /// have been found right, and none after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let next = self.persist().await;
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    /// Everything there is, if it is no longer than `limit` bytes; `help` is for
    /// whoever wrote more.
    pub(super) async fn read(mut self, limit: u64, help: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let too_long = self.object.validator.size.is_some_and(|size| size > limit);
        while let Some(chunk) = if too_long { None } else { self.next().await.transpose()? } {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(self.too_long(limit).help(help));
            }
            bytes.extend_from_slice(&chunk);
        }
        if too_long { Err(self.too_long(limit).help(help)) } else { Ok(bytes) }
    }

    async fn persist(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.attempt().await {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    if let Some(verifier) = &mut self.verifier {
                        verifier.update(&bytes);
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => return self.verify().map(|()| None),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error)) => self.pause(error).await?,
            }
        }
    }

    /// The next bytes from the connection in use, or from a new one.
    async fn attempt(&mut self) -> Result<Option<Bytes>, Failure> {
        let complete = self.at > 0 && self.object.validator.size == Some(self.at);
        if self.connection.is_none() && complete {
            return Ok(None);
        }
        loop {
            let Connection { body, offset, pace } = match &mut self.connection {
                Some(open) => open,
                none => {
                    let Opened { body, offset } = self.object.open(self.at).await?;
                    if offset > self.at {
                        return Err(Failure::Final(self.skipped(offset)));
                    }
                    none.insert(Connection { body, offset, pace: Pace::default() })
                }
            };
            let Some(next) = pace.next(&self.timing, body.next()).await else {
                let slow = pace.told(&self.timing);
                return Err(Failure::Transient(self.stopped().because(slow)));
            };
            let Some(mut bytes) = next.transpose()? else {
                return self.ended();
            };
            pace.came(bytes.len(), &self.timing);
            // A server that knows no ranges begins again at the first byte.
            let known = self.at.saturating_sub(*offset).min(bytes.len() as u64);
            *offset += bytes.len() as u64;
            bytes.advance(known as usize);
            if !bytes.is_empty() {
                return self.within_size(bytes);
            }
        }
    }

    fn ended(&self) -> Result<Option<Bytes>, Failure> {
        match self.object.validator.size {
            Some(size) if self.at < size => Err(Failure::Transient(
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

    fn verify(&mut self) -> Result<()> {
        match self.verifier.take().map(Verifier::finish) {
            Some(Err(mismatch)) => Err(Error::source(self.object.url.clone())
                .because(mismatch)
                .help("upload the release again; if it stays so, what is stored there is damaged")),
            _ => Ok(()),
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

    fn too_long(&self, limit: u64) -> Error {
        let size = self.object.validator.size;
        let size = size.map_or_else(|| "longer".to_owned(), |size| format!("{size} bytes long"));
        Error::unusable(format!("{} is unusable", self.object.url))
            .because(format!("it is {size}; at most {limit} bytes are read"))
    }
}
