//! The configuration of the unit that forwards logs: `syslog/MACHINE/` below the default state
//! directory, whatever DEPLOY_STATE_DIR is, since the unit names the path. Another machine finds
//! none, which an image may bring along.

use super::durable;
use model::error::Result;
use model::release::digest::Sha256;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of one machine; the unit reads `rsyslog.conf` as a user without rights.
pub struct ForwardingFiles(PathBuf);

impl ForwardingFiles {
    /// `usual` is the default state directory, `machine` the machine id.
    pub fn at(usual: &Path, machine: &str) -> ForwardingFiles {
        ForwardingFiles(usual.join("syslog").join(machine))
    }

    /// Returns the configuration in use; none if logs are not forwarded.
    pub fn config(&self) -> Option<String> {
        fs::read_to_string(self.0.join("rsyslog.conf")).ok()
    }

    /// Writes a configuration that is to be checked, and returns its path.
    pub fn propose(&self, config: &str) -> Result<PathBuf> {
        let path = self.0.join("rsyslog.proposed");
        durable::make_dir(&self.0, 0o755)?;
        durable::write(&path, config.as_bytes(), 0o644)?;
        Ok(path)
    }

    /// Makes a configuration the one in use, and removes certificates that it does not name.
    pub fn accept(&self, config: &str) -> Result<()> {
        durable::write(&self.0.join("rsyslog.conf"), config.as_bytes(), 0o644)?;
        durable::remove(&self.0.join("rsyslog.proposed"))?;
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.ends_with(".pem") && !config.contains(&name) {
                durable::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the path of a copy of these certificates, which the unit's user can read, whatever
    /// the mode of the original. The name depends on the content, so that the configuration does.
    pub fn certificates(&self, pem: &[u8]) -> PathBuf {
        self.0.join(format!("ca-{}.pem", Sha256::of(pem).begin(16)))
    }

    /// Writes that copy.
    pub fn keep_certificates(&self, pem: &[u8]) -> Result<()> {
        durable::make_dir(&self.0, 0o755)?;
        durable::write(&self.certificates(pem), pem, 0o644)
    }

    /// Removes everything, and the configurations of other machines.
    pub fn remove(&self) -> Result<()> {
        self.0.parent().map_or(Ok(()), durable::remove_tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_the_certificates_that_it_names_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let files = ForwardingFiles::at(root.path(), "m1");
        assert_eq!(files.config(), None);
        let (old, new) = (files.certificates(b"old"), files.certificates(b"new"));
        files.keep_certificates(b"old").unwrap();
        files.keep_certificates(b"new").unwrap();
        let config = format!("CAFile=\"{}\"\n", new.display());
        assert!(files.propose(&config).unwrap().exists());
        assert_eq!(files.config(), None);
        files.accept(&config).unwrap();
        assert_eq!(files.config(), Some(config));
        assert!(new.exists() && !old.exists());
        assert_eq!(ForwardingFiles::at(root.path(), "m2").config(), None);
        files.remove().unwrap();
        assert!(!root.path().join("syslog").exists());
    }
}
