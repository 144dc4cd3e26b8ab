//! What `deploy status --json` says of an app.

use crate::fleet::Seen;
use crate::place::Number;
use model::api::AppStatus;
use model::error::Exit;

/// Finds an app in the output of `deploy status`, which the output of `deploy --version` may
/// follow. An app that is not there runs nothing.
pub fn parse(text: &str, app: &str) -> Result<Seen, String> {
    let (text, last) = text.trim_end().split_once('\n').unwrap_or((text, ""));
    let agent = last.strip_prefix("deploy ").map(|version| model::text::line(version, 20));
    let apps: Vec<AppStatus> = serde_json::from_str(text)
        .map_err(|_| format!("no answer of deploy: {}", model::text::line(text, 200)))?;
    let Some(status) = apps.into_iter().find(|status| status.app == app) else {
        return Ok(Seen { healthy: true, agent, ..Seen::default() });
    };
    Ok(Seen {
        release: release(&status),
        healthy: status.healthy,
        rolled_back: is_rolled_back(&status),
        rollback: status.rollback.as_deref().map(target),
        working: status.working.is_some(),
        fault: status.fault.or(status.damaged).map(|fault| model::text::line(&fault, 300)),
        since: status.processes.iter().filter_map(|process| process.since).min(),
        agent,
    })
}

/// The name in the store: of the URL, or of the label without the `.2` of a second one.
fn release(status: &AppStatus) -> Option<String> {
    let label = status.release.as_deref()?;
    let name = status.url.as_deref().and_then(|url| url.trim_end_matches('/').rsplit('/').next());
    let found = name.filter(|name| *name != "current").or(numbered(label)).unwrap_or(label);
    Some(model::text::line(found, 63))
}

/// Whether the last job was a rollback to what is current, also where that already ran.
fn is_rolled_back(status: &AppStatus) -> bool {
    status.last.as_ref().is_some_and(|last| {
        let is_done = last.exit == Exit::Done || last.before != last.after;
        last.action == "rollback" && is_done && last.after == status.release
    })
}

fn target(label: &str) -> String {
    model::text::line(numbered(label).unwrap_or(label), 63)
}

/// The number that ship has given, in a label that may have a `.2` after it.
fn numbered(label: &str) -> Option<&str> {
    label.split('.').next().filter(|name| Number::of_name(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn rolled_back(action: &str, (before, after): (&str, &str), exit: &str) -> bool {
        let last = format!(
            r#"{{"at":"2026-01-01T00:00:00Z","id":"1","action":"{action}","who":"root","url":null,
            "release":"r7","before":"{before}","after":"{after}","exit":"{exit}","message":"",
            "seconds":1.0}}"#
        );
        let status = format!(
            r#"[{{"app":"shop","environment":null,"release":"r7","url":null,"state":null,
            "healthy":true,"port":80,"processes":[],"leaving":null,"rollback":"r6",
            "working":null,"working_id":null,"last":{last}}}]"#
        );
        parse(&status.replace('\n', ""), "shop").unwrap().rolled_back
    }

    #[test]
    fn a_release_that_came_by_a_rollback_is_known() {
        assert!(rolled_back("rollback", ("r8", "r7"), "done"));
        assert!(rolled_back("rollback", ("r7", "r7"), "done"), "it was repeated");
        assert!(!rolled_back("rollback", ("r7", "r7"), "unhealthy"), "to r6, which is bad");
        assert!(!rolled_back("deploy", ("r6", "r7"), "done"));
    }
}
