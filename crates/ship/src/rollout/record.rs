//! `deploys/<9999999999-epoch>-ID.json`: a rollout as the store has it. It is the state from which
//! another ship takes the rollout up, and its history.

use crate::context::Context;
use crate::fleet::Host;
use crate::objects::{Condition, Object, Written};
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};

/// The name counts down, so that the newest comes first in a list.
const LAST: i64 = 9_999_999_999;
/// The most tries of a write that the store cannot decide.
pub const TRIES: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Deploy,
    Rollback,
}

/// The steps of a rollout, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Batches,
    /// The pointer is moved, so that new instances deploy the new release.
    Pointer,
    /// Instances that were launched meanwhile.
    Sweep,
    Bake,
    /// After a failure: the group goes back.
    Back,
    Ended,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Running,
    Done,
    Failed,
    /// It could not be reached before the start.
    Skipped,
    /// It is in the group no more.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub state: State,
    /// The release that it runs, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
}

/// The failure that a rollout goes back for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The exit code of the rollout, if the group is back on its old release.
    pub code: u8,
    pub message: String,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub code: u8,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The release phase of a rollout, which runs once, on one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The instance runs it once for this id, however often it is asked.
    pub id: String,
    /// The instance; none before it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Host>,
    #[serde(default)]
    pub done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub id: String,
    pub by: String,
    pub action: Action,
    pub to: String,
    /// The release to go back to: the one that the pointer named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub begun: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    pub phase: Phase,
    #[serde(default)]
    pub batches: super::Batches,
    /// Its release phase, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// Seconds that the group is watched at the end.
    #[serde(default)]
    pub bake: u64,
    /// The instances that a load balancer found unhealthy before; only with a bake.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unhealthy: BTreeSet<Host>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default)]
    pub hosts: BTreeMap<Host, Member>,
}

/// A rollout and the version of its object.
#[derive(Debug)]
pub struct Record {
    pub rollout: Rollout,
    pub key: String,
    etag: Option<String>,
}

impl Record {
    pub fn new(cx: &Context, rollout: Rollout) -> Record {
        let name = format!("{:010}-{}.json", LAST - rollout.begun.as_second(), rollout.id);
        Record { key: format!("{}{name}", directory(cx)), rollout, etag: None }
    }

    /// Writes it. Fails if another program has written it meanwhile: it has taken the rollout up.
    pub async fn save(&mut self, cx: &Context) -> Result<()> {
        let what = || format!("write {}", cx.store.url(&self.key));
        let bytes =
            serde_json::to_vec(&self.rollout).map_err(|why| Error::failed(what()).because(why))?;
        for _ in 0..TRIES {
            let condition = match &self.etag {
                Some(etag) => Condition::Unchanged(etag.clone()),
                None => Condition::Absent,
            };
            if let Written::Done(etag) = cx.store.put(&self.key, bytes.clone(), condition).await? {
                self.etag = Some(etag);
                return Ok(());
            }
            let there = cx.store.get(&self.key).await?;
            match there {
                // The answer to the write was lost, and the SDK repeated it.
                Some(object) if object.bytes == bytes => {
                    self.etag = Some(object.etag);
                    return Ok(());
                }
                // The store could not decide (409).
                there if there.as_ref().map(|object| &object.etag) == self.etag.as_ref() => {}
                _ => break,
            }
        }
        let error = Error::new(Exit::Busy, what());
        Err(error.because("another ship has taken this rollout up").help(follow(cx)))
    }

    /// Reads it again.
    pub async fn again(&mut self, cx: &Context) -> Result<()> {
        *self = read(cx, &self.key).await?;
        Ok(())
    }

    /// The object whose existence asks for an end.
    pub fn cancel_key(&self) -> String {
        self.key.replace(".json", ".cancel")
    }
}

/// Returns the newest rollouts, at most so many.
pub async fn newest(cx: &Context, most: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    // Each may have a cancellation beside it.
    let objects = cx.store.list(&directory(cx), most.saturating_mul(2)).await?.objects;
    for name in objects.iter().filter(|name| name.ends_with(".json")).take(most) {
        records.push(read(cx, &format!("{}{name}", directory(cx))).await?);
    }
    Ok(records)
}

/// Returns the rollout with this id, or the newest.
pub async fn find(cx: &Context, id: Option<&str>) -> Result<Record> {
    let objects = cx.store.list(&directory(cx), usize::MAX).await?.objects;
    let is = |name: &&String| match id {
        Some(id) => name.ends_with(&format!("-{id}.json")),
        None => name.ends_with(".json"),
    };
    match objects.iter().find(is) {
        Some(name) => read(cx, &format!("{}{name}", directory(cx))).await,
        None => {
            let what = match id {
                Some(id) => format!("{} has no rollout {}", cx.place, model::text::quoted(id)),
                None => format!("{} has had no rollout", cx.place),
            };
            let help = format!("`ship history {}` lists them", cx.place.environment);
            Err(Error::usage(what).help(help))
        }
    }
}

async fn read(cx: &Context, key: &str) -> Result<Record> {
    let what = || format!("read {}", cx.store.url(key));
    let Some(Object { bytes, etag }) = cx.store.get(key).await? else {
        return Err(Error::failed(what()).because("it does not exist any more"));
    };
    let rollout =
        serde_json::from_slice(&bytes).map_err(|why| Error::failed(what()).because(why))?;
    Ok(Record { rollout, key: key.to_owned(), etag: Some(etag) })
}

fn directory(cx: &Context) -> String {
    format!("{}deploys/", cx.place.prefix())
}

/// Returns an id that no other rollout has.
pub fn id() -> String {
    format!("{:08x}", RandomState::new().build_hasher().finish() >> 32)
}

pub fn follow(cx: &Context) -> String {
    format!("`ship attach {}` follows it", cx.place.environment)
}
