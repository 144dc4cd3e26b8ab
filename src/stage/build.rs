//! The release's own `build`, run once while staging: as the app's user, in the
//! app's slice, seeing its tree where it will be when it runs.

use super::once::{self, Once};
use crate::error::Result;
use crate::host::transient::{Command, Property};
use crate::instance::Instance;
use crate::release::settings::ReleaseSettings;
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
    let mut environment = vec![
        format!("HOME={shared}"),
        format!("DEPLOY_APP={}", url.app()),
        format!("DEPLOY_ENVIRONMENT={}", url.environment()),
        format!("DEPLOY_RELEASE={}", staging.label()),
    ];
    environment.push("PS=build.1".to_owned());
    let protect = ["NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"];
    let mut properties: Vec<(&'static str, Property)> =
        protect.into_iter().map(|name| (name, Property::Bool(true))).collect();
    properties.extend([
        // Where memory ends it is the build that goes, before anything that runs.
        ("OOMScoreAdjust", Property::Int(1000)),
        ("User", Property::Text(instance.settings.user.clone())),
        ("Slice", Property::Text(units::slice(url.app()))),
        ("WorkingDirectory", Property::Text(later.clone())),
        ("Environment", Property::List(environment)),
        ("EnvironmentFiles", Property::EnvironmentFiles(vec![text(&staging.env_path())])),
        ("ProtectSystem", Property::Text("strict".into())),
        ("ProtectHome", Property::Text("yes".into())),
        ("ReadWritePaths", Property::List(vec![later.clone(), shared])),
        ("TemporaryFileSystem", Property::Pairs(vec![(releases, "mode=0755".into())])),
        ("BindPaths", Property::Binds(vec![(now, later)])),
    ]);
    Command {
        unit: once::name(BUILD, app.name(), staging.label()),
        description: format!("Build of {} release {}", url.app(), staging.label()),
        argv: vec!["/bin/bash".into(), "-c".into(), command.to_owned()],
        timeout: instance.remaining(settings.build_timeout),
        properties,
    }
}
