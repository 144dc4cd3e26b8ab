//! Sends commands: not twice if an answer is lost, and not to instances that are gone.

use super::command::{Line, Reply};
use super::{Failed, POLL, Sent, Ssm, locked};
use crate::fleet::aws::api::{Answer, Command, Fault, Kind};
use crate::fleet::aws::calls::Action;
use crate::fleet::aws::number;
use crate::fleet::{Host, Progress};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a command is sent whose answer was lost, and the pauses before it is looked for.
const TRIES: u32 = 3;
const FINDS: [u64; 3] = [1, 3, 6];
/// The pauses for a ship that is interrupted.
const LAST_FINDS: [u64; 2] = [1, 3];
/// The most that AWS's clock may differ from the one of a request that it accepts.
const SKEW: Duration = Duration::from_secs(15 * 60);

/// A command whose answer was lost or has not come yet, and when it was sent.
#[derive(Clone)]
pub struct Doubtful {
    command: Command,
    at: Instant,
}

impl Ssm {
    /// Sends a command to instances that can be sent to; the others are lost.
    pub(super) async fn dispatch(&self, line: &Line, hosts: &[Host]) -> Result<Sent, Failed> {
        let mut lost = BTreeMap::new();
        let mut reached = hosts.to_vec();
        let mut commands = Vec::new();
        for is_first in [true, false] {
            if reached.is_empty() {
                break;
            }
            match self.submit(line, &reached).await {
                Ok(id) => {
                    commands.push((id, reached.clone()));
                    break;
                }
                // One of them has gone, and the whole command is refused for it.
                Err((_, Fault { kind: Kind::NotManaged, .. })) if is_first => {
                    let action = Action::DescribeInstanceInformation;
                    lost = self.unreachable(&reached).await.map_err(|fault| (action, fault))?;
                    if lost.is_empty() {
                        sleep(POLL).await;
                    }
                    reached.retain(|host| !lost.contains_key(host));
                }
                // What Systems Manager says of its agents may be minutes old.
                Err((_, Fault { kind: Kind::NotManaged, .. })) => {
                    commands = self.each_alone(line, &reached, &mut lost).await;
                }
                Err(failed) => return Err(failed),
            }
        }
        let waiting = hosts.iter().filter(|host| !lost.contains_key(host));
        let waiting: Vec<Host> = waiting.cloned().collect();
        let waiting = waiting.into_iter().map(|host| (host, Progress::Waiting));
        let lost = lost.into_iter().map(|(host, why)| (host, Progress::Lost(why)));
        let progress = Mutex::new(waiting.chain(lost).collect());
        Ok(Sent { commands, reply: line.reply, at: Instant::now(), progress })
    }

    /// Sends a command for each instance; adds those that are refused to the lost ones.
    async fn each_alone(
        &self,
        line: &Line,
        hosts: &[Host],
        lost: &mut BTreeMap<Host, String>,
    ) -> Vec<(String, Vec<Host>)> {
        let mut commands = Vec::new();
        for host in hosts {
            let alone = vec![host.clone()];
            match self.submit(line, &alone).await {
                Ok(id) => commands.push((id, alone)),
                Err((_, fault)) => drop(lost.insert(host.clone(), fault.why)),
            }
        }
        commands
    }

    /// Sends a command. If the answer is lost, the command is looked for by its comment, which no
    /// other one has. If that fails too, the next try begins with it.
    async fn submit(&self, line: &Line, hosts: &[Host]) -> Result<String, Failed> {
        let is_same = |it: &Doubtful| it.command.hosts == hosts && line.is(&it.command);
        let doubtful = locked(&self.doubtful).take().filter(is_same);
        let is_new = doubtful.is_none();
        let doubtful = doubtful.unwrap_or_else(|| {
            let rollout = locked(&self.rollout).clone();
            let command = line.command(hosts, &rollout, number(), &self.place);
            Doubtful { command, at: Instant::now() }
        });
        let comment = doubtful.command.comment.clone();
        if line.reply == Reply::Outcome {
            locked(&self.sending).insert(comment.clone(), doubtful.clone());
        }
        let submitted = self.submit_it(doubtful, is_new).await;
        locked(&self.sending).remove(&comment);
        submitted
    }

    async fn submit_it(&self, doubtful: Doubtful, is_new: bool) -> Result<String, Failed> {
        let mut sent = match is_new {
            true => Some(self.calls.send(&doubtful.command).await),
            false => None,
        };
        for last in (0..TRIES).rev() {
            if !matches!(&sent, None | Some(Err(Fault { kind: Kind::Unanswered, .. }))) {
                break;
            }
            match self.find(&doubtful, &FINDS).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                Err(fault) => {
                    *locked(&self.doubtful) = Some(doubtful);
                    return Err((Action::ListCommands, fault));
                }
            }
            if last > 0 {
                sent = Some(self.calls.send(&doubtful.command).await);
            }
        }
        let unsent = || Err(Fault { kind: Kind::Unanswered, why: "it was not sent".to_owned() });
        sent.unwrap_or_else(unsent).map_err(|fault| (Action::SendCommand, fault))
    }

    /// Finds the orders whose sending was interrupted. What cannot be found in a few seconds has
    /// most likely not been sent.
    pub(super) async fn find_interrupted(&self) -> Answer<Vec<Sent>> {
        let sending = std::mem::take(&mut *locked(&self.sending));
        let find = |doubtful: Doubtful| async move {
            let Some(id) = self.find(&doubtful, &LAST_FINDS).await? else { return Ok(None) };
            let Doubtful { command, at } = doubtful;
            let waiting = command.hosts.iter().map(|host| (host.clone(), Progress::Waiting));
            let progress = Mutex::new(waiting.collect());
            let commands = vec![(id, command.hosts)];
            Ok(Some(Sent { commands, reply: Reply::Outcome, at, progress }))
        };
        let found = join_all(sending.into_values().map(find)).await;
        found.into_iter().filter_map(Answer::transpose).collect()
    }

    async fn find(&self, doubtful: &Doubtful, pauses: &[u64]) -> Answer<Option<String>> {
        let Some(host) = doubtful.command.hosts.first() else { return Ok(None) };
        for pause in pauses {
            sleep(Duration::from_secs(*pause)).await;
            let age = doubtful.at.elapsed() + SKEW;
            let found = self.calls.command(host, &doubtful.command.comment, age).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
