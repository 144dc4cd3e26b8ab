//! The release phase of a rollout: once, on one instance, before any other gets the release.

use super::record::{Failure, Phase, Record, Release, Rollout, State};
use super::run::Run;
use crate::fleet::Host;
use model::error::{Exit, Result};

/// Returns the release phase of a new rollout. One that was interrupted on its way forward may have
/// begun it for the same release: then it is the same one.
pub fn of(id: &str, to: &str, interrupted: Option<&Record>) -> Release {
    let goes_on = |last: &&Rollout| last.to == to && last.phase != Phase::Back;
    let same = interrupted.map(|last| &last.rollout).filter(goes_on);
    let new = || Release { id: id.to_owned(), on: None, done: false };
    same.and_then(|rollout| rollout.release.clone()).unwrap_or_else(new)
}

impl Run<'_> {
    /// Deploys to the instance that runs the release phase, which is noted before it is asked.
    /// The instance runs the phase once for an id, so that the order may be repeated.
    pub async fn release(&mut self) -> Result<Option<Failure>> {
        let Some(release) = self.rollout().release.clone().filter(|release| !release.done) else {
            return Ok(None);
        };
        let waiting = self.hosts(|member| member.state == State::Waiting);
        let host = match release.on {
            None => waiting.first().cloned(),
            Some(host) => Some(host),
        };
        let Some(host) = host.filter(|host| waiting.contains(host)) else {
            return Ok(Some(nowhere(self.rollout().release.as_ref())));
        };
        self.note_release(|release| release.on = Some(host.clone()));
        if let Some(failure) = self.batch(Phase::Batches, vec![host.clone()]).await? {
            return Ok(Some(failure));
        }
        if self.member(&host).state != State::Done {
            return Ok(Some(nowhere(self.rollout().release.as_ref())));
        }
        self.note_release(|release| release.done = true);
        self.save().await?;
        Ok(None)
    }

    /// Returns the id of the release phase, if the next order is to run it.
    pub fn release_now(&self) -> Option<String> {
        let rollout = self.rollout();
        let release = rollout.release.as_ref().filter(|release| !release.done)?;
        (rollout.phase == Phase::Batches).then(|| release.id.clone())
    }

    fn note_release(&mut self, change: impl FnOnce(&mut Release)) {
        if let Some(release) = &mut self.record.rollout.release {
            change(release);
        }
    }
}

/// The failure of a release phase that no instance can run.
fn nowhere(release: Option<&Release>) -> Failure {
    let host: Option<Host> = release.and_then(|release| release.on.clone());
    let message = match &host {
        Some(host) => format!(
            "{host} has left the group, and nobody knows whether the release phase has run on it"
        ),
        None => "no instance is in service that could run its release phase".to_owned(),
    };
    Failure { host: None, code: Exit::Failed.code(), message }
}
