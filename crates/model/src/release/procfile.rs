//! The Procfile: one process type per line, `type: command`.
//!
//! Commands are left to the shell: quotes, `#`, `$` and `%` in them have no meaning here.

use super::ParseError;
use super::name::ProcessType;

/// The longest Procfile, in bytes.
const LONGEST_FILE: usize = 64 * 1024;
/// The longest command, in bytes: far below the 128 KiB that execve(2) allows for one argument,
/// with room for the doubling and escaping in a unit file.
const LONGEST_COMMAND: usize = 32 * 1024;
/// Each type is at least one unit; a Procfile with more is a mistake or an attack.
const MOST_TYPES: usize = 100;

const BLANK: [char; 2] = [' ', '\t'];

/// The commands of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Procfile {
    lines: Vec<(ProcessType, String)>,
}

impl Procfile {
    /// Parses a whole Procfile; CRLF and a byte order mark are accepted.
    pub fn parse(bytes: &[u8]) -> Result<Procfile, ParseError> {
        let text = super::text(bytes, LONGEST_FILE)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut procfile = Procfile { lines: Vec::new() };
        for (number, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let content = line.trim_matches(BLANK);
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            procfile.add(number + 1, line)?;
        }
        if procfile.services().next().is_none() {
            return Err(
                ParseError::new(1, 1, "no service").help("add a line such as `web: ./server`")
            );
        }
        Ok(procfile)
    }

    fn add(&mut self, number: usize, line: &str) -> Result<(), ParseError> {
        let (process_type, command) = process_line(number, line)?;
        if self.command(process_type.as_str()).is_some() {
            return Err(ParseError::new(number, 1, format!("a second line for `{process_type}`"))
                .help("keep one of them, or give the other process its own name"));
        }
        if self.lines.len() == MOST_TYPES {
            return Err(ParseError::new(
                number,
                1,
                format!("more than {MOST_TYPES} process types"),
            ));
        }
        self.lines.push((process_type, command.to_owned()));
        Ok(())
    }

    /// The services in the order of the file: every line but `build` and `release`.
    pub fn services(&self) -> impl Iterator<Item = (&ProcessType, &str)> {
        let is_service = |name: &str| !matches!(name, "build" | "release");
        self.lines
            .iter()
            .filter(move |(name, _)| is_service(name.as_str()))
            .map(|(name, command)| (name, command.as_str()))
    }

    /// Returns the types of the services, in the order of the file.
    pub fn types(&self) -> Vec<ProcessType> {
        self.services().map(|(kind, _)| kind.clone()).collect()
    }

    /// The command that runs once while the release is staged.
    pub fn build(&self) -> Option<&str> {
        self.command("build")
    }

    /// The one-off command of the release phase.
    pub fn release(&self) -> Option<&str> {
        self.command("release")
    }

    fn command(&self, process_type: &str) -> Option<&str> {
        let line = self.lines.iter().find(|(name, _)| name.as_str() == process_type);
        line.map(|(_, command)| command.as_str())
    }
}

fn process_line(number: usize, line: &str) -> Result<(ProcessType, &str), ParseError> {
    let refused =
        |before: &str, what: &str| ParseError::new(number, before.chars().count() + 1, what);
    let shape = "a line is `type: command`, its type 1 to 63 of A-Z a-z 0-9 _ -";

    let (name, rest) =
        line.split_once(':').ok_or_else(|| refused("", "not a process").help(shape))?;
    let process_type: ProcessType = name.parse().map_err(|_| {
        let refused = refused("", "not a process type before the colon");
        match name.trim_matches(BLANK).parse::<ProcessType>() {
            Ok(meant) => refused.help(format!("write `{meant}:` without blanks around the type")),
            Err(_) => refused.help(shape),
        }
    })?;
    let unfit = |c: char| c != '\t' && (c.is_control() || super::is_noncharacter(c));
    if let Some(at) = line.find(unfit) {
        return Err(refused(&line[..at], "a control character"));
    }
    let command = rest.trim_matches(BLANK);
    if command.is_empty() {
        return Err(refused(line, &format!("no command for `{process_type}`")));
    }
    if command.len() > LONGEST_COMMAND {
        return Err(refused("", &format!("a command of more than {} KiB", LONGEST_COMMAND / 1024))
            .help("put it in a script of the release and run that"));
    }
    Ok((process_type, command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn services(text: &str) -> Vec<(String, String)> {
        let procfile =
            Procfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        procfile.services().map(|(name, command)| (name.to_string(), command.to_owned())).collect()
    }

    #[test]
    fn services_keep_the_order_of_the_file() {
        let text = "# the app\nworker: ./work\n\nbuild: make\nweb: ./serve\nrelease: ./migrate\n";
        assert_eq!(
            services(text),
            [("worker", "./work"), ("web", "./serve")].map(|(a, b)| (a.into(), b.into()))
        );
        let procfile = Procfile::parse(text.as_bytes()).unwrap();
        assert_eq!((procfile.build(), procfile.release()), (Some("make"), Some("./migrate")));
    }

    #[test]
    fn the_command_belongs_to_the_shell() {
        for command in
            ["a: b # c", "echo \"$PORT\" '%d' | cat && x=1 y", "printf '\t|\\n' #", "wörk ☃"]
        {
            assert_eq!(services(&format!("web:{command}")), [("web".into(), command.into())]);
        }
    }

    #[test]
    fn takes_crlf_a_byte_order_mark_and_blanks_around_the_command() {
        let expected = [("web".to_owned(), "run me".to_owned())];
        for text in [
            "web: run me\r\n\r\n",
            "\u{feff}web: run me",
            "web:run me",
            "\t\n  # x\nweb:\t run me \t",
        ] {
            assert_eq!(services(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_error_has_the_place_in_the_procfile() {
        let long_type = format!("{}: x", "a".repeat(64));
        let long_command = format!("w: a\nx: {}", "y".repeat(LONGEST_COMMAND + 1));
        let many: String = (0..=MOST_TYPES).map(|n| format!("t{n}: x\n")).collect();
        for (text, line, column, what) in [
            ("", 1, 1, "no service"),
            ("# only\nbuild: make\nrelease: x", 1, 1, "no service"),
            ("web: a\nrun me\n", 2, 1, "not a process"),
            ("web: a\n web: b", 2, 1, "not a process type"),
            ("web : a", 1, 1, "not a process type"),
            (": a", 1, 1, "not a process type"),
            ("wéb: a", 1, 1, "not a process type"),
            (&long_type, 1, 1, "not a process type"),
            ("web: a\nweb: b", 2, 1, "a second line for `web`"),
            ("build: a\nweb: a\nbuild: b", 3, 1, "a second line for `build`"),
            ("web:", 1, 5, "no command for `web`"),
            ("web: a\nx: \t\r\n", 2, 5, "no command for `x`"),
            ("web: é\u{7}", 1, 7, "a control character"),
            ("web: a\rb", 1, 7, "a control character"),
            ("web: \u{85}x", 1, 6, "a control character"),
            ("web: \u{fffe}", 1, 6, "a control character"),
            ("web: a\0", 1, 7, "a NUL byte"),
            (&long_command, 2, 1, "more than 32 KiB"),
            (&many, MOST_TYPES + 1, 1, "more than 100 process types"),
        ] {
            let error = Procfile::parse(text.as_bytes()).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.what.contains(what), "{text:?}: {error}");
        }
        for text in ["web : a", " web: a", "\tweb\t: a"] {
            let error = Procfile::parse(text.as_bytes()).unwrap_err();
            let help = "write `web:` without blanks around the type";
            assert_eq!(error.help.as_deref(), Some(help), "{text:?}");
        }
        assert_eq!(
            Procfile::parse(b"web: a\nx: \xff").unwrap_err().to_string(),
            "line 2, column 4: not UTF-8 text"
        );
        assert!(Procfile::parse(&vec![b'\n'; LONGEST_FILE + 1]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Procfile::parse(&bytes);
        }

        #[test]
        fn never_panics_on_what_looks_like_a_procfile(text in "([a-z]{0,3}[: é#\t\r\n]{0,3}){0,9}") {
            let _ = Procfile::parse(text.as_bytes());
        }
    }
}
