//! Commands of people by Run Command: what they print comes once they have ended.

use super::command::{Line, Reply};
use super::{ANSWER, DELIVERY, Failed, POLL, Ssm, locked, session};
use crate::fleet::aws::api::Output;
use crate::fleet::aws::calls::Action;
use crate::fleet::{Host, Progress, Said, Shell, Stream, Task, agent};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use std::io::{IsTerminal, Read, Write, stderr, stdout};
use std::slice;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

/// The bytes of standard output that fit into the 24,000 characters that are kept, with the exit
/// code after them. A multiple of 4, for base64.
const OUT: usize = 22_000;
/// The bytes of a log, before it is compressed.
const LOG: usize = 60_000;
/// The characters of standard error that are kept.
const ERR: usize = 8_000;
/// What the SSM agent adds to standard error after a failure.
const FAILED: &str = "failed to run commands: exit status 1";

/// What a command has printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    out: String,
    err: String,
    code: u8,
    /// What is missing of it.
    cut: Vec<String>,
}

/// Returns the command for `deploy` with these words. It drains what it leaves out, so that
/// `deploy` is not stopped, and prints the exit code last. A log comes with
/// the newest line first, as the end of an output is what Systems Manager cuts off.
fn line(words: &[String], execution: Duration) -> Line {
    let is_log = is_log(words);
    let agent::Call { before, call } = agent::call(words);
    // Systems Manager replaces {{names}} in a command by its own parameters.
    let call = call.replace('{', "{''");
    let keep = match is_log {
        true => format!("tail -c {LOG} | tac | gzip -9 | base64 -w 0 | head -c {OUT}"),
        false => format!("head -c {OUT}"),
    };
    let text = format!(
        "{before}exec 5>&1; c=$({{ {{ {call} </dev/null 4>&- 5>&-; echo \"$?\" >&4; }} | \
         {{ {keep}; printf '\\nleft=%s' \"$(wc -c)\"; }} >&5; }} 4>&1); \
         printf '\\nstatus=%s\\n' \"$c\"; [ \"$c\" = 0 ] || exit 1"
    );
    let about = if is_log { "logs" } else { "exec" };
    Line { text, about: about.to_owned(), reply: Reply::Printed, execution }
}

fn is_log(words: &[String]) -> bool {
    words.first().is_some_and(|word| word == "logs")
}

/// Reads what a command has printed; none if its end is missing.
fn parse(output: &Output, is_log: bool) -> Option<Printed> {
    let said = format!("\n{}", output.out.trim_end());
    let (said, code) = said.rsplit_once("\nstatus=")?;
    let (said, left) = said.rsplit_once("\nleft=")?;
    let said = said.strip_prefix('\n').unwrap_or(said);
    let (code, left) = (code.parse().ok()?, left.trim().parse::<u64>().ok()?);
    let mut cut = Vec::new();
    let mut out = said.to_owned();
    if is_log {
        let (text, is_whole) = unpacked(said)?;
        if !is_whole {
            cut.push("older lines are left out: Systems Manager keeps no more of a log".to_owned());
        }
        out = text;
    } else if left > 0 {
        cut.push(format!("{left} more bytes of its output are left out: {OUT} are kept"));
    }
    let err = output.err.trim_end();
    if err.chars().count() >= ERR {
        cut.push(format!("its standard error was cut: {ERR} characters are kept"));
    }
    let err = err.strip_suffix(FAILED).unwrap_or(err).trim_end().to_owned();
    Some(Printed { out, err, code, cut })
}

/// Decompresses a log, and turns its lines round; returns whether all of it is there.
fn unpacked(said: &str) -> Option<(String, bool)> {
    let bytes = BASE64_STANDARD.decode(said.trim()).ok()?;
    let mut text = Vec::new();
    let most = u64::try_from(LOG).ok()?;
    let read = GzDecoder::new(bytes.as_slice()).take(most).read_to_end(&mut text);
    let is_whole = read.is_ok() && text.len() < LOG;
    let lines = String::from_utf8_lossy(&text);
    let lines: Vec<String> = lines.lines().rev().map(|line| format!("{line}\n")).collect();
    Some((lines.concat(), is_whole))
}

impl Ssm {
    /// Runs `deploy` on an instance to its end.
    async fn ran(&self, host: &Host, words: &[String]) -> Result<Printed> {
        let what = || format!("run it on {host}");
        let failed = |(action, fault): Failed| fault.error(action, what());
        let lost = |why: String| Error::new(Exit::NoAgent, what()).because(why);
        let line = line(words, self.patience);
        let sent = self.dispatch(&line, slice::from_ref(host)).await.map_err(failed)?;
        let (_, sent) = self.note(sent);
        let deadline = Instant::now() + DELIVERY + self.patience + ANSWER;
        let mut has_ended = sent.commands.is_empty();
        while !has_ended && Instant::now() < deadline {
            sleep(POLL).await;
            let refreshed = self.refresh(&sent).await;
            has_ended = refreshed.map_err(|why| failed((Action::ListCommandInvocations, why)))?;
        }
        let progress = locked(&sent.progress).get(host).cloned();
        match progress {
            Some(Progress::Ended(_)) => {}
            Some(Progress::Lost(why)) => return Err(lost(why)),
            _ => return Err(lost("it does not answer".to_owned())),
        }
        let Some((id, _)) = sent.commands.first() else {
            return Err(lost("it was not sent".to_owned()));
        };
        let output = self.calls.output(id, host).await;
        let output = output.map_err(|why| failed((Action::GetCommandInvocation, why)))?;
        parse(&output, is_log(words)).ok_or_else(|| {
            let said = output.err.lines().next().unwrap_or("its exit code is not known");
            lost(model::text::line(said, 300))
        })
    }
}

#[async_trait]
impl Shell for Ssm {
    fn is_live(&self) -> bool {
        false
    }

    async fn attached(&self, host: &Host, task: &Task, terminal: bool) -> Result<u8> {
        let Task::Deploy(words) = task else {
            return Err(session::open(host, self.region.as_deref(), terminal));
        };
        let Printed { out, err, code, cut } = self.ran(host, words).await?;
        let shown = |text: String, is_terminal| match is_terminal {
            true => for_terminal(&console::strip_ansi_codes(&text)),
            false => text,
        };
        // A reader that has gone is its own choice.
        let _ = stdout().write_all(shown(out, stdout().is_terminal()).as_bytes());
        let _ = stdout().flush();
        if !err.trim().is_empty() {
            let _ = writeln!(stderr(), "{}", shown(err.trim_end().into(), stderr().is_terminal()));
        }
        let report = crate::report::Report::default();
        cut.into_iter().for_each(|text| report.warn(text));
        Ok(code)
    }

    async fn lines(&self, host: &Host, task: &Task, to: Sender<Said>) -> Result<u8, String> {
        let Task::Deploy(words) = task else { return Err("a login needs a terminal".to_owned()) };
        let Ok(_slot) = self.slots.acquire().await else { return Err("it was ended".to_owned()) };
        let Printed { out, err, code, cut } = self.ran(host, words).await.map_err(|error| {
            let help = error.advice().map(|help| format!("; {help}")).unwrap_or_default();
            format!("{}{help}", error.chain())
        })?;
        let out = out.lines().map(|text| (Stream::Out, text));
        let err = err.lines().chain(cut.iter().map(String::as_str));
        for (stream, text) in out.chain(err.map(|text| (Stream::Err, text))) {
            if to.send(Said { stream, text: text.to_owned() }).await.is_err() {
                break;
            }
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests;
