//! Reads one object from its first byte to its last, and verifies it at the end.

use super::encoding;
use super::object::Object;
use super::parallel_download::Parts;
use super::range_reader::{Span, Stop};
use super::retry::Timing;
use super::verifier::Verifier;
use bytes::Bytes;
use model::error::{Error, Result};
use model::reason::Reason;

/// The bytes of one object, in order.
///
/// `next` is cancel safe: bytes that were not returned are returned by the next call.
pub struct Download {
    object: Object,
    timing: Timing,
    verifier: Option<Verifier>,
    way: Way,
    /// Bytes returned so far.
    at: u64,
    ended: bool,
    /// The first bytes of an object with a `Content-Encoding`, until there are enough to check it.
    head: Option<Vec<u8>>,
}

enum Way {
    AsOne(Box<Span>),
    InParts(Box<Parts>),
}

impl Download {
    /// Reads a large object in parallel parts, as many as fit into `memory` (bytes).
    pub(super) fn new(object: Object, timing: Timing, memory: u64) -> Download {
        let verifier = object.validator.checksum.as_ref().and_then(Verifier::new);
        let way = match Parts::plan(&object, &timing, memory) {
            Some(parts) => Way::InParts(Box::new(parts)),
            None => Way::as_one(&object, &timing, 0),
        };
        let head = object.encoding.is_some().then(Vec::new);
        Download { object, timing, verifier, way, at: 0, ended: false, head }
    }

    /// Returns the next bytes; `None` after the last one, once size and stored checksum are
    /// verified, and `None` after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let next = self.checked().await;
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }

    /// Reads the whole object, if it is no longer than `limit` bytes; `help` is the advice for a
    /// longer one.
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

    async fn checked(&mut self) -> Result<Option<Bytes>> {
        if self.head.is_some() {
            return self.examined().await;
        }
        let Some(bytes) = self.counted().await? else { return self.verify().map(|()| None) };
        Ok(Some(bytes))
    }

    /// Returns the first bytes in one piece, only after their encoding is checked.
    async fn examined(&mut self) -> Result<Option<Bytes>> {
        while self.head.as_ref().is_some_and(|head| head.len() < encoding::HEAD) {
            let Some(bytes) = self.counted().await? else { break };
            self.head.get_or_insert_default().extend_from_slice(&bytes);
        }
        let head = self.head.take().unwrap_or_default();
        let label = self.object.encoding.as_deref().unwrap_or_default();
        encoding::check(&self.object.url, label, &head[..head.len().min(encoding::HEAD)])?;
        match head.is_empty() {
            true => self.verify().map(|()| None),
            false => Ok(Some(head.into())),
        }
    }

    async fn counted(&mut self) -> Result<Option<Bytes>> {
        let next = self.any_way().await?;
        if let Some(bytes) = &next {
            self.at += bytes.len() as u64;
            if let Some(verifier) = &mut self.verifier {
                verifier.update(bytes);
            }
        }
        Ok(next)
    }

    async fn any_way(&mut self) -> Result<Option<Bytes>> {
        loop {
            let next = match &mut self.way {
                Way::AsOne(span) => span.next().await,
                Way::InParts(parts) => parts.next().await,
            };
            match next {
                Ok(bytes) => return Ok(bytes),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::NoRanges) => self.way = Way::as_one(&self.object, &self.timing, self.at),
            }
        }
    }

    fn verify(&mut self) -> Result<()> {
        match self.verifier.take().map(Verifier::finish) {
            Some(Err(mismatch)) => Err(Error::source(self.object.url.clone())
                .because(mismatch)
                .with_reason(Reason::ChecksumMismatch)
                .help("upload the release again; if it stays so, what is stored there is damaged")),
            _ => Ok(()),
        }
    }

    fn too_long(&self, limit: u64) -> Error {
        let size = self.object.validator.size;
        let size = size.map_or_else(|| "longer".to_owned(), |size| format!("{size} bytes long"));
        Error::unusable(format!("{} is unusable", self.object.url))
            .because(format!("it is {size}; at most {limit} bytes are read"))
            .with_reason(Reason::LimitExceeded)
    }
}

impl Way {
    fn as_one(object: &Object, timing: &Timing, at: u64) -> Way {
        Way::AsOne(Box::new(Span::new(object.clone(), timing.clone(), at, None)))
    }
}
