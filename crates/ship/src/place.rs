//! The keys of an environment's objects in the store.

use model::error::{Error, Result};
use model::release::name::{AppName, EnvironmentName};
use std::fmt;
use std::str::FromStr;

/// The name of a release's config, which the agent reads.
pub const ENV: &str = "env";

/// An app and one of its environments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub app: AppName,
    pub environment: EnvironmentName,
}

/// Numbers stay below, so that the next one exists.
const LARGEST: u64 = 1 << 53;

/// The number of a release: `r43`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub u64);

impl Place {
    /// The prefix of all its objects.
    pub fn prefix(&self) -> String {
        format!("{self}/")
    }

    /// The config that the next release gets as its `env`.
    pub fn env(&self) -> String {
        format!("{self}/env")
    }

    /// The pointer, which names the release that new instances deploy.
    pub fn pointer(&self) -> String {
        format!("{self}/current")
    }

    pub fn lock(&self) -> String {
        format!("{self}/lock")
    }

    /// An object of a release.
    pub fn of(&self, number: Number, name: &str) -> String {
        format!("{self}/{number}/{name}")
    }
}

impl Number {
    /// Returns the number of the release with this name; none for a name that ship does not give.
    pub fn of_name(name: &str) -> Option<Number> {
        name.parse().ok().filter(|_| name.starts_with('r'))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}", self.0))
    }
}

impl FromStr for Number {
    type Err = Error;

    /// Accepts `r43` and `43`.
    fn from_str(text: &str) -> Result<Number> {
        let digits = text.strip_prefix('r').unwrap_or(text);
        let is_canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|number| is_canonical && *number < LARGEST);
        number.map(Number).ok_or_else(|| {
            let what = format!("{} is not the number of a release", model::text::quoted(text));
            Error::usage(what).help("a release is r1, r2 …; `ship releases` lists them")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!("r43".parse::<Number>().unwrap(), Number(43));
        assert_eq!("43".parse::<Number>().unwrap().to_string(), "r43");
        for wrong in ["", "r", "r0", "r01", "r-1", "r+1", "R1", "r1.2", "current"] {
            assert!(wrong.parse::<Number>().is_err(), "{wrong}");
        }
    }
}
