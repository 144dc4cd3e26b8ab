//! Instances by the system's ssh, with the user's own configuration, keys and known hosts.
//!
//! `deploy URL --json` streams its events. If the connection breaks, the agent goes on: the order
//! is sent again, and waits for the job that is under way.

mod call;
mod shell;
mod sockets;
#[cfg(test)]
mod tests;

use super::{Host, Order, Progress, Seen, Shell, Ticket, Transport, agent, seen};
use async_trait::async_trait;
use call::{Call, OPTIONS, remote, status};
use futures_util::{StreamExt, stream};
use model::error::{Error, Result};
use sockets::Sockets;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that are open at once.
const AT_ONCE: usize = 50;

/// The pause between two polls, which ask nobody: events come by themselves.
const POLL: Duration = Duration::from_millis(200);

/// ssh, with a directory of its own for the sockets of shared connections.
pub struct Ssh {
    program: String,
    timeout: String,
    sockets: Sockets,
    slots: Arc<Semaphore>,
    tickets: Mutex<BTreeMap<usize, Arc<Sent>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// An order that was sent.
#[derive(Default)]
struct Sent {
    progress: Mutex<BTreeMap<Host, Progress>>,
    is_cancelled: AtomicBool,
}

impl Sent {
    fn set(&self, host: &Host, progress: Progress) {
        locked(&self.progress).insert(host.clone(), progress);
    }
}

impl Ssh {
    /// `patience` is the time that an instance has for a deploy.
    pub fn new(patience: Duration) -> Result<Ssh> {
        Ssh::by("ssh", patience)
    }

    fn by(program: &str, patience: Duration) -> Result<Ssh> {
        Ok(Ssh {
            program: program.to_owned(),
            timeout: format!("{}s", patience.as_secs().max(1)),
            sockets: Sockets::new(program)?,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            tickets: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
        })
    }

    fn call(&self, host: &Host, words: &[&str]) -> Call {
        Call::new(self.command(), host, &remote(words))
    }

    /// Prepares a call that never asks anything.
    fn command(&self) -> Command {
        self.interactive(false)
    }

    /// Prepares a call, which with `asks` may ask for a passphrase, or about a new host.
    fn interactive(&self, asks: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.args(OPTIONS.iter().flat_map(|option| ["-o", option]));
        command.arg("-o").arg(format!("ControlPath={}/%C", self.sockets.path().display()));
        if !asks {
            command.args(["-o", "BatchMode=yes"]);
        }
        command
    }

    fn sent(&self, ticket: &Ticket) -> Result<Arc<Sent>> {
        let number = ticket.0.parse().ok();
        let sent = number.and_then(|number: usize| locked(&self.tickets).get(&number).cloned());
        sent.ok_or_else(|| Error::failed("find an order that was sent by ssh"))
    }
}

#[async_trait]
impl Transport for Ssh {
    fn shell(&self) -> Option<&dyn Shell> {
        Some(self)
    }

    fn most(&self) -> usize {
        AT_ONCE
    }

    fn pause(&self) -> Duration {
        POLL
    }

    async fn look(
        &self,
        app: &str,
        hosts: &[Host],
    ) -> Result<BTreeMap<Host, Result<Seen, String>>> {
        let looks = hosts.iter().cloned().map(|host| {
            let call = Call::new(self.command(), &host, &status());
            let app = app.to_owned();
            async move {
                let seen = call.printed().await;
                let seen = seen.and_then(|text| seen::parse(&text, &app));
                (host, seen)
            }
        });
        Ok(stream::iter(looks).buffer_unordered(AT_ONCE).collect().await)
    }

    async fn begin(&self, order: &Order, hosts: &[Host]) -> Result<Ticket> {
        let words = agent::words(order, &self.timeout);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let sent = Arc::new(Sent::default());
        for host in hosts {
            sent.set(host, Progress::Waiting);
            let (call, host) = (self.call(host, &words), host.clone());
            let (sent, slots) = (Arc::clone(&sent), Arc::clone(&self.slots));
            locked(&self.tasks).spawn(async move {
                let Ok(_slot) = slots.acquire().await else { return };
                if sent.is_cancelled.load(Ordering::SeqCst) {
                    return sent.set(&host, Progress::NotBegun);
                }
                sent.set(&host, Progress::Running(None));
                let end = call.followed(|step| {
                    sent.set(&host, Progress::Running(Some(step)));
                });
                let end = end.await;
                sent.set(&host, end.map_or_else(Progress::Lost, Progress::Ended));
            });
        }
        let mut tickets = locked(&self.tickets);
        let number = tickets.len();
        tickets.insert(number, sent);
        Ok(Ticket(number.to_string()))
    }

    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>> {
        let sent = self.sent(ticket)?;
        let progress = locked(&sent.progress).clone();
        Ok(progress)
    }

    async fn cancel(&self, ticket: &Ticket) -> Result<()> {
        self.sent(ticket)?.is_cancelled.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
