//! The real metadata service, by deployd's program, and the daemon for all else.

use super::super::args::{By, Shown};
use super::super::client::Client;
use super::super::{checked, follow};
use super::End;
use super::seams::{Hooks, LocalDeployd, Metadata};
use crate::context;
use crate::host::deployd_program;
use async_trait::async_trait;
use model::api::{self, AppStatus, Lifecycle, LifecycleAnswer};
use model::error::{Error, Result};
use model::event::Outcome;
use model::helper::METADATA;
use model::reason::Reason;
use model::release::url::ReleaseUrl;
use model::text::for_terminal;
use std::io::{ErrorKind, Write};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// systemd starts the socket within seconds of the boot; without the package there is none.
const SOCKET_IN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(250);

pub struct Real {
    shown: Shown,
}

impl Real {
    pub fn new(shown: Shown) -> Real {
        Real { shown }
    }

    /// Prints a line on stderr, in the form of a step's.
    pub fn say(&self, text: &str) {
        if !self.shown.quiet {
            let _ = writeln!(std::io::stderr(), "{:<9} {}", "boot", for_terminal(text));
        }
    }
}

#[async_trait(?Send)]
impl Metadata for Real {
    async fn get(&self, path: &str) -> Result<Option<String>, String> {
        match self.is_disabled() {
            true => Err("AWS_EC2_METADATA_DISABLED=true".to_owned()),
            false => deployd_program::ask(&[METADATA.as_ref(), path.as_ref()])
                .await
                .map_err(|error: Error| error.chain()),
        }
    }

    /// By the variable of the SDK, of the caller or in agent.env, where deployd has it from:
    /// user-data has no variables of its own. A caller that may not read the file has its own
    /// alone.
    fn is_disabled(&self) -> bool {
        const NAME: &str = "AWS_EC2_METADATA_DISABLED";
        let of_agent = || Some(context::load_env().ok()?.get(NAME)?.to_owned());
        let value = std::env::var(NAME).ok().or_else(of_agent);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

#[async_trait(?Send)]
impl Hooks for Real {
    async fn call(&self, call: &Lifecycle) -> Result<bool> {
        let answer: LifecycleAnswer = Client::new()?.post("/v1/lifecycle", call).await?;
        Ok(answer.active)
    }
}

#[async_trait(?Send)]
impl LocalDeployd for Real {
    async fn wait(&self, deadline: Instant, say: &dyn Fn(&str)) {
        let deadline = deadline.min(Instant::now() + SOCKET_IN);
        let mut is_said = false;
        while let Err(error) = UnixStream::connect(api::SOCKET).await {
            // A caller without the right does not get it by waiting; the request says so.
            if error.kind() == ErrorKind::PermissionDenied || Instant::now() >= deadline {
                return;
            }
            if !std::mem::replace(&mut is_said, true) {
                say("waiting for deployd");
            }
            sleep(PAUSE).await;
        }
    }

    async fn has_deployed(&self, url: &str) -> bool {
        let Ok(url) = url.parse::<ReleaseUrl>() else { return false };
        let which = api::Which { app: Some(url.app().to_string()) };
        let asked = async { Client::new()?.get::<Vec<AppStatus>>("/v1/status", &which).await };
        asked.await.is_ok_and(|apps| apps.iter().any(|app| app.release.is_some()))
    }

    async fn deploy(&self, url: &str, timeout: Duration) -> Result<End> {
        let timeout_ms = Some(timeout.as_millis().try_into().unwrap_or(u64::MAX));
        let url = checked(url.to_owned())?;
        let request = api::Deploy {
            url,
            no_wait: false,
            run_release: false,
            release_id: None,
            detach: false,
            timeout_ms,
        };
        follow(By::default(), "/v1/deploy", &request, self.shown).await
    }

    async fn stage(&self, url: &str, limit: Duration) -> Result<End> {
        let request = api::Release { url: checked(url.to_owned())? };
        let staged = timeout(limit, follow(By::default(), "/v1/stage", &request, self.shown)).await;
        match staged {
            Ok(staged) => staged,
            Err(_) => {
                let app = url.parse::<ReleaseUrl>()?.app().to_string();
                let cancel = api::Cancel { word: Some(app) };
                let _: Result<Outcome> = Client::new()?.post("/v1/cancel", &cancel).await;
                let error = Error::failed(format!("stage {url}"));
                let error = error.because("the time of --timeout is over");
                Err(error.with_reason(Reason::DeadlinePassed).help("give it more with --timeout"))
            }
        }
    }
}
