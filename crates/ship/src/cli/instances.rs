//! The instances that a command of people is for, and how they are named.

use super::{Desk, rollouts};
use crate::fleet::{Host, Shell, Standing, names};
use crate::rollout::Group;
use crate::settings::Settings;
use console::{Alignment, Color, measure_text_width, pad_str, style};
use model::error::{Error, Exit, Result};
use model::release::name::EnvironmentName;

/// Columns that the name of an instance gets before a line.
const NAME: usize = 24;
const COLOURS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue];

/// The instances in service, and the way to them.
pub struct Instances {
    pub group: Group,
    pub hosts: Vec<Host>,
}

impl Instances {
    pub async fn find(desk: &Desk, environment: Option<EnvironmentName>) -> Result<Instances> {
        let group = rollouts::group(desk, environment, None, rollouts::PATIENCE).await?;
        let instances = group.fleet.instances().await?.into_iter();
        let hosts = instances.filter(|one| one.standing == Standing::InService);
        let hosts: Vec<Host> = hosts.map(|instance| instance.host).collect();
        if hosts.is_empty() {
            let error =
                Error::new(Exit::NoAgent, format!("find an instance of {}", group.cx.place));
            return Err(error.because("none is in service").help("see `ship ps`"));
        }
        Ok(Instances { group, hosts })
    }

    /// Keeps the instances with these names; all, if there are no names.
    pub fn named(&mut self, wanted: &[String]) -> Result<()> {
        for name in wanted {
            if !self.hosts.iter().any(|host| &host.0 == name) {
                let name = model::text::quoted(name);
                let error = Error::usage(format!("{} has no instance {name}", self.group.cx.place));
                return Err(error.help(format!("name one of {}", names(&self.hosts))));
            }
        }
        if !wanted.is_empty() {
            self.hosts.retain(|host| wanted.contains(&host.0));
        }
        Ok(())
    }

    pub fn shell(&self) -> Result<&dyn Shell> {
        self.group.transport.shell().ok_or_else(|| {
            let error = Error::usage(format!("run a command on {}", self.hosts[0]));
            let why = "the transport of this environment runs the agent's orders alone";
            error.because(why).help("set `transport` to \"ssh\" or \"ssm\" in ship.toml")
        })
    }

    /// Returns what stands before the lines of each instance, in colours that repeat.
    pub fn prefixes(&self) -> Vec<String> {
        let widest = self.hosts.iter().map(|host| measure_text_width(&host.0)).max();
        let width = widest.unwrap_or(0).min(NAME);
        let colours = COLOURS.iter().cycle();
        let prefix = |(host, colour): (&Host, &Color)| {
            let name = pad_str(&host.0, width, Alignment::Left, Some("…")).into_owned();
            style(name).fg(*colour).to_string()
        };
        self.hosts.iter().zip(colours).map(prefix).collect()
    }
}

/// Reads `[ENV] [WORD]`. Where ship.toml has one environment, a single other word is WORD.
pub fn words(
    settings: &Settings,
    words: &[String],
) -> Result<(Option<EnvironmentName>, Option<String>)> {
    let environment = |name: &String| -> Result<EnvironmentName> {
        name.parse().map_err(|why| {
            let error = Error::usage(format!("{} is no environment", model::text::quoted(name)));
            error.because(why)
        })
    };
    let is_one = |name: &String| settings.environments.keys().any(|one| one.as_str() == name);
    match words {
        [] => Ok((None, None)),
        [word] if settings.environments.len() == 1 && !is_one(word) => {
            Ok((None, Some(word.clone())))
        }
        [name] => Ok((Some(environment(name)?), None)),
        [name, word, ..] => Ok((Some(environment(name)?), Some(word.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_word_is_an_environment_unless_there_is_only_one() {
        let one = Settings::parse("[environments.production]\n").unwrap();
        let two = Settings::parse("[environments.production]\n[environments.staging]\n").unwrap();
        let read = |settings: &Settings, given: &[&str]| {
            let given: Vec<String> = given.iter().map(|word| (*word).to_owned()).collect();
            let (environment, word) = words(settings, &given).unwrap();
            (environment.map(|name| name.to_string()), word)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read(&one, &[]), (None, None));
        assert_eq!(read(&one, &["web.1"]), (None, some("web.1")));
        assert_eq!(read(&one, &["production"]), (some("production"), None));
        assert_eq!(read(&two, &["staging"]), (some("staging"), None));
        assert_eq!(read(&two, &["staging", "web"]), (some("staging"), some("web")));
        assert!(words(&two, &["a/b".to_owned()]).is_err());
    }
}
