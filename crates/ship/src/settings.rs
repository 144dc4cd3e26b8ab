//! `ship.toml`, which keeps the options of daily commands.

use crate::place::Place;
use model::error::{Error, Result};
use model::release::name::{AppName, EnvironmentName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the file, looked for in the working directory and those above it.
pub const FILE: &str = "ship.toml";

/// The content of `ship.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub app: Option<AppName>,
    /// `s3://BUCKET[/PREFIX]`.
    pub store: Option<String>,
    /// The key that signs releases: a file, or the public half of a key that the SSH agent holds.
    pub sign: Option<PathBuf>,
    #[serde(default)]
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// The directory of the file.
    #[serde(skip)]
    pub directory: Option<PathBuf>,
}

/// One environment of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    pub region: Option<String>,
    /// The Auto Scaling group, where its tags do not say which it is.
    pub group: Option<String>,
    /// The store of this environment, where it differs from the file's.
    pub store: Option<String>,
    /// The instances, as hosts of ssh.
    #[serde(default)]
    pub hosts: Vec<String>,
    pub transport: Option<Means>,
    /// Alarms of CloudWatch that stop a rollout.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Whether each deploy runs the release phase, once.
    #[serde(default)]
    pub run_release: bool,
}

/// How commands get to instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    Ssh,
    Ssm,
}

/// The values of flags and environment variables, which override the file.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub app: Option<AppName>,
    pub store: Option<String>,
    pub environment: Option<EnvironmentName>,
    pub region: Option<String>,
    pub group: Option<String>,
}

/// The environment that a command works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub place: Place,
    pub store: Store,
    pub region: Option<String>,
    pub group: Option<String>,
    pub hosts: Vec<String>,
    /// By default ssh where hosts are listed, and otherwise Systems Manager.
    pub transport: Means,
    pub alarms: Vec<String>,
    pub run_release: bool,
}

/// A bucket and a prefix, which is empty or ends with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub bucket: String,
    pub prefix: String,
}

impl Settings {
    /// Reads the nearest file, from `directory` upwards; the default if there is none.
    pub fn find(directory: &Path) -> Result<Settings> {
        for directory in directory.ancestors() {
            let path = directory.join(FILE);
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(Error::usage(format!("read {}", path.display())).because(error));
                }
            };
            let mut settings = Settings::parse(&text).map_err(|why| {
                let error = Error::usage(format!("read {}", path.display()));
                error.because(why).help("correct that line; docs/ship.md has an example")
            })?;
            settings.directory = Some(directory.to_owned());
            return Ok(settings);
        }
        Ok(Settings::default())
    }

    /// Parses the text of the file.
    pub fn parse(text: &str) -> Result<Settings, toml::de::Error> {
        toml::from_str(text)
    }

    /// Returns the environment that a command works on.
    pub fn target(&self, given: &Given) -> Result<Target> {
        let app = given.app.clone().or_else(|| self.app.clone()).ok_or_else(|| {
            Error::usage("no app is named").help(format!("give --app, or `app = \"…\"` in {FILE}"))
        })?;
        let environment = match (&given.environment, self.environments.keys().next()) {
            (Some(environment), _) => environment.clone(),
            (None, Some(only)) if self.environments.len() == 1 => only.clone(),
            _ => return Err(self.no_environment()),
        };
        let own = match self.environments.get(&environment) {
            Some(own) => own.clone(),
            // A misspelt name would make an environment of its own.
            None if !self.environments.is_empty() => return Err(self.unknown(&environment)),
            None => Environment::default(),
        };
        let store = given.store.clone().or(own.store).or_else(|| self.store.clone());
        let store = store.ok_or_else(|| {
            let help = format!("give --store s3://BUCKET, or `store = \"s3://BUCKET\"` in {FILE}");
            Error::usage("no store is named").help(help)
        })?;
        // A group that is asked for is not the listed hosts.
        let hosts = if given.group.is_some() { Vec::new() } else { own.hosts };
        Ok(Target {
            place: Place { app, environment },
            store: store.parse()?,
            region: given.region.clone().or(own.region),
            transport: own.transport.unwrap_or(match hosts.as_slice() {
                [] => Means::Ssm,
                _ => Means::Ssh,
            }),
            group: given.group.clone().or(own.group),
            hosts,
            alarms: own.alarms,
            run_release: own.run_release,
        })
    }

    fn no_environment(&self) -> Error {
        let help = match self.names() {
            names if names.is_empty() => "name one, such as `production`".to_owned(),
            names => format!("name one of {names}"),
        };
        Error::usage("no environment is named").help(help)
    }

    fn unknown(&self, environment: &EnvironmentName) -> Error {
        let error = Error::usage(format!("{FILE} has no environment {environment}"));
        let names = self.names();
        error.help(format!("name one of {names}, or add `[environments.{environment}]`"))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.environments.keys().map(EnvironmentName::as_str).collect();
        names.join(", ")
    }
}

impl std::str::FromStr for Store {
    type Err = Error;

    fn from_str(text: &str) -> Result<Store> {
        let help = "a store is s3://BUCKET or s3://BUCKET/PREFIX";
        let rest = text.strip_prefix("s3://").ok_or_else(|| {
            Error::usage(format!("{} is no store", model::text::quoted(text))).help(help)
        })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(Error::usage(format!("{text} names no bucket")).help(help));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Store { bucket: bucket.to_owned(), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "app = \"shop\"\nstore = \"s3://releases/team\"\n\
        [environments.production]\nregion = \"eu-central-1\"\ngroup = \"shop-asg\"\nrun_release = true\n";

    #[test]
    fn the_only_environment_need_not_be_named() {
        let settings = Settings::parse(TEXT).unwrap();
        let target = settings.target(&Given::default()).unwrap();
        assert_eq!(target.place.to_string(), "shop/production");
        assert_eq!(target.store.prefix, "team/");
        assert_eq!(target.group.as_deref(), Some("shop-asg"));
        assert!(target.run_release);
    }

    #[test]
    fn flags_are_stronger_than_the_file() {
        let settings = Settings::parse(TEXT).unwrap();
        let given = Given {
            app: Some("blog".parse().unwrap()),
            environment: Some("production".parse().unwrap()),
            store: Some("s3://other".to_owned()),
            region: Some("eu-west-1".to_owned()),
            group: Some("blue".to_owned()),
        };
        let target = settings.target(&given).unwrap();
        assert_eq!(target.place.to_string(), "blog/production");
        assert_eq!(target.store, Store { bucket: "other".to_owned(), prefix: String::new() });
        assert_eq!(target.region.as_deref(), Some("eu-west-1"));
        assert_eq!(target.group.as_deref(), Some("blue"));
    }

    #[test]
    fn the_transport_follows_from_how_instances_are_named() {
        let transport = |more: &str| {
            let settings = Settings::parse(&format!("{TEXT}{more}\n")).unwrap();
            settings.target(&Given::default()).unwrap().transport
        };
        assert_eq!(transport(""), Means::Ssm);
        assert_eq!(transport("hosts = [\"web1\"]"), Means::Ssh);
        assert_eq!(transport("hosts = [\"i-1\"]\ntransport = \"ssm\""), Means::Ssm);
        assert!(Settings::parse(&format!("{TEXT}transport = \"telnet\"\n")).is_err());
        let given = Given { group: Some("blue".to_owned()), ..Given::default() };
        let target = Settings::parse(TEXT).unwrap().target(&given).unwrap();
        assert_eq!(target.group.as_deref(), Some("blue"));
        let listed = Settings::parse(&format!("{TEXT}hosts = [\"web1\"]\n")).unwrap();
        let target = listed.target(&given).unwrap();
        assert_eq!((target.transport, target.hosts), (Means::Ssm, vec![]));
    }

    #[test]
    fn a_misspelt_environment_is_refused_where_the_file_has_some() {
        let given = Given {
            environment: Some("prodution".parse().unwrap()),
            app: Some("shop".parse().unwrap()),
            store: Some("s3://releases".to_owned()),
            ..Given::default()
        };
        let error = Settings::parse(TEXT).unwrap().target(&given).unwrap_err();
        assert_eq!(error.chain(), "ship.toml has no environment prodution");
        assert!(error.advice().unwrap().starts_with("name one of production, or add"));
        assert!(Settings::default().target(&given).is_ok());
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let why = |text: &str| match Settings::parse(text) {
            Ok(settings) => {
                let error = settings.target(&Given::default()).unwrap_err();
                format!("{}; {}", error.chain(), error.advice().unwrap_or_default())
            }
            Err(error) => error.to_string(),
        };
        assert!(why("").contains("--app"));
        assert!(why("app = \"shop\"").contains("no environment"));
        let two = format!("{TEXT}[environments.staging]\n");
        assert!(why(&two).contains("name one of production, staging"), "{}", why(&two));
        assert!(why("app = \"shop\"\n[environments.production]\n").contains("--store"));
        assert!(why("aap = \"shop\"").contains("unknown field `aap`"));
        assert!(why("app = \"a/b\"").contains("not an app name"));
        assert!("http://x".parse::<Store>().is_err());
        assert!("s3:///x".parse::<Store>().is_err());
    }
}
