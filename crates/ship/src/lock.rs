//! The lock of an environment: an object with a lease.
//!
//! All times are the store's, so that no clock of a laptop matters. A lease that has run out is
//! taken over under the condition that it is still the same; of several who try, one succeeds.

#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::objects::{Condition, Object, Written};
use crate::releases::age;
use jiff::{SignedDuration, Timestamp};
use model::error::{Error, Exit, Result};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The most tries to take or renew a lock while others take it and give it back.
const TRIES: u32 = 20;

/// The owner of an environment's lock, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Tells two locks of the same person apart.
    id: String,
    pub by: String,
    pub why: String,
    pub since: Timestamp,
    /// The end of the lease; none if it is a person's, until it is unlocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A lock that is the caller's.
#[derive(Clone, Debug)]
pub struct Held {
    pub lock: Lock,
    etag: String,
}

/// A lock as it was found.
struct Found {
    lock: Lock,
    etag: String,
}

impl Lock {
    fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec_pretty(self);
        bytes.map_err(|why| Error::failed("write the lock").because(why))
    }
}

/// Takes the lock, for the length of a lease or until it is unlocked.
pub async fn take(cx: &Context, why: &str, lease: Option<SignedDuration>) -> Result<Held> {
    let id = format!("{:016x}", RandomState::new().build_hasher().finish());
    for _ in 0..TRIES {
        let found = find(cx).await?;
        let now = cx.store.now().await?;
        let condition = match found {
            None => Condition::Absent,
            // The answer to the write was lost, and the SDK repeated it.
            Some(Found { lock, etag }) if lock.id == id => return Ok(Held { lock, etag }),
            Some(Found { lock, etag }) if lock.has_ended(now) => Condition::Unchanged(etag),
            Some(Found { lock, .. }) => return Err(locked(cx, &lock, now)),
        };
        let (by, why) = (cx.by.clone(), model::text::line(why, 200));
        let until = lease.map(|lease| end(now, lease));
        let lock = Lock { id: id.clone(), by, why, since: now, until };
        if let Written::Done(etag) = put(cx, &lock, condition).await? {
            return Ok(Held { lock, etag });
        }
    }
    let error = Error::new(Exit::Busy, format!("lock {}", cx.place));
    Err(error.because("others lock it all the time").help("repeat the command"))
}

/// Makes the lease longer: to this long from now. Fails if another has taken it over.
pub async fn renew(cx: &Context, held: Held, lease: SignedDuration) -> Result<Held> {
    let mut lock = held.lock;
    for _ in 0..TRIES {
        let found = find(cx).await?;
        let Some(Found { lock: now, etag }) = found.filter(|found| found.lock.id == lock.id) else {
            break;
        };
        if now.until > lock.until {
            // The answer to the write was lost, and the SDK repeated it.
            return Ok(Held { lock: now, etag });
        }
        let renewed = Lock { until: Some(end(cx.store.now().await?, lease)), ..now.clone() };
        if let Written::Done(etag) = put(cx, &renewed, Condition::Unchanged(etag)).await? {
            return Ok(Held { lock: renewed, etag });
        }
        lock = now;
    }
    Err(lost(cx))
}

/// Gives the lock back; one that another has taken over stays.
pub async fn give_back(cx: &Context, held: Held) -> Result<()> {
    cx.store.delete(&cx.place.lock(), &held.etag).await.map(drop)
}

/// Removes a lock, also that of another person; one with a lease is removed only by force. Returns
/// the lock that was removed.
pub async fn unlock(cx: &Context, force: bool) -> Result<Lock> {
    let Some(Found { lock, etag }) = find(cx).await? else {
        let error = Error::usage(format!("unlock {}", cx.place));
        return Err(error.because("it is not locked"));
    };
    let now = cx.store.now().await?;
    if lock.until.is_some() && !lock.has_ended(now) && !force {
        let help = "wait for its end, or give --force if its program is surely gone";
        return Err(locked(cx, &lock, now).help(help));
    }
    match cx.store.delete(&cx.place.lock(), &etag).await? {
        Written::Done(_) => Ok(lock),
        Written::Conflict => {
            let error = Error::new(Exit::Busy, format!("unlock {}", cx.place));
            let why = "someone else has changed the lock meanwhile";
            Err(error.because(why).help("look at it again, and repeat the command"))
        }
    }
}

async fn find(cx: &Context) -> Result<Option<Found>> {
    let key = cx.place.lock();
    let Some(Object { bytes, etag }) = cx.store.get(&key).await? else { return Ok(None) };
    let lock = serde_json::from_slice(&bytes).map_err(|why| {
        let error = Error::failed(format!("read {}", cx.store.url(&key))).because(why);
        error.help("if nobody deploys, remove that object")
    })?;
    Ok(Some(Found { lock, etag }))
}

async fn put(cx: &Context, lock: &Lock, condition: Condition) -> Result<Written> {
    cx.store.put(&cx.place.lock(), lock.to_bytes()?, condition).await
}

fn end(now: Timestamp, lease: SignedDuration) -> Timestamp {
    now.checked_add(lease).unwrap_or(Timestamp::MAX)
}

fn locked(cx: &Context, lock: &Lock, now: Timestamp) -> Error {
    let (by, why) = (model::text::line(&lock.by, 80), model::text::line(&lock.why, 200));
    let since = age(lock.since, now);
    let error = Error::new(Exit::Busy, format!("lock {}", cx.place));
    let error = error.because(format!("{by} has locked it {since} ago: {why}"));
    match lock.until {
        Some(until) => {
            let left = until.duration_since(now).as_secs().max(0);
            error.help(format!("wait: the lock ends in {left}s, unless it is renewed"))
        }
        None => error.help(format!("ask {by}, or `ship unlock {}`", cx.place.environment)),
    }
}

fn lost(cx: &Context) -> Error {
    let error = Error::new(Exit::Busy, format!("keep the lock of {}", cx.place));
    error.because("its lease ran out, and another has taken it").help("look at who has it")
}
