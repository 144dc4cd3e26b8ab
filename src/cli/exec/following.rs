//! A one-off command that runs for this process, followed over restarts of deployd: only the news
//! of its end comes from there.

use crate::cli::client::{Client, Following};
use model::api::{self, Exec, ExecEvent};
use model::error::{Error, Exit, Result};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long deployd may be gone before that is reported, and the pause between two requests.
const SILENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Command {
    unit: String,
    following: Following,
}

impl Command {
    /// Asks for the command, and waits until it runs. The streams are closed here after that.
    pub async fn begin(request: &Exec, streams: Vec<OwnedFd>) -> Result<Command> {
        let mut following = Client::follow_with("/v1/exec", request, &streams).await?;
        match following.next_as().await? {
            Some(ExecEvent::Begun { unit }) => Ok(Command { unit, following }),
            _ => {
                let error = Error::new(Exit::NoAgent, "follow the command to its end");
                let error = error.because("deployd closed the connection");
                Err(error.help("see `journalctl -u deployd`"))
            }
        }
    }

    /// Waits for the end of the command; returns its status, and the reason if that was not its
    /// own. A deployd that is gone is waited for: this process holds the command's terminal or
    /// pipes, and its own end would end the command.
    ///
    /// Once `is_silent`, which means that the command has closed its output, a deployd that stays
    /// away is an error.
    pub async fn end(mut self, is_silent: impl Fn() -> bool) -> Result<(u8, Option<String>)> {
        loop {
            match self.following.next_as().await? {
                Some(ExecEvent::Ended { status, why }) => return Ok((status, why)),
                Some(ExecEvent::Begun { .. }) => {}
                None => self.following = self.again(&is_silent).await?,
            }
        }
    }

    async fn again(&self, is_silent: impl Fn() -> bool) -> Result<Following> {
        let query = api::Following { unit: self.unit.clone() };
        let (gone, mut is_reported) = (Instant::now(), false);
        loop {
            // The answer may take as long as the end of the jobs of a deployd that stops.
            if let Some(following) = Client::new()?.follow_again(&query).await? {
                return Ok(following);
            }
            if gone.elapsed() >= 2 * SILENCE && is_silent() {
                let error = Error::new(Exit::NoAgent, "follow the command to its end");
                let error = error.because("it has closed its output, and deployd is gone");
                return Err(error.help(format!(
                    "see `journalctl -u deployd`, and `systemctl status {}` for the command",
                    self.unit
                )));
            }
            if gone.elapsed() >= SILENCE && !is_reported {
                // With a carriage return: the terminal is raw.
                eprint!(
                    "\r\ndeploy exec: deployd is gone; the command goes on, and its exit code \
                     comes when deployd is back\r\n"
                );
                is_reported = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
