//! The commands of `deploy exec` that run: each is followed for its caller, and outlives a restart
//! of deployd.
//!
//! systemd runs the command, and its caller holds the other end of its terminal or pipes. Thus
//! only the news of its end goes through deployd, and the caller asks the next deployd for that.

use super::caller::Caller;
use super::respond::lines;
use crate::host::pidfd;
use crate::host::systemd::Systemd;
use crate::host::transient::{Listed, OneOff};
use axum::body::Body;
use axum::response::Response;
use jiff::Timestamp;
use model::api::{ExecEvent, OneOffStatus};
use model::error::{Error, Exit, Result};
use model::one_off::Described;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

/// The name pattern of their units.
const UNITS: &str = "deploy-*-exec:*.service";
/// The program of a caller, as in /proc/PID/comm.
const PROGRAM: &str = "deploy";
/// How often deployd looks whether a caller that has not come back still runs.
const LOOK: Duration = Duration::from_secs(1);

/// Follows one-off commands until deployd ends.
#[derive(Clone, Default)]
pub(super) struct OneOffs {
    is_over: watch::Sender<bool>,
}

impl OneOffs {
    /// Leaves all commands to the next deployd.
    pub fn leave(&self) {
        self.is_over.send_replace(true);
    }

    /// Streams the beginning and the end of a command to its caller.
    pub async fn follow(&self, one_off: OneOff) -> Response {
        let (sender, receiver) = channel(2);
        let begun = ExecEvent::Begun { unit: one_off.unit().to_owned() };
        let _ = sender.send(begun).await;
        tokio::spawn(watch(one_off, sender, self.is_over.subscribe()));
        let events = futures_util::stream::unfold(receiver, next);
        lines(Body::from_stream(events))
    }

    /// Follows a command for its caller again, which has lost the deployd that started it.
    pub async fn follow_again(&self, caller: &Caller, unit: &str) -> Result<Response> {
        let what = || Error::failed(format!("follow {} to its end", model::text::quoted(unit)));
        // The command runs on, and its caller asks again.
        let busy = |error: Error| error.with_exit(Exit::Busy);
        let systemd = Systemd::connect().await.map_err(busy)?;
        let listed = OneOff::list(&systemd, UNITS).await.map_err(busy)?;
        let Some(found) = listed.into_iter().find(|listed| listed.unit == unit) else {
            let why = "its unit is gone: it was stopped, and how it ended is not known";
            return Err(what().because(why));
        };
        if Described::parse(&found.description).is_none_or(|one| one.pid != caller.pid) {
            return Err(what().because("another process has started it"));
        }
        match OneOff::find(systemd, unit).await.map_err(busy)? {
            Some(one_off) => Ok(self.follow(one_off).await),
            None => Err(what().because("it was stopped")),
        }
    }
}

/// Watches the commands of an earlier deployd: each ends with its caller, as all do.
pub(super) async fn adopt() {
    let listed = async { OneOff::list(&Systemd::connect().await?, UNITS).await };
    match listed.await {
        Ok(listed) => listed.into_iter().for_each(|one| drop(tokio::spawn(guard(one)))),
        Err(error) => tracing::warn!("{}", error.chain()),
    }
}

async fn guard(listed: Listed) {
    let pid = Described::parse(&listed.description).map_or(0, |one| one.pid);
    while pidfd::runs(pid, PROGRAM) {
        tokio::time::sleep(LOOK).await;
    }
    let end = async {
        let Some(mut one_off) = OneOff::find(Systemd::connect().await?, &listed.unit).await? else {
            return Ok(());
        };
        if pid == 0 {
            // Nobody knows its caller: it runs to its end.
            one_off.ended().await?;
        } else {
            tracing::info!("remove {}: its caller has ended", listed.unit);
        }
        one_off.remove().await
    };
    if let Err(error) = end.await {
        tracing::warn!("{}", error.chain());
    }
}

/// Returns the commands that run, in the order of their beginnings.
pub(super) async fn running() -> Result<Vec<OneOffStatus>> {
    let systemd = Systemd::connect().await?;
    let mut found = Vec::new();
    for listed in OneOff::list(&systemd, UNITS).await?.into_iter().filter(|one| one.is_running) {
        let Some(one) = Described::parse(&listed.description) else { continue };
        let status = systemd.status(&listed.unit).await?;
        let micros = i64::try_from(status.started).unwrap_or(0);
        let has_caller = pidfd::runs(one.pid, PROGRAM);
        found.push(OneOffStatus {
            app: one.app,
            release: one.release,
            unit: listed.unit,
            command: one.program,
            who: one.who,
            since: Timestamp::from_microsecond(micros).ok().filter(|_| micros != 0),
            pid: (status.main_pid != 0).then_some(status.main_pid),
            has_caller,
        });
    }
    found.sort_by_key(|one| one.since);
    Ok(found)
}

async fn found(unit: &str) -> Result<Option<OneOff>> {
    OneOff::find(Systemd::connect().await?, unit).await
}

/// Reports the end of the command, or stops it as soon as its caller is gone.
async fn watch(mut one_off: OneOff, sender: Sender<ExecEvent>, mut is_over: watch::Receiver<bool>) {
    let ended = loop {
        let ended = tokio::select! {
            ended = one_off.ended() => ended,
            () = sender.closed() => break None,
            () = async { drop(is_over.wait_for(|is_over| *is_over).await) } => return,
        };
        let error = match ended {
            Ok(ended) => break Some(ExecEvent::Ended { status: ended.status, why: ended.why }),
            Err(error) => error,
        };
        // The command runs on, whatever became of the connection to systemd.
        tracing::warn!("{}", error.chain());
        tokio::time::sleep(LOOK).await;
        match found(one_off.unit()).await {
            Ok(Some(again)) => one_off = again,
            Ok(None) => break Some(ExecEvent::Ended { status: 1, why: Some(error.chain()) }),
            Err(error) => tracing::warn!("{}", error.chain()),
        }
    };
    if let Some(ended) = ended {
        let _ = sender.send(ended).await;
    }
    // Until then systemd keeps the caller's terminal open.
    if let Err(error) = one_off.remove().await {
        tracing::warn!("{}", error.chain());
    }
}

type Line = std::result::Result<Vec<u8>, serde_json::Error>;

async fn next(mut receiver: Receiver<ExecEvent>) -> Option<(Line, Receiver<ExecEvent>)> {
    let event = receiver.recv().await?;
    let line = serde_json::to_vec(&event).map(|mut line| {
        line.push(b'\n');
        line
    });
    Some((line, receiver))
}
