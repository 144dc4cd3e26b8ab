//! nft(8) started ahead of its script: starting the unit and the program takes longer than loading
//! the map, and need not wait until the map is known.

use super::{LONGEST, command};
use crate::host::systemd::Systemd;
use crate::host::transient::{Ended, OneOff, Property, REMAIN, STOP_TIMEOUT, Streams, lines};
use model::error::{Error, Result};
use std::io;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const UNIT: &str = "deployd-nft-ahead";
/// The largest script. A new pipe takes so many bytes in one write, even if the writer is killed
/// meanwhile; pipe(7). nft never sees a part of a script.
const CAPACITY: usize = 64 << 10;

/// Held by the one that waits, which has a fixed name.
static ONE: Semaphore = Semaphore::const_new(1);

/// An nft that waits for its script. If this is dropped, or this process dies, nft reads an empty
/// script, which changes nothing.
pub struct Ahead {
    systemd: Systemd,
    script: pipe::Sender,
    run: JoinHandle<Result<(Ended, Vec<String>)>>,
}

impl Ahead {
    /// Starts nft in the background, unless one waits already for the deploy of another app. If it
    /// cannot be started, loading the script fails.
    pub fn start(systemd: &Systemd) -> io::Result<Option<Ahead>> {
        let Ok(one) = ONE.try_acquire() else { return Ok(None) };
        let (script, input) = pipe::pipe()?;
        let (output, said) = pipe::pipe()?;
        let (input, output) = (input.into_blocking_fd()?, output.into_blocking_fd()?);
        let streams = Streams { input: Some(input), error: output.try_clone()?, output };
        let run = run(systemd.clone(), streams, said);
        let run = tokio::spawn(async move {
            let _one = one;
            run.await
        });
        Ok(Some(Ahead { systemd: systemd.clone(), script, run }))
    }

    /// Loads a script completely, or changes nothing.
    pub async fn load(mut self, script: &str) -> Result<()> {
        reach!("systemd: before the script of {UNIT}.service");
        let loaded = tokio::time::timeout(LONGEST, self.give_and_wait(script)).await;
        reach!("systemd: after the script of {UNIT}.service");
        let late = || Err(cannot("it did not end in time"));
        let loaded = loaded.unwrap_or_else(|_| late());
        if loaded.is_err() {
            // Before the pipe is closed: nft may have read a part of the script.
            self.systemd.stop(&[format!("{UNIT}.service")], STOP_TIMEOUT).await?;
        }
        loaded
    }

    async fn give_and_wait(&mut self, script: &str) -> Result<()> {
        if script.len() > CAPACITY {
            return Err(cannot("the script is longer than a pipe"));
        }
        self.script.writable().await.map_err(cannot)?;
        let written = self.script.try_write(script.as_bytes()).map_err(cannot)?;
        if written != script.len() {
            return Err(cannot("it took a part of the script"));
        }
        let (closed, _) = pipe::pipe().map_err(cannot)?;
        drop(std::mem::replace(&mut self.script, closed));
        match (&mut self.run).await.map_err(cannot)?? {
            (Ended { status: 0, .. }, _) => Ok(()),
            (Ended { status, .. }, said) => {
                Err(cannot(format!("exit status {status}")).with_log(said))
            }
        }
    }
}

fn cannot(why: impl ToString) -> Error {
    Error::failed(format!("load the port map by {UNIT}.service")).because(why.to_string())
}

/// Follows nft to its end, which comes soon after the end of its input.
async fn run(
    systemd: Systemd,
    streams: Streams,
    said: pipe::Receiver,
) -> Result<(Ended, Vec<String>)> {
    // Only its input ends it: the proof of a release may take any time.
    let mut command = command(UNIT, &["--file", "-"], Duration::MAX);
    // Nobody asks for its result later.
    command.properties = vec![(REMAIN, Property::Bool(false))];
    let mut run = OneOff::start(systemd, command, streams).await?;
    let mut output = Vec::new();
    let mut line = |line| output.push(line);
    let read = async { tokio::time::timeout(STOP_TIMEOUT, lines(said, &mut line)).await };
    let ended = run.ended().await?;
    run.remove().await?;
    let _ = read.await;
    Ok((ended, output))
}
