//! Settings, users, and the state directory.

use super::{Instance, aside};
use crate::context::OPERATORS;
use crate::formation::unapplied;
use crate::host::disk::Space;
use crate::store::{App, Seen};
use indicatif::HumanBytes;
use model::doctor::{Check, Row};
use model::error::{Error, Result};
use model::release::manifest::Manifest;
use model::release::settings::{AGENT_FILE, WatchSettings};

pub async fn settings(instance: &Instance) -> Row {
    if let Some(error) = &instance.settings_error {
        return Row::of_error(Check::Settings, error);
    }
    match WatchSettings::from_env(&instance.cx.agent_env) {
        Ok(_) => {
            let names = instance.cx.agent_env.iter().count();
            Row::ok(Check::Settings, format!("valid, {names} variables"))
        }
        Err(error) => Row::of_error(Check::Settings, &error),
    }
}

/// Whether each app runs with the settings that agent.env has now.
pub async fn taken(instance: &Instance) -> Row {
    if instance.settings_error.is_some() {
        return Row::skipped(Check::SettingsTaken, format!("{AGENT_FILE} is not valid"));
    }
    let (mut changed, mut unknown, mut known) = (Vec::new(), Vec::new(), 0_usize);
    for (app, manifest) in current(instance) {
        match unapplied(&instance.cx.agent_env, &app, &manifest) {
            Ok(None) => known += 1,
            Ok(Some(remedy)) => changed.push((app.name().to_string(), remedy)),
            Err(_) => unknown.push(app.name().to_string()),
        }
    }
    if !changed.is_empty() {
        let (apps, remedies): (Vec<String>, Vec<String>) = changed.into_iter().unzip();
        let text = format!("not in use yet by {}", super::list(&apps));
        return Row::warning(Check::SettingsTaken, text, remedies.join("; "));
    }
    match (unknown.is_empty(), known) {
        (false, _) => {
            let text = format!("cannot be compared for {}", super::list(&unknown));
            Row::skipped(Check::SettingsTaken, text)
        }
        (_, 0) => Row::skipped(Check::SettingsTaken, "no app is installed"),
        _ => Row::ok(Check::SettingsTaken, format!("each app runs with those of {AGENT_FILE}")),
    }
}

/// The apps that can be read, with their current releases.
pub fn current(instance: &Instance) -> Vec<(App, Manifest)> {
    let apps = instance.cx.store.apps().unwrap_or_default();
    let with_current = |app: App| {
        let manifest = app.seen().snapshot?.current()?.clone();
        Some((app, manifest))
    };
    apps.into_iter().filter_map(with_current).collect()
}

/// Whether the state is this machine's, and readable.
pub async fn machine(instance: &Instance) -> Row {
    let apps = match instance.cx.store.apps() {
        Ok(apps) => apps,
        Err(error) => return Row::of_error(Check::Machine, &error),
    };
    let mut foreign = Vec::new();
    for app in &apps {
        if let Seen { damage: Some(damage), .. } = app.seen() {
            return Row::of_error(Check::Machine, &damage);
        }
        if app.is_left_by_another_machine() {
            foreign.push(app.name().to_string());
        }
    }
    if foreign.is_empty() {
        return Row::ok(Check::Machine, "the state is this machine's, and readable");
    }
    let names = super::list(&foreign);
    let text = format!("another machine's state, of which nothing runs here: {names}");
    let remedy = "deploy each app here, which reuses its files, or `deploy remove` it";
    Row::warning(Check::Machine, text, remedy)
}

/// The group of the operators, and the users that apps run as.
pub async fn users(instance: &Instance) -> Row {
    let machine = &instance.cx.machine;
    if !machine.has_group(OPERATORS) {
        let text = format!("there is no group {OPERATORS}: only root may deploy");
        let remedy = "run `systemd-sysusers`, then `systemctl restart deployd.socket deployd`";
        return Row::failed(Check::Users, text, remedy);
    }
    let mut missing = Vec::new();
    let mut found = 0_usize;
    for (app, manifest) in current(instance) {
        let mut names = vec![manifest.plan.user.clone()];
        if manifest.plan.user == app.name().user() {
            names.push(app.name().builder());
        }
        for name in names {
            match machine.ids(&name) {
                Ok(_) => found += 1,
                Err(_) => missing.push(name),
            }
        }
    }
    if missing.is_empty() {
        return Row::ok(Check::Users, format!("group {OPERATORS}, and {found} users of apps"));
    }
    let text = format!("there is no user {}", super::list(&missing));
    let remedy = "deploy the app again, which creates its users";
    Row::failed(Check::Users, text, remedy)
}

pub async fn disk(instance: &Instance) -> Row {
    match space(instance).await {
        Ok((path, space)) => judge_bytes(&path, space),
        Err(error) => Row::of_error(Check::Disk, &error),
    }
}

pub async fn inodes(instance: &Instance) -> Row {
    match space(instance).await {
        Ok((path, space)) => judge_inodes(&path, space),
        Err(error) => Row::of_error(Check::Inodes, &error),
    }
}

/// The space at the state directory, or at the nearest directory above it that exists.
async fn space(instance: &Instance) -> Result<(String, Space)> {
    let root = instance.cx.store.root();
    let mut path = root;
    while let Some(parent) = path.parent()
        && !path.exists()
    {
        path = parent;
    }
    let path = path.to_owned();
    let failed = || Error::failed(format!("read the free space at {}", root.display()));
    let space = aside(move || Space::at(&path)).await.ok_or_else(failed)??;
    Ok((root.display().to_string(), space))
}

const MAKE_ROOM: &str = "enlarge the disk, or make room: lower DEPLOY_KEEP_RELEASES, \
                         `deploy remove` an app, `journalctl --vacuum-size=100M`";

fn judge_bytes(path: &str, space: Space) -> Row {
    let (free, size) = (HumanBytes(space.bytes), HumanBytes(space.size));
    let text = format!("{free} of {size} free at {path}");
    // The inodes have a row of their own.
    let space = Space { inodes: None, ..space };
    match (space.is_used_up(), space.is_scarce()) {
        (true, _) => Row::failed(Check::Disk, text, MAKE_ROOM),
        (_, true) => Row::warning(Check::Disk, text, MAKE_ROOM),
        _ => Row::ok(Check::Disk, text),
    }
}

fn judge_inodes(path: &str, space: Space) -> Row {
    let Some(inodes) = space.inodes else {
        return Row::skipped(Check::Inodes, format!("the file system at {path} has no limit"));
    };
    let text = format!("{inodes} free at {path}");
    let space = Space { bytes: u64::MAX, ..space };
    match (space.is_used_up(), space.is_scarce()) {
        (true, _) => Row::failed(Check::Inodes, text, MAKE_ROOM),
        (_, true) => Row::warning(Check::Inodes, text, MAKE_ROOM),
        _ => Row::ok(Check::Inodes, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::doctor::Health;

    #[test]
    fn bytes_and_inodes_are_judged_apart() {
        let space = |bytes, inodes| Space { bytes, inodes, block: 4096, size: 8 << 30 };
        for (bytes, inodes, of_bytes, of_inodes) in [
            (1 << 30, Some(9999), Health::Ok, Health::Ok),
            (1 << 20, Some(9999), Health::Warning, Health::Ok),
            (1 << 10, Some(9999), Health::Failed, Health::Ok),
            (1 << 30, Some(100), Health::Ok, Health::Warning),
            (1 << 30, Some(0), Health::Ok, Health::Failed),
            (1 << 30, None, Health::Ok, Health::Skipped),
        ] {
            assert_eq!(judge_bytes("/", space(bytes, inodes)).result, of_bytes, "{bytes}");
            assert_eq!(judge_inodes("/", space(bytes, inodes)).result, of_inodes, "{inodes:?}");
        }
    }
}
