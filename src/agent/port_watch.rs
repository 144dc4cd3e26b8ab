//! Keeps the port map in the kernel: a firewall that is loaded again flushes every table,
//! and clients would be refused while everything else looks well.

use super::work::Work;
use crate::converge::ports;
use crate::error::Result;
use crate::event::Events;
use crate::host::ruleset::Changes;
use crate::instance::Instance;
use std::time::Duration;

/// After the map was loaded again: two who disagree about a table must not keep the
/// machine busy.
const PAUSE: Duration = Duration::from_millis(250);

/// Between tries to load the map again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs as long as the daemon.
pub async fn run(work: Work) {
    let changes = match Changes::follow() {
        Ok(changes) => changes,
        Err(error) => {
            // A machine that has no nftables hands over no ports either.
            return tracing::warn!("cannot watch the rules of nftables: {error}");
        }
    };
    loop {
        if let Err(error) = changes.next().await {
            tracing::error!("cannot watch the rules of nftables any more: {error}");
            return;
        }
        while !ports::is_intact().await {
            let pause = match restore(&work).await {
                Ok(()) => PAUSE,
                Err(error) => {
                    tracing::error!("the port map was changed: {}", error.chain());
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

async fn restore(work: &Work) -> Result<()> {
    let instance = Instance::open(work.sources(), Events::default(), "deployd".into()).await?;
    if ports::restore(&instance.systemd).await? {
        tracing::warn!(
            "the port map (table inet deploy) was changed or flushed by another program: it is \
             loaded again"
        );
    }
    Ok(())
}
