//! The end of a command by Ctrl-C: instances go on with what they have fetched, and get no more.

use crate::fleet::Transport;
use std::time::Duration;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::time::timeout;

/// The time to take back commands.
const LET_GO: Duration = Duration::from_secs(10);

/// Waits for Ctrl-C, or for the signal by which jobs of CI are cancelled.
pub async fn signal() {
    match listen(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = ctrl_c() => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(ctrl_c().await),
    }
}

/// Takes back what no instance has fetched; returns why the command ends.
pub async fn let_go(transport: &dyn Transport) -> String {
    match timeout(LET_GO, transport.let_go()).await {
        Ok(Ok(())) => "interrupted".to_owned(),
        Ok(Err(why)) => format!("interrupted, and cannot {}", why.chain()),
        Err(_) => "interrupted, and AWS does not answer in time".to_owned(),
    }
}
