//! The instance that the agent runs on: systemd over D-Bus, nft(8), the kernel's sockets and the
//! users of /etc/passwd.

use super::accept::{self, Accepted};
use super::journal::Line;
use super::made_users::{self, Wanted};
use super::nftables::{self, Ahead};
use super::probe::{self, Answer, Request};
use super::ruleset::{self, Fingerprint};
use super::seams::{Disk, Network, PortSwitch, ServiceManager, Users};
use super::service_status::ServiceStatus;
use super::sockets::{self, Listener};
use super::systemd::{Activity, Systemd};
use super::transient::{Command, Ending, Lines};
use super::user::{self, Ids};
use super::{addresses, new_units, reserve, sock_diag};
use async_trait::async_trait;
use model::error::{Error, Result};
use model::release::reach::{Endpoint, Families};
use model::units::GENERATED;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The connection to this instance.
pub struct Linux {
    systemd: Systemd,
    /// An nft that waits for the script of the next port map.
    ahead: Mutex<Option<Ahead>>,
}

impl Linux {
    pub async fn connect() -> Result<Linux> {
        let systemd = Systemd::connect().await?;
        Ok(Linux { systemd, ahead: Mutex::default() })
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ServiceManager for Linux {
    async fn daemon_reload(&self) -> Result<()> {
        self.systemd.daemon_reload().await
    }

    async fn add_units(&self, units: &[String]) -> Result<bool> {
        new_units::add(&self.systemd, units).await
    }

    fn generated(&self) -> &Path {
        Path::new(GENERATED)
    }

    async fn start(&self, units: &[String]) -> Result<()> {
        self.systemd.start(units).await
    }

    async fn begin_start(&self, target: &str) -> Result<()> {
        self.systemd.begin_start(target).await
    }

    async fn stop(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        self.systemd.stop(units, stop_timeout).await
    }

    async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()> {
        self.systemd.restart(units, stop_timeout).await
    }

    async fn reset_failed(&self, unit: &str) {
        self.systemd.reset_failed(unit).await;
    }

    async fn status(&self, unit: &str) -> Result<ServiceStatus> {
        self.systemd.status(unit).await
    }

    async fn active_state(&self, unit: &str) -> Result<String> {
        self.systemd.active_state(unit).await
    }

    async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>> {
        self.systemd.consists_of(target).await
    }

    async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending> {
        self.systemd.run(command, line).await
    }

    async fn version(&self) -> Result<String> {
        self.systemd.version().await
    }

    async fn uptime(&self) -> Result<Duration> {
        self.systemd.uptime().await
    }

    async fn is_stopping(&self) -> bool {
        self.systemd.is_stopping().await
    }

    async fn last_lines(&self, units: &[String], since: i64, most: usize) -> Vec<Line> {
        self.systemd.last_lines(units, since, most).await
    }
}

#[async_trait]
impl PortSwitch for Linux {
    fn expect_ports(&self) {
        match Ahead::start(&self.systemd) {
            Ok(None) => {}
            Ok(ahead) => *self.ahead() = ahead,
            Err(error) => tracing::warn!("cannot start nft ahead of its script: {error}"),
        }
    }

    fn expect_no_ports(&self) {
        drop(self.ahead().take());
    }

    async fn load_ports(&self, script: &str) -> Result<()> {
        let ahead = self.ahead().take();
        if let Some(ahead) = ahead {
            match ahead.load(script).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::info!("{}; it is tried again", error.chain()),
            }
        }
        nftables::load(&self.systemd, script).await
    }

    async fn cannot_load(&self, script: &str) -> Result<Option<Error>> {
        nftables::missing(&self.systemd, script).await
    }

    fn fingerprint(&self, table: &str) -> io::Result<Fingerprint> {
        ruleset::fingerprint(table)
    }
}

#[async_trait]
impl Network for Linux {
    async fn endpoints(&self, control_group: &str) -> Vec<Endpoint> {
        sockets::endpoints(control_group).await
    }

    fn listener(&self, port: u16, but: Option<&str>) -> Option<Listener> {
        sockets::listener(port, but)
    }

    fn receiver(&self, port: u16, but: Option<&str>) -> Option<Listener> {
        sockets::receiver(port, but)
    }

    fn bound_ports(&self) -> BTreeSet<u16> {
        sockets::bound_ports()
    }

    fn reserved_by_others(&self) -> String {
        reserve::by_others()
    }

    fn first_unprivileged_port(&self) -> u16 {
        sockets::first_unprivileged_port()
    }

    fn connections(&self, port: u16) -> io::Result<usize> {
        sock_diag::connections(port)
    }

    fn families(&self) -> Families {
        addresses::families()
    }

    async fn accepted(&self, to: SocketAddr) -> io::Result<Accepted> {
        accept::accepted(to).await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<()> {
        probe::connect(to).await
    }

    async fn get(&self, at: SocketAddr, request: &Request) -> io::Result<Answer> {
        probe::get(at, request).await
    }
}

#[async_trait]
impl Users for Linux {
    fn ids(&self, name: &str) -> Result<Ids> {
        user::ids(name)
    }

    fn is_member(&self, ids: Ids, group: &str) -> bool {
        user::is_member(ids.uid, ids.gid, group)
    }

    fn has_group(&self, name: &str) -> bool {
        user::has_group(name)
    }

    async fn make_users(&self, wanted: &[Wanted]) -> Result<Vec<Ids>> {
        made_users::make(&self.systemd, wanted).await
    }

    async fn remove_users(&self, users: &[Wanted]) -> Result<()> {
        made_users::remove(&self.systemd, users).await
    }
}

#[async_trait]
impl Disk for Linux {
    async fn sync(&self, file_system: OwnedFd) -> io::Result<()> {
        let sync = move || Ok(nix::unistd::syncfs(file_system)?);
        tokio::task::spawn_blocking(sync).await?
    }
}
