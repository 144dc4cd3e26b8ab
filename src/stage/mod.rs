//! Stages a release: brings it onto the disk, complete and checked, without touching anything that
//! runs.

mod build;
pub mod confined;
mod once;
pub mod pace;
mod unit_names;
pub mod phase;
pub mod misplaced;
pub mod ports;
pub mod fetch;
mod homes;
pub mod inflate;
pub mod peek;
mod same;
mod signed;
mod syncing;
pub mod buffer_channel;
mod resolve;
pub mod disk_space;
pub mod unpack;
mod writable;
mod writeback;

pub use resolve::resolve;
pub use signed::{Signed, note_signer};
pub use syncing::Syncing;

use crate::clues;
use crate::context::{Context, blocking};
use crate::host::disk;
use crate::owner::{self, Owner as AppOwner};
use crate::source::Resolved;
use crate::store::{App, Locked, Staging};
use fetch::Bounds;
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use model::event::Step;
use model::release::ParseError;
use model::release::digest::Sha256;
use model::release::env::Env;
use model::release::formation;
use model::release::identity::{Content, Identity};
use model::release::manifest::{FORMAT, Manifest, Plan};
use model::release::name::{AppName, Label};
use model::release::procfile::Procfile;
use model::release::settings::{AGENT_FILE, ReleaseSettings, SET_BY_AGENT, Strategy};
use model::release::state::State;
use model::units;
use pace::Pace;
use std::time::Duration;
use unpack::{Limits, Owner};

/// The reason of an error when the caller's deadline ends a step.
const TIME_OVER: &str = "the time given with --timeout is over";

/// A release that is complete; staging starts nothing.
#[derive(Debug)]
pub struct Staged {
    pub manifest: Manifest,
    /// The release was installed before: only its env was fetched.
    pub reused: bool,
    /// A candidate may be started before its end; a release is committed only after it.
    pub sync: Syncing,
}

impl Staged {
    /// A release that was installed before.
    pub fn reused(manifest: Manifest) -> Staged {
        Staged { manifest, reused: true, sync: Syncing::of_nothing() }
    }
}

/// A resolved release with its env and settings parsed; its archive is not fetched yet.
pub struct Found {
    pub resolved: Resolved,
    pub env: Env,
    /// Digest of the bytes of env.
    pub env_digest: Sha256,
    pub settings: ReleaseSettings,
    /// The installed release with surely the same content and settings. `None` if only the
    /// archive's bytes could show it.
    pub installed: Option<Manifest>,
    /// Its verified signature, if this instance requires one.
    pub signed: Option<Signed>,
}

/// Reads the env of the resolved release, and looks for it among the installed ones.
pub async fn find(cx: &Context, app: &App, resolved: Resolved) -> Result<Found> {
    let over = || Error::source(format!("read env of {}", resolved.url())).because(TIME_OVER);
    let bytes = cx.in_time(resolved.env()).await.ok_or_else(over)??;
    let named = |error| with_url(&resolved, error);
    let env_digest = Sha256::of(&bytes);
    let signed = signed::verify(cx, &resolved, &env_digest).await?;
    let env = Env::parse(&bytes).map_err(|e| refused(&resolved, "env", e))?;
    let mut settings = ReleaseSettings::merge(&cx.agent_env, &env).map_err(named)?;
    if (settings.strategy == Strategy::Handover || !settings.metadata)
        && let Some(why) = cx.machine.cannot_load(&units::ports::example()).await?
    {
        if !settings.metadata {
            return Err(named(Error::unusable("block the metadata service").because(why)));
        }
        cx.events.warn(format!("no handover, but a restart: {}", why.chain()));
        settings.strategy = Strategy::Restart;
    }
    let installed = same::known(app, &resolved, &env_digest, &settings)?;
    let installed = installed.filter(|manifest| Signed::allows(signed.as_ref(), manifest));
    Ok(Found { resolved, env, env_digest, settings, installed, signed })
}

/// Stages the release, unless it is installed already.
pub async fn stage(cx: &Context, app: &Locked, found: Found) -> Result<Staged> {
    if let Some(manifest) = found.installed {
        return Ok(Staged::reused(manifest));
    }
    let resolved = &found.resolved;
    let owner = owner::identities(cx, app).await?;
    if owner::may_move(cx, &app.snapshot()?) {
        let (app, user) = (app.name(), &owner.user);
        cx.events.warn(format!(
            "{app} runs as {user}, as other apps may: `deploy restart {app} --own-user` gives it \
             a user of its own, with all its files"
        ));
    }
    if !found.settings.metadata && !owner.is_own() {
        return Err(shares_its_user(app, &owner));
    }
    app.retire_failed()?;
    disk_space::make(cx, app, resolved)?;
    let mut staged = bring(cx, app, &found, &owner).await;
    if let Err(error) = &staged
        && disk::is_full(error)
        && disk_space::clear(cx, app, error)?
    {
        staged = bring(cx, app, &found, &owner).await;
    }
    staged.map_err(|error| match disk::is_full(&error) {
        true => disk_space::full(resolved, error),
        false => error,
    })
}

/// DEPLOY_METADATA=no blocks access by the user's uid: it would hold for other apps too.
fn shares_its_user(app: &App, owner: &AppOwner) -> Error {
    let why = format!("{} runs as {}, which other apps may do too", app.name(), owner.user);
    let error = Error::unusable("block the metadata service (DEPLOY_METADATA=no)").because(why);
    error.help(format!(
        "give it a user of its own: take DEPLOY_USER out of {AGENT_FILE} if it is there, and \
         `deploy restart {} --own-user`",
        app.name()
    ))
}

/// How many labels are tried for a release whose unit names are taken by other apps.
const MOST_LABELS: usize = 9;

/// The result of filling a staging directory.
enum Filled {
    Whole(Box<Manifest>),
    /// The bytes are those of this installed release, which is used instead.
    Again(Box<Manifest>),
    /// This app has a unit with a name that the release needs.
    NameTaken(AppName),
}

/// Brings the release onto the disk; removes everything if it fails, or if the release is
/// installed already.
async fn bring(cx: &Context, app: &Locked, found: &Found, owner: &AppOwner) -> Result<Staged> {
    let resolved = &found.resolved;
    cx.events.step(Step::Stage, describe(resolved));
    if let Some(algorithm) = resolved.checksum_of_parts() {
        cx.events.warn(format!(
            "its stored {algorithm} is a checksum of its parts' checksums (COMPOSITE): the bytes \
             that are read are not compared with it"
        ));
    }
    for label in app.free_labels(resolved.name()).take(MOST_LABELS) {
        match bring_as(cx, app, found, owner, &label).await? {
            Brought::Staged(staged) => return Ok(*staged),
            Brought::NameTaken(other) => {
                let what = format!("{label} gets another label: the app {other} has its units");
                cx.events.step(Step::Stage, what);
            }
        }
    }
    let what = format!("name the units of {}", resolved.url());
    let error = Error::unusable(what).because("other apps have all names that it could have");
    Err(error.help("rename the process type, or the release"))
}

/// The result of staging a release under one label.
enum Brought {
    Staged(Box<Staged>),
    /// This app has units with the same names.
    NameTaken(AppName),
}

async fn bring_as(
    cx: &Context,
    app: &Locked,
    found: &Found,
    owner: &AppOwner,
    label: &Label,
) -> Result<Brought> {
    let resolved = &found.resolved;
    let staged = |staged| Brought::Staged(Box::new(staged));
    let staging = blocking(|| app.begin_staging(label, owner.ids, owner.builder.ids))?;
    match fill(cx, app, found, &staging, owner).await {
        Ok(Filled::NameTaken(other)) => {
            blocking(|| drop(staging));
            Ok(Brought::NameTaken(other))
        }
        Ok(Filled::Again(manifest)) => {
            blocking(|| drop(staging));
            let what = format!("it is {} once more, which is installed", manifest.label);
            cx.events.step(Step::Stage, what);
            let manifest = same::remember(app, *manifest, resolved.sighting())?;
            let manifest = note_signer(app, manifest, found.signed.as_ref())?;
            Ok(staged(Staged::reused(manifest)))
        }
        Ok(Filled::Whole(mut manifest)) => {
            let _turn = cx.common.allocating.lock().await;
            ports::give(&cx.store, &*cx.machine, &mut manifest)?;
            let unsynced = blocking(|| staging.finish(&manifest))?;
            let sync = Syncing::begin(cx.machine.clone(), unsynced)?;
            Ok(staged(Staged { manifest: *manifest, reused: false, sync }))
        }
        Err(error) => {
            blocking(|| drop(staging));
            Err(error)
        }
    }
}

/// Returns the pace of a stage: an instance without an app has none to hurt.
fn pace(cx: &Context) -> Result<Pace> {
    let serves = |app: &App| app.current().is_ok_and(|label| label.is_some());
    Ok(if cx.store.apps()?.iter().any(serves) { Pace::beside_apps() } else { Pace::free() })
}

/// Fills an empty staging directory with env, the tree, and the result of `build`.
async fn fill(
    cx: &Context,
    app: &Locked,
    found: &Found,
    staging: &Staging,
    runs_as: &AppOwner,
) -> Result<Filled> {
    let Found { resolved, env, env_digest, settings, signed, .. } = found;
    let named = |error| with_url(resolved, error);
    staging.write_env(&env.to_environment_file(SET_BY_AGENT))?;
    let limits = Limits { max_bytes: cx.settings.max_unpacked, max_files: cx.settings.max_files };
    let into = staging.tree()?;
    let owner = Owner { uid: staging.owner().uid, gid: staging.owner().gid };
    let wait = || cx.events.step(Step::Stage, "wait for the memory of other stages");
    let share = cx.common.budget.share(cx.settings.max_fetch_memory, wait);
    let over = || Error::source(format!("stage {}", resolved.url())).because(TIME_OVER);
    let share = cx.in_time(share).await.ok_or_else(over)?;
    let memory = share.bytes;
    let bounds = Bounds { limits, memory, deadline: cx.deadline, pace: pace(cx)? };
    let fetched = fetch::fetch(resolved, into, owner, bounds, &cx.events).await;
    drop(share);
    let fetch::Fetched { unpacked, digest } = fetched.map_err(named)?;
    if let Some(signed) = signed {
        signed.check_archive(resolved, digest.as_ref())?;
    }
    let (mut files, mut bytes) = (unpacked.files, unpacked.bytes);
    let procfile = procfile(staging, resolved)?;
    let types = procfile.types();
    formation::warnings(env, &types, settings).into_iter().for_each(|text| cx.events.warn(text));
    formation::check(&types, settings).map_err(named)?;
    let plan = Plan::new(&procfile, settings, &runs_as.user);
    let content = digest.map(|archive| Content { archive, env: env_digest.clone() });
    if let Some(content) = &content
        && let Some(manifest) = same::installed(app, content, &plan)?
    {
        return Ok(Filled::Again(Box::new(manifest)));
    }
    if let Some(other) = unit_names::taken(cx, app, staging.label(), &plan)? {
        return Ok(Filled::NameTaken(other));
    }
    let homes = homes::begin(cx, app, staging)?;
    if let Some(command) = procfile.build() {
        cx.events.step(Step::Build, command);
        if let Some(homes) = &homes {
            staging.make_build_home(homes)?;
        }
        blocking(|| staging.give_to_builder())?;
        let user = &runs_as.builder.user;
        let built = build::build(cx, app, staging, found, user, command).await;
        built.map_err(|error| clues::explain(error, settings.sandbox))?;
        let built = blocking(|| staging.take_from_builder())?;
        build::check(&cx.settings, built.files, built.bytes).map_err(named)?;
        (files, bytes) = (built.files, built.bytes);
    }
    writable::make(staging, settings)?;
    let process_dirs = homes::process_dirs(cx, staging, env, settings)?;
    if let Some(homes) = &homes {
        staging.make_homes(homes, homes::processes(&procfile, &plan))?;
    }
    Ok(Filled::Whole(Box::new(Manifest {
        format: FORMAT,
        label: staging.label().clone(),
        url: resolved.url().clone(),
        identity: Identity::of(resolved.sighting(), content),
        state: State::Staged,
        staged_at: after(app.snapshot()?.releases.last()),
        uids: runs_as.uids(),
        replaced: None,
        serves: None,
        files,
        bytes,
        homes: homes.is_some(),
        process_dirs,
        rolling: None,
        signed_by: signed.as_ref().map(|signed| signed.by.clone()),
        port_is_own: env.get("PORT").is_some(),
        staged_counts: Default::default(),
        plan,
    })))
}

/// Ends the build of a stage that has no caller left.
pub async fn stop_build(cx: &Context, app: &App) -> Result<()> {
    for label in app.unfinished()? {
        once::stop(cx, build::BUILD, app.name(), &label).await?;
    }
    Ok(())
}

/// Cleans up after a stage whose daemon was killed: ends its build, then removes its files.
pub async fn abandon(cx: &Context, app: &Locked) -> Result<()> {
    stop_build(cx, app).await?;
    blocking(|| app.remove_leftovers())?;
    app.sweep_in_background();
    Ok(())
}

/// Parses the Procfile of a tree that has just been unpacked, and stores it.
fn procfile(staging: &Staging, resolved: &Resolved) -> Result<Procfile> {
    let Some(text) = staging.procfile()? else {
        let what = format!("read Procfile of {}", resolved.url());
        let help = misplaced::help(&staging.tree_paths().0);
        return Err(Error::unusable(what).because("the archive has none at its root").help(help));
    };
    let procfile = Procfile::parse(&text).map_err(|e| refused(resolved, "Procfile", e))?;
    staging.write_procfile(&text)?;
    Ok(procfile)
}

/// Adds the release's URL to an error that lacks it.
fn with_url(resolved: &Resolved, error: Error) -> Error {
    match error.exit() {
        Exit::Unusable => Error::unusable(resolved.url().to_string()).because(error),
        _ => error,
    }
}

pub fn refused(resolved: &Resolved, file: &str, error: ParseError) -> Error {
    let what = format!("{file} of {}", resolved.url());
    let help = error.help.clone();
    let refused = Error::unusable(what).because(error);
    match help {
        Some(help) => refused.help(help),
        None => refused,
    }
}

/// Returns the current time, or just after the newest release if the clock was set back: releases
/// are kept and rolled back to in the order of these times.
fn after(newest: Option<&Manifest>) -> Timestamp {
    let now = Timestamp::now();
    let next =
        newest.and_then(|newest| newest.staged_at.checked_add(Duration::from_millis(1)).ok());
    next.map_or(now, |next| next.max(now))
}

/// Describes the object that is fetched, for the operator.
fn describe(resolved: &Resolved) -> String {
    let size = resolved.archive_size().map(|bytes| format!(", {bytes} bytes")).unwrap_or_default();
    format!("{}/{}{size}", resolved.url(), resolved.compression().archive_name())
}
