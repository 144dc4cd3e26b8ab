//! Lines of several instances in the order of their times, with few of them in memory.

use super::Line;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

/// How long a line waits for earlier ones of instances that have not printed any yet.
const FIRST: Duration = Duration::from_secs(3);
/// How long it waits later, while logs are followed.
const LATER: Duration = Duration::from_millis(300);

pub struct Merge {
    sources: Vec<Source>,
    /// Whether the logs have no end, so that a line cannot wait for one of each instance.
    follow: bool,
    begun: Instant,
}

struct Source {
    receiver: Receiver<Line>,
    is_open: bool,
    /// The first line that is not printed yet, and when it came.
    head: Option<(Line, Instant)>,
    has_begun: bool,
}

impl Merge {
    pub fn new(streams: Vec<Receiver<Line>>, follow: bool) -> Merge {
        let source = |receiver| Source { receiver, is_open: true, head: None, has_begun: false };
        let sources = streams.into_iter().map(source).collect();
        Merge { sources, follow, begun: Instant::now() }
    }

    /// Returns the next line and the number of its source; none once all have ended.
    pub async fn next(&mut self) -> Option<(usize, Line)> {
        while self.sources.iter().any(|source| source.is_open && source.head.is_none()) {
            let deadline = self.deadline();
            let patience = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = poll_fn(|cx| self.fill(cx)) => {}
                () = patience => break,
            }
        }
        let heads = self.sources.iter().enumerate();
        let heads = heads.filter_map(|(n, source)| Some((source.head.as_ref()?.0.at, n)));
        let (_, first) = heads.min()?;
        let (line, _) = self.sources.get_mut(first)?.head.take()?;
        Some((first, line))
    }

    /// The time until which the earliest line waits for others.
    fn deadline(&self) -> Option<Instant> {
        let heads = self.sources.iter().filter_map(|source| source.head.as_ref());
        let came = heads.map(|(_, came)| *came).min().filter(|_| self.follow)?;
        let all_have_begun = self.sources.iter().all(|source| source.has_begun || !source.is_open);
        let first = if all_have_begun { came } else { (self.begun + FIRST).max(came) };
        Some(first.max(came + LATER))
    }

    /// Takes lines in; ready if a line came, or a source has ended.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for source in self.sources.iter_mut().filter(|one| one.is_open && one.head.is_none()) {
            match source.receiver.poll_recv(cx) {
                Poll::Ready(Some(line)) => {
                    source.head = Some((line, Instant::now()));
                    source.has_begun = true;
                    ready = Poll::Ready(());
                }
                Poll::Ready(None) => {
                    source.is_open = false;
                    ready = Poll::Ready(());
                }
                Poll::Pending => {}
            }
        }
        ready
    }
}
