//! The description of a one-off command's unit: the only place where the agent that runs after a
//! restart finds what the command is.

use crate::text;
use std::fmt;

/// Characters of a program's name that are kept.
const LONGEST: usize = 60;

/// A one-off command, as the description of its unit has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub app: String,
    pub release: String,
    /// The user who runs it.
    pub who: String,
    /// The process of the caller; 0 if it is not known.
    pub pid: u32,
    /// The program, or the line of the Procfile; arguments may hold secrets.
    pub program: String,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Described { app, release, who, pid, program } = self;
        let program = text::line(program, LONGEST);
        write!(f, "One-off of {app} release {release} for {who} (pid {pid}): {program}")
    }
}

impl Described {
    pub fn parse(text: &str) -> Option<Described> {
        let (app, rest) = text.strip_prefix("One-off of ")?.split_once(" release ")?;
        let (release, rest) = rest.split_once(" for ")?;
        let (who, rest) = rest.split_once(" (pid ")?;
        let (pid, program) = rest.split_once("): ")?;
        let [app, release, who, program] = [app, release, who, program].map(str::to_owned);
        Some(Described { app, release, who, pid: pid.parse().ok()?, program })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(program: &str) -> Described {
        let [app, release, who] = ["my-app", "r42.2", "ada"].map(str::to_owned);
        Described { app, release, who, pid: 4242, program: program.to_owned() }
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        for program in ["bin/rails", "a b", "x (pid 1): y for z release r", ""] {
            let text = described(program).to_string();
            assert_eq!(Described::parse(&text), Some(described(program)), "{text}");
        }
    }

    #[test]
    fn a_program_has_one_short_line() {
        let text = described(&format!("a\nb{}", "c".repeat(100))).to_string();
        let program = Described::parse(&text).expect("a description").program;
        assert!(program.starts_with("a bc") && program.len() == LONGEST, "{program}");
    }

    #[test]
    fn others_descriptions_are_none() {
        for text in ["", "One-off of my-app release r1", "One-off of a release b for c (pid x): d"]
        {
            assert_eq!(Described::parse(text), None, "{text}");
        }
    }
}
