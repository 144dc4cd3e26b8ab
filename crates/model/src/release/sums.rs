//! `SHA256SUMS`: the text of a release that is signed. `sha256sum -c` checks it too.

use super::ParseError;
use super::digest::Sha256;
use super::name::{AppName, EnvironmentName};
use std::fmt::{Display, Write};

/// The name of the object.
pub const SUMS: &str = "SHA256SUMS";
/// The size limit in bytes.
pub const LONGEST: usize = 64 << 10;

/// The files of a release, each with its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// `my-app/production/r43`: what the first line says. Without it, the files could be offered
    /// as another release.
    pub release: Option<String>,
    files: Vec<(String, Sha256)>,
}

/// The name of a release in its sums.
pub fn title(app: &AppName, environment: &EnvironmentName, release: impl Display) -> String {
    format!("{app}/{environment}/{release}")
}

impl Sums {
    /// Collects the sums of the files of a release.
    pub fn new(release: String, files: &[(&str, &Sha256)]) -> Sums {
        let files = files.iter().map(|(name, sum)| ((*name).to_owned(), (*sum).clone()));
        Sums { release: Some(release), files: files.collect() }
    }

    /// Returns the sum of a file.
    pub fn of(&self, name: &str) -> Option<&Sha256> {
        self.files.iter().find(|(file, _)| file == name).map(|(_, sum)| sum)
    }

    /// Returns what `sha256sum` writes, below a comment with the release.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(release) = &self.release {
            let _ = writeln!(text, "# {release}");
        }
        for (name, sum) in &self.files {
            let _ = writeln!(text, "{}  {name}", sum.begin(64));
        }
        text
    }

    /// Parses what `sha256sum` writes. Only the first line can name the release; other comments
    /// are skipped, as by `sha256sum -c`.
    pub fn parse(bytes: &[u8]) -> Result<Sums, ParseError> {
        let text = super::text(bytes, LONGEST)?;
        let release = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let mut sums = Sums { release: release.map(str::to_owned), files: Vec::new() };
        for (nth, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refused = |what: &str| ParseError::new(nth + 1, 1, what);
            let help = "write it with `sha256sum source.tar.zst env`";
            let (sum, name) = file(line).ok_or_else(|| {
                refused("neither a sum with a file name nor a comment").help(help)
            })?;
            if sums.of(name).is_some() {
                return Err(refused("a second sum of the same file"));
            }
            sums.files.push((name.to_owned(), sum));
        }
        Ok(sums)
    }
}

/// Parses `SUM  NAME`, or `SUM *NAME` of a file that was read as binary.
fn file(line: &str) -> Option<(Sha256, &str)> {
    let (sum, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*']).filter(|name| !name.is_empty())?;
    Some((Sha256::parse(sum)?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(of: &str) -> Sha256 {
        Sha256::of(of.as_bytes())
    }

    #[test]
    fn reads_what_it_writes() {
        let files = [("source.tar.zst", &sum("a")), ("env", &sum("b"))];
        let sums = Sums::new("my-app/production/r43".into(), &files);
        let text = sums.to_text();
        assert!(text.starts_with("# my-app/production/r43\nca978112ca1bbdcafac231b39a23dc4da786"));
        assert!(text.ends_with("  env\n"), "{text}");
        assert_eq!(Sums::parse(text.as_bytes()).unwrap(), sums);
        assert_eq!((sums.of("env"), sums.of("other")), (Some(&sum("b")), None));
    }

    #[test]
    fn only_the_first_line_names_the_release() {
        let line = format!("{} *env\n", sum("b").begin(64));
        let of = |text: String| Sums::parse(text.as_bytes()).unwrap();
        assert_eq!(of(format!("# a/b/r1\n# a/b/r2\n\n{line}")).release.as_deref(), Some("a/b/r1"));
        let late = of(format!("{line}# a/b/r1\n"));
        assert_eq!((late.release.as_deref(), late.of("env")), (None, Some(&sum("b"))));
    }

    #[test]
    fn refuses_a_line_that_is_no_sum_with_its_number() {
        let line = format!("{}  env\n", sum("b").begin(64));
        let upper = line.to_uppercase().replace("ENV", "other");
        assert!(Sums::parse(format!("{line}{upper}").as_bytes()).is_ok());
        for wrong in ["abc  env", "\u{e9}", &line[1..], &line[..64], &line[..66], &line] {
            let error = Sums::parse(format!("{line}{wrong}").as_bytes()).unwrap_err();
            assert_eq!(error.line, 2, "{wrong}");
        }
        assert!(Sums::parse(&vec![b'#'; LONGEST + 1]).is_err());
        assert!(Sums::parse(b"\xff").is_err());
    }
}
