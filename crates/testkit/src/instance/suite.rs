//! The release of Debian that the instances run.

use std::env;
use std::path::Path;
use std::sync::OnceLock;

/// The variable that selects it, for all instances of a test process.
const VARIABLE: &str = "DEPLOY_TEST_SUITE";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12, with systemd 252.
    Bookworm,
    /// Debian 13, with systemd 257.
    Trixie,
}

const SUITES: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

impl Suite {
    /// Returns the suite that the variable names; Debian 12 without one.
    pub fn get() -> Suite {
        static SUITE: OnceLock<Suite> = OnceLock::new();
        *SUITE.get_or_init(|| {
            let value = env::var(VARIABLE).unwrap_or_default();
            if value.is_empty() {
                return Suite::Bookworm;
            }
            let found = SUITES.into_iter().find(|suite| suite.name() == value);
            found.unwrap_or_else(|| {
                let names = SUITES.map(Suite::name).join(" or ");
                panic!("{VARIABLE} is {value:?}: set it to {names}")
            })
        })
    }

    /// Its code name, as apt knows it.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }

    /// The name under which a layer is cached, so that the images of several suites are kept
    /// side by side.
    pub fn layer(self, name: &str) -> String {
        match self {
            Suite::Bookworm => name.to_owned(),
            Suite::Trixie => format!("{name}.{}", self.name()),
        }
    }

    /// Arguments for the first process. Since 256, systemd refuses to boot with control groups
    /// of version 1, where this machine has those, unless it is told so twice.
    pub fn init_arguments(self) -> &'static [&'static str] {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        match self {
            Suite::Trixie if !v2 => {
                &["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
            }
            _ => &[],
        }
    }
}
