//! One complete release: the served one, the running one, the one on the disk and the one in
//! `deploy status` are the same.

use serde_json::Value;
use testkit::host::{Host, SOON};

/// The published trees, for comparison.
pub const PUBLISHED: &str = "/srv/published";

/// Waits until no job is running, then returns the running release, if there is one.
pub fn check(host: &Host) -> Result<Option<String>, String> {
    let status = settled(host)?;
    let left = host.sh("cd /var/lib/deploy/apps/my-app 2>/dev/null || exit 0
         find . -maxdepth 2 -name '.staging-*' -o -maxdepth 2 -name '.removing-*' \
            -o -maxdepth 2 -name '*.new' -o -maxdepth 1 -name underway.json \
            -o -maxdepth 3 -path './releases/*/unsynced'
         systemctl list-units --plain --no-legend --state=active 'deploy-my-app-build:*'");
    if !left.is_empty() {
        return Err(format!("left over: {left}"));
    }
    let running = host.sh("systemctl list-units --plain --no-legend 'deploy-my-app-*@*' |
         awk '$3 == \"active\" || $3 == \"activating\" { print $1 }'");
    let Some(release) = status["release"].as_str() else {
        return if running.is_empty() { Ok(None) } else { Err(format!("it runs {running}")) };
    };
    let processes = status["processes"].as_array().cloned().unwrap_or_default();
    let stopped = processes.iter().all(|process| process["state"] == "stopped");
    let mut units: Vec<&str> = running.lines().collect();
    units.sort_unstable();
    let own = ["web", "worker"].map(|kind| format!("deploy-my-app-{kind}-{release}@1.service"));
    let expected: &[String] = if stopped { &[] } else { &own };
    if units != expected {
        return Err(format!("{release} is current and {units:?} run"));
    }
    let served = host.served();
    let expected = (!stopped).then_some(release);
    if served.as_deref() != expected {
        return Err(format!("{release} is current and {served:?} answers"));
    }
    if !stopped && status["healthy"] != true {
        return Err(format!("{release} answers, and status says that it is not healthy"));
    }
    let tree = format!("/var/lib/deploy/apps/my-app/releases/{release}");
    let differs = host.sh(&format!(
        "diff -r -x tmp -x log {PUBLISHED}/{release} {tree}/app 2>&1
         find {tree}/app -type f ! -perm 644 -print
         grep -Eqx 'RELEASE_OF_ENV=.?{release}.?' {tree}/env || echo env; true"
    ));
    match differs.is_empty() {
        true => Ok(Some(release.to_owned())),
        false => Err(format!("{release} is not whole: {differs}")),
    }
}

/// Returns the status once deployd responds and is idle, and the expected processes have had
/// the time to start after a boot.
fn settled(host: &Host) -> Result<Value, String> {
    let mut last = None;
    testkit::instance::poll(SOON * 3, || {
        let said = host.exec(&["deploy", "status", "--json"]);
        let all: Value = serde_json::from_str(&said.stdout).ok()?;
        let mut apps = all.as_array()?.iter();
        let status = apps.find(|app| app["app"] == "my-app").cloned().unwrap_or_default();
        let idle = status["working"].is_null();
        let at_rest = status["release"].is_null() || status["healthy"] == true;
        last = idle.then_some(status);
        (idle && at_rest).then_some(())
    });
    last.ok_or_else(|| "deployd does not come to rest".to_owned())
}
