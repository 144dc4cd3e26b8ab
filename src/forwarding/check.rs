//! rsyslogd's own check of a configuration.

use crate::host::seams::Machine;
use crate::host::transient::{Command, Ending, Property};
use model::error::{Error, Result};
use model::release::settings::SyslogSettings;
use model::syslog::RSYSLOGD;
use std::path::Path;
use std::time::Duration;

/// The longest check, which usually takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);

/// Most of rsyslogd's message.
const LONGEST_REASON: usize = 200;

pub(super) async fn check(
    machine: &dyn Machine,
    settings: &SyslogSettings,
    config: &Path,
) -> Result<()> {
    let argv = [RSYSLOGD.into(), "-N1".into(), "-f".into(), config.to_string_lossy().into_owned()];
    let command = Command {
        unit: "deployd-syslog-check".to_owned(),
        description: "Check of the configuration that forwards logs".to_owned(),
        argv: argv.to_vec(),
        timeout: LONGEST,
        // As in deployd-syslog.service.
        properties: vec![("AppArmorProfile", Property::IfPossible("unconfined".to_owned()))],
    };
    let mut said = Vec::new();
    match machine.run(command, &mut |line| said.push(line)).await? {
        Ending::Success => Ok(()),
        Ending::Failure(ending) => {
            let why = reason(&said).unwrap_or(ending);
            let error = Error::failed(format!("forward logs to {}", settings.server));
            let help = "report this: deployd wrote a configuration that this rsyslog refuses";
            Err(error.because(why).help(help).with_log(said))
        }
    }
}

/// Returns the first error in rsyslogd's output, without its address in the web.
fn reason(said: &[String]) -> Option<String> {
    let said = said.iter().filter_map(|line| line.strip_prefix("rsyslogd: "));
    let line = said.filter(|line| !line.starts_with("version ")).find(|line| !line.is_empty())?;
    let line = line.split(" [v").next().unwrap_or(line);
    Some(model::text::line(line, LONGEST_REASON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_reason() {
        let said = [
            "rsyslogd: version 8.2302.0, config validation run (level 1), master config /a",
            "rsyslogd: error during parsing file /a, on or before line 7: no [v8.2302.0 try x ]",
            "rsyslogd: there are no active actions configured. [v8.2302.0 try y ]",
        ];
        let why = reason(&said.map(str::to_owned));
        assert_eq!(why.as_deref(), Some("error during parsing file /a, on or before line 7: no"));
        assert_eq!(reason(&[]), None);
    }
}
