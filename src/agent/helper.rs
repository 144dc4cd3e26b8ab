//! What `deploy` has this program do without the daemon: see [`model::helper`].

use super::daemon;
use crate::doctor::{self, Instance};
use crate::events::Events;
use crate::host::systemd::Systemd;
use crate::source::{InstanceMetadata, Sources};
use crate::stage::fetch::{Bounds, fetch};
use crate::stage::pace::Pace;
use crate::stage::unpack::{Limits, Owner};
use model::doctor::{Check, Row};
use model::error::{Error, Result};
use model::event::Outcome;
use model::helper::{Answer, EXAMINE, Examined, FETCH, Fetched, METADATA};
use model::release::env::Env;
use model::release::settings::AgentSettings;
use nix::unistd::{getegid, geteuid};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long systemd may take to say what a unit is.
const STATE: Duration = Duration::from_secs(3);

/// Does what the command line of this program asks for.
pub fn run(words: &[OsString]) -> ExitCode {
    let answered = match daemon::runtime() {
        Ok(runtime) => {
            let answered = runtime.block_on(perform(words));
            // A call that hangs does not hold back an answer that is printed.
            runtime.shutdown_background();
            answered
        }
        Err(error) => print(Err::<(), _>(error)),
    };
    if answered { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

async fn perform(words: &[OsString]) -> bool {
    match words {
        [word, url, dir] if word == FETCH => {
            print(fetched(&url.to_string_lossy(), Path::new(dir)).await)
        }
        [word] if word == EXAMINE => print(Ok(examined().await)),
        [word, path] if word == METADATA => {
            let text = InstanceMetadata::default().get(&path.to_string_lossy()).await;
            print(text.map_err(Error::source))
        }
        _ => {
            eprintln!(
                "deployd takes no such arguments: `systemctl start deployd.socket` starts it"
            );
            false
        }
    }
}

/// Prints the answer; returns whether somebody could read it.
fn print<T: Serialize>(result: Result<T>) -> bool {
    let answer: Answer<T> = result.map_err(|error| Outcome::from(&error));
    let text = serde_json::to_string(&answer).unwrap_or_default() + "\n";
    std::io::stdout().write_all(text.as_bytes()).is_ok()
}

/// Fetches a release as the caller's own, with the built-in limits.
async fn fetched(url: &str, dir: &Path) -> Result<Fetched> {
    let resolved = Sources::new().resolve(&url.parse()?).await?;
    let env = resolved.env().await?;
    let into =
        File::open(dir).map_err(|e| Error::failed("open the temporary directory").because(e))?;
    let settings = AgentSettings::from_env(&Env::default())?;
    let limits = Limits { max_bytes: settings.max_unpacked, max_files: settings.max_files };
    let owner = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let memory = settings.max_fetch_memory;
    let bounds = Bounds { limits, memory, deadline: None, pace: Pace::free() };
    fetch(&resolved, into.into(), owner, bounds, &Events::default()).await?;
    Ok(Fetched { name: resolved.name().to_string(), env: env.to_vec() })
}

async fn examined() -> Examined {
    let units = [state("deployd.socket").await, state("deployd.service").await].join(", ");
    if !geteuid().is_root() {
        return Examined { units, rows: Vec::new() };
    }
    let rows = match Instance::open(Arc::default(), Arc::new(Sources::new()), None).await {
        Ok(instance) => doctor::examine_here(instance).await,
        Err(error) => vec![Row::of_error(Check::Systemd, &error)],
    };
    Examined { units, rows }
}

async fn state(unit: &str) -> String {
    let read = async { Systemd::connect().await?.active_state(unit).await };
    let state = tokio::time::timeout(STATE, read).await;
    let state = state.ok().and_then(Result::ok).unwrap_or_else(|| "of unknown state".to_owned());
    format!("{unit} is {state}")
}
