//! Fetches several parts of one object at once, and returns them in order: one connection alone
//! seldom uses the network's full bandwidth.

use super::object::Object;
use super::range_reader::{Span, Stop};
use super::retry::Timing;
use bytes::Bytes;
use model::error::Error;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The parts in flight. They hold at most their total size in memory.
pub(super) struct Parts {
    object: Object,
    timing: Timing,
    /// In order of their offsets.
    parts: VecDeque<Part>,
    /// The limit of parts fetched at once.
    most: usize,
    /// Offset of the next part, and size of the object.
    begin: u64,
    size: u64,
}

/// One part, read by its own task.
struct Part {
    pieces: mpsc::UnboundedReceiver<Result<Bytes, Stop>>,
    task: JoinHandle<()>,
    /// Bytes still to come.
    left: u64,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Parts {
    /// `None` if the object is a file, too small or of unknown size, or if `memory` (bytes) has no
    /// room for two parts.
    pub fn plan(object: &Object, timing: &Timing, memory: u64) -> Option<Parts> {
        let size = object.validator.size?;
        let most = usize::try_from(memory / timing.part.max(1)).ok()?.min(timing.parts);
        if object.reader.is_local() || most < 2 || size < timing.whole {
            return None;
        }
        let (object, timing) = (object.clone(), timing.clone());
        Some(Parts { object, timing, parts: VecDeque::new(), most, begin: 0, size })
    }

    /// Returns the next bytes; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        loop {
            while self.parts.len() < self.most && self.begin < self.size {
                self.start();
            }
            let Some(first) = self.parts.front_mut() else { return Ok(None) };
            match first.pieces.recv().await {
                Some(Ok(bytes)) => {
                    first.left = first.left.saturating_sub(bytes.len() as u64);
                    return Ok(Some(bytes));
                }
                Some(Err(stop)) => return Err(stop),
                None if first.left == 0 => drop(self.parts.pop_front()),
                None => return Err(Stop::Failed(lost(&self.object))),
            }
        }
    }

    fn start(&mut self) {
        let end = self.size.min(self.begin.saturating_add(self.timing.part));
        let mut span = Span::new(self.object.clone(), self.timing.clone(), self.begin, Some(end));
        // Unbounded, but at most the part's size is sent.
        let (sender, pieces) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(piece) = span.next().await.transpose() {
                let last = piece.is_err();
                if sender.send(piece).is_err() || last {
                    break;
                }
            }
        });
        self.parts.push_back(Part { pieces, task, left: end - self.begin });
        self.begin = end;
    }
}

fn lost(object: &Object) -> Error {
    Error::failed(format!("fetch a part of {}", object.url)).because("its task ended too early")
}
