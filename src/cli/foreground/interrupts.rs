//! SIGINT, SIGTERM and SIGHUP: the first stops the processes, the second kills them.

use model::error::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::thread;
use tokio::sync::watch;

pub(super) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From here on the signals no longer end this process.
    pub fn catch() -> Result<Interrupts> {
        let what = |e: std::io::Error| Error::failed("wait for signals").because(e);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(what)?;
        let (sender, receiver) = watch::channel(0);
        let count = move || {
            for _ in signals.forever() {
                sender.send_modify(|count| *count += 1);
            }
        };
        thread::Builder::new().name("signals".into()).spawn(count).map_err(what)?;
        Ok(Interrupts(receiver))
    }

    pub async fn first(&self) {
        self.wait_for(1).await;
    }

    /// Where one came before the processes were to be stopped, this is the next.
    pub async fn second(&self) {
        let seen = *self.0.borrow();
        self.wait_for(seen.max(1) + 1).await;
    }

    async fn wait_for(&self, nth: u32) {
        let mut count = self.0.clone();
        if count.wait_for(|count| *count >= nth).await.is_err() {
            std::future::pending().await
        }
    }
}
