//! The end of a rollout that has not failed: who runs the release, and who does not.

use super::SKIPPED;
use super::record::{Member, Phase, State, Verdict};
use super::run::Run;
use crate::fleet::{Host, names};
use model::error::{Exit, Result};

impl Run<'_> {
    pub async fn succeeded(&mut self) -> Result<Verdict> {
        let to = self.rollout().to.clone();
        let done = self.hosts(|member| member.state == State::Done).len();
        let is_unseen =
            |one: &Member| one.state == State::Skipped && one.runs.as_ref() == Some(&to);
        let unseen = self.hosts(is_unseen);
        let skipped = self.hosts(|one| one.state == State::Skipped && !is_unseen(one));
        if self.is_alone && done == 0 && !skipped.is_empty() {
            return self.nowhere(&skipped).await;
        }
        let mut message = match done {
            0 if self.is_alone => "no instance is in service".to_owned(),
            0 if !unseen.is_empty() => format!("{to} is current"),
            0 => format!("{to} is current, and no instance is in service"),
            1 => format!("{to} runs on 1 instance"),
            _ => format!("{to} runs on {done} instances"),
        };
        if skipped.is_empty() && unseen.is_empty() && !self.is_alone {
            return self.end(Verdict { code: Exit::Done.code(), message, help: None }).await;
        }
        if !skipped.is_empty() {
            message = format!("{message}, and not on {}", names(&skipped));
        }
        if !unseen.is_empty() {
            let were = if unseen.len() == 1 { "was" } else { "were" };
            let unseen = names(&unseen);
            message =
                format!("{message}, and {unseen} {were} not seen healthy at the end of the bake");
        }
        let help = Some(match self.is_alone {
            true => {
                message = format!("{message}; current could not be moved");
                self.help_alone()
            }
            false => {
                let environment = &self.cx().place.environment;
                format!("repair them, and repeat: `ship deploy {environment} {to}`")
            }
        });
        self.end(Verdict { code: SKIPPED, message, help }).await
    }

    /// Writes the last state.
    pub async fn end(&mut self, verdict: Verdict) -> Result<Verdict> {
        let rollout = &mut self.record.rollout;
        (rollout.phase, rollout.verdict) = (Phase::Ended, Some(verdict.clone()));
        self.record.rollout.ended = Some(self.cx().store.now().await?);
        self.save().await?;
        Ok(verdict)
    }

    /// Ends a rollback without the store to a release that no instance has.
    async fn nowhere(&mut self, hosts: &[Host]) -> Result<Verdict> {
        let (to, hosts) = (self.rollout().to.clone(), names(hosts));
        let why = "and the store does not respond; nothing is changed";
        let message = format!("{to} is on the disk of none of {hosts}, {why}");
        let help = "name a release that they have: `deploy releases` on one of them lists it";
        let code = Exit::NoAgent.code();
        self.end(Verdict { code, message, help: Some(help.to_owned()) }).await
    }

    /// Says what is left to do after a rollback without the store.
    fn help_alone(&self) -> String {
        let (environment, to) = (&self.cx().place.environment, &self.rollout().to);
        let named = match &self.rollout().from {
            Some(from) if from != to => format!("current still names, most likely {from}"),
            _ => "current still names".to_owned(),
        };
        format!(
            "instances that boot now deploy the release that {named}; once the store responds, \
             repeat `ship rollback {environment} --to {to}`, which moves current and writes the \
             history"
        )
    }
}
