//! The names that identify a release, each its own type, checked on input.
//!
//! Their alphabet is safe in a path, in a unit name and in an S3 key, so no value that contains
//! one of them ever needs escaping.

use super::digest::Sha256;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest user name; systemd's limit, from utmp(5).
const LONGEST_USER: usize = 31;
/// How many hexadecimal digits of a digest tell two names apart.
const DIGEST: usize = 8;

/// A checked string: `FromStr`, `Display` and serde all go through the one check.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Fails with `Exit::Usage` and the rule.
            fn from_str(text: &str) -> Result<Self, Error> {
                if $check(text) {
                    return Ok($name(text.to_owned()));
                }
                Err(Error::usage(format!("{} is not {}", $crate::text::quoted(text), $noun)).help($rule))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(
    /// The app of a release, the third part of its URL from the end.
    AppName, "an app name", |text| is_name(text, 63),
    "an app name is 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or a digit"
);

impl AppName {
    /// The user that the app's processes run as: `app-my-app`.
    pub fn user(&self) -> String {
        self.account("app-")
    }

    /// The user that the app's builds run as: `build-my-app`.
    pub fn builder(&self) -> String {
        self.account("build-")
    }

    /// Returns a user name that every program on the machine accepts. A name that does not fit
    /// is replaced by a prefix and a digest of the whole.
    fn account(&self, prefix: &str) -> String {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let whole = format!("{prefix}{self}");
        if whole.len() <= LONGEST_USER && self.0.bytes().all(plain) {
            return whole;
        }
        let fits = |b: u8| if plain(b) { char::from(b) } else { '-' };
        let name: String = self.0.to_ascii_lowercase().bytes().map(fits).collect();
        let room = LONGEST_USER - prefix.len() - DIGEST - 1;
        let digest = Sha256::of(self.0.as_bytes());
        format!("{prefix}{}-{}", name.get(..room).unwrap_or(&name), digest.begin(DIGEST))
    }
}

name!(
    /// The environment of a release (`production`), the second part of its URL from the end.
    EnvironmentName, "an environment name", |text| is_name(text, 63),
    "an environment name is 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or a digit"
);

name!(
    /// The release's own name (`r42`), the last part of its URL.
    ReleaseName, "a release name", |text| is_name(text, 63),
    "a release name is 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or a digit"
);

name!(
    /// The name of a release on this instance: its release name, with `.2`, `.3` … if the same
    /// name was published again with other content.
    ///
    /// A release itself may be named `r1.2`, so a label does not reveal its release name: code
    /// that allocates labels takes a free one.
    Label, "a label", |text| is_name(text, 63 + ".4294967295".len()),
    "`deploy releases` lists the labels on this instance"
);

name!(
    /// The type of a Procfile line (`web`).
    ProcessType, "a process type", is_process_type,
    "a process type is 1 to 63 of A-Z a-z 0-9 _ -"
);

impl Label {
    /// The label of the `nth` content published as `release`, counted from 1. The first needs
    /// no suffix.
    pub fn of(release: &ReleaseName, nth: u32) -> Label {
        match nth {
            0 | 1 => Label(release.0.clone()),
            _ => Label(format!("{release}.{nth}")),
        }
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_process_type(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn each_app_has_users_of_its_own() {
        let app = |name: &str| name.parse::<AppName>().expect("a name");
        assert_eq!([app("my-app").user(), app("my-app").builder()], ["app-my-app", "build-my-app"]);
        let longest = "a".repeat(63);
        let others = ["My-App", "my.app", "my-app_", &longest, &longest[..62], &longest[..28]];
        let mut users: Vec<String> = others.iter().map(|name| app(name).user()).collect();
        users.push(app("my-app").user());
        for user in &users {
            assert!(user.len() <= LONGEST_USER && user.starts_with("app-"), "{user}");
            assert_eq!(*user, user.to_ascii_lowercase());
        }
        users.sort();
        users.dedup();
        assert_eq!(users.len(), others.len() + 1);
    }

    #[test]
    fn takes_names_that_are_safe_in_paths_and_units() {
        for good in ["a", "my-app", "R42", "2024.01.02_3", &"x".repeat(63)] {
            assert_eq!(good.parse::<ReleaseName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", &"x".repeat(64)] {
            let error = bad.parse::<AppName>().unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_process_type_may_begin_with_anything_but_holds_no_dot() {
        for good in ["web", "_", "-x", "0"] {
            assert!(good.parse::<ProcessType>().is_ok(), "{good}");
        }
        for bad in ["", "web.1", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ProcessType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_republished_release_has_a_suffix() {
        let release = "x".repeat(63).parse().unwrap();
        assert_eq!(Label::of(&release, 1).as_str(), release.as_str());
        let longest = Label::of(&release, u32::MAX);
        assert!(longest.as_str().ends_with(".4294967295"));
        assert_eq!(longest.as_str().parse::<Label>().unwrap(), longest);
    }

    #[test]
    fn json_is_checked_like_any_other_text() {
        let name: AppName = serde_json::from_str("\"my-app\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"my-app\"");
        let error = serde_json::from_str::<AppName>("\"../etc\"").unwrap_err();
        assert!(error.to_string().contains("\"../etc\" is not an app name"), "{error}");
    }

    #[test]
    fn an_error_never_repeats_control_characters_or_a_long_text() {
        let error = format!("\u{1b}[2J{}", "x".repeat(5000)).parse::<AppName>().unwrap_err();
        assert!(error.to_string().len() < 150);
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
