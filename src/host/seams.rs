//! Traits for everything that a deploy needs from its instance: [`Linux`](super::linux::Linux) is
//! the real one, the story tests have a fake.

use super::accept::Accepted;
use super::journal::Line;
use super::made_users::Wanted;
use super::probe::{Answer, Request};
use super::ruleset::Fingerprint;
use super::service_status::ServiceStatus;
use super::sockets::Listener;
use super::systemd::Activity;
use super::transient::{Command, Ending, Lines};
use super::user::Ids;
use async_trait::async_trait;
use model::error::{Error, Result};
use model::release::reach::{Endpoint, Families};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

/// The complete instance.
pub trait Machine: ServiceManager + PortSwitch + Network + Users + Disk {}

impl<T: ServiceManager + PortSwitch + Network + Users + Disk> Machine for T {}

impl fmt::Debug for dyn Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// Starts and stops units, and reports their state.
#[async_trait]
pub trait ServiceManager: Send + Sync {
    /// Makes the service manager reload unit files and run the generators.
    async fn daemon_reload(&self) -> Result<()>;

    /// Runs the generator for units that are new, these among them. Returns whether the service
    /// manager finds them now; if not, it has to reload.
    async fn add_units(&self, units: &[String]) -> Result<bool>;

    /// The directory of the generators' output; systemd.generator(7), "normal".
    fn generated(&self) -> &Path;

    /// Starts units together and waits for all of them, regardless of systemd's start limits:
    /// earlier failures are reset first. For a unit of Type=notify it only waits until the process
    /// runs: the caller judges whether it becomes ready in time.
    async fn start(&self, units: &[String]) -> Result<()>;

    /// Begins to start a target. It is active once everything that it wants is ready, which may
    /// take any time.
    async fn begin_start(&self, target: &str) -> Result<()>;

    /// Stops units together; `stop_timeout` is the longest of their timeouts.
    async fn stop(&self, units: &[String], stop_timeout: Duration) -> Result<()>;

    async fn restart(&self, units: &[String], stop_timeout: Duration) -> Result<()>;

    /// Resets a unit's failure and its start counter. A unit that is not loaded has neither, which
    /// is no error.
    async fn reset_failed(&self, unit: &str);

    /// Returns the current state of the service; a unit that does not exist is `inactive`.
    async fn status(&self, unit: &str) -> Result<ServiceStatus>;

    /// Returns `active`, `inactive`, `failed`, … of any unit.
    async fn active_state(&self, unit: &str) -> Result<String>;

    /// Returns the units whose `PartOf=` names this one: systemd's own list of an app's units,
    /// also of releases that are gone from the disk.
    async fn consists_of(&self, target: &str) -> Result<BTreeMap<String, Activity>>;

    /// Runs a program to its end as a unit, and calls `line` with each line of its output.
    async fn run(&self, command: Command, line: Lines<'_>) -> Result<Ending>;

    /// Returns the version of the service manager, in its own words.
    async fn version(&self) -> Result<String>;

    /// Returns how long this instance has been up.
    async fn uptime(&self) -> Result<Duration>;

    /// Whether the instance is shutting down, and all units with it.
    async fn is_stopping(&self) -> bool;

    /// Reads the last `most` lines that units wrote since a moment, in seconds since the epoch,
    /// oldest first. Best effort: entries that cannot be read are left out.
    async fn last_lines(&self, units: &[String], since: i64, most: usize) -> Vec<Line>;
}

/// Forwards the public ports to the private ones.
#[async_trait]
pub trait PortSwitch: Send + Sync {
    /// Prepares, in the background, for the next script: it is then loaded sooner.
    fn expect_ports(&self);

    /// Ends what [`PortSwitch::expect_ports`] has prepared: no script comes.
    fn expect_no_ports(&self);

    /// Loads a script of nft(8) completely, or changes nothing.
    async fn load_ports(&self, script: &str) -> Result<()>;

    /// Checks whether nft and the kernel accept this script, and returns the reason if not: the
    /// program, a part of the kernel or a permission is missing. Changes nothing. An `Err` is a
    /// failure of the check itself.
    async fn cannot_load(&self, script: &str) -> Result<Option<Error>>;

    /// Returns a hash of the kernel's current rules in a table.
    fn fingerprint(&self, table: &str) -> io::Result<Fingerprint>;
}

/// The instance's sockets, and probes of its listeners.
#[async_trait]
pub trait Network: Send + Sync {
    /// Returns the endpoints on which the processes of this control group listen.
    async fn endpoints(&self, control_group: &str) -> Vec<Endpoint>;

    /// Returns the first process found that listens on this TCP port and is not in the slice
    /// `but`.
    fn listener(&self, port: u16, but: Option<&str>) -> Option<Listener>;

    /// The same for the receiver of a UDP port.
    fn receiver(&self, port: u16, but: Option<&str>) -> Option<Listener>;

    /// Returns every TCP port with a listener, and every UDP port with a receiver.
    fn bound_ports(&self) -> BTreeSet<u16>;

    /// Returns the ports that others have reserved, in the kernel's format.
    fn reserved_by_others(&self) -> String;

    /// Returns the first port that a process without CAP_NET_BIND_SERVICE may bind.
    fn first_unprivileged_port(&self) -> u16;

    /// Counts the connections of a port that are not closed.
    fn connections(&self, port: u16) -> io::Result<usize>;

    /// Returns the address families over which other machines reach this instance.
    fn families(&self) -> Families;

    /// Connects to an address of this instance, and waits until its server accepts a connection.
    async fn accepted(&self, to: SocketAddr) -> io::Result<Accepted>;

    /// Connects to an address of this instance.
    async fn connect(&self, to: SocketAddr) -> io::Result<()>;

    /// Sends GET and returns the response; does not follow redirects.
    async fn get(&self, at: SocketAddr, request: &Request) -> io::Result<Answer>;
}

/// The instance's users and groups.
#[async_trait]
pub trait Users: Send + Sync {
    /// Looks a user up by name.
    fn ids(&self, name: &str) -> Result<Ids>;

    /// Whether the user is in the group, by its primary group or the group's list.
    fn is_member(&self, ids: Ids, group: &str) -> bool;

    /// Whether there is a group of this name.
    fn has_group(&self, name: &str) -> bool;

    /// Creates missing users, and returns the ids of all.
    async fn make_users(&self, wanted: &[Wanted]) -> Result<Vec<Ids>>;

    /// Removes users with these names and comments, if they exist.
    async fn remove_users(&self, users: &[Wanted]) -> Result<()>;
}

/// The instance's disks.
#[async_trait]
pub trait Disk: Send + Sync {
    /// Writes the file system of this handle to the disk, in a thread of its own: syncfs(2).
    /// Since Linux 5.8 an error of any write since the handle was opened is returned.
    async fn sync(&self, file_system: OwnedFd) -> io::Result<()>;
}
