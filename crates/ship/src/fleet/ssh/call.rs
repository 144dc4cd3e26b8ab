//! One call of `deploy` on one instance.

use crate::fleet::{Ended, Host, agent};
use crate::program::said;
use model::event::Event;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Bytes that are kept of a line of an instance's answer.
const LONGEST: usize = 1 << 20;
/// Bytes of its stderr, where ssh says why it fails.
const SAID: u64 = 16 << 10;
/// The time for an answer that needs no work.
const ANSWER: Duration = Duration::from_secs(30);
/// The exit code with which ssh itself fails.
pub const SSH_FAILED: i32 = 255;

/// How ssh is called: connections are shared, and end half a minute after their last use; a host
/// that is gone is noticed within a minute.
pub const OPTIONS: [&str; 6] = [
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ControlMaster=auto",
    "ControlPersist=30",
    "LogLevel=ERROR",
];

pub struct Call(Command);

impl Call {
    /// Completes a call of ssh.
    pub fn new(mut command: Command, host: &Host, line: &str) -> Call {
        command.args(["-T", "--", &host.0, line]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        Call(command)
    }

    /// Returns the first and the last line that it prints, whatever its exit code.
    pub async fn printed(mut self) -> Result<String, String> {
        let mut child = self.start()?;
        let mut first = None;
        let tell = |line: &str| {
            first.get_or_insert_with(|| line.to_owned());
        };
        let ended = timeout(ANSWER, ended(&mut child, tell)).await;
        let seconds = ANSWER.as_secs();
        let (status, last, stderr) =
            ended.map_err(|_| format!("no answer within {seconds}s"))??;
        let first = first.unwrap_or_default();
        if !first.starts_with('[') || status.code() == Some(SSH_FAILED) {
            return Err(failed(status, &stderr));
        }
        Ok(format!("{first}\n{last}"))
    }

    /// Follows a job to its outcome.
    pub async fn followed(mut self, step: impl Fn(String) + Send) -> Result<Ended, String> {
        let mut child = self.start()?;
        let tell = |line: &str| {
            if let Ok(Event::Step { step: name, text, .. }) = serde_json::from_str(line) {
                step(format!("{:<9} {}", name.name(), model::text::line(&text, 200)));
            }
        };
        let (status, last, stderr) = ended(&mut child, tell).await?;
        let outcome = match serde_json::from_str(&last) {
            Ok(Event::Ended { outcome }) => Some(outcome),
            _ => None,
        };
        match (outcome, status.code()) {
            (Some(outcome), _) => Ok(outcome.into()),
            // deploy is not there, or sudo refuses.
            (None, Some(1 | 2 | 126 | 127)) => {
                let message = failed(status, &stderr);
                Ok(Ended { code: 1, message, ..Ended::default() })
            }
            // Its job may go on in the agent.
            (None, _) => Err(failed(status, &stderr)),
        }
    }

    fn start(&mut self) -> Result<Child, String> {
        self.0.spawn().map_err(|why| format!("start ssh: {why}"))
    }
}

/// Waits for the end; returns its last line, which is its answer, and its stderr.
async fn ended(
    child: &mut Child,
    tell: impl FnMut(&str),
) -> Result<(ExitStatus, String, Vec<u8>), String> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.ok_or("its output is gone")?;
    let stderr = stderr.ok_or("its output is gone")?;
    let (last, said) = tokio::join!(read_lines(stdout, tell), start_of(stderr));
    let status = child.wait().await.map_err(|why| format!("wait for ssh: {why}"))?;
    Ok((status, last, said))
}

/// Reads a stream to its end, line by line; returns the last one.
async fn read_lines(stream: impl AsyncRead + Unpin, mut tell: impl FnMut(&str)) -> String {
    let mut reader = BufReader::new(stream);
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        let chunk = match reader.fill_buf().await {
            Ok(chunk) if !chunk.is_empty() => chunk,
            _ => break,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = end.unwrap_or(chunk.len());
        line.extend(chunk.iter().take(part.min(LONGEST - line.len())));
        reader.consume(part + usize::from(end.is_some()));
        if end.is_some() {
            last = String::from_utf8_lossy(&line).into_owned();
            tell(&last);
            line.clear();
        }
    }
    if line.is_empty() { last } else { String::from_utf8_lossy(&line).into_owned() }
}

/// Reads a stream to its end, and keeps its start.
async fn start_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut start = Vec::new();
    let _ = (&mut stream).take(SAID).read_to_end(&mut start).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    start
}

fn failed(status: ExitStatus, stderr: &[u8]) -> String {
    let said = said(stderr);
    match (said.is_empty(), status.code()) {
        (false, _) => said,
        (true, Some(SSH_FAILED)) => "ssh has failed without a word".to_owned(),
        (true, _) => format!("deploy said nothing: {status}"),
    }
}

/// Returns the command line that prints what runs, and the version of the agent.
pub fn status() -> String {
    format!("({}); deploy --version", remote(&["status", "--json"]))
}

/// Returns the command line for the instance's shell: deploy, by root.
pub fn remote(words: &[&str]) -> String {
    let agent::Call { before, call } = agent::call(words);
    format!("{before}if [ \"$(id -u)\" = 0 ]; then exec {call}; else exec sudo -n {call}; fi")
}
