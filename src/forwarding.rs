//! The forwarding of logs: makes the configuration that DEPLOY_SYSLOG asks for, and the unit run
//! with it. No deploy waits for this, and none fails because of it.

mod check;
#[cfg(test)]
mod tests;

use crate::context;
use crate::host::seams::Machine;
use crate::store::ForwardingFiles;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::settings::{AGENT_FILE, STATE_DIR, SyslogSettings, Transport};
use model::syslog::{self, Forwarding, RSYSLOGD, TlsModule, UNIT};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The packages to install, where something of rsyslog is missing.
const INSTALL: &str = "install rsyslog and rsyslog-gnutls, with apt-get or dnf";

/// The system's certificates: Debian and Ubuntu, then distributions with .rpm packages.
const BUNDLES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A file of certificates is smaller, by far.
const MOST_CERTIFICATES: u64 = 1 << 20;

/// SIGKILL stops the unit.
const STOP: Duration = Duration::from_secs(5);

/// Where the forwarding's files are.
pub struct Place {
    /// Files of the instance are looked up below it: `/`, except in tests.
    root: PathBuf,
    machine_id: String,
    files: ForwardingFiles,
}

/// A configuration that works on this machine as far as its files go.
struct Prepared {
    config: String,
    /// The certificates to copy, for a user without rights.
    certificates: Option<Vec<u8>>,
}

/// The result of a look at the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Configured,
    Removed,
}

/// Reads the settings; an error names the line of agent.env.
pub fn settings(env: &Env) -> Result<Option<SyslogSettings>> {
    SyslogSettings::from_env(env).map_err(context::with_line)
}

impl Place {
    pub fn new(root: &Path) -> Place {
        let at = |absolute: &str| root.join(absolute.trim_start_matches('/'));
        let machine = fs::read_to_string(at("/etc/machine-id")).unwrap_or_default();
        let machine_id = machine.trim().to_owned();
        let files = ForwardingFiles::at(&at(STATE_DIR), &machine_id);
        Place { root: root.to_owned(), machine_id, files }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Returns the configuration in use.
    pub fn config(&self) -> Option<String> {
        self.files.config()
    }

    /// Returns when the last entry that was sent was written, in microseconds since the epoch.
    pub fn sent_until(&self) -> Option<i64> {
        let cursor = fs::read_to_string(self.path(&syslog::cursor(&self.machine_id))).ok()?;
        let time = cursor.trim().split(';').find_map(|part| part.strip_prefix("t="))?;
        i64::from_str_radix(time, 16).ok()
    }

    /// Fails if these settings cannot work here, for instance since a package is missing.
    pub fn can_forward(&self, settings: &SyslogSettings) -> Result<()> {
        self.prepare(settings, None).map(drop)
    }

    fn prepare(&self, settings: &SyslogSettings, host: Option<&str>) -> Result<Prepared> {
        let cannot = || Error::failed(format!("forward logs to {}", settings.server));
        if !self.path(RSYSLOGD).exists() {
            return Err(cannot().because(format!("{RSYSLOGD} is not there")).help(INSTALL));
        }
        let machine_id = &self.machine_id;
        if settings.server.transport != Transport::Tls {
            let config = Forwarding { settings, machine_id, host, tls: None }.config();
            return Ok(Prepared { config, certificates: None });
        }
        let Some(module) = TlsModule::ALL.into_iter().find(|module| self.has(*module)) else {
            return Err(cannot().because("rsyslog has no module for TLS").help(INSTALL));
        };
        let certificates = settings.ca.as_deref().map(|path| self.read_ca(path)).transpose()?;
        let trusted = match &certificates {
            Some(pem) => self.files.certificates(pem),
            None => {
                let bundle = BUNDLES.iter().find(|path| self.path(path).exists());
                let missing = "the system's certificates are not there";
                let help = "install ca-certificates, or set DEPLOY_SYSLOG_CA";
                bundle.ok_or_else(|| cannot().because(missing).help(help))?.into()
            }
        };
        let tls = Some((module, trusted.to_str().unwrap_or_default()));
        let config = Forwarding { settings, machine_id, host, tls }.config();
        Ok(Prepared { config, certificates })
    }

    /// Whether rsyslog has this module.
    fn has(&self, module: TlsModule) -> bool {
        let lib = fs::read_dir(self.path("/usr/lib")).into_iter().flatten().flatten();
        let dirs = lib.map(|entry| entry.path()).chain([self.path("/usr/lib64")]);
        dirs.map(|dir| dir.join("rsyslog").join(module.file())).any(|file| file.exists())
    }

    fn read_ca(&self, path: &Path) -> Result<Vec<u8>> {
        let refused = || {
            let shown = model::text::quoted(&path.to_string_lossy());
            Error::usage(format!("{AGENT_FILE}: DEPLOY_SYSLOG_CA={shown}"))
                .with_reason(Reason::InvalidAgentSetting)
                .help(
                    "name a file with the certificates of the authorities to trust, in PEM format",
                )
        };
        let file = File::open(self.path(&path.to_string_lossy()));
        let mut pem = Vec::new();
        let read = file.and_then(|file| file.take(MOST_CERTIFICATES + 1).read_to_end(&mut pem));
        read.map_err(|e| refused().because(e))?;
        if pem.len() as u64 > MOST_CERTIFICATES {
            return Err(refused().because("it is larger than 1 MiB"));
        }
        let begin = b"-----BEGIN CERTIFICATE-----";
        match pem.windows(begin.len()).any(|bytes| bytes == begin) {
            true => Ok(pem),
            false => Err(refused().because("it has no certificate in PEM format")),
        }
    }

    /// Makes the unit run as the settings want it. If it fails before the new configuration is in
    /// use, the unit goes on as before.
    pub async fn converge(
        &self,
        machine: &dyn Machine,
        settings: Option<&SyslogSettings>,
        host: Option<&str>,
    ) -> Result<Change> {
        let unit = [UNIT.to_owned()];
        let used = self.config();
        let Some(settings) = settings else {
            if used.is_none() {
                return Ok(Change::None);
            }
            machine.stop(&unit, STOP).await?;
            return self.files.remove().map(|()| Change::Removed);
        };
        let known = used.as_deref().and_then(syslog::host_of);
        let prepared = self.prepare(settings, host.or(known))?;
        if used.as_ref() == Some(&prepared.config) {
            return Ok(Change::None);
        }
        if let Some(pem) = &prepared.certificates {
            self.files.keep_certificates(pem)?;
        }
        let proposed = self.files.propose(&prepared.config)?;
        check::check(machine, settings, &proposed).await?;
        self.files.accept(&prepared.config)?;
        machine.restart(&unit, STOP).await?;
        Ok(Change::Configured)
    }

    /// Starts the unit if it has a configuration and does not run.
    pub async fn ensure_started(&self, machine: &dyn Machine) -> Result<()> {
        if self.config().is_none() || machine.active_state(UNIT).await? == "active" {
            return Ok(());
        }
        machine.start(&[UNIT.to_owned()]).await
    }
}
