//! Ctrl-C while a job is followed at a terminal: the job is deployd's, and goes on.

use super::args::Shown;
use super::client::Client;
use super::render::Progress;
use crate::signals;
use model::api;
use model::event::Outcome;
use signal_hook::consts::SIGINT;
use std::io::{IsTerminal, stderr, stdin};
use tokio::sync::mpsc::UnboundedReceiver;

/// The interrupts of a person. Elsewhere SIGINT ends this command, as it ends others.
pub struct Interrupts {
    signals: Option<UnboundedReceiver<i32>>,
    count: u32,
}

impl Interrupts {
    pub fn new(shown: Shown) -> Interrupts {
        let is_watched = !shown.json && stderr().is_terminal() && stdin().is_terminal();
        let signals = is_watched.then(|| signals::receive(&[SIGINT]).ok()).flatten();
        Interrupts { signals, count: 0 }
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) {
        match &mut self.signals {
            Some(signals) => drop(signals.recv().await),
            None => std::future::pending().await,
        }
    }

    /// Says what an interrupt means, or cancels the job at the second one. Returns whether
    /// this command ends although the job goes on.
    pub async fn is_final(&mut self, progress: &Progress, job: Option<&str>) -> bool {
        let Some(id) = job else { return true };
        self.count += 1;
        match self.count {
            1 => {
                progress.say(&format!(
                    "It goes on without this command. Ctrl-C again cancels it; `deploy attach \
                     {id}` follows it from anywhere."
                ));
                false
            }
            2 => match cancel(id).await {
                Ok(_) => {
                    progress.say("Cancelling.");
                    false
                }
                Err(why) => {
                    progress.say(&why);
                    true
                }
            },
            _ => true,
        }
    }
}

async fn cancel(id: &str) -> Result<Outcome, String> {
    let request = api::Cancel { word: Some(id.to_owned()) };
    let asked = async { Client::new()?.post("/v1/cancel", &request).await };
    asked.await.map_err(|error: model::error::Error| {
        let help = error.advice().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}{help}", error.chain())
    })
}
