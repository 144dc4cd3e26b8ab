//! What a deploy asks of the machine that it runs on, as traits: [`Linux`](super::linux::Linux)
//! is the machine itself, the story tests have one of their own.

use super::journal::Line;
use super::probe::{Answer, Request};
use super::ruleset::Fingerprint;
use super::sockets::Listener;
use super::systemd::{Activity, ServiceStatus};
use super::transient::{Command, Ending};
use super::user::{Ids, Wanted};
use async_trait::async_trait;
use model::error::{Error, Result};
use model::release::reach::{Endpoint, Families};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

/// The machine, whole.
pub trait Machine: ServiceManager + PortSwitch + Network + Users {}

impl<T: ServiceManager + PortSwitch + Network + Users> Machine for T {}

impl fmt::Debug for dyn Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// Starts and stops units, and knows what they are doing.
#[async_trait]
pub trait ServiceManager: Send + Sync {
    /// Makes it read unit files again and run the generators.
    async fn daemon_reload(&self) -> Result<()>;

    /// Where its generators write; systemd.generator(7), "normal".
    fn generated(&self) -> &Path;

    /// Starts units together and waits for all of them; none of systemd's start
    /// limits stands in the way, since what failed before is forgotten first. A unit of
    /// Type=notify is not waited for longer than until its process runs: whether that
    /// becomes ready in time is its caller's to judge.
    async fn start(&self, units: &[String]) -> Result<()>;

    /// Asks for a target to be started. It is active when all that it wants is ready,
    /// which may take as long as that likes.
    async fn begin_start(&self, target: &str) -> Result<()>;

    /// Stops units together; `stop_timeout` is the longest of theirs.
    async fn stop(&self, units: &[String], stop_timeout: Duration) -> Result<()>;

    async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()>;

    /// Forgets a unit's failure and its count of starts. A unit that is not
    /// loaded has neither, which is no error.
    async fn reset_failed(&self, unit: &str);

    /// What the service is doing now; a unit that does not exist is `inactive`.
    async fn status(&self, unit: &str) -> Result<ServiceStatus>;

    /// `active`, `inactive`, `failed`, … of any unit.
    async fn active_state(&self, unit: &str) -> Result<String>;

    /// The units whose `PartOf=` names this one: systemd's own list of what
    /// belongs to an app, also of releases that are gone from the disk.
    async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>>;

    /// Runs a program to its end as a unit, handing each line of its output to `line`.
    async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending>;

    /// How long this machine is up.
    async fn uptime(&self) -> Result<Duration>;

    /// The machine is on its way down: every unit is stopped.
    async fn is_stopping(&self) -> bool;

    /// Reads the last `most` lines that units wrote since a moment, in seconds since the epoch,
    /// oldest first. Best effort: entries that cannot be read are left out.
    async fn last_lines(&self, units: &[String], since: i64, most: usize) -> Vec<Line>;
}

/// What is done with each line of a program's output.
pub type Lines<'a> = &'a mut (dyn FnMut(String) + Send);

/// Leads the public ports to the private ones.
#[async_trait]
pub trait PortSwitch: Send + Sync {
    /// Carries out a script of nft(8): all of it, or nothing.
    async fn load_ports(&self, script: &str) -> Result<()>;

    /// Why nft or the kernel would not carry out this script, if that is so: the
    /// program, a part of the kernel or a permission is missing. Nothing changes. An error
    /// says nothing of nftables.
    async fn cannot_load(&self, script: &str) -> Result<Option<Error>>;

    /// The rules that the kernel has now in a table.
    fn fingerprint(&self, table: &str) -> io::Result<Fingerprint>;
}

/// The machine's sockets, and probes of what listens there.
#[async_trait]
pub trait Network: Send + Sync {
    /// Where the processes of this control group listen.
    async fn endpoints(&self, control_group: &str) -> Vec<Endpoint>;

    /// The first process found that listens on this TCP port, of those that do not live in
    /// the slice `but`.
    fn listener(&self, port: u16, but: Option<&str>) -> Option<Listener>;

    /// The first process found that receives what is sent to this UDP port, likewise.
    fn receiver(&self, port: u16, but: Option<&str>) -> Option<Listener>;

    /// Every TCP port that something listens on, and every UDP port that something receives
    /// on.
    fn bound_ports(&self) -> BTreeSet<u16>;

    /// The ports that somebody else keeps for a program, as the kernel writes them.
    fn reserved_by_others(&self) -> String;

    /// The first port that a process without CAP_NET_BIND_SERVICE may bind.
    fn first_unprivileged_port(&self) -> u16;

    /// How many connections a port has that were not closed.
    fn connections(&self, port: u16) -> io::Result<usize>;

    /// The address families over which other machines reach this one.
    fn families(&self) -> Families;

    /// Connects to an address of this machine.
    async fn connect(&self, to: SocketAddr) -> io::Result<()>;

    /// The answer to GET; redirects are not followed.
    async fn get(&self, at: SocketAddr, request: &Request) -> io::Result<Answer>;
}

/// The machine's users and groups.
#[async_trait]
pub trait Users: Send + Sync {
    /// Looks a user up by name.
    fn ids(&self, name: &str) -> Result<Ids>;

    /// Whether the user is in the group, by its primary group or the group's list.
    fn is_member(&self, ids: Ids, group: &str) -> bool;

    /// Makes the users that are missing, and returns the numbers of all.
    async fn make_users(&self, wanted: &[Wanted]) -> Result<Vec<Ids>>;

    /// Removes users with these names and comments, as far as they are there.
    async fn remove_users(&self, users: &[Wanted]) -> Result<()>;
}
