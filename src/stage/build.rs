//! The release's own `build`, run once while staging: as the app's user, in the
//! app's slice, seeing its tree where it will be when it runs.

use super::once::{self, Once};
use crate::error::Result;
use crate::host::transient::{Command, Property};
use crate::instance::Instance;
use crate::release::settings::{ReleaseSettings, Sandbox};
use crate::release::url::ReleaseUrl;
use crate::store::{Locked, Staging};
use crate::units;

/// The line's type.
pub(super) const BUILD: &str = "build";

/// Runs the command to its end; its output goes to the caller and the journal.
pub(super) async fn build(
    instance: &Instance,
    app: &Locked,
    staging: &Staging,
    url: &ReleaseUrl,
    settings: &ReleaseSettings,
    command: &str,
) -> Result<()> {
    let run = unit(instance, app, staging, url, settings, command);
    let help = "run it where the release is made, or try it with `deploy run`; \
                DEPLOY_BUILD_TIMEOUT says how long it may take";
    let label = staging.label();
    let once = Once {
        kind: BUILD,
        what: format!("build of release {label}"),
        label,
        timeout: settings.build_timeout,
        help: help.to_owned(),
    };
    once::run(instance, app, once, run).await
}

/// The tree is bound to the place where it will be after staging: what a build
/// writes down of its own path, as a virtualenv does, stays right.
fn unit(
    instance: &Instance,
    app: &Locked,
    staging: &Staging,
    url: &ReleaseUrl,
    settings: &ReleaseSettings,
    command: &str,
) -> Command {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (now, later) = staging.tree_paths();
    let releases = text(&app.releases_dir());
    let (now, later, shared) = (text(&now), text(&later), text(&app.shared()));
    // It is bound to its own place too; without one the shared directory is its home.
    let home = staging.build_home().map(|(now, later)| (text(&now), text(&later)));
    let own = home.as_ref().map_or(&shared, |(_, later)| later);
    let environment = vec![
        format!("HOME={own}"),
        format!("DEPLOY_APP={}", url.app()),
        format!("DEPLOY_ENVIRONMENT={}", url.environment()),
        format!("DEPLOY_RELEASE={}", staging.label()),
        format!("DEPLOY_SHARED={shared}"),
        "PS=build.1".to_owned(),
    ];
    let mut writable = vec![later.clone(), shared];
    writable.extend(home.iter().map(|(_, later)| later.clone()));
    let mut properties = confinement(settings.sandbox, writable);
    properties.extend([
        // Where memory ends it is the build that goes, before anything that runs.
        ("OOMScoreAdjust", Property::Int(1000)),
        ("User", Property::Text(instance.settings.user.clone())),
        ("Slice", Property::Text(units::slice(url.app()))),
        ("WorkingDirectory", Property::Text(later.clone())),
        ("Environment", Property::List(environment)),
        ("EnvironmentFiles", Property::EnvironmentFiles(vec![text(&staging.env_path())])),
        ("TemporaryFileSystem", Property::Pairs(vec![(releases, "mode=0755".into())])),
        ("BindPaths", Property::Binds([(now, later)].into_iter().chain(home).collect())),
    ]);
    Command {
        unit: once::name(BUILD, app.name(), staging.label()),
        description: format!("Build of {} release {}", url.app(), staging.label()),
        argv: vec!["/bin/bash".into(), "-c".into(), command.to_owned()],
        timeout: instance.remaining(settings.build_timeout),
        properties,
    }
}

/// What a build sees of the file system and may do to it: as much as a process does. The
/// other limits of `strict` are not among it: a build may need what a service does not.
fn confinement(sandbox: Sandbox, writable: Vec<String>) -> Vec<(&'static str, Property)> {
    let (system, home, devices) = match sandbox {
        Sandbox::Strict => ("strict", "yes", Some("PrivateDevices")),
        Sandbox::Full => ("full", "read-only", None),
        Sandbox::Off => return Vec::new(),
    };
    let protect = ["NoNewPrivileges", "PrivateTmp", "RestrictSUIDSGID"].into_iter().chain(devices);
    let protect = protect.map(|name| (name, Property::Bool(true)));
    let paths = [
        ("ProtectSystem", Property::Text(system.into())),
        ("ProtectHome", Property::Text(home.into())),
        ("ReadWritePaths", Property::List(writable)),
    ];
    protect.chain(paths).collect()
}
