//! `deploy exec`: runs a command of an app at this terminal, or between pipes.

mod following;
mod terminal;

use super::args::ExecArgs;
use crate::signals;
use following::Command;
use model::api::Exec;
use model::error::{Error, Result};
use model::text::for_terminal;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::pipe2;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use terminal::Terminal;

/// How long the rest of the output may take after the end of the command.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The exit code of a command whose terminal is gone: 128 and SIGHUP.
const HANGUP: u8 = 129;
const LOOK: Duration = Duration::from_millis(5);

/// Returns the exit status of the command.
pub async fn exec(args: ExecArgs) -> Result<u8> {
    let at_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let term = std::env::var("TERM").ok().filter(|_| at_terminal);
    let request = Exec { words: args.words, kind: args.kind, command: args.command, term };
    match at_terminal {
        true => in_terminal(&request).await,
        false => in_pipes(&request).await,
    }
}

async fn in_terminal(request: &Exec) -> Result<u8> {
    let cannot = |e: io::Error| Error::failed("make a terminal").because(e);
    let (terminal, its_end) = Terminal::open().map_err(cannot)?;
    let mut signals = signals::receive(&[SIGWINCH, SIGHUP, SIGTERM, SIGINT])?;
    let command = Command::begin(request, vec![its_end]).await?;
    // The window may have changed since.
    terminal.resize();
    let raw = terminal.make_raw().map_err(cannot)?;
    let copy = || terminal.copy().map_err(cannot);
    let screen = copied(copy()?, File::from(stdout()?));
    // Blocks in a read until this program ends.
    let mut keyboard = Some((File::from(stdin()?), copy()?));
    let mut typing = None;
    // At a terminal its hang-up ends the wait.
    let mut ended = std::pin::pin!(command.end(|| false));
    let mut taken = std::pin::pin!(terminal.taken());
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            () = &mut taken, if keyboard.is_some() => {
                if let Some((keyboard, command)) = keyboard.take() {
                    typing = Some(copied(keyboard, command));
                }
            }
            () = all_ended(typing.as_slice()), if typing.is_some() => {
                // The command has ended, or this terminal is gone.
                match tokio::time::timeout(LAST_WORDS, &mut ended).await {
                    Ok(ended) => break ended,
                    Err(_) => return Ok(HANGUP),
                }
            }
            signal = signals.recv() => match signal {
                Some(SIGWINCH) => terminal.resize(),
                Some(signal) => return Ok(128 + u8::try_from(signal).unwrap_or_default()),
                None => {}
            },
        }
    };
    finish(&[screen]).await;
    drop(raw);
    report(ended)
}

async fn in_pipes(request: &Exec) -> Result<u8> {
    let make = || pipe2(OFlag::O_CLOEXEC);
    let pipes = || Ok::<_, nix::Error>([make()?, make()?, make()?]);
    let pipes = pipes().map_err(|e| Error::failed("make pipes").because(e))?;
    let [(input, to_input), (from_output, output), (from_error, mut error)] = pipes;
    if are_one()? {
        // Through one pipe the lines keep their order.
        error = duplicate(&output)?;
    }
    let command = Command::begin(request, vec![input, output, error]).await?;
    let _input = copied(File::from(stdin()?), to_input.into());
    let outputs = [
        copied(from_output.into(), File::from(stdout()?)),
        copied(from_error.into(), File::from(duplicate(&io::stderr())?)),
    ];
    let ended = command.end(|| outputs.iter().all(JoinHandle::is_finished)).await;
    finish(&outputs).await;
    report(ended)
}

fn report(ended: Result<(u8, Option<String>)>) -> Result<u8> {
    let (status, why) = ended?;
    if let Some(why) = why {
        eprintln!("deploy exec: {}", for_terminal(&why));
    }
    Ok(status)
}

/// Copies until either side ends.
fn copied(mut from: File, mut to: File) -> JoinHandle<()> {
    thread::spawn(move || {
        // Not io::copy, which calls splice(2): where stdout and stderr share one position in a
        // file, two of those at once write over each other, and two write(2) do not.
        let mut buffer = [0; 1 << 16];
        while let Ok(read @ 1..) = read(&mut from, &mut buffer) {
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
    })
}

fn read(from: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether stdout and stderr lead to the same file or pipe.
fn are_one() -> Result<bool> {
    let what = |e| Error::failed("examine the standard streams").because(e);
    let (out, err) = (fstat(io::stdout()).map_err(what)?, fstat(io::stderr()).map_err(what)?);
    Ok((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

/// Waits for the rest of the output: all processes of the command have ended.
async fn finish(copies: &[JoinHandle<()>]) {
    let deadline = Instant::now() + LAST_WORDS;
    let _ = tokio::time::timeout_at(deadline.into(), all_ended(copies)).await;
}

async fn all_ended(copies: &[JoinHandle<()>]) {
    while !copies.iter().all(JoinHandle::is_finished) {
        tokio::time::sleep(LOOK).await;
    }
}

fn stdin() -> Result<OwnedFd> {
    duplicate(&io::stdin())
}

fn stdout() -> Result<OwnedFd> {
    duplicate(&io::stdout())
}

fn duplicate(stream: &impl std::os::fd::AsFd) -> Result<OwnedFd> {
    let copy = stream.as_fd().try_clone_to_owned();
    copy.map_err(|e| Error::failed("use the standard streams").because(e))
}
