//! Restores the port map in the kernel. A firewall that is reloaded flushes every table:
//! clients would be refused while everything else looks healthy.

use super::jobs::Jobs;
use crate::context::Context;
use crate::converge::ports;
use crate::events::Events;
use crate::host::reserve;
use crate::host::ruleset::{self, Changes};
use crate::host::systemd::Systemd;
use model::error::Result;
use model::units::ports::TABLE_NAME;
use std::time::Duration;

/// The pause after the map was loaded again, doubled for each further reload: two programs that
/// disagree about a table must not keep the machine busy.
const PAUSE: Duration = Duration::from_millis(250);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The interval of checks that no netlink notification asks for.
const LOOK: Duration = Duration::from_secs(30);

/// Runs as long as the daemon.
pub async fn run(jobs: Jobs) {
    loop {
        match Changes::follow() {
            Ok(changes) => until_it_fails(&changes, &jobs).await,
            // A machine without nftables does no handover of ports either.
            Err(error) => return tracing::warn!("cannot watch the rules of nftables: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Keeps the private ports reserved in the kernel, so that no outgoing connection gets one,
/// even if another program sets that list. Runs as long as the daemon, or until it fails.
pub async fn reserve() {
    loop {
        let reserved = async { reserve::reserve(&Systemd::connect().await?).await };
        if let Err(error) = reserved.await {
            return tracing::warn!("{}", error.chain());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_it_fails(changes: &Changes, jobs: &Jobs) {
    loop {
        let mut pause = PAUSE;
        while !ports::is_intact(&jobs.common(), &|| ruleset::fingerprint(TABLE_NAME)).await {
            if let Err(error) = restore(jobs).await {
                tracing::error!("the port map is not as it should be: {}", error.chain());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Ok(Err(error)) = tokio::time::timeout(LOOK, changes.next()).await {
            return tracing::error!("follow the rules of nftables: {error}");
        }
    }
}

async fn restore(jobs: &Jobs) -> Result<()> {
    let cx =
        Context::open(jobs.common(), jobs.sources(), Events::default(), "deployd".into()).await?;
    if ports::restore(&cx).await? {
        tracing::warn!(
            "the port map (table inet deploy) was changed or flushed by another program: it is \
             loaded again"
        );
    }
    Ok(())
}
