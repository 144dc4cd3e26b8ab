//! Transient units: they run programs for the agent, which never has a child.

mod one_off;
mod property;

pub use one_off::{Ended, Listed, OneOff, REMAIN};
pub use property::properties;

use super::systemd::Systemd;
use super::user;
use futures_util::StreamExt;
use model::error::{Error, Result};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use zbus::{Fd, OwnedVariant, Variant};

/// Lines longer than this many bytes are cut.
pub(super) const LINE: usize = 8 << 10;
/// The time from SIGTERM to SIGKILL when a run is aborted.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the output may stay open after the unit has ended: systemd has killed every process of
/// the unit by then, so the end of output is near.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The units of the agent's own runs, without a suffix.
pub const OWN: [&str; 10] = [
    "deployd-journal",
    "deployd-nft",
    "deployd-nft-ahead",
    "deployd-nft-check",
    "deployd-reserve",
    "deployd-signature",
    "deployd-syslog-check",
    "deployd-sysusers",
    "deployd-units",
    "deployd-userdel",
];

/// A callback for each line of a program's output.
pub type Lines<'a> = &'a mut (dyn FnMut(String) + Send);

/// One run of a program as a oneshot service.
pub struct Command {
    /// The unit's name, without a suffix.
    pub unit: String,
    pub description: String,
    /// An absolute path, then its arguments; passed literally.
    pub argv: Vec<String>,
    /// The longest run before systemd kills all its processes.
    pub timeout: Duration,
    /// Further properties, with their names in systemd.exec(5).
    pub properties: Vec<(&'static str, Property)>,
}

/// A unit property in one of systemd's D-Bus types.
pub enum Property {
    Bool(bool),
    Int(i32),
    Text(String),
    /// A text that is ignored where the kernel lacks its subject.
    IfPossible(String),
    List(Vec<String>),
    /// Bytes, or flags.
    Number(u64),
    /// A file mode creation mask.
    Mode(u32),
    /// An allow list: everything else is denied.
    Allowed(Vec<String>),
    Bytes(Vec<u8>),
    /// Paths of environment files, all of which must exist.
    EnvironmentFiles(Vec<String>),
    /// A path and its mount options.
    Pairs(Vec<(String, String)>),
    /// The source of each bind mount, and its target.
    Binds(Vec<(String, String)>),
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Success,
    /// systemd's result: `exit-code, exit status 1`, `timeout`, …
    Failure(String),
}

impl Systemd {
    /// Runs a program to its end, and calls `line` with each line of its output.
    pub async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending> {
        self.run_with_lines(command, LINE, line).await
    }

    /// The same, with lines of up to `longest` bytes.
    pub(super) async fn run_with_lines(
        &self,
        command: Command,
        longest: usize,
        line: Lines<'_>,
    ) -> Result<Ending> {
        let unit = format!("{}.service", command.unit);
        let cannot = |e: zbus::Error| Error::failed(format!("run {unit}")).because(e);
        let (reader, writer) = tokio::net::unix::pipe::pipe()
            .and_then(|(tx, rx)| Ok((rx, tx.into_blocking_fd()?)))
            .map_err(|e| Error::failed(format!("make a pipe for {unit}")).because(e))?;
        give_to_its_user(&command, &writer)?;
        let deadline = command.timeout + LAST_WORDS * 6;
        let mut removed = self.manager.receive_job_removed().await.map_err(cannot)?;
        self.reset_failed(&unit).await;
        reach!("systemd: before run {unit}");
        let streams = Streams::output(writer).map_err(cannot)?;
        let properties = all_properties(command, streams).map_err(cannot)?;
        let job = self
            .manager
            .start_transient_unit(unit.clone(), "fail".into(), properties, Vec::new())
            .await
            .map_err(cannot)?;
        reach!("systemd: asked to run {unit}");
        let ended = async {
            while let Some(signal) = removed.next().await {
                if let Ok(args) = signal.args()
                    && args.job == job
                {
                    return args.result.clone();
                }
            }
            "lost".to_owned()
        };
        let result = {
            let mut output = std::pin::pin!(lines_up_to(longest, reader, line));
            let mut ended = std::pin::pin!(tokio::time::timeout(deadline, ended));
            tokio::select! {
                _ = &mut output => ended.await,
                result = &mut ended => {
                    let _ = tokio::time::timeout(LAST_WORDS, output).await;
                    result
                }
            }
        };
        drop(removed);
        reach!("systemd: after run {unit}");
        match result.as_deref() {
            Ok("done") => Ok(Ending::Success),
            Ok(_) => {
                let status = self.status(&unit).await?;
                self.reset_failed(&unit).await;
                Ok(Ending::Failure(status.ending()))
            }
            Err(_) => {
                self.stop(std::slice::from_ref(&unit), LAST_WORDS).await?;
                Ok(Ending::Failure("timeout".into()))
            }
        }
    }
}

/// Makes the program's user the owner of the pipe: opening /dev/stdout or /dev/stderr opens the
/// pipe again, and only its owner may do that.
fn give_to_its_user(command: &Command, pipe: &OwnedFd) -> Result<()> {
    let mut properties = command.properties.iter();
    let user = properties.find_map(|(name, property)| match property {
        Property::Text(user) if *name == "User" => Some(user),
        _ => None,
    });
    let Some(user) = user else { return Ok(()) };
    let ids = user::ids(user)?;
    fchown(pipe, Some(ids.uid), Some(ids.gid))
        .map_err(|e| Error::failed(format!("give {}.service its output", command.unit)).because(e))
}

/// Escapes a word of a command line, so that systemd's expansion restores it.
fn literal(word: &str) -> String {
    word.replace('$', "$$")
}

/// The standard streams of a unit.
pub struct Streams {
    /// None: /dev/null.
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub error: OwnedFd,
}

impl Streams {
    /// No input, and one file for both outputs.
    fn output(output: OwnedFd) -> zbus::Result<Streams> {
        let error = output.try_clone().map_err(|e| zbus::Error::InputOutput(e.into()))?;
        Ok(Streams { input: None, output, error })
    }
}

fn all_properties(command: Command, streams: Streams) -> zbus::Result<Vec<(String, OwnedVariant)>> {
    let own = |value: Variant<'_>| OwnedVariant::try_from(value);
    let program = command.argv.first().cloned().unwrap_or_default();
    // Not ExecStartEx: systemd 252 writes it into the unit's file and cannot read it again, so a
    // daemon-reload would end the run, and report success.
    let argv: Vec<_> = command.argv.iter().map(|word| literal(word)).collect();
    let exec = vec![(program, argv, false)];
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut list = vec![
        ("Description".to_owned(), own(Variant::from(command.description))?),
        ("Type".to_owned(), own(Variant::from("oneshot"))?),
        ("ExecStart".to_owned(), own(Variant::from(exec))?),
        ("TimeoutStartUSec".to_owned(), own(Variant::from(micros(command.timeout)))?),
        ("TimeoutStopUSec".to_owned(), own(Variant::from(micros(STOP_TIMEOUT)))?),
        // Processes that the program leaves running are killed at once, without affecting its
        // success.
        ("KillMode".to_owned(), own(Variant::from("mixed"))?),
        ("StandardOutputFileDescriptor".to_owned(), own(Variant::from(Fd::from(streams.output)))?),
        ("StandardErrorFileDescriptor".to_owned(), own(Variant::from(Fd::from(streams.error)))?),
    ];
    if let Some(input) = streams.input {
        list.push(("StandardInputFileDescriptor".to_owned(), own(Variant::from(Fd::from(input)))?));
    }
    for (name, property) in command.properties {
        let value = match property {
            Property::Bool(value) => own(Variant::from(value))?,
            Property::Int(value) => own(Variant::from(value))?,
            Property::Text(value) => own(Variant::from(value))?,
            Property::IfPossible(value) => own(Variant::from((true, value)))?,
            Property::Bytes(value) => own(Variant::from(value))?,
            Property::List(value) => own(Variant::from(value))?,
            Property::Number(value) => own(Variant::from(value))?,
            Property::Mode(mask) => own(Variant::from(mask))?,
            Property::Allowed(names) => own(Variant::from((true, names)))?,
            Property::Pairs(value) => own(Variant::from(value))?,
            Property::Binds(pairs) => {
                // MS_REC of mount(2): includes the mounts below.
                let bind = |(from, to)| (from, to, false, 0x4000_u64);
                let binds: Vec<_> = pairs.into_iter().map(bind).collect();
                own(Variant::from(binds))?
            }
            Property::EnvironmentFiles(paths) => {
                let files: Vec<_> = paths.into_iter().map(|path| (path, false)).collect();
                own(Variant::from(files))?
            }
        };
        list.push((name.to_owned(), value));
    }
    Ok(list)
}

/// Passes on each line, cut to the limit, until the last writer is gone.
pub(super) async fn lines(
    output: impl AsyncRead + Unpin,
    line: &mut (impl FnMut(String) + ?Sized),
) -> io::Result<()> {
    lines_up_to(LINE, output, line).await
}

async fn lines_up_to(
    longest: usize,
    output: impl AsyncRead + Unpin,
    line: &mut (impl FnMut(String) + ?Sized),
) -> io::Result<()> {
    let mut output = BufReader::with_capacity(LINE, output);
    let mut text = Vec::new();
    loop {
        let buffer = output.fill_buf().await?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let room = longest.saturating_sub(text.len());
        text.extend(buffer.iter().take(end.unwrap_or(taken)).take(room));
        output.consume(taken);
        if end.is_some() {
            line(String::from_utf8_lossy(&text).into_owned());
            text.clear();
        }
    }
    if !text.is_empty() {
        line(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_last_needs_no_newline() {
        let long = "x".repeat(3 * LINE);
        let text = format!("one\n{long}\ntwo");
        let mut seen = Vec::new();
        lines(text.as_bytes(), &mut |line| seen.push(line)).await.expect("read");
        assert_eq!(seen, ["one", &"x".repeat(LINE), "two"]);
    }
}
