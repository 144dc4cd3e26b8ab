//! What must hold before a deploy touches anything that runs.

use crate::context::{Context, blocking};
use crate::store::{App, Locked};
use crate::{converge, stage};
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::name::{AppName, Label};
use model::release::settings::{Sandbox, Strategy};
use model::release::url::ReleaseUrl;
use model::units;
use std::collections::BTreeSet;
use std::time::Duration;

/// A release that gets less time than this to become healthy is not tried.
const SHORTEST_PROOF: Duration = Duration::from_secs(10);

/// One environment of an app is installed at a time.
pub fn environment(app: &App, url: &ReleaseUrl) -> Result<()> {
    let snapshot = app.snapshot()?;
    let installed = snapshot.releases.iter().map(|manifest| manifest.url.environment());
    match installed.into_iter().find(|installed| *installed != url.environment()) {
        None => Ok(()),
        Some(other) => {
            let what = format!("deploy {url}");
            let why = format!("{} is installed here from its environment {other}", app.name());
            let help =
                format!("`deploy remove {}` first, or deploy to another instance", app.name());
            Err(Error::usage(what).because(why).help(help))
        }
    }
}

/// No other app has its ports or its units, and no stranger holds its ports.
pub fn release(cx: &Context, app: &App, manifest: &Manifest) -> Result<()> {
    unit_names(manifest)?;
    let others = app.snapshot()?.releases;
    let others = others.iter().filter(|other| other.label != manifest.label);
    let own: BTreeSet<String> = others.flat_map(units::templates).collect();
    if let Some(name) = units::templates(manifest).find(|name| own.contains(name)) {
        return Err(unit_taken(manifest, &name, "another release of the app has it"));
    }
    let names: BTreeSet<String> = units::templates(manifest).collect();
    for other in others_than(cx, app)? {
        let mut theirs = other.releases.iter().flat_map(units::templates);
        if let Some(name) = theirs.find(|name| names.contains(name)) {
            return Err(unit_taken(manifest, &name, &format!("the app {} has it", other.app)));
        }
    }
    public_ports(cx, app, manifest)?;
    let own = units::slice(app.name());
    for port in manifest.plan.public_ports() {
        if let Some(holder) = blocking(|| cx.machine.listener(port, Some(&own))) {
            let why = format!("{} (pid {}) listens on it", holder.name, holder.pid);
            return Err(port_taken(manifest, port, why));
        }
        if manifest.plan.udp
            && let Some(holder) = blocking(|| cx.machine.receiver(port, Some(&own)))
        {
            let why = format!("{} (pid {}) has it for UDP", holder.name, holder.pid);
            return Err(port_taken(manifest, port, why));
        }
    }
    can_be_bound(cx, manifest)
}

/// Its processes may bind the public ports, where they bind those themselves: without a
/// capability, which no sandbox leaves them, the lowest ports are root's.
fn can_be_bound(cx: &Context, manifest: &Manifest) -> Result<()> {
    let plan = &manifest.plan;
    if plan.strategy == Strategy::Handover || plan.sandbox == Sandbox::Off {
        return Ok(());
    }
    let first = cx.machine.first_unprivileged_port();
    match plan.public_ports().first() {
        Some(port) if *port < first => {
            let what = format!("bind port {port} for {} {}", manifest.url.app(), manifest.label);
            let why =
                format!("with DEPLOY_STRATEGY=restart a process needs a PORT from {first} on");
            let help = "set DEPLOY_STRATEGY=handover: then the kernel leads the port to it (that \
                        needs nftables); or choose another PORT";
            Err(Error::unusable(what).because(why).help(help))
        }
        _ => Ok(()),
    }
}

/// The longest name that systemd takes for a unit, `UNIT_NAME_MAX`, less the `.d` of the
/// directory of its drop-ins.
const LONGEST_UNIT: usize = 253;
/// The same where it makes a directory for PrivateTmp=yes: `systemd-private-BOOT-UNIT-XXXXXX`,
/// which no file system takes with more than 255 bytes.
const LONGEST_PRIVATE: usize = 199;

/// systemd takes the names of the app's slice and target, whatever its releases are called.
pub fn names(app: &AppName) -> Result<()> {
    let help = "shorten the app's name: each hyphen of it takes 4 bytes in the name of its slice";
    let names = [units::slice(app), units::target(app)];
    names.iter().try_for_each(|name| fits(name, LONGEST_UNIT, app.as_str(), help))
}

/// systemd starts units with the names of the release's.
fn unit_names(manifest: &Manifest) -> Result<()> {
    let longest = match manifest.plan.sandbox {
        Sandbox::Off => LONGEST_UNIT,
        Sandbox::Full | Sandbox::Strict => LONGEST_PRIVATE,
    };
    let whose = format!("{} {}", manifest.url.app(), manifest.label);
    let help = "shorten the name of the app, the process type or the release";
    units::unit_names(manifest).iter().try_for_each(|name| fits(name, longest, &whose, help))
}

fn fits(name: &str, longest: usize, whose: &str, help: &str) -> Result<()> {
    if name.len() <= longest {
        return Ok(());
    }
    let what = format!("make units for {whose}");
    let why = format!("{name} has {} bytes, and systemd takes {longest}", name.len());
    Err(Error::unusable(what).because(why).help(help))
}

/// No other app has taken one of its public ports since it was admitted.
pub fn public_ports(cx: &Context, app: &App, manifest: &Manifest) -> Result<()> {
    let ports = manifest.plan.public_ports();
    for other in others_than(cx, app)? {
        let taken = other.current().map(|m| m.plan.public_ports()).unwrap_or_default();
        if let Some(port) = taken.intersection(&ports).next().copied() {
            return Err(port_taken(manifest, port, format!("the app {} has it", other.app)));
        }
    }
    Ok(())
}

/// The other apps of this instance. A damaged one has what it had when it could last be read.
fn others_than(cx: &Context, app: &App) -> Result<impl Iterator<Item = Snapshot>> {
    let own = app.name().clone();
    let others = cx.store.seen()?.into_iter().filter(move |other| other.app != own);
    Ok(others.filter_map(|other| other.snapshot))
}

/// A release that is installed has its private ports, but a stranger may have
/// taken one while it did not run, or it was scaled: then it gets others.
pub async fn private_ports(cx: &Context, app: &Locked, manifest: &mut Manifest) -> Result<()> {
    let bound = cx.machine.bound_ports();
    let taken = manifest.plan.private_ports.iter().any(|port| bound.contains(port));
    let missing = manifest.plan.private_ports.len() != manifest.plan.private_ports_needed();
    if !(taken || missing) || !converge::live_of(cx, app, &manifest.label).await?.is_empty() {
        return Ok(());
    }
    let _turn = cx.common.allocating.lock().await;
    stage::ports::give(&cx.store, &*cx.machine, manifest)?;
    app.write_manifest(manifest)
}

/// There is time left to prove the release: nothing is stopped for one that
/// cannot be committed any more.
pub fn in_time(cx: &Context, manifest: &Manifest) -> Result<()> {
    let needed = manifest.plan.health_timeout.min(SHORTEST_PROOF);
    if cx.remaining(needed) == needed {
        return Ok(());
    }
    let what = format!("prove {} {}", manifest.url.app(), manifest.label);
    let error = Error::source(what).because("too little of the time given with --timeout is left");
    let error = error.with_reason(Reason::DeadlinePassed);
    Err(error.help("it is staged now: deploy it again"))
}

fn unit_taken(manifest: &Manifest, name: &str, why: &str) -> Error {
    let what = format!("use the unit {name} for {} {}", manifest.url.app(), manifest.label);
    Error::unusable(what).because(why).help("rename the process type, or the release")
}

fn port_taken(manifest: &Manifest, port: u16, why: String) -> Error {
    let what = format!("use port {port} for {} {}", manifest.url.app(), manifest.label);
    Error::unusable(what)
        .because(why)
        .with_reason(Reason::PortTaken)
        .help("stop that, or choose another PORT in the release's env")
}

/// The release that a rollback goes to: one that was good here.
pub fn rollback(app: &Locked, to: Option<Label>) -> Result<Manifest> {
    let snapshot = app.snapshot()?;
    let good = || {
        let good = snapshot.releases.iter().filter(|manifest| manifest.state.is_good());
        let labels: Vec<_> = good.map(|manifest| manifest.label.to_string()).collect();
        if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }
    };
    let what = |to: &str| Error::usage(format!("roll {} back{to}", app.name()));
    match to {
        None => snapshot.rollback_target().map(whole).ok_or_else(|| {
            let why = "no earlier release that was good is installed";
            let current = snapshot.current.as_ref();
            let later = |m: &&Manifest| m.state.is_good() && Some(&m.label) != current;
            let help = match snapshot.releases.iter().rev().find(later) {
                Some(later) => format!(
                    "`deploy rollback {} --to {}` goes forward to {}",
                    app.name(),
                    later.label,
                    later.label
                ),
                None => format!("`deploy releases {}` lists what is installed", app.name()),
            };
            what("").because(why).help(help)
        }),
        Some(label) => match snapshot.release(&label) {
            Some(manifest) if manifest.state.is_good() => Ok(whole(manifest)),
            Some(manifest) => {
                let why = format!("that release is {}; good ones: {}", manifest.state, good());
                Err(what(&format!(" to {label}")).because(why).help("name one of those"))
            }
            None => {
                let why = format!("no such release is installed; good ones: {}", good());
                Err(what(&format!(" to {label}")).because(why).help("name one of those"))
            }
        },
    }
}

/// The release without what an interrupted restart of it has left.
fn whole(manifest: &Manifest) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.end_rolling();
    manifest
}

/// The app whose name the operator gave, or the only one that is installed.
pub fn which(apps: &[App], app: Option<AppName>) -> Result<AppName> {
    let installed: Vec<_> = apps.iter().filter(|app| app.exists()).map(|app| app.name()).collect();
    let known = |name: &AppName| apps.iter().any(|app| app.name() == name);
    let list = || installed.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match (app, installed.as_slice()) {
        (Some(app), _) if known(&app) => Ok(app),
        (Some(app), _) => {
            let why = format!(
                "installed here: {}",
                if installed.is_empty() { "none".into() } else { list() }
            );
            Err(Error::usage(format!("find the app {app}"))
                .with_reason(Reason::NotFound)
                .because(why)
                .help("`deploy URL` installs one"))
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => {
            let what = "find an app";
            Err(Error::usage(what).because("none is installed").help("`deploy URL` installs one"))
        }
        (None, _) => {
            let why = format!("there are several: {}", list());
            Err(Error::usage("choose an app").because(why).help("name one of them"))
        }
    }
}
