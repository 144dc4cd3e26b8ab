//! Commands by ssh, for people.

use super::Ssh;
use super::call::{SSH_FAILED, remote};
use crate::fleet::{Host, Said, Shell, Stream, Task};
use crate::program::said;
use async_trait::async_trait;
use model::error::{Error, Exit, Result};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc::Sender;

/// Bytes that are kept of a line.
const LONGEST: usize = 64 << 10;

#[async_trait]
impl Shell for Ssh {
    async fn attached(&self, host: &Host, task: &Task, terminal: bool) -> Result<u8> {
        let mut command = self.interactive(terminal);
        command.args([if terminal { "-t" } else { "-T" }, "--", &host.0]);
        if let Task::Deploy(words) = task {
            command.arg(line(words));
        }
        let status = command.status().await;
        let status =
            status.map_err(|why| Error::failed("start ssh").because(why).help("install ssh"))?;
        if status.code() == Some(SSH_FAILED) {
            let error = Error::new(Exit::NoAgent, format!("run it on {host}"));
            let why = "ssh ended with 255: it could not connect, or the command ended so";
            return Err(error.because(why).help("see what ssh printed"));
        }
        Ok(code(status))
    }

    async fn lines(&self, host: &Host, task: &Task, to: Sender<Said>) -> Result<u8, String> {
        let Ok(_slot) = self.slots.acquire().await else { return Err("it was ended".to_owned()) };
        let mut command = self.command();
        command.args(["-T", "--", &host.0]);
        if let Task::Deploy(words) = task {
            command.arg(line(words));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let mut child = command.spawn().map_err(|why| format!("start ssh: {why}"))?;
        let gone = "its output is gone";
        let (out, err) = (child.stdout.take().ok_or(gone)?, child.stderr.take().ok_or(gone)?);
        let (_, last) = tokio::join!(pass(out, Stream::Out, &to), pass(err, Stream::Err, &to));
        if to.is_closed() {
            // Nobody reads it any more.
            let _ = child.start_kill();
        }
        let status = child.wait().await.map_err(|why| format!("wait for ssh: {why}"))?;
        match status.code() {
            Some(SSH_FAILED) if last.is_empty() => Err("ssh ended with 255".to_owned()),
            Some(SSH_FAILED) => Err(said(last.as_bytes())),
            _ => Ok(code(status)),
        }
    }
}

fn line(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    remote(&words)
}

/// Returns the exit code, as a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Passes a stream on, line by line, and returns its last line. Long lines are cut.
async fn pass(stream: impl AsyncRead + Unpin, which: Stream, to: &Sender<Said>) -> String {
    let mut reader = BufReader::new(stream);
    let (mut line, mut last) = (Vec::new(), String::new());
    while let Ok(chunk) = reader.fill_buf().await {
        let is_end = chunk.is_empty();
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let part = newline.unwrap_or(chunk.len());
        line.extend(chunk.iter().take(part.min(LONGEST - line.len())));
        reader.consume(part + usize::from(newline.is_some()));
        if newline.is_some() || (is_end && !line.is_empty()) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            last.clone_from(&text);
            line.clear();
            if to.send(Said { stream: which, text }).await.is_err() {
                break;
            }
        }
        if is_end {
            break;
        }
    }
    last
}
