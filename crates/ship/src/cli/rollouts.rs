//! `ship deploy`, `rollback`, `attach`, `cancel`, `history`.

mod back;
mod shown;

use super::args::rollouts::{AttachArgs, DeployArgs, HistoryArgs, How, RollbackArgs};
use super::reach::{Reach, reach};
use super::{Desk, interrupt, print};
use crate::cli::progress;
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
    let wish = wish(&args.how, (Action::Deploy, run_release), number.to_string());
    if args.how.dry_run {
        return preview(desk, &group, &wish).await;
    }
    let group = group.shown_by(progress::events(desk.global.json));
    interruptible(desk, &group, || going_on(&group), rollout::start(&group, &wish)).await
}

pub async fn rollback(desk: &Desk, args: RollbackArgs) -> Result<u8> {
    let group = group(desk, args.environment, args.how.by.clone(), args.how.timeout).await?;
    let to = args.to.map(|name| name.to_string());
    let wish = |to| wish(&args.how, (Action::Rollback, false), to);
    if args.how.dry_run {
        let to = match to {
            Some(to) => to,
            None => rollout::target(&group).await?,
        };
        return preview(desk, &group, &wish(to)).await;
    }
    let group = group.shown_by(progress::events(desk.global.json));
    let (group, chosen) = back::noted(group, to.clone());
    let help = || back::help(&group.cx.place, chosen());
    interruptible(desk, &group, help, rollout::roll_back(&group, to, wish)).await
}

fn wish(how: &How, (action, run_release): (Action, bool), to: String) -> Wish {
    let How { batch, bake, skip_unreachable, .. } = how;
    let (batches, bake, skip_unreachable) = (batch.clone(), *bake, *skip_unreachable);
    Wish { action, to, batches, bake, skip_unreachable, run_release }
}

/// Prints the batches. Nothing is changed.
async fn preview(desk: &Desk, group: &Group, wish: &Wish) -> Result<u8> {
    let batches = rollout::preview(group, wish).await?;
    if desk.global.json {
        return print::json(&batches).map(|()| 0);
    }
    print::text(&shown::batches(&wish.to, &batches)).map(|()| 0)
}

pub async fn attach(desk: &Desk, args: AttachArgs) -> Result<u8> {
    let group = group(desk, args.environment, args.by, PATIENCE).await?;
    let group = group.shown_by(progress::events(desk.global.json));
    let followed = rollout::attach(&group, args.id.as_deref());
    interruptible(desk, &group, || going_on(&group), followed).await
}

fn going_on(group: &Group) -> String {
    let environment = &group.cx.place.environment;
    format!(
        "`ship attach {environment}` goes on with it; before that, `ship cancel {environment}` \
         makes it go back"
    )
}

/// Follows a rollout to its end, or until Ctrl-C, which stops nothing on the instances, and takes
/// back what they have not yet fetched; `help` says how to go on.
async fn interruptible(
    desk: &Desk,
    group: &Group,
    help: impl FnOnce() -> String,
    rollout: impl Future<Output = Result<Rollout>>,
) -> Result<u8> {
    tokio::select! {
        ended = rollout => shown::ended(&ended?, desk.global.json),
        () = interrupt::signal() => {
            let error = Error::failed("follow the rollout to its end");
            let error = error.because(interrupt::let_go(&*group.transport).await);
            Err(error.help(help()))
        }
    }
}

pub async fn cancel(desk: &Desk, args: AttachArgs) -> Result<u8> {
    let mut cx = desk.open(desk.target(args.environment)?).await?;
    cx.by = maker::person(args.by, &desk.here);
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
