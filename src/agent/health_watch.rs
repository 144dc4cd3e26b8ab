//! Looks at the current releases now and then, as the settle window does: a process that hangs
//! is still active to systemd. What is found goes to `deploy status` and the journal; nothing is
//! done about it.

use super::jobs::Jobs;
use crate::health::Watch;
use crate::host::linux::Linux;
use crate::host::seams::Machine;
use crate::store::App;
use jiff::Timestamp;
use model::api::Health;
use model::error::Result;
use model::release::name::AppName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The pause between two looks at all apps.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest look at one app.
const LONGEST: Duration = Duration::from_secs(30);
/// An app counts as bad when it was found so this often in a row.
const BAD: u32 = 2;

/// What was found of each app.
#[derive(Clone, Default)]
pub struct HealthWatch(Arc<Mutex<BTreeMap<AppName, Found>>>);

#[derive(Clone)]
struct Found {
    label: String,
    health: Health,
    failures: u32,
}

impl HealthWatch {
    /// Runs as long as the daemon.
    pub async fn run(self, jobs: Jobs) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = self.look_at_all(&jobs).await {
                tracing::debug!("{}", error.chain());
            }
        }
    }

    async fn look_at_all(&self, jobs: &Jobs) -> Result<()> {
        let machine: Arc<dyn Machine> = Arc::new(Linux::connect().await?);
        let apps = super::store().apps()?;
        self.all().retain(|name, _| apps.iter().any(|app| app.name() == name));
        for app in apps {
            // A job watches its release itself.
            if jobs.active(app.name()).is_none() {
                let _ = tokio::time::timeout(LONGEST, self.look(&machine, &app)).await;
            }
        }
        Ok(())
    }

    async fn look(&self, machine: &Arc<dyn Machine>, app: &App) -> Result<()> {
        let snapshot = app.snapshot()?;
        let Some(manifest) = snapshot.current() else { return Ok(()) };
        let mut watch = Watch::new(machine, manifest);
        watch.retain(|process| !snapshot.stopped.covers(process));
        if watch.is_empty() {
            self.all().remove(app.name());
            return Ok(());
        }
        let look = watch.look().await?;
        self.record(app.name(), manifest.label.as_str(), look.fault, look.slowest);
        Ok(())
    }

    /// Records a look, and logs a change.
    pub fn record(&self, app: &AppName, label: &str, fault: Option<String>, slowest: Duration) {
        let now = Timestamp::now();
        let mut all = self.all();
        let before = all.get(app).filter(|before| before.label == label).cloned();
        let failures = match (&fault, &before) {
            (None, _) => 0,
            (Some(_), before) => before.as_ref().map_or(0, |before| before.failures) + 1,
        };
        let was_healthy = before.as_ref().is_none_or(|before| before.health.healthy);
        let healthy = failures < BAD && (failures == 0 || was_healthy);
        let since = match &before {
            Some(before) if before.health.healthy == healthy => before.health.since,
            _ => now,
        };
        let last = before.as_ref();
        let (answered, milliseconds) = match fault {
            None => (Some(now), Some(slowest.as_secs_f64() * 1e3)),
            Some(_) => (
                last.and_then(|last| last.health.answered),
                last.and_then(|last| last.health.milliseconds),
            ),
        };
        match (was_healthy, healthy) {
            (true, false) => {
                let fault = fault.as_deref().unwrap_or_default();
                tracing::warn!(DEPLOY_APP = %app, DEPLOY_RELEASE = label, "{app} {label} is not healthy: {fault}");
            }
            (false, true) => {
                tracing::info!(DEPLOY_APP = %app, DEPLOY_RELEASE = label, "{app} {label} is healthy again");
            }
            _ => {}
        }
        let health = Health { healthy, since, answered, milliseconds, fault };
        all.insert(app.clone(), Found { label: label.to_owned(), health, failures });
    }

    /// Returns what was found last of this release of an app.
    pub fn of(&self, app: &AppName, label: &str) -> Option<Health> {
        let all = self.all();
        let found = all.get(app).filter(|found| found.label == label)?;
        Some(found.health.clone())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<AppName, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(2);

    fn healths(faults: &[Option<&str>]) -> Vec<bool> {
        let (watch, app) = (HealthWatch::default(), "my-app".parse().expect("a name"));
        let look = |fault: &Option<&str>| {
            watch.record(&app, "r1", fault.map(str::to_owned), QUICK);
            watch.of(&app, "r1").expect("a look").healthy
        };
        faults.iter().map(look).collect()
    }

    #[test]
    fn one_failure_between_successes_is_no_outage() {
        assert_eq!(healths(&[None, Some("slow"), None]), [true, true, true]);
    }

    #[test]
    fn an_app_is_bad_from_the_second_failure_to_the_next_success() {
        let faults = [None, Some("hangs"), Some("hangs"), Some("hangs"), None];
        assert_eq!(healths(&faults), [true, true, false, false, true]);
    }

    #[test]
    fn the_last_answer_is_remembered_and_a_new_release_begins_anew() {
        let (watch, app) = (HealthWatch::default(), "my-app".parse().expect("a name"));
        watch.record(&app, "r1", None, QUICK);
        let answered = watch.of(&app, "r1").expect("a look").answered;
        watch.record(&app, "r1", Some("hangs".into()), QUICK);
        let health = watch.of(&app, "r1").expect("a look");
        assert_eq!((health.answered, health.milliseconds), (answered, Some(2.0)));
        assert!(watch.of(&app, "r2").is_none());
        watch.record(&app, "r2", Some("hangs".into()), QUICK);
        assert!(watch.of(&app, "r2").expect("a look").healthy);
    }
}
