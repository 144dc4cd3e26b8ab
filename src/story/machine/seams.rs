//! The machine in memory as the agent sees it: what it does with units, ports, sockets, users and
//! its disk.

use super::{Does, Fake, Syncs, Unit, generate, keygen};
use crate::generator;
use crate::host::accept::Accepted;
use crate::host::journal::Line;
use crate::host::made_users::Wanted;
use crate::host::probe::{Answer, Request};
use crate::host::recorded;
use crate::host::ruleset::Fingerprint;
use crate::host::seams::{Disk, Network, PortSwitch, ServiceManager, Users};
use crate::host::service_status::ServiceStatus;
use crate::host::sockets::Listener;
use crate::host::systemd::Activity;
use crate::host::transient::{Command, Ending, Lines};
use crate::host::user::Ids;
use async_trait::async_trait;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::reach::{Endpoint, Families};
use nix::unistd::{getgid, getuid};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

#[async_trait]
impl ServiceManager for Fake {
    async fn daemon_reload(&self) -> Result<()> {
        self.job("reload".to_owned()).await;
        if self.state().reload_fails {
            return Err(Error::failed("reload systemd's units").because("it is told to fail"));
        }
        generate(&self.generated, &self.store);
        Ok(())
    }

    async fn add_units(&self, _: &[String]) -> Result<bool> {
        self.job("units".to_owned()).await;
        if !self.state().adds_fail {
            generator::add_all(&self.generated, &self.store).expect("units");
        }
        Ok(!self.state().adds_fail)
    }

    fn generated(&self) -> &Path {
        &self.generated
    }

    async fn start(&self, units: &[String]) -> Result<()> {
        for name in units {
            let refused = self.state().cannot_start.as_ref().is_some_and(|no| name.contains(no));
            let found = self.load(name).filter(|_| !refused);
            let loaded = found.ok_or_else(|| {
                Error::failed(format!("start {name}")).with_reason(Reason::StartFailed)
            })?;
            self.job(format!("start {}", name.trim_end_matches(".service"))).await;
            let mut state = self.state();
            let starts = state.units.get(name).map_or(0, |unit| unit.starts) + 1;
            state.units.insert(
                name.clone(),
                Unit { is_up: true, starts, since: Some(Instant::now()), ..loaded },
            );
        }
        Ok(())
    }

    async fn begin_start(&self, target: &str) -> Result<()> {
        let unit = Unit { is_up: true, ..Unit::default() };
        self.state().units.insert(target.to_owned(), unit);
        Ok(())
    }

    async fn stop(&self, units: &[String], _: Duration) -> Result<()> {
        for name in units {
            self.job(format!("stop {}", name.trim_end_matches(".service"))).await;
            let mut state = self.state();
            if let Some(unit) = state.units.get_mut(name) {
                (unit.is_up, unit.has_failed) = (false, false);
            }
        }
        Ok(())
    }

    async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        self.stop(units, stop_timeout).await?;
        self.start(units).await
    }

    async fn reset_failed(&self, unit: &str) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            unit.has_failed = false;
        }
    }

    async fn status(&self, name: &str) -> Result<ServiceStatus> {
        let unit = self.state().units.get(name).cloned().unwrap_or_default();
        let case = match unit.is_up {
            _ if unit.has_failed => "sigusr1",
            true if matches!(self.does(name, &unit), Does::Ended) => "restarts",
            true => "running",
            false => "never-started",
        };
        let (control_group, invocation_id) = (name.to_owned(), format!("{name} {}", unit.starts));
        Ok(ServiceStatus { control_group, invocation_id, ..recorded::status(case) })
    }

    async fn active_state(&self, unit: &str) -> Result<String> {
        if let Some(state) = self.state().active.get(unit) {
            return Ok(state.clone());
        }
        let up = self.state().units.get(unit).is_some_and(|unit| unit.is_up);
        Ok(if up { "active" } else { "inactive" }.to_owned())
    }

    async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>> {
        let state = self.state();
        let parts = state.units.iter().filter(|(_, unit)| unit.target == target);
        let activity = |unit: &Unit| if unit.is_up { Activity::Up } else { Activity::Down };
        Ok(parts.map(|(name, unit)| (name.clone(), activity(unit))).collect())
    }

    async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending> {
        if command.unit == "deployd-signature" {
            return Ok(keygen::run(command, line));
        }
        let text = command.argv.join(" ");
        self.state().runs.push(format!("{}: {text}", command.unit));
        line(format!("{} runs", command.unit));
        if text.contains("does=hang") {
            tokio::time::sleep(command.timeout).await;
            return Ok(Ending::Failure("timeout".to_owned()));
        }
        match text.contains("does=fail") {
            true => Ok(Ending::Failure("exit-code, exit status 1".to_owned())),
            false => Ok(Ending::Success),
        }
    }

    async fn version(&self) -> Result<String> {
        Ok(self.state().version.clone().unwrap_or_else(|| "252.1".to_owned()))
    }

    async fn uptime(&self) -> Result<Duration> {
        Ok(self.state().uptime.unwrap_or(Duration::from_secs(3600)))
    }

    async fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    async fn last_lines(&self, _: &[String], _: i64, _: usize) -> Vec<Line> {
        self.state().log.clone()
    }
}

#[async_trait]
impl PortSwitch for Fake {
    fn expect_ports(&self) {
        self.state().expects_ports = true;
    }

    fn expect_no_ports(&self) {
        self.state().expects_ports = false;
    }

    async fn load_ports(&self, script: &str) -> Result<()> {
        self.job("ports".to_owned()).await;
        let mut state = self.state();
        if state.nft_fails {
            return Err(Error::failed("load the port map").because("it is told to fail"));
        }
        script.clone_into(&mut state.script);
        Ok(())
    }

    async fn cannot_load(&self, _: &str) -> Result<Option<Error>> {
        let missing = || {
            Error::failed("use nftables")
                .because("it is told to be missing")
                .help("install nftables")
        };
        Ok(self.state().no_nft.then(missing))
    }

    fn fingerprint(&self, _: &str) -> io::Result<Fingerprint> {
        let script = self.state().script.clone();
        Ok(Fingerprint { rules: script.lines().count(), hash: script.len() as u64 })
    }
}

#[async_trait]
impl Network for Fake {
    async fn endpoints(&self, control_group: &str) -> Vec<Endpoint> {
        let unit = self.state().units.get(control_group).cloned().unwrap_or_default();
        match self.does(control_group, &unit) {
            Does::Listens(address, Some(port)) if unit.is_up => {
                vec![Endpoint { address: address.into(), port, v6only: false }]
            }
            _ => Vec::new(),
        }
    }

    fn listener(&self, port: u16, _: Option<&str>) -> Option<Listener> {
        let is_taken = self.state().strangers.contains(&port);
        is_taken.then(|| Listener { pid: 99, name: "stranger".to_owned(), ..Listener::default() })
    }

    fn receiver(&self, _: u16, _: Option<&str>) -> Option<Listener> {
        None
    }

    fn bound_ports(&self) -> BTreeSet<u16> {
        self.state().strangers.clone()
    }

    fn reserved_by_others(&self) -> String {
        String::new()
    }

    fn first_unprivileged_port(&self) -> u16 {
        1024
    }

    fn connections(&self, port: u16) -> io::Result<usize> {
        Ok(self.state().connections.get(&port).copied().unwrap_or_default())
    }

    fn families(&self) -> Families {
        match self.state().has_no_address {
            true => Families::default(),
            false => Families::IPV4,
        }
    }

    async fn accepted(&self, to: SocketAddr) -> io::Result<Accepted> {
        self.connect(to).await?;
        let units = self.state().units.clone();
        let mut on_it = units.values().filter(|unit| unit.is_up && unit.port == Some(to.port()));
        let hangs = on_it.any(|unit| unit.does == "accept-nothing");
        Ok(if hangs { Accepted::No { others: 3 } } else { Accepted::Yes })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<()> {
        for port in self.behind(to.port()) {
            let units = self.state().units.clone();
            for (name, unit) in units.iter().filter(|(_, unit)| unit.is_up) {
                if let Does::Listens(_, Some(found)) = self.does(name, unit)
                    && found == port
                    && to.is_ipv4()
                {
                    return Ok(());
                }
            }
        }
        Err(ErrorKind::ConnectionRefused.into())
    }

    async fn get(&self, at: SocketAddr, _: &Request) -> io::Result<Answer> {
        self.connect(at).await?;
        let units = self.state().units.clone();
        let mut on_it = units.values().filter(|unit| unit.is_up && unit.port == Some(at.port()));
        let status = if on_it.any(|unit| unit.does == "status-500") { 500 } else { 200 };
        Ok(Answer { status, location: None })
    }
}

/// The user that owns files: for a test as root another user, otherwise the current one.
fn user() -> Ids {
    match getuid().is_root() {
        true => Ids { uid: 61_000, gid: 61_000 },
        false => Ids { uid: getuid().as_raw(), gid: getgid().as_raw() },
    }
}

#[async_trait]
impl Users for Fake {
    fn ids(&self, name: &str) -> Result<Ids> {
        match self.state().has_nobody {
            true => Err(Error::failed(format!("look up {name}"))),
            false => Ok(user()),
        }
    }

    fn is_member(&self, _: Ids, _: &str) -> bool {
        false
    }

    fn has_group(&self, _: &str) -> bool {
        !self.state().has_nobody
    }

    async fn make_users(&self, wanted: &[Wanted]) -> Result<Vec<Ids>> {
        Ok(wanted.iter().map(|_| user()).collect())
    }

    async fn remove_users(&self, _: &[Wanted]) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Disk for Fake {
    async fn sync(&self, _: OwnedFd) -> io::Result<()> {
        self.job("sync".to_owned()).await;
        while self.state().disk == Syncs::Slowly {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let disk = self.state().disk;
        match disk {
            Syncs::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => {
                self.job("synced".to_owned()).await;
                Ok(())
            }
        }
    }
}
