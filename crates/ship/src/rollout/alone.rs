//! `ship rollback`, also while the store does not respond: then without lock, record and pointer,
//! to the release that the instances themselves would go back to.

use super::record::{Rollout, newest};
use super::run::Run;
use super::{Action, Event, Group, SKIPPED, Wish, begin, look};
use crate::context::Context;
use crate::document;
use crate::fleet::{Host, Seen, names};
use crate::objects::{Aside, Condition, Objects, is_silent};
use model::error::{Error, Exit, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rollouts in which the last good deploy is looked for.
const LOOKED_AT: usize = 50;

type Answers = BTreeMap<Host, Result<Seen, String>>;

/// Rolls a group back to `to`, or to the release before. `wish` is what else is asked for.
pub async fn roll_back(
    group: &Group,
    to: Option<String>,
    wish: impl Fn(String) -> Wish,
) -> Result<Rollout> {
    let recorded = async {
        responds(group).await?;
        let to = match to.clone() {
            Some(to) => to,
            None => before(&group.cx).await?,
        };
        begin(group, &wish(to)).await
    };
    match recorded.await {
        Ok((record, lease)) => Run::new(group, record, lease).finish().await,
        Err(silence) if is_silent(&silence) => alone(group, &silence, to, wish).await,
        Err(error) => Err(error),
    }
}

/// Returns the release that a rollback would go to now.
pub async fn target(group: &Group) -> Result<String> {
    let found = async {
        responds(group).await?;
        before(&group.cx).await
    };
    match found.await {
        Err(silence) if is_silent(&silence) => agreed(&group.cx, &look(group).await?, &silence),
        found => found,
    }
}

async fn responds(group: &Group) -> Result<()> {
    group.cx.store.responds(&group.cx.place.pointer()).await
}

/// Returns the release before the last good deploy of the one that is current.
async fn before(cx: &Context) -> Result<String> {
    let current = document::current(&*cx.store, &cx.place).await?;
    let records = newest(cx, LOOKED_AT).await?;
    let is_good = |one: &Rollout| {
        let code = one.verdict.as_ref().map(|verdict| verdict.code);
        one.action == Action::Deploy
            && matches!(code, Some(0 | SKIPPED))
            && Some(&one.to) == current.as_ref()
            && one.from != current
    };
    let last = records.into_iter().map(|record| record.rollout).find(is_good);
    last.and_then(|rollout| rollout.from).ok_or_else(|| {
        let error = Error::usage(format!("find the release before that of {}", cx.place));
        error.because("the history has no deploy of the current one over another").help(name_it(cx))
    })
}

/// Rolls back without the store: its documents are in the memory of this ship.
async fn alone(
    group: &Group,
    silence: &Error,
    to: Option<String>,
    wish: impl Fn(String) -> Wish,
) -> Result<Rollout> {
    group.tell(Event::Warning { text: format!("the store does not respond: {}", silence.chain()) });
    let seen = look(group).await?;
    let to = match to {
        Some(to) => to,
        None => agreed(&group.cx, &seen, silence)?,
    };
    let text = "this rollback goes on without the lock, and writes nothing down: nobody can know \
        who else rolls out now; each instance does one job after the other";
    group.tell(Event::Warning { text: text.to_owned() });
    let store = Arc::new(Aside::new(Arc::clone(&group.cx.store)));
    if let Some(from) = most_common(&seen, &to) {
        let bytes = format!("{from}\n").into_bytes();
        store.put(&group.cx.place.pointer(), bytes, Condition::Any).await?;
    }
    let cx = Context { store, ..group.cx.clone() };
    let group = Group { cx, ..group.clone() };
    let (record, lease) = begin(&group, &wish(to)).await?;
    Run { is_alone: true, ..Run::new(&group, record, lease) }.finish().await
}

/// Returns the release that all instances would go back to. After a rollback that is one further
/// back, which nobody means who repeats it.
fn agreed(cx: &Context, seen: &Answers, silence: &Error) -> Result<String> {
    let refusal = |why: String| {
        let what = format!("find the release before that of {}", cx.place);
        let error = Error::new(Exit::NoAgent, what).with_reason(silence.reason());
        error.because(format!("the store does not respond, and {why}"))
    };
    if let Some((release, seen)) = rolled_back(seen) {
        let hosts = names(seen.keys().copied());
        let why = format!("a rollback has brought {hosts} to {release} already");
        let environment = &cx.place.environment;
        let again = format!("`ship rollback {environment} --to {release}` repeats it");
        let further: BTreeSet<&str> = seen.into_values().flatten().collect();
        let help = match further.first() {
            Some(further) => format!("name the release: {again}, `--to {further}` goes further"),
            None => format!("name the release: {again}"),
        };
        return Err(refusal(why).help(help));
    }
    let mut said: BTreeMap<Option<&str>, Vec<&Host>> = BTreeMap::new();
    for (host, seen) in seen {
        if let Ok(seen) = seen {
            said.entry(seen.rollback.as_deref()).or_default().push(host);
        }
    }
    if let (1, Some((Some(to), _))) = (said.len(), said.first_key_value()) {
        return Ok((*to).to_owned());
    }
    let answer = |(to, hosts): (Option<&str>, Vec<&Host>)| {
        format!("{} on {}", to.unwrap_or("no release"), names(hosts))
    };
    let answers: Vec<String> = said.into_iter().map(answer).collect();
    let why = match answers.as_slice() {
        [] => "no instance answers".to_owned(),
        answers => format!("the instances would go back to {}", answers.join("; ")),
    };
    Err(refusal(why).help(name_it(cx)))
}

/// Returns a release that a rollback has brought back, with the instances that run it since, and
/// where they would go from there.
fn rolled_back(seen: &Answers) -> Option<(&str, BTreeMap<&Host, Option<&str>>)> {
    let back = || {
        let answers = seen.iter().filter_map(|(host, seen)| Some((host, seen.as_ref().ok()?)));
        let back = answers.filter(|(_, seen)| seen.rolled_back);
        back.filter_map(|(host, seen)| Some((host, seen.release.as_deref()?, seen)))
    };
    let (_, release, _) = back().next()?;
    let same = back().filter(|(_, runs, _)| *runs == release);
    Some((release, same.map(|(host, _, seen)| (host, seen.rollback.as_deref())).collect()))
}

/// Returns the release that most instances run, which is most likely the one to leave.
fn most_common(seen: &Answers, to: &str) -> Option<String> {
    let running = || seen.values().flatten().filter_map(|seen| seen.release.as_deref());
    let others: BTreeSet<&str> = running().filter(|release| *release != to).collect();
    let most = others.into_iter().max_by_key(|one| running().filter(|it| it == one).count());
    most.or_else(|| running().next()).map(str::to_owned)
}

fn name_it(cx: &Context) -> String {
    format!("name it: `ship rollback {} --to rN`", cx.place.environment)
}
