//! The metrics of an instance, as text for Prometheus: values in, text out.

mod apps;
mod deploys;
pub mod exposition;
mod processes;
#[cfg(test)]
mod tests;

use crate::api::{AppStatus, ReleaseStatus};
use crate::history::Entry;
use exposition::Exposition;
use jiff::Timestamp;
use std::time::Duration;

/// All input for the metrics.
#[derive(Debug)]
pub struct Instance {
    /// The host name, the first label of every series.
    pub host: String,
    pub daemon: Daemon,
    /// The file system of the state directory; `None` if it cannot be read.
    pub disk: Option<Disk>,
    pub apps: Vec<App>,
}

/// deployd itself.
#[derive(Debug)]
pub struct Daemon {
    pub version: &'static str,
    /// Resident, in bytes.
    pub memory: Option<u64>,
    pub cpu: Option<Duration>,
}

/// The space of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub free_bytes: u64,
    pub size_bytes: u64,
    /// `None` if the file system has no limit of its own.
    pub free_inodes: Option<u64>,
}

/// An app, and what its status does not tell.
#[derive(Debug)]
pub struct App {
    pub status: AppStatus,
    pub releases: Vec<ReleaseStatus>,
    /// The newest deploy or rollback in the history.
    pub deployed: Option<Entry>,
}

/// Renders all series.
pub fn render(instance: &Instance) -> String {
    let mut text = Exposition::new(("host", &instance.host));
    daemon(&mut text, &instance.daemon);
    if let Some(disk) = &instance.disk {
        space(&mut text, disk);
    }
    apps::render(&mut text, &instance.apps);
    processes::render(&mut text, &instance.apps);
    deploys::render(&mut text, &instance.apps);
    text.into_text()
}

fn daemon(text: &mut Exposition, daemon: &Daemon) {
    let help = "The version of deployd, as a label.";
    text.gauge("deployd_info", help).sample(&[("version", daemon.version)], 1.0);
    let help = "Resident memory of deployd.";
    text.gauge("deployd_memory_bytes", help).known(&[], daemon.memory.map(float));
    let help = "CPU time of deployd since it started.";
    let cpu = daemon.cpu.map(|cpu| cpu.as_secs_f64());
    text.counter("deployd_cpu_seconds_total", help).known(&[], cpu);
}

fn space(text: &mut Exposition, disk: &Disk) {
    let help = "Free space of the state directory's file system.";
    text.gauge("deploy_state_free_bytes", help).sample(&[], float(disk.free_bytes));
    let help = "Size of the state directory's file system.";
    text.gauge("deploy_state_size_bytes", help).sample(&[], float(disk.size_bytes));
    let help = "Free inodes of the state directory's file system.";
    text.gauge("deploy_state_free_inodes", help).known(&[], disk.free_inodes.map(float));
}

/// A count as a sample's value; exact up to 2^53.
fn float(count: u64) -> f64 {
    count as f64
}

fn truth(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// Seconds since the epoch.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

/// Returns the word that JSON has for a value of a closed list.
fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
