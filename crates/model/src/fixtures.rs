//! Releases and snapshots as values, for tests.

use crate::installed::{Snapshot, Stopped};
use crate::release::env::Env;
use crate::release::identity::{Identity, Validator};
use crate::release::manifest::{FORMAT, Manifest, Plan};
use crate::release::procfile::Procfile;
use crate::release::settings::ReleaseSettings;
use crate::release::state::State;
use jiff::Timestamp;

/// A good release of `my-app` with one `web`, staged at this second.
///
/// # Panics
///
/// Panics if the label is none.
pub fn manifest(label: &str, staged_at: i64) -> Manifest {
    release_of("my-app", label, staged_at, "web: ./web", "")
}

/// A good release of an app with this Procfile and env.
///
/// # Panics
///
/// Panics if one of them is not valid.
#[expect(clippy::expect_used, reason = "a test wants to know at once")]
pub fn release_of(app: &str, label: &str, staged_at: i64, procfile: &str, env: &str) -> Manifest {
    let env = Env::parse(env.as_bytes()).expect("an env");
    let settings = ReleaseSettings::merge(&Env::default(), &env).expect("settings");
    let procfile = Procfile::parse(procfile.as_bytes()).expect("a Procfile");
    let unknown = Validator::default();
    Manifest {
        format: FORMAT,
        label: label.parse().expect("a label"),
        url: format!("s3://releases/{app}/production/{label}").parse().expect("a URL"),
        identity: Identity {
            archive: unknown.clone(),
            env: unknown,
            content: None,
            also: Vec::new(),
        },
        state: State::Good,
        staged_at: Timestamp::from_second(staged_at).expect("a time"),
        uids: Vec::new(),
        replaced: None,
        serves: None,
        files: 1,
        bytes: 1,
        homes: true,
        process_dirs: Vec::new(),
        rolling: None,
        port_is_own: false,
        signed_by: None,
        staged_counts: Default::default(),
        plan: Plan::new(&procfile, &settings, "deploy-app"),
    }
}

/// `my-app` with these releases, oldest first. The release `current` runs.
///
/// # Panics
///
/// Panics if `current` is no label.
#[expect(clippy::expect_used, reason = "a test wants to know at once")]
pub fn snapshot(current: Option<&str>, releases: &[(&str, State)]) -> Snapshot {
    let release = |(nth, (label, state)): (usize, &(&str, State))| Manifest {
        state: *state,
        ..manifest(label, i64::try_from(nth).expect("few releases"))
    };
    Snapshot {
        app: "my-app".parse().expect("a name"),
        dir: "/var/lib/deploy/apps/my-app".into(),
        current: current.map(|label| label.parse().expect("a label")),
        releases: releases.iter().enumerate().map(release).collect(),
        stopped: Stopped::default(),
    }
}
