//! Limits in agent.env on the settings of a release. A release that exceeds one is refused,
//! with the name of the limit: publishers of releases have no say over the machine.

use super::merged::{AgentText, Layers};
use super::{ReleaseSettings, Sandbox, value};
use crate::error::Error;
use std::fmt::Display;
use std::time::Duration;

pub(super) struct Limits {
    text: AgentText,
    min_sandbox: Sandbox,
    max_duration: Duration,
    max_stop_timeout: Duration,
    max_processes: u32,
    max_memory: Option<u64>,
    ports: Vec<(u16, u16)>,
    metadata: bool,
}

impl Limits {
    pub fn read(layers: &Layers<'_>) -> Result<Limits, Error> {
        let text: AgentText = layers.merge()?;
        let timeout = |name, text: &str| layers.valid(name, text, value::timeout);
        Ok(Limits {
            min_sandbox: layers.valid(
                "DEPLOY_MIN_SANDBOX",
                &text.deploy_min_sandbox,
                value::sandbox,
            )?,
            max_duration: timeout("DEPLOY_MAX_DURATION", &text.deploy_max_duration)?,
            max_stop_timeout: timeout("DEPLOY_MAX_STOP_TIMEOUT", &text.deploy_max_stop_timeout)?,
            max_processes: layers.valid(
                "DEPLOY_MAX_PROCESSES",
                &text.deploy_max_processes,
                value::count,
            )?,
            max_memory: layers.valid(
                "DEPLOY_MAX_MEMORY",
                &text.deploy_max_memory,
                value::optional_size,
            )?,
            ports: layers.valid(
                "DEPLOY_PUBLIC_PORTS",
                &text.deploy_public_ports,
                value::port_ranges,
            )?,
            metadata: layers.agent.get("DEPLOY_METADATA") != Some("no"),
            text,
        })
    }

    /// Refuses values beyond a limit. A process without a memory limit of its own gets the
    /// machine's.
    pub fn apply(&self, layers: &Layers<'_>, asked: &mut ReleaseSettings) -> Result<(), Error> {
        let text = &self.text;
        let longest = ("DEPLOY_MAX_DURATION", &text.deploy_max_duration, self.max_duration);
        let longest_stop =
            ("DEPLOY_MAX_STOP_TIMEOUT", &text.deploy_max_stop_timeout, self.max_stop_timeout);
        let durations = [
            ("DEPLOY_HEALTH_TIMEOUT", &mut asked.health_timeout, longest),
            ("DEPLOY_PROVE", &mut asked.prove, longest),
            ("DEPLOY_SETTLE", &mut asked.settle, longest),
            ("DEPLOY_DRAIN_TIMEOUT", &mut asked.drain_timeout, longest),
            ("DEPLOY_BUILD_TIMEOUT", &mut asked.build_timeout, longest),
            ("DEPLOY_STOP_TIMEOUT", &mut asked.stop_timeout, longest_stop),
        ];
        for (name, duration, (limit, value, most)) in durations {
            match layers.sets(name) {
                true => within(layers, *duration <= most, name, Shown(*duration), (limit, value))?,
                // A built-in value is lowered rather than refused.
                false => *duration = most.min(*duration),
            }
        }
        let fits = asked.sandbox.closes_as_much_as(self.min_sandbox);
        let least = ("DEPLOY_MIN_SANDBOX", &text.deploy_min_sandbox);
        within(layers, fits, "DEPLOY_SANDBOX", asked.sandbox, least)?;
        let port = asked.port.get();
        let fits = self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
        let ports = ("DEPLOY_PUBLIC_PORTS", &text.deploy_public_ports);
        within(layers, fits, "PORT", port, ports)?;
        let all: u32 = asked.concurrency.values().map(|count| u32::from(*count)).sum();
        let most = ("DEPLOY_MAX_PROCESSES", &text.deploy_max_processes);
        let together = format!("{all} processes");
        within(layers, all <= self.max_processes, "DEPLOY_CONCURRENCY", together, most)?;
        if let Some(most) = self.max_memory {
            let memory = *asked.memory_max.get_or_insert(most);
            let most_memory = ("DEPLOY_MAX_MEMORY", &text.deploy_max_memory);
            within(layers, memory <= most, "DEPLOY_MEMORY_MAX", memory, most_memory)?;
        }
        let no = "no".to_owned();
        let fits = self.metadata || !asked.metadata;
        within(layers, fits, "DEPLOY_METADATA", "yes", ("DEPLOY_METADATA", &no))
    }
}

/// Checks a value against a limit of agent.env, which the error names.
fn within(
    layers: &Layers<'_>,
    fits: bool,
    name: &str,
    asked: impl Display,
    (limit, value): (&str, &String),
) -> Result<(), Error> {
    if fits {
        return Ok(());
    }
    let why = format!("{limit}={value} of {} does not allow it", super::AGENT_FILE);
    let help = format!("ask for what that allows, or change {limit} on the instance");
    Err(layers.blame(&[name], format!("{name}={asked}")).because(why).help(help))
}

/// Displays a duration as in settings.
struct Shown(Duration);

impl Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, milliseconds) = (self.0.as_secs(), self.0.subsec_millis());
        match (seconds, milliseconds) {
            (0, ms) => write!(f, "{ms}ms"),
            (s, 0) if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            (s, 0) if s % 60 == 0 => write!(f, "{}m", s / 60),
            (s, 0) => write!(f, "{s}s"),
            (s, ms) => write!(f, "{}ms", s * 1000 + u64::from(ms)),
        }
    }
}
