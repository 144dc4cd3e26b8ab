//! What became of the requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// In which way a request failed, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nobody took the connection.
    Refused,
    /// The connection ended before the answer did.
    Cut,
    /// No answer, or no end of it, within the client's patience.
    TimedOut,
    /// An answer, but not the one that was asked for: a status other than 200, or no HTTP.
    Wrong,
    /// The client could not even ask, as when it has no port left.
    NotAsked,
}

/// The requests of a load, by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were answered, those asked again among them.
    pub ok: u64,
    /// Requests whose idle connection the server closed just then, without a byte
    /// of an answer, and which were asked again on a new one: what a client may
    /// do by RFC 9110, 9.2.2, and RFC 9112, 9.3.1, and what real clients do.
    pub again: u64,
    /// The requests that failed, by how.
    pub faults: BTreeMap<Fault, u64>,
    /// From the request, and the connecting where it came first, to the end of the answer.
    pub slowest: Duration,
    /// The bodies of the answers: which release gave how many.
    pub answered_by: BTreeMap<String, u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// How long the load lasted.
    pub time: Duration,
    /// The first faults in words.
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

    /// Both as one.
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
