//! The URL of a release: `s3://BUCKET/[PREFIX/]APP/ENVIRONMENT/RELEASE`, or the same shape
//! below `https://` and `file://`.
//!
//! An error never repeats the URL: it may contain a password or a signature.

pub use super::name::{AppName, EnvironmentName, Label, ProcessType, ReleaseName};

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// S3 keys end at 1024 bytes; no valid URL is longer than a bucket and a key.
const LONGEST: usize = 1200;

const SHAPE: &str = "a release is s3://BUCKET/[PREFIX/]APP/ENVIRONMENT/RELEASE, \
    https://HOST/[PREFIX/]APP/ENVIRONMENT/RELEASE or file:///DIRECTORY/APP/ENVIRONMENT/RELEASE";

/// The URL of one release, or of `current`, at a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReleaseUrl {
    scheme: Scheme,
    app: AppName,
    environment: EnvironmentName,
    release: ReleaseName,
}

/// The location of an environment's releases: everything up to and including the environment,
/// without a trailing slash. `/RELEASE/env` or `/current` is appended to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `prefix` is the part of the key, `[PREFIX/]APP/ENVIRONMENT`.
    S3 { bucket: String, prefix: String },
    /// `base` is `http(s)://HOST[:PORT]/[PREFIX/]APP/ENVIRONMENT`, percent-encoded as given.
    Http { base: String },
    /// `base` is absolute.
    File { base: PathBuf },
}

impl ReleaseUrl {
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    pub fn app(&self) -> &AppName {
        &self.app
    }

    pub fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    pub fn release(&self) -> &ReleaseName {
        &self.release
    }

    /// Whether the source is read without encryption and authentication.
    pub fn is_plain_http(&self) -> bool {
        matches!(&self.scheme, Scheme::Http { base } if base.starts_with("http://"))
    }

    /// Whether the source decides which release this is.
    pub fn is_current(&self) -> bool {
        self.release.as_str() == "current"
    }

    /// The URL of another release of the same app and environment at the same source.
    pub fn with_release(&self, release: ReleaseName) -> ReleaseUrl {
        ReleaseUrl { release, ..self.clone() }
    }
}

impl FromStr for ReleaseUrl {
    type Err = Error;

    /// Errors are `Exit::Usage`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(refused("longer than any S3 key"));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| refused("no s3://, https:// or file://"))?;
        if scheme == "s3" && rest.starts_with("arn:") {
            return Err(refused("an ARN where the bucket's name belongs").help(
                "write the access point's alias, which `aws s3control get-access-point` shows and \
                 which ends with -s3alias: s3://ALIAS/APP/ENVIRONMENT/RELEASE",
            ));
        }
        if rest.contains(['?', '#']) {
            return Err(refused("a `?` or `#`: a query or a fragment cannot name a directory")
                .help(
                    "give the URL of the release's directory, not a presigned URL of one object",
                ));
        }
        let (authority, path) = rest.split_once('/').ok_or_else(|| refused("no path"))?;
        if authority.contains('@') {
            return Err(refused("a user name or password")
                .help("credentials come from the instance role or /etc/deploy/agent.env, never from the URL"));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments = segments(path)?;
        let [.., app, environment, release] = segments.as_slice() else {
            return Err(refused("fewer than the three parts APP/ENVIRONMENT/RELEASE"));
        };
        let up_to_environment = &path[..path.len() - release.len() - 1];
        Ok(ReleaseUrl {
            scheme: Scheme::new(scheme, authority, up_to_environment)?,
            app: app.parse()?,
            environment: environment.parse()?,
            release: release.parse()?,
        })
    }
}

impl Scheme {
    fn new(scheme: &str, authority: &str, path: &str) -> Result<Scheme, Error> {
        match scheme {
            "s3" => {
                check_bucket(authority)?;
                Ok(Scheme::S3 { bucket: authority.to_owned(), prefix: path.to_owned() })
            }
            "https" | "http" => {
                check_host(authority)?;
                check_percent_encoding(path)?;
                let host = authority.to_ascii_lowercase();
                Ok(Scheme::Http { base: format!("{scheme}://{host}/{path}") })
            }
            "file" if !authority.is_empty() => Err(refused("a host in a file URL")
                .help("a file URL has three slashes: file:///srv/releases/…")),
            "file" if path.contains('%') => Err(refused("a `%` in a file URL")
                .help("write the path as it is on the disk; it is not percent-decoded")),
            "file" => Ok(Scheme::File { base: Path::new("/").join(path) }),
            _ => Err(refused("a scheme that is none of s3, https and file")),
        }
    }
}

/// Returns the parts between the slashes; none of them may change the directory.
fn segments(path: &str) -> Result<Vec<&str>, Error> {
    let segments: Vec<&str> = path.split('/').collect();
    if segments.contains(&"") {
        return Err(refused("an empty part (two slashes in a row, or no path)"));
    }
    if segments.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(refused("a part that is `.` or `..`"));
    }
    if path.contains(|c: char| c.is_control() || super::is_noncharacter(c)) {
        return Err(refused("a control character"));
    }
    Ok(segments)
}

/// The rules of general purpose buckets that help to detect typing errors.
fn check_bucket(bucket: &str) -> Result<(), Error> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    if (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
    {
        return Ok(());
    }
    Err(refused("a bucket name that S3 does not allow").help(
        "a bucket name is 3 to 63 of a-z 0-9 . - and begins and ends with a letter or a digit",
    ))
}

fn check_host(authority: &str) -> Result<(), Error> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_name =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let port_is_fine = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if (is_name || is_ipv6) && port_is_fine {
        Ok(())
    } else {
        Err(refused("a host that is no host name or address"))
    }
}

/// Accepts characters of an RFC 3986 path, but no encoded dot or slash that a server may read
/// as `..`.
fn check_percent_encoding(path: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    if !path.bytes().all(plain) {
        return Err(refused("a character that a web address cannot hold")
            .help("percent-encode it, for instance a space as %20"));
    }
    for encoded in path.split('%').skip(1) {
        let byte = encoded.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(b'.' | b'/' | b'\\' | 0..=31 | 127)) => {
                return Err(refused("an encoded dot, slash, backslash or control character"));
            }
            Some(Ok(_)) => {}
            _ => return Err(refused("a `%` that is not followed by two hexadecimal digits")),
        }
    }
    Ok(())
}

fn refused(has: &str) -> Error {
    Error::usage(format!("the release URL is unusable: it has {has}")).help(SHAPE)
}

impl fmt::Display for ReleaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}/{}", self.release),
            Scheme::Http { base } => write!(f, "{base}/{}", self.release),
            Scheme::File { base } => write!(f, "file://{}/{}", base.display(), self.release),
        }
    }
}

impl From<ReleaseUrl> for String {
    fn from(url: ReleaseUrl) -> String {
        url.to_string()
    }
}

impl TryFrom<String> for ReleaseUrl {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use proptest::prelude::*;

    fn url(text: &str) -> ReleaseUrl {
        text.parse().unwrap_or_else(|error: Error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_last_three_parts_are_app_environment_and_release() {
        let url = url("s3://releases/team/a/my-app/production/r42");
        assert_eq!(url.app().as_str(), "my-app");
        assert_eq!(url.environment().as_str(), "production");
        assert_eq!(url.release().as_str(), "r42");
        let prefix = "team/a/my-app/production".to_owned();
        assert_eq!(url.scheme(), &Scheme::S3 { bucket: "releases".into(), prefix });
        assert!(!url.is_current());
    }

    #[test]
    fn a_base_ends_with_the_environment() {
        let http = url("https://Example.COM:8443/x%20y/a/p/current/");
        assert_eq!(
            http.scheme(),
            &Scheme::Http { base: "https://example.com:8443/x%20y/a/p".into() }
        );
        assert!(http.is_current());
        let file = url("file:///srv/my releases/a/p/r1");
        assert_eq!(file.scheme(), &Scheme::File { base: "/srv/my releases/a/p".into() });
        assert!(matches!(url("http://[::1]:80/a/p/r1").scheme(), Scheme::Http { .. }));
    }

    #[test]
    fn another_release_of_the_same_environment() {
        let current = url("s3://releases/a/p/current");
        let pinned = current.with_release("r7".parse().unwrap());
        assert_eq!(pinned.to_string(), "s3://releases/a/p/r7");
    }

    #[test]
    fn refuses_text_that_does_not_name_a_release() {
        for (text, why) in [
            ("", "no s3://"),
            ("releases/a/p/r", "no s3://"),
            ("s3://releases", "no path"),
            ("s3://releases/", "an empty part"),
            ("s3://releases/a/p", "fewer than the three parts"),
            ("s3://releases//a/p/r", "an empty part"),
            ("s3://releases/a/p/r//", "an empty part"),
            ("s3://releases/../a/p/r", "`.` or `..`"),
            ("s3://releases/a/p/..", "`.` or `..`"),
            ("s3://Releases/a/p/r", "bucket name"),
            ("s3://b/a/p/r", "bucket name"),
            ("s3://arn:aws:s3:eu-west-1:1:accesspoint/mine/a/p/r", "an ARN where"),
            ("s3://-bad/a/p/r", "bucket name"),
            ("s3:///a/p/r", "bucket name"),
            ("s3://releases/a b/p/r", "\"a b\" is not an app name"),
            ("s3://releases/a/p/r%31", "\"r%31\" is not a release name"),
            ("s3://releases/x\ny/a/p/r", "control character"),
            ("ftp://h/a/p/r", "none of s3, https and file"),
            ("S3://releases/a/p/r", "none of s3, https and file"),
            ("https:///a/p/r", "no host name"),
            ("https://h:0/a/p/r", "no host name"),
            ("https://h:99999/a/p/r", "no host name"),
            ("https://[::g]/a/p/r", "no host name"),
            ("https://h/x y/a/p/r", "a web address cannot hold"),
            ("https://h/x\\y/a/p/r", "a web address cannot hold"),
            ("https://h/%2e%2E/a/p/r", "an encoded dot"),
            ("https://h/x%2fy/a/p/r", "an encoded dot"),
            ("https://h/x%zz/a/p/r", "two hexadecimal digits"),
            ("https://h/x%2/a/p/r", "two hexadecimal digits"),
            ("file://srv/a/p/r", "a host in a file URL"),
            ("file:///srv/a%20b/a/p/r", "a `%` in a file URL"),
        ] {
            let error = text.parse::<ReleaseUrl>().expect_err(text);
            assert_eq!(error.exit(), Exit::Usage, "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.advice().is_some(), "{text}");
        }
    }

    #[test]
    fn an_error_never_repeats_a_credential() {
        for text in [
            "https://user:marker@h/a/p/r",
            "s3://AKIA:marker@releases/a/p/r",
            "https://h/a/p/r?X-Amz-Signature=marker",
            "https://h/a/p/r#marker",
        ] {
            let error = text.parse::<ReleaseUrl>().unwrap_err();
            let said = format!("{} {:?} {:?}", error.chain(), error, error.advice());
            assert!(!said.contains("marker"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<ReleaseUrl>();
        }

        #[test]
        fn never_panics_on_what_looks_like_a_url(
            text in "(s3|https|file)://[a-c.:\\[\\]@%/é-]{0,12}(/[a.%2é ]{0,4}){0,5}"
        ) {
            if let Ok(url) = text.parse::<ReleaseUrl>() {
                prop_assert_eq!(url.to_string().parse::<ReleaseUrl>().unwrap(), url);
            }
        }

        #[test]
        fn display_and_parse_are_inverse(
            base in "(s3://[a-z0-9]{3,9}|https://[a-z]{1,9}(:[1-9][0-9]{0,3})?|file://)(/[a-z0-9_~=-]{1,9}){0,3}",
            names in "(/[A-Za-z0-9][A-Za-z0-9._-]{0,62}){3}",
            slash in "/?",
        ) {
            let text = format!("{base}{names}");
            let parsed = format!("{text}{slash}").parse::<ReleaseUrl>().unwrap();
            prop_assert_eq!(parsed.to_string(), text);
            let json = serde_json::to_string(&parsed).unwrap();
            prop_assert_eq!(serde_json::from_str::<ReleaseUrl>(&json).unwrap(), parsed);
        }
    }
}
