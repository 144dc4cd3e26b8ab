//! The settings of the forwarding of logs.

use super::merged::{AgentText, Layers};
use super::value::Invalid;
use super::{AGENT_FILE, value};
use crate::error::Error;
use crate::release::env::Env;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

const FORMS: &str = "write syslog+tls://HOST:PORT, for instance \
                     syslog+tls://logs.example.com:6514; syslog+tcp and syslog+udp are not \
                     encrypted; HOST:PORT alone is TLS";

/// The longest name of a host; RFC 1035, 2.3.4.
const LONGEST_HOST: usize = 253;

/// Papertrail's servers have one certificate, for all of their names.
const PAPERTRAIL: &str = ".papertrailapp.com";

/// Where the logs of the instance go. A mistake in these settings does not invalidate the other
/// ones: an operator can still deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSettings {
    pub server: SyslogServer,
    /// The file with the certificates of the authorities to trust, if not the system's.
    pub ca: Option<PathBuf>,
    /// The name that the server's certificate must have, perhaps with a leading `*`.
    pub peer: String,
}

/// A syslog server. Its text needs no quotes in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogServer {
    pub transport: Transport,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: NonZeroU16,
}

/// How lines are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 5425.
    Tls,
    /// RFC 6587, with octet counts.
    Tcp,
    /// RFC 5426: nothing is acknowledged.
    Udp,
}

impl Transport {
    const ALL: [Transport; 3] = [Transport::Tls, Transport::Tcp, Transport::Udp];

    fn scheme(self) -> &'static str {
        match self {
            Transport::Tls => "syslog+tls",
            Transport::Tcp => "syslog+tcp",
            Transport::Udp => "syslog+udp",
        }
    }
}

impl fmt::Display for SyslogServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = (self.transport.scheme(), &self.host, self.port);
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl SyslogSettings {
    /// Returns nothing if logs are not forwarded. Errors are `Exit::Usage` and name the variable
    /// and [`AGENT_FILE`], without its text: a URL may contain a password.
    pub fn from_env(agent: &Env) -> Result<Option<SyslogSettings>, Error> {
        let layers = Layers { agent, release: &Env::default() };
        let text: AgentText = layers.merge()?;
        if text.deploy_syslog.is_empty() {
            return Ok(None);
        }
        let server = of("DEPLOY_SYSLOG", server(&text.deploy_syslog))?;
        let ca = of("DEPLOY_SYSLOG_CA", ca(&text.deploy_syslog_ca))?;
        let peer = of("DEPLOY_SYSLOG_PEER", peer(&text.deploy_syslog_peer, &server.host))?;
        Ok(Some(SyslogSettings { server, ca, peer }))
    }
}

fn of<T>(name: &str, valid: Result<T, Invalid>) -> Result<T, Error> {
    valid.map_err(|invalid| {
        Error::usage(format!("{AGENT_FILE}: {name}")).because(invalid.what).help(invalid.help)
    })
}

fn server(text: &str) -> Result<SyslogServer, Invalid> {
    let invalid = |what: &str| Invalid { what: what.to_owned(), help: FORMS.to_owned() };
    let (transport, rest) = match text.split_once("://") {
        None => (Transport::Tls, text),
        Some((scheme, rest)) => {
            let known = Transport::ALL.into_iter().find(|known| known.scheme() == scheme);
            (known.ok_or_else(|| invalid("not a scheme of syslog"))?, rest)
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    let (host, port) = match bracketed {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (address, port),
        Some(_) => return Err(invalid("not an IPv6 address between the brackets")),
        None => rest.rsplit_once(':').ok_or_else(|| invalid("it has no port"))?,
    };
    if bracketed.is_none() && !is_host(host) {
        return Err(invalid("not the name or the address of a host"));
    }
    let port = value::port(port).map_err(|port| invalid(&format!("{} at its end", port.what)))?;
    Ok(SyslogServer { transport, host: host.to_owned(), port })
}

fn ca(text: &str) -> Result<Option<PathBuf>, Invalid> {
    match text {
        "" => Ok(None),
        path if Path::new(path).is_absolute() => Ok(Some(path.into())),
        _ => Err(Invalid {
            what: "not an absolute path".to_owned(),
            help: "write the path of a file in PEM format, for instance /etc/deploy/logs-ca.pem"
                .to_owned(),
        }),
    }
}

fn peer(text: &str, host: &str) -> Result<String, Invalid> {
    match text {
        "" if host.ends_with(PAPERTRAIL) => Ok(format!("*{PAPERTRAIL}")),
        "" => Ok(host.to_owned()),
        name if is_host(name.strip_prefix("*.").unwrap_or(name)) => Ok(name.to_owned()),
        _ => Err(Invalid {
            what: "not a name in a certificate".to_owned(),
            help: "write a name such as logs.example.com, or *.example.com".to_owned(),
        }),
    }
}

/// Whether it is a name or an IPv4 address, by its characters.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.is_empty()
            && !label.starts_with('-')
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= LONGEST_HOST
        && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
        && (!is_number || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &str) -> Result<Option<SyslogSettings>, Error> {
        SyslogSettings::from_env(&Env::parse(lines.as_bytes()).expect("an env"))
    }

    fn forwards(lines: &str) -> SyslogSettings {
        settings(lines).expect("valid").expect("forwards")
    }

    #[test]
    fn no_setting_forwards_nothing() {
        assert_eq!(settings("").unwrap(), None);
        assert_eq!(settings("DEPLOY_SYSLOG_PEER=a\n").unwrap(), None);
    }

    #[test]
    fn every_form_of_a_server_is_read() {
        for (text, shown, peer) in [
            ("syslog+tls://logs.example.com:6514", "", "logs.example.com"),
            ("syslog+tcp://10.0.0.1:514", "", "10.0.0.1"),
            ("syslog+udp://[fd00::1]:514", "", "fd00::1"),
            (
                "logs5.papertrailapp.com:12345",
                "syslog+tls://logs5.papertrailapp.com:12345",
                "*.papertrailapp.com",
            ),
            ("syslog+tls://logs:6514/", "syslog+tls://logs:6514", "logs"),
        ] {
            let forwarded = forwards(&format!("DEPLOY_SYSLOG={text}\n"));
            let shown = if shown.is_empty() { text } else { shown };
            assert_eq!((forwarded.server.to_string().as_str(), &*forwarded.peer), (shown, peer));
        }
        let own = "DEPLOY_SYSLOG=a:1\nDEPLOY_SYSLOG_CA=/ca.pem\nDEPLOY_SYSLOG_PEER=*.b\n";
        let own = forwards(own);
        assert_eq!((own.ca.as_deref(), &*own.peer), (Some(Path::new("/ca.pem")), "*.b"));
    }

    #[test]
    fn a_mistake_is_named_without_its_text() {
        for (line, why) in [
            ("DEPLOY_SYSLOG=http://logs:1", "not a scheme"),
            ("DEPLOY_SYSLOG=syslog+tls://logs", "no port"),
            ("DEPLOY_SYSLOG=syslog+tls://logs:70000", "not a port"),
            ("DEPLOY_SYSLOG=syslog+tls://logs:514/x", "not a port"),
            ("DEPLOY_SYSLOG=syslog+tls://:514", "not the name"),
            ("DEPLOY_SYSLOG=syslog+tls://10.0.0.256:514", "not the name"),
            ("DEPLOY_SYSLOG=syslog+tls://u:secret@logs:514", "not the name"),
            ("DEPLOY_SYSLOG='syslog+tls://a\") b:514'", "not the name"),
            ("DEPLOY_SYSLOG=syslog+tls://[fe80::1%eth0]:514", "not an IPv6"),
            ("DEPLOY_SYSLOG=fd00::1:514", "not the name"),
            ("DEPLOY_SYSLOG=a:1\nDEPLOY_SYSLOG_CA=ca.pem", "not an absolute path"),
            ("DEPLOY_SYSLOG=a:1\nDEPLOY_SYSLOG_PEER=a.*.b", "not a name in a certificate"),
        ] {
            let error = settings(&format!("{line}\n")).expect_err(line);
            let said = format!("{} {}", error.chain(), error.advice().unwrap_or_default());
            assert!(said.contains(why) && said.starts_with(AGENT_FILE), "{line}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
