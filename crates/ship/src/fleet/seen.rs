//! What `deploy status --json` says of an app.

use crate::fleet::Seen;
use crate::place::Number;
use model::api::AppStatus;

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

fn target(label: &str) -> String {
    model::text::line(numbered(label).unwrap_or(label), 63)
}

/// The number that ship has given, in a label that may have a `.2` after it.
fn numbered(label: &str) -> Option<&str> {
    label.split('.').next().filter(|name| Number::of_name(name).is_some())
}
