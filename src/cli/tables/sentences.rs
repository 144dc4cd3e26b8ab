//! The rows of `deploy status` that are sentences.

use super::ago;
use model::api::{AppStatus, Health, OneOffStatus};

/// The command, since when it runs and for whom.
pub(super) fn one_off(one_off: &OneOffStatus) -> String {
    let OneOffStatus { command, release, who, .. } = one_off;
    let since = one_off.since.map(|since| format!(", began {}", ago(since))).unwrap_or_default();
    let pid = one_off.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let gone = if one_off.has_caller { "" } else { "; nobody waits for its end" };
    format!("{command} of {release} for {who}{since}{pid}{gone}")
}

/// When the app last answered and how fast, and since when it does not.
pub(super) fn health(health: &Health, app: &AppStatus) -> String {
    let (has_port, has_path) = (app.port.is_some(), app.health_path.is_some());
    let answered = match (health.answered, health.milliseconds) {
        (Some(at), _) if !has_port => format!("all processes were up {}", ago(at)),
        (Some(at), Some(ms)) if has_path => format!("answered {} in {ms:.0} ms", ago(at)),
        (Some(at), Some(ms)) => format!("accepted a connection {} in {ms:.0} ms", ago(at)),
        _ if !has_port => "not all processes were up yet".to_owned(),
        _ if has_path => "has not answered yet".to_owned(),
        _ => "has not accepted a connection yet".to_owned(),
    };
    let unasked = match has_port && !has_path {
        true => "; answers are not checked without DEPLOY_HEALTH_PATH",
        false => "",
    };
    match health.healthy {
        true => format!("{answered}{unasked}"),
        false => format!("not healthy since {}, {answered}{unasked}", ago(health.since)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::status;
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    fn shown(app: &serde_json::Value, width: usize) -> String {
        let app: AppStatus = serde_json::from_value(app.clone()).expect("a status");
        status(&[app], Some(width))
    }

    /// An app with a port, which accepted a connection just now.
    fn app() -> serde_json::Value {
        let now = Timestamp::now();
        json!({
            "app": "my-app", "environment": "production", "release": "r1", "url": null,
            "state": "good", "healthy": true, "port": 5000, "leaving": null,
            "processes": [{ "process": "web.1", "unit": "u", "state": "running", "pid": null,
                            "since": null, "restarts": 0, "memory": null, "port": null }],
            "rollback": null, "working": null, "working_id": null, "last": null,
            "health": { "healthy": true, "since": now, "answered": now, "milliseconds": 2.0,
                        "fault": null },
        })
    }

    #[test]
    fn an_app_without_a_health_path_is_only_known_to_accept_connections() {
        let mut app = app();
        let row = "  health    accepted a connection 0s ago in 2 ms; answers are not checked\n\
                   \x20           without DEPLOY_HEALTH_PATH\n";
        assert!(shown(&app, 80).contains(row), "{}", shown(&app, 80));
        app["health_path"] = "/health".into();
        assert!(shown(&app, 80).contains("  health    answered 0s ago in 2 ms\n"));
    }

    #[test]
    fn a_one_off_is_shown_with_its_user_and_its_begin() {
        let mut app = app();
        app["one_offs"] = json!([{
            "app": "my-app", "release": "r1", "unit": "deploy-my-app-exec:r1:1.service",
            "command": "bin/rails", "who": "ada", "since": Timestamp::now(), "pid": 4242,
            "has_caller": true,
        }]);
        let row = "  one-off   bin/rails of r1 for ada, began 0s ago, pid 4242\n";
        assert!(shown(&app, 80).contains(row), "{}", shown(&app, 80));
        let narrow = shown(&app, 40);
        assert!(narrow.contains("for ada,\n            began 0s ago, pid 4242\n"), "{narrow}");
        app["one_offs"][0]["has_caller"] = false.into();
        assert!(shown(&app, 100).contains(", pid 4242; nobody waits for its end\n"));
    }
}
