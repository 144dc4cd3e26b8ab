//! Signals as messages.

use model::error::{Error, Result};
use signal_hook::iterator::Signals;
use std::thread;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Receives these signals, which no longer end the process. The thread behind it lives as long
/// as the process.
pub fn receive(signals: &[i32]) -> Result<UnboundedReceiver<i32>> {
    let what = |e: std::io::Error| Error::failed("wait for signals").because(e);
    let mut signals = Signals::new(signals).map_err(what)?;
    let (sender, receiver) = unbounded_channel();
    let pass_on = move || signals.forever().all(|signal| sender.send(signal).is_ok());
    thread::Builder::new().name("signals".into()).spawn(pass_on).map_err(what)?;
    Ok(receiver)
}
