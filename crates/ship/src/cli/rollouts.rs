//! `ship deploy`, `rollback`, `attach`, `cancel`, `history`.

mod shown;

use super::args::rollouts::{AttachArgs, DeployArgs, HistoryArgs, How, RollbackArgs};
use super::reach::{Reach, reach};
use super::{Desk, print};
use crate::cli::progress;
use crate::context::Context;
use crate::document;
use crate::maker;
use crate::rollout::{self, Action, Group, Rollout, Wish};
use model::error::{Error, Result};
use model::release::name::EnvironmentName;
use std::time::Duration;

/// The time that others' rollouts have when they are followed.
pub const PATIENCE: Duration = Duration::from_secs(1800);

pub async fn deploy(desk: &Desk, args: DeployArgs) -> Result<u8> {
    let run_release = args.run_release || desk.target(args.environment.clone())?.run_release;
    let group = group(desk, args.environment, args.how.by.clone(), args.how.timeout).await?;
    let (store, place) = (&*group.cx.store, &group.cx.place);
    let number = match args.release {
        Some(number) => number,
        None => document::newest(store, place).await?.0,
    };
    document::ready(store, place, number).await?;
    roll(desk, &group, (Action::Deploy, run_release), number.to_string(), args.how).await
}

pub async fn rollback(desk: &Desk, args: RollbackArgs) -> Result<u8> {
    let group = group(desk, args.environment, args.how.by.clone(), args.how.timeout).await?;
    let to = match args.to {
        Some(name) => name.to_string(),
        None => before(&group.cx).await?,
    };
    roll(desk, &group, (Action::Rollback, false), to, args.how).await
}

/// Returns the release before the last good deploy of the one that is current.
async fn before(cx: &Context) -> Result<String> {
    const LOOKED_AT: usize = 50;
    let current = document::current(&*cx.store, &cx.place).await?;
    let records = rollout::newest(cx, LOOKED_AT).await?;
    let is_good = |one: &Rollout| {
        let code = one.verdict.as_ref().map(|verdict| verdict.code);
        one.action == Action::Deploy
            && matches!(code, Some(0 | rollout::SKIPPED))
            && Some(&one.to) == current.as_ref()
            && one.from != current
    };
    let last = records.into_iter().map(|record| record.rollout).find(is_good);
    last.and_then(|rollout| rollout.from).ok_or_else(|| {
        let error = Error::usage(format!("find the release before that of {}", cx.place));
        let environment = &cx.place.environment;
        let help = format!("name it: `ship rollback {environment} --to rN`");
        error.because("the history has no deploy of the current one over another").help(help)
    })
}

async fn roll(
    desk: &Desk,
    group: &Group,
    (action, run_release): (Action, bool),
    to: String,
    how: How,
) -> Result<u8> {
    let How { batch: batches, bake, skip_unreachable, dry_run, .. } = how;
    let wish = Wish { action, to, batches, bake, skip_unreachable, run_release };
    if dry_run {
        let batches = rollout::preview(group, &wish).await?;
        if desk.global.json {
            return print::json(&batches).map(|()| 0);
        }
        return print::text(&shown::batches(&wish.to, &batches)).map(|()| 0);
    }
    let group = group.shown_by(progress::events(desk.global.json));
    interruptible(desk, &group, rollout::start(&group, &wish)).await
}

pub async fn attach(desk: &Desk, args: AttachArgs) -> Result<u8> {
    let group = group(desk, args.environment, None, PATIENCE).await?;
    let group = group.shown_by(progress::events(desk.global.json));
    interruptible(desk, &group, rollout::attach(&group, args.id.as_deref())).await
}

/// Follows a rollout to its end, or until Ctrl-C, which stops nothing on the instances.
async fn interruptible(
    desk: &Desk,
    group: &Group,
    rollout: impl Future<Output = Result<Rollout>>,
) -> Result<u8> {
    let environment = &group.cx.place.environment;
    tokio::select! {
        ended = rollout => shown::ended(&ended?, desk.global.json),
        _ = tokio::signal::ctrl_c() => {
            let error = Error::failed("follow the rollout to its end").because("interrupted");
            Err(error.help(format!(
                "`ship attach {environment}` goes on with it; before that, \
                 `ship cancel {environment}` makes it go back"
            )))
        }
    }
}

pub async fn cancel(desk: &Desk, args: AttachArgs) -> Result<u8> {
    let cx = desk.open(desk.target(args.environment)?).await?;
    let rollout = rollout::cancel(&cx, args.id.as_deref()).await?;
    if desk.global.json {
        return print::json(&rollout).map(|()| 0);
    }
    let help = format!("`ship attach {}` follows it back", cx.place.environment);
    cx.report.step("cancelled", format!("{} to {}; {help}", rollout.id, rollout.to));
    Ok(0)
}

pub async fn history(desk: &Desk, args: HistoryArgs) -> Result<u8> {
    let cx = desk.open(desk.target(args.environment)?).await?;
    let records = rollout::newest(&cx, args.lines).await?;
    let rollouts: Vec<Rollout> = records.into_iter().map(|record| record.rollout).collect();
    if desk.global.json {
        return print::json(&rollouts).map(|()| 0);
    }
    let now = cx.store.now().await?;
    print::text(&shown::history(&rollouts, now, print::width())).map(|()| 0)
}

/// Connects to the store and the instances of an environment.
pub async fn group(
    desk: &Desk,
    environment: Option<EnvironmentName>,
    by: Option<String>,
    patience: Duration,
) -> Result<Group> {
    let target = desk.target(environment)?;
    let Reach { fleet, transport, guard } = reach(&target, patience).await?;
    let mut cx = desk.open(target).await?;
    if let Some(by) = by {
        cx.by = maker::person(Some(by), &desk.here);
    }
    Ok(Group { cx, fleet, transport, guard, patience, events: progress::none() })
}
