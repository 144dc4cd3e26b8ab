//! The outcomes of the requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How a request failed, as seen by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection was refused.
    Refused,
    /// The connection ended before the response did.
    Cut,
    /// No response, or an incomplete one, within the client's timeout.
    TimedOut,
    /// A response other than expected: a status other than 200, or not HTTP.
    Wrong,
    /// The client could not send the request, as when it has no port left.
    NotAsked,
}

/// The requests of a load by their outcome.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that got a response, including retried ones.
    pub ok: u64,
    /// Requests whose idle connection the server closed at that moment, without a byte of a
    /// response, and which were retried on a new one. RFC 9110, 9.2.2, and RFC 9112, 9.3.1,
    /// allow clients to do so, and real clients do.
    pub again: u64,
    /// The failed requests by their fault.
    pub faults: BTreeMap<Fault, u64>,
    /// The longest time from a request, including its connect, to the end of the response.
    pub slowest: Duration,
    /// The number of responses by their body: the release.
    pub answered_by: BTreeMap<String, u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// How long the load lasted.
    pub time: Duration,
    /// Descriptions of the first faults.
    pub said: Vec<String>,
}

impl Tally {
    /// How many requests failed.
    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many requests failed in this way.
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// How many requests were made.
    pub fn asked(&self) -> u64 {
        self.ok + self.failed()
    }

    pub(super) fn answer(&mut self, body: String, took: Duration) {
        self.ok += 1;
        *self.answered_by.entry(body).or_default() += 1;
        self.slowest = self.slowest.max(took);
    }

    pub(super) fn fault(&mut self, fault: Fault, said: String, took: Duration) {
        *self.faults.entry(fault).or_default() += 1;
        self.slowest = self.slowest.max(took);
        if self.said.len() < 3 {
            self.said.push(said);
        }
    }

    /// Returns the sum of both.
    pub(super) fn and(mut self, other: Tally) -> Tally {
        self.ok += other.ok;
        self.again += other.again;
        self.connections += other.connections;
        self.slowest = self.slowest.max(other.slowest);
        self.time = self.time.max(other.time);
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (body, count) in other.answered_by {
            *self.answered_by.entry(body).or_default() += count;
        }
        self.said.extend(other.said);
        self.said.truncate(3);
        self
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, failed) = (self.asked(), self.failed());
        let rate = asked as f64 / self.time.as_secs_f64().max(0.001);
        write!(f, "{asked} requests ({rate:.0}/s), {failed} failed")?;
        for (fault, count) in &self.faults {
            write!(f, ", {fault:?} {count}")?;
        }
        let slowest = self.slowest.as_secs_f64() * 1e3;
        write!(f, "; {} asked again; slowest {slowest:.1} ms; answered by", self.again)?;
        for (body, count) in &self.answered_by {
            write!(f, " {body}: {count}")?;
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, "; {}", self.said.join("; ")) }
    }
}
