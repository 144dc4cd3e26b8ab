//! Runs the release's `build` once, while staging: as the app's builder, in the app's slice, with
//! its tree at the path where it will run.

use super::Found;
use super::once::{self, Once};
use crate::context::Context;
use crate::host::memory;
use crate::host::namespaces::kernel;
use crate::host::transient::{Command, Property, properties};
use crate::store::{Locked, Staging};
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::settings::{AgentSettings, DEFAULT_VARIABLES};
use model::units;
use std::path::Path;

/// The Procfile type of the build.
pub(super) const BUILD: &str = "build";
/// CPU and I/O weight of the build while others compete; the default is 100.
const WEIGHT: u64 = 20;
/// Files that the build creates in the shared directory stay writable for its group, the app's.
const UMASK: u32 = 0o002;

/// Runs the command to its end as `user`; its output goes to the caller and the journal.
pub(super) async fn build(
    cx: &Context,
    app: &Locked,
    staging: &Staging,
    found: &Found,
    user: &str,
    command: &str,
) -> Result<()> {
    let run = unit(cx, app, staging, found, user, command)?;
    let help = "correct what the lines above name; `deploy run DIRECTORY` tries the build on a \
                laptop";
    let label = staging.label();
    let once = Once {
        kind: BUILD,
        what: format!("build of release {label}"),
        label,
        timeout: found.settings.build_timeout,
        help: help.to_owned(),
        reason: Reason::BuildFailed,
    };
    once::run(cx, app, once, run).await
}

fn unit(
    cx: &Context,
    app: &Locked,
    staging: &Staging,
    found: &Found,
    user: &str,
    command: &str,
) -> Result<Command> {
    let (settings, url) = (&found.settings, found.resolved.url());
    let seen = Seen::of(app, staging);
    let mut environment = vec![
        format!("HOME={}", seen.home),
        format!("DEPLOY_APP={}", url.app()),
        format!("DEPLOY_ENVIRONMENT={}", url.environment()),
        format!("DEPLOY_RELEASE={}", staging.label()),
        format!("DEPLOY_SHARED={}", seen.shared),
        "PS=build.1".to_owned(),
    ];
    environment.extend(DEFAULT_VARIABLES.iter().map(|(name, value)| format!("{name}={value}")));
    let env = vec![text(&staging.env_path())];
    let mut properties =
        properties(&kernel().possible(units::walls(settings.sandbox, staging.has_builder())))?;
    properties.extend(limits(cx, settings.max_tasks));
    if staging.has_builder() {
        properties.push(("UMask", Property::Mode(UMASK)));
    }
    properties.extend([
        ("User", Property::Text(user.to_owned())),
        ("Slice", Property::Text(units::slice(url.app()))),
        ("WorkingDirectory", Property::Text(seen.tree.clone())),
        ("Environment", Property::List(environment)),
        ("EnvironmentFiles", Property::EnvironmentFiles(env)),
        ("TemporaryFileSystem", Property::Pairs(vec![(seen.hidden, "mode=0755".into())])),
        ("ReadWritePaths", Property::List(seen.writable)),
        ("BindPaths", Property::Binds(seen.binds)),
    ]);
    Ok(Command {
        unit: once::name(BUILD, app.name(), staging.label()),
        description: format!("Build of {} release {}", url.app(), staging.label()),
        argv: vec!["/bin/bash".into(), "-c".into(), command.to_owned()],
        timeout: cx.remaining(settings.build_timeout),
        properties,
    })
}

/// The parts of the agent's state that a build sees: its tree, its home and the shared
/// directory.
struct Seen {
    tree: String,
    home: String,
    shared: String,
    /// An empty directory for the build, except for the paths bound into it.
    hidden: String,
    binds: Vec<(String, String)>,
    writable: Vec<String>,
}

impl Seen {
    /// Binds the tree to its path after staging: a path that the build stores, as a virtualenv
    /// does, stays right.
    fn of(app: &Locked, staging: &Staging) -> Seen {
        let (now, tree) = staging.tree_paths();
        let (tree, shared) = (text(&tree), text(&app.shared()));
        // Without a home of its own, the build uses the shared directory.
        let home = staging.build_home().map(|(now, later)| (text(&now), text(&later)));
        let mut binds = vec![(text(&now), tree.clone()), (shared.clone(), shared.clone())];
        binds.extend(home.clone());
        let writable = binds.iter().map(|(_, seen)| seen.clone()).collect();
        let home = home.map_or_else(|| shared.clone(), |(_, later)| later);
        let hidden = app.dir().parent().map(text).unwrap_or_default();
        Seen { tree, home, shared, hidden, binds, writable }
    }
}

/// Resource limits of the build, whatever the sandbox: when memory runs out, the OOM killer takes
/// the build before any running process.
fn limits(cx: &Context, tasks: u32) -> Vec<(&'static str, Property)> {
    let mut limits = vec![
        ("OOMScoreAdjust", Property::Int(1000)),
        ("TasksMax", Property::Number(u64::from(tasks))),
        ("CPUWeight", Property::Number(WEIGHT)),
        ("IOWeight", Property::Number(WEIGHT)),
        // The kernel stops a build that writes a file larger than any release may be.
        ("LimitFSIZE", Property::Number(cx.settings.max_unpacked)),
    ];
    let machine = || memory::total().map(|bytes| bytes / 4 * 3);
    if let Some(bytes) = cx.settings.build_memory_max.or_else(machine) {
        limits.push(("MemoryMax", Property::Number(bytes)));
    }
    limits
}

/// Checks the result of a build against the limits for an archive.
pub(super) fn check(settings: &AgentSettings, files: u64, bytes: u64) -> Result<()> {
    let limits = [
        ("DEPLOY_MAX_FILES", "files", files, settings.max_files),
        ("DEPLOY_MAX_UNPACKED", "bytes", bytes, settings.max_unpacked),
    ];
    for (name, of, found, most) in limits {
        if found > most {
            let why = format!("there are {found} {of}, and {name} allows {most}");
            let help = format!("let `build` remove what it needs no longer, or raise {name}");
            return Err(Error::unusable("keep what `build` made").because(why).help(help));
        }
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
