//! `deploy env`: the variables of an app's processes, and where each comes from. Values are only
//! in the answer for the names that the question has.

use super::processes;
use crate::context;
use crate::preflight;
use crate::store::{App, Store};
use model::api::{EnvQuery, EnvStatus, Variable};
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::release::env::Env;
use model::release::manifest::{Manifest, Service};
use model::release::name::Label;
use model::release::settings::SET_BY_AGENT;
use model::units;
use std::collections::{BTreeMap, BTreeSet};

type Variables = BTreeMap<String, String>;

/// Answers the question, with an error for a name that does not exist.
pub(super) fn env(store: &Store, asked: &EnvQuery) -> Result<EnvStatus> {
    let (app, names) = app_and_names(store, &asked.words)?;
    let manifest = processes::current(&app)?;
    let snapshot = app.snapshot()?;
    let before = snapshot.rollback_target().map(|manifest| manifest.label.clone());
    let now = of_release(&app, &manifest.label)?;
    let old = before.as_ref().map(|label| of_release(&app, label)).transpose()?;
    let mut variables = compared(&now, old.as_ref());
    let mut agent = of_agent(&snapshot, &manifest)?;
    // HOME and the defaults are the release's where its env sets them.
    agent.retain(|name, _| !now.contains_key(name));
    let by_agent = |name: &String| variable(name, "agent", None);
    variables.extend(agent.keys().map(by_agent));
    let (agent_env, _) = context::load_settings()?;
    let settings = in_agent_env(&agent_env, &now);
    variables.extend(settings.keys().map(|name| variable(name, "agent.env", None)));
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    if !names.is_empty() {
        variables = chosen(variables, &names, &app, &manifest.label)?;
        for variable in &mut variables {
            let name = &variable.name;
            let found = agent.get(name).or_else(|| now.get(name)).or_else(|| settings.get(name));
            variable.value = found.cloned();
        }
    }
    Ok(EnvStatus {
        app: app.name().to_string(),
        release: manifest.label.to_string(),
        before: before.map(|label| label.to_string()),
        variables,
    })
}

/// Splits `[APP] [NAME…]`: the first word is an app if one has that name.
fn app_and_names(store: &Store, words: &str) -> Result<(App, BTreeSet<String>)> {
    let apps = store.apps()?;
    let mut words: Vec<&str> = words.split_ascii_whitespace().collect();
    let is_app = |word: &&str| apps.iter().any(|app| app.name().as_str() == *word);
    let first = words.first().copied().filter(is_app);
    if first.is_some() {
        words.remove(0);
    }
    let name = first.map(processes::parse).transpose()?;
    let name = preflight::which(&apps, name).map_err(|error| match words.first() {
        Some(word) if first.is_none() => {
            error.help(format!("{word} is no app that is installed here"))
        }
        _ => error,
    })?;
    Ok((store.app(&name), words.into_iter().map(str::to_owned).collect()))
}

/// The variables of a release's env that its processes get.
fn of_release(app: &App, label: &Label) -> Result<Variables> {
    let env = Env::parse(&app.environment_file(label)?)
        .map_err(|e| Error::failed(format!("read the env of release {label}")).because(e))?;
    let own = env.iter().filter(|(name, _)| !SET_BY_AGENT.contains(name));
    Ok(own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The variables that the agent sets, as the first process has them.
fn of_agent(snapshot: &Snapshot, manifest: &Manifest) -> Result<Variables> {
    let Some(first) = manifest.plan.instances().next() else { return Ok(Variables::new()) };
    let service = Service { kind: first.kind.clone(), command: String::new(), count: 1 };
    let mut found = Variables::new();
    for line in units::confinement(snapshot, manifest, &service).lines() {
        let assignment = line.strip_prefix("Environment=").and_then(|line| line.split_once('='));
        if let Some((name, value)) = assignment {
            let value = value.replace("%i", "1").replace("%%", "%");
            found.insert(name.to_owned(), value);
        }
    }
    if let Some(port) = first.port {
        found.insert("PORT".to_owned(), port.to_string());
        found.insert("PUBLIC_PORT".to_owned(), manifest.plan.port.to_string());
    }
    Ok(found)
}

/// The settings of agent.env that apply to the release since its own env lacks them. Processes
/// do not get them as variables.
fn in_agent_env(agent_env: &Env, release: &Variables) -> Variables {
    let own = |name: &str| name.starts_with("DEPLOY_") && !release.contains_key(name);
    let pairs = agent_env.iter().filter(|(name, _)| own(name));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn compared(now: &Variables, before: Option<&Variables>) -> Vec<Variable> {
    let change = |name: &String, value: &String| {
        Some(match before?.get(name) {
            None => "new",
            Some(old) if old == value => "same",
            Some(_) => "changed",
        })
    };
    let present = now.iter().map(|(name, value)| variable(name, "release", change(name, value)));
    let names = before.into_iter().flatten().map(|(name, _)| name);
    let gone = names.filter(|name| !now.contains_key(*name));
    present.chain(gone.map(|name| variable(name, "release", Some("gone")))).collect()
}

fn variable(name: &str, from: &str, change: Option<&str>) -> Variable {
    let change = change.map(str::to_owned);
    Variable { name: name.to_owned(), from: from.to_owned(), change, value: None }
}

fn chosen(
    all: Vec<Variable>,
    names: &BTreeSet<String>,
    app: &App,
    label: &Label,
) -> Result<Vec<Variable>> {
    let unknown = names.iter().find(|name| !all.iter().any(|one| one.name == **name));
    if let Some(name) = unknown {
        let error = Error::usage(format!("find the variable {name}"));
        let why = format!("release {label} of {} has none of this name", app.name());
        return Err(error
            .because(why)
            .help(format!("`deploy env {}` lists the names", app.name())));
    }
    Ok(all.into_iter().filter(|one| names.contains(&one.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_with_the_release_before_without_any_value() {
        let map = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let old = map(&[("SAME", "1"), ("GONE", "1"), ("OTHER", "1")]);
        let now = map(&[("SAME", "1"), ("OTHER", "2"), ("NEW", "1")]);
        let found = compared(&now, Some(&old));
        let change = |name: &str| {
            found.iter().find(|one| one.name == name).and_then(|one| one.change.as_deref())
        };
        assert_eq!(change("SAME"), Some("same"));
        assert_eq!(change("GONE"), Some("gone"));
        assert_eq!(change("OTHER"), Some("changed"));
        assert_eq!(change("NEW"), Some("new"));
        assert!(found.iter().all(|one| one.value.is_none()));
        assert!(compared(&now, None).iter().all(|one| one.change.is_none()));
    }
}
