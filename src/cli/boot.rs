//! `deploy boot`: what user-data calls. Finds out what this instance is to run, deploys it, and
//! completes the launching hook of its Auto Scaling group.

mod facts;
mod hook;
mod real;
mod seams;
#[cfg(test)]
mod tests;

use super::End;
use super::args::BootArgs;
use facts::{Facts, Plan};
use hook::Session;
use model::error::{Error, Exit, Result};
use model::event::Outcome;
use model::reason::Reason;
use model::text;
use real::Real;
use seams::{Hooks, LocalDeployd, Metadata};
use std::time::Duration;
use tokio::time::Instant;

pub async fn boot(args: BootArgs) -> Result<End> {
    let (shown, asked) = (args.shown, Asked::from(args));
    let real = Real::new(shown);
    let say = |text: &str| real.say(text);
    let (metadata, hooks, deployd) = (&real, &real, &real);
    Boot { metadata, hooks, deployd, pace: Pace::default(), say: &say }.run(&asked).await
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    url: Option<String>,
    hook: Option<String>,
    group: Option<String>,
    keep: bool,
    timeout: Duration,
}

impl From<BootArgs> for Asked {
    fn from(args: BootArgs) -> Asked {
        let BootArgs { url, hook, group, keep, timeout, .. } = args;
        Asked { url, hook, group, keep, timeout }
    }
}

/// Pauses and limits. Tests use small ones.
struct Pace {
    /// Between two attempts to read the metadata.
    metadata: Duration,
    /// How long the metadata service is waited for if the URL is given: there may be none.
    optional_metadata: Duration,
    heartbeat: Duration,
    /// Between two attempts of a call that failed, at most.
    again: Duration,
    /// How long after the start a hook may be reported as not active although it will be.
    grace: Duration,
    /// The timeout of the last call.
    completion: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            metadata: Duration::from_secs(1),
            optional_metadata: Duration::from_secs(60),
            heartbeat: Duration::from_secs(30),
            again: Duration::from_secs(5),
            grace: Duration::from_secs(60),
            completion: Duration::from_secs(120),
        }
    }
}

struct Boot<'a> {
    metadata: &'a dyn Metadata,
    hooks: &'a dyn Hooks,
    deployd: &'a dyn LocalDeployd,
    pace: Pace,
    /// Prints a line about the command itself.
    say: &'a dyn Fn(&str),
}

impl Boot<'_> {
    async fn run(&self, asked: &Asked) -> Result<End> {
        let deadline = Instant::now() + asked.timeout;
        let disabled = self.metadata.is_disabled();
        let patience = match asked.url {
            _ if disabled => Instant::now(),
            Some(_) => deadline.min(Instant::now() + self.pace.optional_metadata),
            None => deadline,
        };
        let mut facts = self.facts(patience).await;
        let mut session = self.session(asked, facts.as_ref().ok())?;
        let ended = self.work(asked, &facts, session.as_mut(), deadline).await;
        if facts.is_err() && session.is_none() && !disabled && is_done(&ended) {
            // The network is there by now: the metadata service is as well, if there is one.
            facts = self.facts(Instant::now() + self.pace.metadata).await;
            session = self.session(asked, facts.as_ref().ok())?;
        }
        match session {
            Some(session) => self.finish(asked, session, ended).await,
            None => ended,
        }
    }

    /// Deploys or stages, with heartbeats meanwhile.
    async fn work(
        &self,
        asked: &Asked,
        facts: &Result<Facts, String>,
        session: Option<&mut Session<'_>>,
        deadline: Instant,
    ) -> Result<End> {
        let plan = facts.as_ref().map_or(Plan::Deploy, Facts::plan);
        if plan == Plan::Nothing {
            let outcome = Outcome::done("nothing to deploy: this instance leaves its group");
            return Ok(End::Outcome(Box::new(outcome)));
        }
        let url = self.url(asked, facts, deadline).await?;
        self.deployd.wait(deadline, self.say).await;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let error =
                Error::failed(format!("deploy {url}")).because("the time of --timeout is over");
            return Err(error
                .with_reason(Reason::DeadlinePassed)
                .help("give it more with --timeout"));
        }
        let Some(session) = session else { return self.perform(plan, &url, left).await };
        if self.deployd.has_deployed(&url).await {
            session.expect_no_race();
        }
        tokio::select! {
            biased;
            // First, since deployd may start again for it, with the settings of agent.env.
            ended = self.perform(plan, &url, left) => ended,
            never = session.beat() => match never {},
        }
    }

    async fn perform(&self, plan: Plan, url: &str, left: Duration) -> Result<End> {
        match plan {
            Plan::Stage => {
                (self.say)(&format!("this instance goes into a warm pool: stages {url}"));
                self.deployd.stage(url, left).await
            }
            Plan::Deploy | Plan::Nothing => self.deployd.deploy(url, left).await,
        }
    }

    /// The hook to complete, if this instance waits in a group that has one.
    fn session(&self, asked: &Asked, facts: Option<&Facts>) -> Result<Option<Session<'_>>> {
        let Some(facts) = facts else { return Ok(None) };
        if facts.state.is_none() || facts.plan() == Plan::Nothing {
            return Ok(None);
        }
        let hook = asked.hook.clone().or_else(|| facts.hook.clone());
        let Some(hook) = hook else {
            (self.say)("no hook to complete: none is named (--hook NAME, or the tag deploy:hook)");
            return Ok(None);
        };
        let group = asked.group.clone().or_else(|| facts.group.clone());
        let Some(group) = group else {
            let what = format!("complete the lifecycle hook {}", text::shortened(&hook));
            let error =
                Error::usage(what).because("the name of the Auto Scaling group is not known");
            let help = "give it with --group, or set InstanceMetadataTags=enabled in the launch \
                        template's metadata options";
            return Err(error.help(help));
        };
        let names = format!("{} of {}", text::shortened(&hook), text::shortened(&group));
        (self.say)(&format!("for the hook {names}"));
        Ok(Some(Session::new(self.hooks, &self.pace, facts, group, hook)))
    }

    /// Completes the hook as the work ended.
    async fn finish(
        &self,
        asked: &Asked,
        mut session: Session<'_>,
        ended: Result<End>,
    ) -> Result<End> {
        session.notes().iter().for_each(|note| (self.say)(note));
        if matches!(ended, Ok(End::Shown(_) | End::Status(_))) {
            (self.say)(
                "nothing is sent to the lifecycle hook: the deploy goes on without this command",
            );
            return ended;
        }
        let is_done = is_done(&ended);
        if !is_done && asked.keep {
            // Whoever looks at the instance has the whole timeout for it.
            session.beat_once().await;
            (self.say)(
                "the hook gets no ABANDON, as --keep asks: this instance stays until the hook's own \
                 timeout, and `deploy boot` completes it once it succeeds",
            );
            return ended;
        }
        let result = if is_done { "CONTINUE" } else { "ABANDON" };
        match session.complete(is_done).await {
            Ok(true) => {
                (self.say)(&format!("the hook is completed: {result}"));
                ended
            }
            Ok(false) => {
                (self.say)("no hook waits for this instance: nothing to complete");
                ended
            }
            Err(error) if is_done => {
                let what = "the release is good, but the lifecycle hook is not completed";
                Err(Error::failed(what).because(error))
            }
            Err(error) => {
                (self.say)(&format!(
                    "ABANDON is not sent, so the hook's own timeout decides: {}",
                    error.chain()
                ));
                ended
            }
        }
    }
}

fn is_done(ended: &Result<End>) -> bool {
    matches!(ended, Ok(End::Outcome(outcome)) if outcome.exit == Exit::Done)
}
