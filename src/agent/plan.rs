//! Reports what a deploy would change, without touching the instance.

use crate::context::Context;
use crate::source::Resolved;
use crate::stage::{self, Found, peek};
use crate::store::App;
use crate::{owner, preflight};
use jiff::Timestamp;
use model::api::{PlanStatus, PlannedPhase, PlannedProcess, PlannedType};
use model::error::{Error, Exit, Result};
use model::installed::Snapshot;
use model::release::env::Env;
use model::release::identity::Identity;
use model::release::manifest::{FORMAT, Manifest, Plan, Process, Service};
use model::release::name::{Label, ProcessType};
use model::release::procfile::Procfile;
use model::release::settings::{ReleasePhase, SET_BY_AGENT, Strategy};
use model::release::state::State;
use model::release::url::ReleaseUrl;
use model::units;
use std::collections::BTreeMap;

pub async fn plan(cx: &Context, app: &App, url: &ReleaseUrl) -> Result<PlanStatus> {
    let resolved = cx.sources.resolve(url).await?;
    let Found { resolved, env, settings, installed: here, .. } =
        stage::find(cx, app, resolved).await?;
    let snapshot = app.snapshot()?;
    let text = match &here {
        Some(manifest) => app.procfile(&manifest.label)?,
        None => peek::procfile(&resolved, cx.settings.max_unpacked).await?,
    };
    let Some(text) = text else {
        let what = format!("read Procfile of {}", resolved.url());
        return Err(Error::unusable(what).because("the archive has none"));
    };
    let procfile = Procfile::parse(&text).map_err(|e| stage::refused(&resolved, "Procfile", e))?;
    let plan = Plan::new(&procfile, &settings, &app.name().user());
    let label = match &here {
        Some(manifest) => manifest.label.clone(),
        None => app.free_label(resolved.name()),
    };
    let nothing = snapshot.current.as_ref() == Some(&label);
    let refusals = match nothing {
        true => Vec::new(),
        false => refusals(cx, app, &resolved, here.as_ref(), &label, &plan),
    };
    let (start, stop) = match nothing {
        true => (Vec::new(), Vec::new()),
        false => {
            let mut start = processes(app, &label, &plan);
            if snapshot.current.is_none() {
                start.iter_mut().for_each(|process| process.how = String::new());
            }
            (start, running(app, &snapshot))
        }
    };
    let names = compare(&installed_env(app, &snapshot)?, &effective(&env));
    Ok(PlanStatus {
        app: app.name().to_string(),
        release: label.to_string(),
        url: resolved.url().to_string(),
        current: snapshot.current.as_ref().map(Label::to_string),
        nothing,
        fetch: here.is_none(),
        exit: refusals.first().map_or(Exit::Done, Error::exit),
        refused: refusals.into_iter().map(refusal).collect(),
        build: procfile.build().filter(|_| here.is_none()).map(str::to_owned),
        release_phase: procfile.release().map(|command| PlannedPhase {
            command: command.to_owned(),
            always: settings.release_phase == ReleasePhase::Always,
        }),
        types: types(&plan, snapshot.current()),
        start,
        stop,
        env_added: names.added,
        env_removed: names.removed,
        env_changed: names.changed,
    })
}

/// What `deploy` would refuse, as far as that can be known without the archive.
fn refusals(
    cx: &Context,
    app: &App,
    resolved: &Resolved,
    here: Option<&Manifest>,
    label: &Label,
    plan: &Plan,
) -> Vec<Error> {
    let mut manifest = here.cloned().unwrap_or_else(|| Manifest {
        format: FORMAT,
        label: label.clone(),
        url: resolved.url().clone(),
        identity: Identity::of(resolved.sighting(), None),
        state: State::Staged,
        staged_at: Timestamp::now(),
        uids: Vec::new(),
        replaced: None,
        serves: None,
        files: 0,
        bytes: 0,
        homes: true,
        process_dirs: Vec::new(),
        rolling: None,
        port_is_own: true,
        signed_by: None,
        staged_counts: BTreeMap::new(),
        plan: plan.clone(),
    });
    let user = || match owner::shared(cx, &app.snapshot()?) {
        Some(user) => cx.machine.ids(&user).map(drop),
        None => Ok(()),
    };
    let disk = || match here {
        Some(_) => Ok(()),
        None => stage::disk_space::check(app, resolved),
    };
    let ports = match here {
        Some(_) => Ok(()),
        None => stage::ports::give(&cx.store, &*cx.machine, &mut manifest),
    };
    let checks = [
        preflight::names(app.name()),
        preflight::environment(app, resolved.url()),
        user(),
        disk(),
        ports.and_then(|()| preflight::release(cx, app, &manifest)),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

fn refusal(error: Error) -> String {
    match error.advice() {
        Some(help) => format!("{} ({help})", error.chain()),
        None => error.chain(),
    }
}

fn types(plan: &Plan, current: Option<&Manifest>) -> Vec<PlannedType> {
    let now = |kind: &ProcessType| {
        let mut services = current?.plan.processes.iter();
        services.find(|service| service.kind == *kind).map(|service| service.count)
    };
    let planned = |service: &Service| PlannedType {
        kind: service.kind.to_string(),
        count: service.count,
        now: now(&service.kind),
        command: service.command.clone(),
    };
    plan.processes.iter().map(planned).collect()
}

fn processes(app: &App, label: &Label, plan: &Plan) -> Vec<PlannedProcess> {
    let command = |process: &Process| {
        let of = plan.processes.iter().find(|service| service.kind == process.kind);
        of.map(|service| service.command.clone()).unwrap_or_default()
    };
    let planned = |process: Process| PlannedProcess {
        unit: units::service(app.name(), label, &process),
        command: command(&process),
        how: how(plan, &process.kind),
        process: process.to_string(),
    };
    plan.instances().map(planned).collect()
}

/// How a process of this type takes over from the previous one.
fn how(plan: &Plan, kind: &ProcessType) -> String {
    let web = kind.as_str() == "web";
    match plan.strategy {
        Strategy::Handover if plan.is_singleton(kind) => "after the old one has stopped".into(),
        Strategy::Handover if web => format!("beside the old one, then gets port {}", plan.port),
        Strategy::Handover => "beside the old one, until that stops at the commit".into(),
        Strategy::Restart if web => format!("after the old one has stopped, on port {}", plan.port),
        Strategy::Restart => "after the old one has stopped".into(),
    }
}

fn running(app: &App, snapshot: &Snapshot) -> Vec<PlannedProcess> {
    let all = |manifest: &Manifest| processes(app, &manifest.label, &manifest.plan);
    let mut running = snapshot.current().map(all).unwrap_or_default();
    running.retain(|process| !snapshot.stopped.covers(&process.process));
    running
}

type Variables = BTreeMap<String, String>;

/// The variables of an env file that processes get.
fn effective(env: &Env) -> Variables {
    let own = |name: &str| !SET_BY_AGENT.contains(&name);
    let pairs = env.iter().filter(|(name, _)| own(name));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn installed_env(app: &App, snapshot: &Snapshot) -> Result<Variables> {
    let Some(label) = &snapshot.current else { return Ok(Variables::new()) };
    let text = app.environment_file(label)?;
    let env = Env::parse(&text)
        .map_err(|e| Error::failed(format!("read the env of release {label}")).because(e))?;
    Ok(effective(&env))
}

struct Names {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

fn compare(old: &Variables, new: &Variables) -> Names {
    let names = |of: &Variables, fits: &dyn Fn(&str, &str) -> bool| {
        let chosen = of.iter().filter(|(name, value)| fits(name, value));
        chosen.map(|(name, _)| name.clone()).collect()
    };
    Names {
        added: names(new, &|name, _| !old.contains_key(name)),
        removed: names(old, &|name, _| !new.contains_key(name)),
        changed: names(new, &|name, value| old.get(name).is_some_and(|old| old != value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_names_and_leaves_values_out() {
        let map = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        let old = map(&[("SAME", "1"), ("GONE", "1"), ("OTHER", "1")]);
        let names = compare(&old, &map(&[("SAME", "1"), ("NEW", "s3cret"), ("OTHER", "2")]));
        assert_eq!(names.added, ["NEW"]);
        assert_eq!(names.removed, ["GONE"]);
        assert_eq!(names.changed, ["OTHER"]);
    }
}
