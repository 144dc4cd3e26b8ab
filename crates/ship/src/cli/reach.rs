//! The instances of an environment and the way to them, as ship.toml and the options say.

use crate::fleet::aws::{Calls, Scaling, Sdk, Watch};
use crate::fleet::{Fleet, Guard, Listed, Ssh, Ssm, Transport};
use crate::objects::connect;
use crate::place::Place;
use crate::settings::{FILE, Means, Target};
use model::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// A group, and what judges it.
pub struct Reach {
    pub fleet: Arc<dyn Fleet>,
    pub transport: Arc<dyn Transport>,
    pub guard: Option<Arc<dyn Guard>>,
}

/// Connects to the instances of an environment. `patience` is the time that each has for an order.
pub async fn reach(target: &Target, patience: Duration) -> Result<Reach> {
    check(target)?;
    let Target { place, region, group, hosts, transport, alarms, .. } = target;
    if *transport == Means::Ssh && alarms.is_empty() {
        return Ok(Reach {
            fleet: Arc::new(Listed::new(hosts)),
            transport: Arc::new(Ssh::new(patience)?),
            guard: None,
        });
    }
    let config = connect(region.as_deref()).await?;
    let calls = Arc::new(Calls::new(Arc::new(Sdk::new(&config))));
    let is_listed = !hosts.is_empty();
    let scaling = Arc::new(Scaling::new(Arc::clone(&calls), place, group.clone()));
    let fleet: Arc<dyn Fleet> =
        if is_listed { Arc::new(Listed::new(hosts)) } else { Arc::clone(&scaling) as _ };
    let transport: Arc<dyn Transport> = match transport {
        Means::Ssh => Arc::new(Ssh::new(patience)?),
        Means::Ssm => {
            let region = config.region().map(|region| region.to_string());
            Arc::new(Ssm::new(Arc::clone(&calls), place, patience).in_region(region))
        }
    };
    let scaling = (!is_listed).then_some(scaling);
    let guard: Arc<dyn Guard> = Arc::new(Watch::new(calls, scaling, alarms.clone()));
    Ok(Reach { fleet, transport, guard: Some(guard) })
}

/// Refuses what cannot name an instance.
fn check(target: &Target) -> Result<()> {
    let Target { place, hosts, transport, group, .. } = target;
    let Place { environment, .. } = place;
    if let (Some(group), false) = (group, hosts.is_empty()) {
        let error = Error::usage(format!("find the instances of {place}"));
        let group = model::text::quoted(group);
        let why = format!("there are listed hosts, and the group {group}");
        let help = format!("take `hosts` or `group` out of [environments.{environment}] in {FILE}");
        return Err(error.because(why).help(help));
    }
    if *transport == Means::Ssh && hosts.is_empty() {
        let error = Error::usage(format!("find the instances of {place}"));
        let help = format!(
            "list them in {FILE}: [environments.{environment}] hosts = [\"web1\"], or leave out \
             `transport`"
        );
        return Err(error.because("no hosts are listed, which ssh needs").help(help));
    }
    let is_wrong = |host: &&String| match transport {
        Means::Ssh => !is_destination(host),
        Means::Ssm => !is_instance(host),
    };
    let Some(host) = hosts.iter().find(is_wrong) else { return Ok(()) };
    let host = model::text::quoted(host);
    Err(match transport {
        Means::Ssh => {
            Error::usage(format!("{host} is no host")).help("give a host of ssh: NAME or USER@NAME")
        }
        Means::Ssm => Error::usage(format!("{host} is no instance"))
            .help("give ids: i-… or mi-…; or leave out `transport`, for ssh"),
    })
}

fn is_destination(host: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._-:[]%/".contains(c);
    !host.is_empty() && host.len() <= 255 && !host.starts_with('-') && host.chars().all(is_plain)
}

fn is_instance(host: &str) -> bool {
    let digits = host.strip_prefix("mi-").or_else(|| host.strip_prefix("i-"));
    digits.is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.chars().all(|c| c.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Given, Settings};

    fn why(environment: &str) -> Option<String> {
        let text = format!(
            "app = \"shop\"\nstore = \"s3://releases\"\n[environments.production]\n{environment}\n"
        );
        let target = Settings::parse(&text).unwrap().target(&Given::default()).unwrap();
        check(&target).err().map(|error| error.chain())
    }

    #[test]
    fn names_must_suit_the_transport() {
        assert_eq!(why(""), None);
        assert_eq!(why("hosts = [\"admin@web1\"]"), None);
        assert_eq!(why("hosts = [\"i-0123456789abcdef0\"]\ntransport = \"ssm\""), None);
        let message = "find the instances of shop/production: no hosts are listed, which ssh needs";
        assert_eq!(why("transport = \"ssh\"").as_deref(), Some(message));
        assert_eq!(
            why("hosts = [\"web1\"]\ntransport = \"ssm\"").as_deref(),
            Some("\"web1\" is no instance")
        );
        assert_eq!(
            why("hosts = [\"web1\"]\ngroup = \"shop-asg\"").as_deref(),
            Some(
                "find the instances of shop/production: there are listed hosts, and the group \
                 \"shop-asg\""
            )
        );
        assert_eq!(why("hosts = [\"-oX=y\"]").as_deref(), Some("\"-oX=y\" is no host"));
    }
}
