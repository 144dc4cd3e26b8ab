//! An instance that understands the commands of ship.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What stands before standard error.
pub const ERROR: &str = "\n----------ERROR-------\n";
/// The time of a command that needs no work.
const SHORT: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
pub struct Machine {
    pub runs: Option<String>,
    pub healthy: bool,
    /// Whether Systems Manager knows it, and whether its agent answers.
    pub managed: bool,
    pub online: bool,
    /// Whether a command for it is refused, whatever is said of its agent.
    pub refused: bool,
    /// How long a deploy takes.
    pub takes: Duration,
    /// Releases that fail here, with the exit code.
    pub fails: BTreeMap<String, u8>,
    /// What `deploy` does for people, as the body of a shell function.
    pub deploy: Option<String>,
    /// When its last job ends.
    free: Option<Instant>,
}

impl Machine {
    pub fn running(release: &str) -> Machine {
        Machine {
            runs: Some(release.to_owned()),
            healthy: true,
            managed: true,
            online: true,
            refused: false,
            takes: Duration::from_secs(20),
            fails: BTreeMap::new(),
            deploy: None,
            free: None,
        }
    }

    /// Returns when the command will have ended. One job runs after the other.
    pub fn begin(&mut self, line: &str, at: Instant) -> Instant {
        let Some(release) = release(line).filter(|_| !is_persons(line)) else { return at + SHORT };
        let begins = self.free.unwrap_or(at).max(at);
        let is_there = self.runs.as_deref() == Some(release);
        let ends = begins + if is_there { SHORT } else { self.takes };
        self.free = Some(ends);
        ends
    }

    /// Does the command; returns what it prints, and its exit code.
    pub fn perform(&mut self, line: &str) -> (String, i32) {
        if let Some(deploy) = self.deploy.as_ref().filter(|_| is_persons(line)) {
            return ran(&format!("deploy() {{ {deploy}\n}}\n{line}"));
        }
        let Some(release) = release(line) else {
            return (packed(&format!("{}\ndeploy 0.2.0\n", self.status())), 0);
        };
        let code = self.fails.get(release).copied().unwrap_or_default();
        if code == 0 {
            self.runs = Some(release.to_owned());
        }
        let log = if code == 0 { "[]".to_owned() } else { format!("[{:?}]", "boom ".repeat(800)) };
        let exit = if code == 0 { "done" } else { "unhealthy" };
        let said = format!(
            "{{\"event\":\"ended\",\"outcome\":{{\"exit\":\"{exit}\",\"code\":{code},\
             \"message\":\"exit {code}\",\"log\":{log},\"seconds\":1.0}}}}\n"
        );
        (said, i32::from(code != 0))
    }

    fn status(&self) -> String {
        let Some(release) = &self.runs else { return "[]".to_owned() };
        format!(
            "[{{\"app\":\"shop\",\"environment\":\"production\",\"release\":\"{release}\",\
             \"url\":\"s3://releases/shop/production/{release}\",\"state\":null,\
             \"healthy\":{},\"port\":80,\"processes\":[],\"leaving\":null,\"rollback\":null,\
             \"working\":null,\"working_id\":null,\"last\":null}}]",
            self.healthy
        )
    }
}

/// Whether a person gave this command, by `ship exec` or `ship logs`.
pub fn is_persons(line: &str) -> bool {
    line.contains("deploy 'exec'") || line.contains("deploy 'logs'")
}

/// Runs a command as the SSM agent does.
fn ran(line: &str) -> (String, i32) {
    let ran = Command::new("sh").args(["-c", line]).output().expect("a shell");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let code = ran.status.code().unwrap_or(-1);
    let failed = if code == 0 { "" } else { "failed to run commands: exit status 1" };
    (format!("{out}{ERROR}{err}{failed}"), code)
}

/// The release of an order; none of a command that asks for the status.
fn release(line: &str) -> Option<&str> {
    let between = |start: &str, end: &str| Some(line.split_once(start)?.1.split_once(end)?.0);
    between("'--to' '", "'").or_else(|| between("'--' '", "'")?.rsplit('/').next())
}

/// Compresses a status, each text once: the simulation measures the memory of ship, and the
/// compressor's would be added to it.
fn packed(text: &str) -> String {
    static PACKED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut all = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(packed) = all.get(text) {
        return packed.clone();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    let packed = BASE64_STANDARD.encode(encoder.finish().expect("memory"));
    all.insert(text.to_owned(), packed.clone());
    packed
}
