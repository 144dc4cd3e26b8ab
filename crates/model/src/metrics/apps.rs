//! The series of an app: release, health, what is installed, watch mode.

use super::exposition::Exposition;
use super::{App, float, seconds, truth, word};
use crate::release::state::State;

pub(super) fn render(text: &mut Exposition, apps: &[App]) {
    releases(text, apps);
    health(text, apps);
    installed(text, apps);
    watch(text, apps);
}

fn releases(text: &mut Exposition, apps: &[App]) {
    let help = "The current release and its environment, as labels.";
    let mut info = text.gauge("deploy_release_info", help);
    for App { status, .. } in apps {
        let Some(release) = &status.release else { continue };
        let environment = status.environment.as_deref().unwrap_or_default();
        let labels =
            [("app", &*status.app), ("environment", environment), ("release", release.as_str())];
        info.sample(&labels, 1.0);
    }
    let help = "1 for the state that the current release is in, 0 for the others.";
    let mut states = text.gauge("deploy_release_state", help);
    for App { status, .. } in apps {
        let Some(current) = status.state else { continue };
        for state in State::ALL {
            let labels = [("app", &*status.app), ("state", &word(state))];
            states.sample(&labels, truth(state == current));
        }
    }
    let help = "Whether a job is under way for the app.";
    let mut working = text.gauge("deploy_job_active", help);
    for App { status, .. } in apps {
        working.sample(&[("app", &status.app)], truth(status.working.is_some()));
    }
    let help = "Whether the app's state on the disk cannot be read.";
    let mut damaged = text.gauge("deploy_state_damaged", help);
    for App { status, .. } in apps {
        damaged.sample(&[("app", &status.app)], truth(status.damaged.is_some()));
    }
}

fn health(text: &mut Exposition, apps: &[App]) {
    let looks =
        || apps.iter().filter_map(|app| Some((&*app.status.app, app.status.health.as_ref()?)));
    let help = "Whether deployd's own looks found every process that should run up and responding.";
    let mut healthy = text.gauge("deploy_healthy", help);
    for (app, health) in looks() {
        healthy.sample(&[("app", app)], truth(health.healthy));
    }
    let help = "Since when deploy_healthy has its value.";
    let mut since = text.gauge("deploy_healthy_since_timestamp_seconds", help);
    for (app, health) in looks() {
        since.sample(&[("app", app)], seconds(health.since));
    }
    let help = "When all processes last responded to a look.";
    let mut answered = text.gauge("deploy_health_answered_timestamp_seconds", help);
    for (app, health) in looks() {
        answered.known(&[("app", app)], health.answered.map(seconds));
    }
    let help = "How long the slowest process took to respond then.";
    let mut took = text.gauge("deploy_health_response_seconds", help);
    for (app, health) in looks() {
        took.known(&[("app", app)], health.milliseconds.map(|ms| ms / 1e3));
    }
}

/// A gauge of releases: name, help, the value of a release of so many bytes.
type Summed = (&'static str, &'static str, fn(u64) -> u64);

fn installed(text: &mut Exposition, apps: &[App]) {
    let of = |app: &App, state: State, value: fn(u64) -> u64| -> f64 {
        let releases = app.releases.iter().filter(|release| release.state == state);
        float(releases.map(|release| value(release.bytes)).fold(0, u64::saturating_add))
    };
    let families: [Summed; 2] = [
        ("deploy_installed_releases", "Releases on the disk by state.", |_| 1),
        ("deploy_installed_bytes", "Size of the files of these releases.", |bytes| bytes),
    ];
    for (name, help, value) in families {
        let mut family = text.gauge(name, help);
        for app in apps {
            for state in State::ALL {
                let labels = [("app", &*app.status.app), ("state", &word(state))];
                family.sample(&labels, of(app, state, value));
            }
        }
    }
}

fn watch(text: &mut Exposition, apps: &[App]) {
    let watched =
        || apps.iter().filter_map(|app| Some((&*app.status.app, app.status.watch.as_ref()?)));
    let help = "The release that DEPLOY_WATCH named at the last attempt, as a label.";
    let mut info = text.gauge("deploy_watch_info", help);
    for (app, watch) in watched() {
        let release = watch.release.as_deref().unwrap_or_default();
        info.sample(&[("app", app), ("release", release)], 1.0);
    }
    let help = "Whether DEPLOY_WATCH is invalid or the last poll failed.";
    let mut failing = text.gauge("deploy_watch_failing", help);
    for (app, watch) in watched() {
        failing.sample(&[("app", app)], truth(watch.error.is_some()));
    }
    let help = "When watch mode last attempted a deploy.";
    let mut at = text.gauge("deploy_watch_attempt_timestamp_seconds", help);
    for (app, watch) in watched() {
        at.known(&[("app", app)], watch.at.map(seconds));
    }
    let help = "The exit code of that attempt.";
    let mut exit = text.gauge("deploy_watch_attempt_exit_code", help);
    for (app, watch) in watched() {
        exit.known(&[("app", app)], watch.exit.map(|exit| exit.code().into()));
    }
}
