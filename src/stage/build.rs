//! The release's own `build`, run once while staging: as the app's user, in the
//! app's slice, seeing its tree where it will be when it runs.

use super::TIME_OVER;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host::disk::{Room, says_read_only};
use crate::host::transient::{Command, Ending, Property, STOP_TIMEOUT};
use crate::instance::Instance;
use crate::release::name::{AppName, Label};
use crate::release::settings::ReleaseSettings;
use crate::release::url::ReleaseUrl;
use crate::store::{Locked, Staging};
use crate::units;
use nix::errno::Errno;
use std::collections::VecDeque;

/// How many of the build's last lines an error carries.
const LAST_LINES: usize = 20;

/// Runs the command to its end; its output goes to the caller and the journal.
pub(super) async fn build(
    instance: &Instance,
    app: &Locked,
    staging: &Staging,
    url: &ReleaseUrl,
    settings: &ReleaseSettings,
    command: &str,
) -> Result<()> {
    let mut last = VecDeque::new();
    let label = staging.label().clone();
    let line = |line: String| {
        let (app, release) = (app.name(), &label);
        tracing::info!(DEPLOY_APP = %app, DEPLOY_RELEASE = %release, DEPLOY_STAGE = "build", "{line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.clone());
        instance.events.push(Event::Output { line });
    };
    let run = unit(instance, app, staging, url, settings, command);
    let what = format!("build of release {label} ({}.service)", run.unit);
    let over = || Error::source(what.clone()).because(TIME_OVER);
    // Zero would be no limit at all: systemd.service(5).
    if run.timeout.is_zero() {
        return Err(over());
    }
    match instance.systemd.run(run, line).await? {
        Ending::Success => Ok(()),
        Ending::Failure(_) if instance.remaining(settings.build_timeout).is_zero() => {
            Err(over().with_log(last.into()))
        }
        Ending::Failure(why) => {
            let help = match last.iter().any(|line| says_read_only(line)) {
                true => {
                    "write to the release's tree, $DEPLOY_SHARED or /tmp; what belongs elsewhere \
                     belongs into the instance's image"
                }
                false => {
                    "run it where the release is made, or try it with `deploy run`; \
                     DEPLOY_BUILD_TIMEOUT says how long it may take"
                }
            };
            let error = Error::unusable(what).help(help);
            let error = match ran_out_of_space(app, &last) {
                // As the kernel says it: whoever stages looks for it.
                true => error.because(Error::unusable(why).because(Errno::ENOSPC)),
                false => error.because(why),
            };
            Err(error.with_log(last.into()))
        }
    }
}

/// A full disk is no failure of the build's own, but only the build itself is told.
fn ran_out_of_space(app: &Locked, last: &VecDeque<String>) -> bool {
    let words = [Errno::ENOSPC, Errno::EDQUOT].map(Errno::desc);
    let says = |line: &String| words.iter().any(|words| line.contains(words));
    Room::at(app.dir()).is_ok_and(|room| room.is_used_up()) || last.iter().any(says)
}

/// Stops a build that goes on although nobody waits for it any more.
pub(super) async fn stop(instance: &Instance, app: &AppName, label: &Label) -> Result<()> {
    let unit = format!("{}.service", name(app, label));
    match instance.systemd.active_state(&unit).await?.as_str() {
        "inactive" | "failed" => Ok(()),
        _ => instance.systemd.stop(&[unit], STOP_TIMEOUT).await,
    }
}

fn name(app: &AppName, label: &Label) -> String {
    format!("deploy-{app}-build-{label}")
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
        unit: name(app.name(), staging.label()),
        description: format!("Build of {} release {}", url.app(), staging.label()),
        argv: vec!["/bin/bash".into(), "-c".into(), command.to_owned()],
        timeout: instance.remaining(settings.build_timeout),
        properties,
    }
}
