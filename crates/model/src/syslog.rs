//! The configuration of the rsyslogd that forwards the journal to a syslog server.
//!
//! rsyslogd keeps no queue: it reads an entry of the journal, sends it, and writes down a cursor
//! every ten entries. While the server is away it waits with that entry, and the journal keeps the
//! ones after it. So no line is lost when rsyslogd is killed, and the bounds are those of
//! journald.conf(5).

use crate::release::settings::{SyslogServer, SyslogSettings, Transport};
use crate::text::quoted;

/// The unit of the forwarding rsyslogd.
pub const UNIT: &str = "deployd-syslog.service";

pub const RSYSLOGD: &str = "/usr/sbin/rsyslogd";

/// Returns the path of the file with the cursor of the last entry that was sent, in the unit's
/// `StateDirectory=`. A cursor that an image brings along is of another journal.
pub fn cursor(machine_id: &str) -> String {
    format!("/var/lib/deployd-syslog/{machine_id}.cursor")
}

/// The most lines that are sent twice after rsyslogd was killed. Writing the cursor after each one
/// would limit it to a thousand lines a second.
const STEP: u32 = 10;

/// The identifier of the structured data. 32473 is the enterprise number for examples (RFC 5612):
/// IANA has assigned none to this project, and names without a number are IANA's own (RFC 5424,
/// 7.2.2).
const SD_ID: &str = "deploy@32473";

/// The characters of the names of apps, environments and releases: none needs an escape in
/// structured data. A process may write other text into these fields of its entries.
const NAME: &str = "'^[A-Za-z0-9._-]+$'";

/// The module of rsyslog that speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsModule {
    GnuTls,
    OpenSsl,
}

impl TlsModule {
    pub const ALL: [TlsModule; 2] = [TlsModule::GnuTls, TlsModule::OpenSsl];

    /// Its file in rsyslog's directory of modules.
    pub fn file(self) -> &'static str {
        match self {
            TlsModule::GnuTls => "lmnsd_gtls.so",
            TlsModule::OpenSsl => "lmnsd_ossl.so",
        }
    }

    fn driver(self) -> &'static str {
        match self {
            TlsModule::GnuTls => "gtls",
            TlsModule::OpenSsl => "ossl",
        }
    }
}

/// All that the configuration depends on. Texts need no quotes in it.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    pub settings: &'a SyslogSettings,
    pub machine_id: &'a str,
    /// The instance id; the machine's own name if there is none.
    pub host: Option<&'a str>,
    /// Of TLS alone: the module, and the file with the trusted certificates.
    pub tls: Option<(TlsModule, &'a str)>,
}

/// Returns the first line of the configuration, which says what it was made from.
pub fn heading(settings: &SyslogSettings) -> String {
    let ca = settings.ca.as_ref().map_or_else(
        || "the system's certificates".to_owned(),
        |path| quoted(&path.to_string_lossy()),
    );
    format!("# {}, as {}, trusting {ca}", settings.server, settings.peer)
}

/// Returns the server that a configuration sends to, as its heading has it.
pub fn server_of(config: &str) -> Option<&str> {
    config.lines().next()?.strip_prefix("# ")?.split(',').next()
}

/// Returns the instance id in a configuration.
pub fn host_of(config: &str) -> Option<&str> {
    config.lines().nth(1)?.strip_prefix("# of ")
}

impl Forwarding<'_> {
    /// Returns the text of rsyslog.conf(5).
    pub fn config(&self) -> String {
        let name = self.host.unwrap_or("%$myhostname%");
        let from =
            self.host.map_or("# without an instance id".to_owned(), |host| format!("# of {host}"));
        format!(
            "\
{heading}
{from}
# Written by deployd from DEPLOY_SYSLOG in agent.env: do not edit.

global(maxMessageSize=\"64k\"{ca})
main_queue(queue.type=\"Direct\")

# rsyslogd can be killed at any time: the lines after the cursor are sent again.
module(load=\"imjournal\" StateFile=\"{cursor}\" PersistStateInterval=\"{STEP}\" Ratelimit.Interval=\"0\")

# RFC 5424. The name of an app has at most 48 characters.
template(name=\"forward\" type=\"string\" string=\"<%PRI%>1 %timereported:::date-rfc3339,date-utc% \
{name} %$.app:1:48% %$.pid% - %$.data% %msg%\")

set $.app = replace($programname, \" \", \"_\");
if $.app == \"\" then {{ set $.app = \"-\"; }}
set $.pid = $!_PID;
if $.pid == \"\" then {{ set $.pid = \"-\"; }}
set $.data = \"-\";
if $!_SYSTEMD_SLICE startswith \"deploy-\"
    and re_match($!DEPLOY_APP, {NAME})
    and re_match($!DEPLOY_ENVIRONMENT, {NAME})
    and re_match($!DEPLOY_RELEASE, {NAME}) then {{
    set $.data = '[{SD_ID} app=\"' & $!DEPLOY_APP & '\" environment=\"' & $!DEPLOY_ENVIRONMENT
        & '\" release=\"' & $!DEPLOY_RELEASE & '\"]';
}}

action(type=\"omfwd\" name=\"forward\" template=\"forward\" queue.type=\"Direct\"
    {transport}
    action.resumeRetryCount=\"-1\" action.resumeInterval=\"2\" action.resumeIntervalMax=\"30\")
",
            heading = heading(self.settings),
            cursor = cursor(self.machine_id),
            ca = self.tls.map_or(String::new(), |(_, file)| format!(
                "\n    DefaultNetstreamDriverCAFile=\"{file}\""
            )),
            transport = self.transport(),
        )
    }

    fn transport(&self) -> String {
        let SyslogServer { transport, host, port } = &self.settings.server;
        let target = format!("target=\"{host}\" port=\"{port}\"");
        // A connection whose peer has vanished is closed after 90 seconds.
        let tcp = "protocol=\"tcp\" TCP_Framing=\"octet-counted\"\n    KeepAlive=\"on\" \
                   KeepAlive.Time=\"60\" KeepAlive.Interval=\"10\" KeepAlive.Probes=\"3\"";
        let driver = self.tls.map_or(TlsModule::GnuTls, |(module, _)| module).driver();
        match transport {
            Transport::Udp => format!("{target} protocol=\"udp\""),
            Transport::Tcp => format!("{target} {tcp}"),
            Transport::Tls => format!(
                "{target} {tcp}\n    StreamDriver=\"{driver}\" StreamDriverMode=\"1\" \
                 StreamDriverAuthMode=\"x509/name\"\n    StreamDriverPermittedPeers=\"{}\"",
                self.settings.peer
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::env::Env;

    fn settings(server: &str) -> SyslogSettings {
        let env = Env::parse(format!("DEPLOY_SYSLOG={server}\n").as_bytes()).expect("an env");
        SyslogSettings::from_env(&env).expect("valid").expect("forwards")
    }

    #[test]
    fn a_configuration_says_what_it_was_made_from() {
        let settings = settings("logs5.papertrailapp.com:12345");
        let tls = Some((TlsModule::GnuTls, "/ca.pem"));
        let host = Some("i-0123");
        let forwarding = Forwarding { settings: &settings, machine_id: "m1", host, tls };
        let config = forwarding.config();
        assert_eq!(config.lines().next(), Some(heading(&settings).as_str()));
        assert_eq!(server_of(&config), Some("syslog+tls://logs5.papertrailapp.com:12345"));
        assert_eq!(host_of(&config), Some("i-0123"));
        for part in [
            "StreamDriver=\"gtls\"",
            "StreamDriverPermittedPeers=\"*.papertrailapp.com\"",
            "CAFile=\"/ca.pem\"",
            "date-utc% i-0123 %$.app",
        ] {
            assert!(config.contains(part), "{part}: {config}");
        }
    }

    #[test]
    fn only_tls_has_a_driver() {
        for (server, protocol) in [("syslog+tcp://a:1", "tcp"), ("syslog+udp://a:1", "udp")] {
            let settings = settings(server);
            let machine_id = "m1";
            let forwarding = Forwarding { settings: &settings, machine_id, host: None, tls: None };
            let config = forwarding.config();
            assert!(config.contains("/var/lib/deployd-syslog/m1.cursor"), "{config}");
            assert!(config.contains(&format!("protocol=\"{protocol}\"")), "{config}");
            assert!(config.contains("date-utc% %$myhostname% "), "{config}");
            assert!(!config.contains("StreamDriver") && !config.contains("CAFile"), "{config}");
            assert_eq!(host_of(&config), None);
        }
    }
}
