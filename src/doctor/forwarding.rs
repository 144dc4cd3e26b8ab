//! The forwarding of logs to a syslog server.

use super::Instance;
use crate::context;
use crate::forwarding::{self, Place};
use jiff::Timestamp;
use model::doctor::{Check, Row};
use model::error::Error;
use model::release::settings::SyslogSettings;
use model::syslog::{UNIT, heading};

const CHECK: Check = Check::Forwarding;

/// Most of rsyslogd's message: the names in a certificate are at its end.
const LONGEST: usize = 240;

/// How far back errors count, in seconds. rsyslogd tries again after 30 s at most, and a connection
/// that nobody answers fails after two minutes.
const RECENT: i64 = 180;

pub async fn forwarding(instance: &Instance) -> Row {
    let place = Place::new(&instance.root);
    let env = match &instance.settings_error {
        None => Ok(instance.cx.agent_env.clone()),
        // A mistake elsewhere in the file does not affect the forwarding.
        Some(_) => context::load_env(),
    };
    let as_before = |error: &Error| {
        let goes_on = match place.config() {
            Some(_) => "logs are forwarded as before",
            None => "logs are not forwarded",
        };
        let row = Row::of_error(CHECK, error);
        Row { text: format!("{}: {goes_on}", row.text), ..row }
    };
    let settings = match env.and_then(|env| forwarding::settings(&env)) {
        Ok(settings) => settings,
        Err(error) => return as_before(&error),
    };
    match (settings, place.config()) {
        (None, None) => Row::skipped(CHECK, "DEPLOY_SYSLOG is not set"),
        (None, Some(_)) => {
            let text = "DEPLOY_SYSLOG is not set any more, and logs are still forwarded";
            Row::warning(CHECK, text, "take over the settings: `systemctl reload deployd`")
        }
        (Some(settings), used) => match place.can_forward(&settings) {
            Err(error) => as_before(&error),
            Ok(()) => running(instance, &place, &settings, used.as_deref()).await,
        },
    }
}

/// Judges the unit, whose settings can work here.
async fn running(
    instance: &Instance,
    place: &Place,
    settings: &SyslogSettings,
    used: Option<&str>,
) -> Row {
    let server = &settings.server;
    if used.and_then(|config| config.lines().next()) != Some(heading(settings).as_str()) {
        let text = format!("the settings for {server} are not in use");
        let remedy = "take them over with `systemctl reload deployd`; if that does not help, see \
                      `journalctl -u deployd -n 20`";
        return Row::failed(CHECK, text, remedy);
    }
    match instance.cx.machine.active_state(UNIT).await {
        Ok(state) if state == "active" => {}
        Ok(state) => {
            let text = format!("{UNIT} is {state}: logs are in the journal alone");
            let remedy = format!("`systemctl restart {UNIT}`, and see `journalctl -u {UNIT}`");
            return Row::failed(CHECK, text, remedy);
        }
        Err(error) => return Row::of_error(CHECK, &error),
    }
    let now = Timestamp::now().as_second();
    let sent = place.sent_until().map(|time| time / 1_000_000);
    // Its errors are lines of the journal: one that was sent is over.
    let since = (now - RECENT).max(sent.map_or(0, |sent| sent + 1));
    let lines = instance.cx.machine.last_lines(&[UNIT.to_owned()], since, 20).await;
    let errors = lines.iter().filter(|line| line.identifier == "rsyslogd");
    // These only refer to the one before.
    let telling =
        |text: &&str| !["action '", "invalid cert info"].iter().any(|no| text.starts_with(no));
    match errors.map(|line| line.text.as_str()).rfind(telling) {
        None => Row::ok(CHECK, format!("to {server}")),
        Some(text) => {
            let text = text.split(" [v").next().unwrap_or(text);
            let waiting = sent.map_or(String::new(), |sent| {
                format!("; lines of the last {} s wait in the journal", (now - sent).max(0))
            });
            let shown = model::text::line(text, LONGEST);
            Row::failed(CHECK, format!("to {server}: {shown}{waiting}"), remedy(text))
        }
    }
}

/// Returns advice about an error of rsyslogd.
fn remedy(error: &str) -> &'static str {
    if error.contains("peer name not authorized") || error.contains("names inside") {
        "set DEPLOY_SYSLOG_PEER to a name in the server's certificate, if that is the right server"
    } else if error.contains("certificate") || error.contains("handshake") {
        "set DEPLOY_SYSLOG_CA to the certificate of the authority that has signed the server's"
    } else {
        "see whether the server runs, and whether the security group or the firewall allows the \
         port; nothing is lost as long as the journal keeps it"
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn an_error_has_its_own_remedy() {
        for (error, advice) in [
            (
                "error: peer name not authorized -  not permitted to talk to it. Names: DNSname: a",
                "PEER",
            ),
            ("not permitted to talk to peer, certificate invalid: signer not found", "CA"),
            ("cannot connect to logs:6514: Connection refused", "security group"),
        ] {
            assert!(remedy(error).contains(advice), "{error}");
        }
    }
}
