//! Child processes of the `deploy` command, for trying a release without
//! systemd. The daemon never has any.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

/// A shell command in a process group of its own.
pub struct Child {
    child: tokio::process::Child,
    group: Option<Pid>,
}

impl Child {
    /// Starts `script` under bash with exactly this environment; each line that
    /// it writes goes to `line`.
    #[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
    pub fn spawn(
        script: &str,
        dir: &Path,
        environment: &BTreeMap<String, String>,
        line: impl Fn(String) + Clone + Send + 'static,
    ) -> io::Result<Child> {
        let mut command = Command::new("/bin/bash");
        command.arg("-c").arg(script).current_dir(dir).env_clear().envs(environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        if let Some(output) = child.stdout.take() {
            tokio::spawn(copy(output, line.clone()));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(copy(output, line));
        }
        Ok(Child { child, group })
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGTERM to all of the group, then SIGKILL.
    pub async fn stop(mut self, timeout: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(timeout, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = killpg(group, signal);
        }
    }
}

async fn copy(output: impl AsyncRead + Unpin, line: impl Fn(String)) {
    let mut lines = BufReader::new(output).split(b'\n');
    while let Ok(Some(text)) = lines.next_segment().await {
        line(String::from_utf8_lossy(&text).into_owned());
    }
}
