//! Commands of a release that run once, to their end, in a transient unit of the app's slice:
//! `build` and `release`.

use super::TIME_OVER;
use crate::context::Context;
use crate::host::disk::Space;
use crate::host::transient::{Command, Ending, STOP_TIMEOUT};
use crate::quote::Quote;
use crate::store::Locked;
use model::error::{Error, Result};
use model::event::Event;
use model::reason::Reason;
use model::release::name::{AppName, Label};
use nix::errno::Errno;
use std::time::Duration;

/// How often the free disk space is checked.
const LOOK: Duration = Duration::from_millis(100);
const FILLS: &str = "stopped: it left next to no room on the disk";

/// A Procfile line that is not a service.
pub(super) struct Once<'a> {
    /// The Procfile type, and the step that it belongs to.
    pub kind: &'static str,
    /// The command's name in an error.
    pub what: String,
    pub label: &'a Label,
    /// How long it may take, unless the caller's deadline is earlier.
    pub timeout: Duration,
    /// The advice for the operator if it fails.
    pub help: String,
    /// Why it failed, where the command itself did.
    pub reason: Reason,
}

/// Runs `command` to its end; its output goes to the caller and the journal.
///
/// # Errors
///
/// `Exit::Unusable` if it fails or exceeds its timeout, `Exit::Source` if the caller's deadline
/// passes first.
pub(super) async fn run(
    cx: &Context,
    app: &Locked,
    once: Once<'_>,
    command: Command,
) -> Result<()> {
    let mut last = Quote::default();
    let mut line = |line: String| {
        let (app, release, stage) = (app.name(), once.label, once.kind);
        tracing::info!(DEPLOY_APP = %app, DEPLOY_RELEASE = %release, DEPLOY_STAGE = stage, "{line}");
        last.push(line.clone());
        cx.events.push(Event::Output { line });
    };
    let what = format!("{} ({}.service)", once.what, command.unit);
    let over = || Error::source(what.clone()).because(TIME_OVER);
    // Zero would mean no limit: systemd.service(5).
    if command.timeout.is_zero() {
        return Err(over());
    }
    let service = format!("{}.service", command.unit);
    let ended = tokio::select! {
        ended = cx.machine.run(command, &mut line) => ended?,
        () = nearly_full(app) => {
            cx.machine.stop(&[service], STOP_TIMEOUT).await?;
            let error = Error::unusable(what).because(Error::unusable(FILLS).because(Errno::ENOSPC));
            return Err(error.help(once.help).with_reason(Reason::DiskFull));
        }
    };
    match ended {
        Ending::Success => Ok(()),
        Ending::Failure(_) if cx.remaining(once.timeout).is_zero() => {
            Err(over().with_log(last.into_lines()))
        }
        Ending::Failure(why) => {
            let error = Error::unusable(what).with_reason(once.reason);
            let error = match why.contains("timeout") {
                true => {
                    error.help("give it more time with DEPLOY_BUILD_TIMEOUT, or make it faster")
                }
                false => error.help(once.help),
            };
            let error = match ran_out_of_space(app, &last) {
                // As the kernel says it: whoever stages looks for it.
                true => error
                    .because(Error::unusable(why).because(Errno::ENOSPC))
                    .with_reason(Reason::DiskFull),
                false => error.because(why),
            };
            Err(error.with_log(last.into_lines()))
        }
    }
}

/// Completes when the command has nearly filled the disk; never if it was nearly full before.
async fn nearly_full(app: &Locked) {
    let scarce = || Space::at(app.dir()).is_ok_and(|room| room.is_scarce());
    if scarce() {
        return std::future::pending().await;
    }
    while !scarce() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A full disk is no failure of the command's own, but only the command itself is told.
fn ran_out_of_space(app: &Locked, last: &Quote) -> bool {
    let words = [Errno::ENOSPC, Errno::EDQUOT].map(Errno::desc);
    let says = |line: &String| words.iter().any(|words| line.contains(words));
    Space::at(app.dir()).is_ok_and(|room| room.is_used_up()) || last.iter().any(says)
}

/// Stops a command that still runs but has no caller left.
pub(super) async fn stop(cx: &Context, kind: &str, app: &AppName, label: &Label) -> Result<()> {
    // The name in 0.1.0: an upgrade may have stopped the agent during its build.
    let former = format!("deploy-{app}-{kind}-{label}");
    for unit in [name(kind, app, label), former] {
        let unit = format!("{unit}.service");
        match cx.machine.active_state(&unit).await?.as_str() {
            "inactive" | "failed" => {}
            _ => cx.machine.stop(&[unit], STOP_TIMEOUT).await?,
        }
    }
    Ok(())
}

/// Returns the unit's name without a suffix. No app, type or label contains a colon: the release
/// `build-x` of an app `a` and the release `x` of an app `a-build` have different units.
pub(super) fn name(kind: &str, app: &AppName, label: &Label) -> String {
    format!("deploy-{app}-{kind}:{label}")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn no_two_commands_share_a_unit() {
        let unit = |kind, app: &str, label: &str| {
            name(kind, &app.parse().expect("an app"), &label.parse().expect("a label"))
        };
        assert_ne!(unit("build", "a", "build-x"), unit("build", "a-build", "x"));
        assert_ne!(unit("build", "a", "release-x"), unit("release", "a-build", "x"));
        assert_eq!(unit("build", "my-app", "r42"), "deploy-my-app-build:r42");
    }
}
