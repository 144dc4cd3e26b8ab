//! The grammar: comments and commands, each a list of assignments, optionally after `export`.

use super::cursor::{Cursor, Place};
use super::value::{self, Scope};
use super::{Result, reserved};
use crate::release::ParseError;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The variables that a text assigns, and the names whose assignment has no effect.
pub(super) type Parsed = (BTreeMap<String, String>, BTreeSet<&'static str>);

/// A command of a text, with the newline or `;` and the comment after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub bytes: Range<usize>,
    /// Whether it begins with `export`.
    pub exports: bool,
    pub words: Vec<Word>,
}

/// A word of a command: `NAME=value`, or `NAME` after `export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub bytes: Range<usize>,
    pub name: Range<usize>,
}

/// Parses a text; `path` is the initial PATH.
pub(super) fn parse(text: &str, path: &str) -> Result<Parsed> {
    let mut parser = Parser::new(text, path);
    while parser.cursor.peek().is_some() {
        parser.command()?;
    }
    Ok((parser.scope.variables, parser.ignored))
}

/// Returns the commands of a text that have words.
pub(super) fn commands(text: &str, path: &str) -> Result<Vec<Command>> {
    let mut parser = Parser::new(text, path);
    let mut commands = Vec::new();
    while parser.cursor.peek().is_some() {
        let start = text.len() - parser.cursor.left();
        let exports = parser.command()?;
        let bytes = start..text.len() - parser.cursor.left();
        if !parser.words.is_empty() {
            let place = |word: &(usize, usize, usize)| {
                let (start, name, end) = (text.len() - word.0, word.1, text.len() - word.2);
                Word { bytes: start..end, name: start..start + name }
            };
            let words = parser.words.iter().map(place).collect();
            commands.push(Command { bytes, exports, words });
        }
    }
    Ok(commands)
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    scope: Scope,
    ignored: BTreeSet<&'static str>,
    /// The words of this command: bytes left at its start, length of its name, bytes left at
    /// its end.
    words: Vec<(usize, usize, usize)>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, path: &str) -> Parser<'a> {
        let scope = Scope { path: path.to_owned(), ..Scope::default() };
        let (cursor, words) = (Cursor::new(text), Vec::new());
        Parser { cursor, scope, ignored: BTreeSet::new(), words }
    }
}

impl Parser<'_> {
    /// Parses one command and the newline or `;` after it. Returns whether it is an `export`.
    fn command(&mut self) -> Result<bool> {
        let mut exports = false;
        self.words.clear();
        self.skip_blanks();
        let start = self.cursor.place();
        match self.cursor.peek() {
            None | Some('\n' | '#') => {}
            Some(';') => return Err(start.refuse("`;` without an assignment before it")),
            Some('\u{feff}') => {
                return Err(start
                    .refuse("a byte order mark")
                    .help("save the file as UTF-8 without BOM"));
            }
            Some(_) if self.takes_export() || self.takes_declare() => {
                exports = true;
                self.export(start)?;
            }
            Some(_) => self.assignments()?,
        }
        if self.cursor.peek() == Some('#') {
            self.cursor.take_while(|c| c != '\n');
        }
        // The newline or `;` that ended the command.
        self.cursor.next();
        Ok(exports)
    }

    fn takes_export(&mut self) -> bool {
        let mut ahead = self.cursor;
        let found = ahead.take("export") && ahead.peek().is_none_or(value::ends_word);
        if found {
            self.cursor = ahead;
        }
        found
    }

    /// Takes `declare -x`, which `export -p` writes: in a sourced file it means the same as
    /// `export`.
    fn takes_declare(&mut self) -> bool {
        let mut ahead = self.cursor;
        let found = (ahead.take("declare") || ahead.take("typeset"))
            && !ahead.take_while(|c| matches!(c, ' ' | '\t')).is_empty()
            && ahead.take("-x")
            && ahead.peek().is_none_or(value::ends_word);
        if found {
            self.cursor = ahead;
        }
        found
    }

    fn assign(&mut self, name: String, value: String) {
        match reserved::set_by_every_bash(&name) {
            Some(own) => drop(self.ignored.insert(own)),
            None => drop(self.scope.variables.insert(name, value)),
        }
    }

    /// Parses `A=1 B=$A`: bash assigns one after the other.
    fn assignments(&mut self) -> Result<()> {
        while let Some(start) = self.next_word() {
            match self.assignment(start, false)? {
                (name, Some(value)) => self.assign(name, value),
                (_, None) => return Err(not_an_assignment(start)),
            };
        }
        Ok(())
    }

    /// Parses `export A=1 B=$A C`: bash expands all of it before it assigns. A bare name only
    /// marks a variable, which changes nothing under `set -a`.
    fn export(&mut self, start: Place) -> Result<()> {
        let mut assigned = Vec::new();
        let mut words = 0;
        while let Some(start) = self.next_word() {
            words += 1;
            match self.assignment(start, true)? {
                (name, Some(value)) => assigned.push((name, value)),
                (name, None) => self.check_marked(start, &name)?,
            }
        }
        if words == 0 {
            return Err(start.refuse("`export` without a name").help("write export NAME=value"));
        }
        for (name, value) in assigned {
            self.assign(name, value);
        }
        Ok(())
    }

    fn check_marked(&self, start: Place, name: &str) -> Result<()> {
        if reserved::has_value_in_clean_bash(name) && !self.scope.variables.contains_key(name) {
            return Err(start
                .refuse(format!("`export {name}` without a value would pass on bash's own"))
                .help(format!("write export {name}=… with the value the app needs")));
        }
        Ok(())
    }

    /// Returns the place of this command's next word, if there is one.
    fn next_word(&mut self) -> Option<Place> {
        self.skip_blanks();
        let ends_command = |c| matches!(c, '\n' | ';' | '#');
        self.cursor.peek().filter(|c| !ends_command(*c)).map(|_| self.cursor.place())
    }

    fn skip_blanks(&mut self) {
        while self.cursor.take(" ") || self.cursor.take("\t") || self.cursor.take("\\\n") {}
    }

    /// Called after the first part of a name: whether dots or dashes and then an `=` follow.
    fn is_name_with_other_characters(&self) -> bool {
        let mut ahead = self.cursor;
        ahead.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        ahead.peek() == Some('=')
    }

    /// Parses `NAME=value`, or in an `export` also `NAME`.
    fn assignment(&mut self, start: Place, exports: bool) -> Result<(String, Option<String>)> {
        let left = self.cursor.left();
        let name = self.cursor.take_name().ok_or_else(|| not_an_assignment(start))?.to_owned();
        let next = self.cursor.peek();
        if let Some(c @ ('.' | '-')) = next
            && self.is_name_with_other_characters()
        {
            return Err(other_characters(start, c));
        }
        if next == Some('[') {
            return Err(start
                .refuse("an array element")
                .help("the environment has no arrays: use one name each"));
        }
        if self.cursor.take("+=") {
            return Err(start
                .refuse("an assignment with `+=`")
                .help("write NAME=\"${NAME}…\", or quote a value that holds blanks"));
        }
        let marks_only = exports && next.is_none_or(value::ends_word);
        if next != Some('=') && !marks_only {
            return Err(not_an_assignment(start));
        }
        if let Some(own) = reserved::bash_own(&name) {
            return Err(start
                .refuse(format!("{own} means something to bash itself"))
                .help("use another name"));
        }
        if marks_only {
            self.words.push((left, name.len(), self.cursor.left()));
            return Ok((name, None));
        }
        self.cursor.next();
        self.scope.locale_changed |= name == "LANG" || name.starts_with("LC_");
        let value = value::read(&mut self.cursor, &self.scope, start, name.len(), exports)?;
        self.words.push((left, name.len(), self.cursor.left()));
        self.scope.total += name.len() + value.len() + 2;
        Ok((name, Some(value)))
    }
}

/// Does not name the variable: the line may be the rest of a value that needed quotes.
fn other_characters(at: Place, c: char) -> ParseError {
    let help = match c {
        '.' => {
            "write `_` for each dot: Spring reads SPRING_DATASOURCE_URL as spring.datasource.url; \
             or give it in the Procfile's command, as -Dname=value"
        }
        _ => "write `_` for each `-`: MY_KEY in place of MY-KEY",
    };
    at.refuse(format!("a name with `{c}`, which no shell variable can have")).help(help)
}

/// Does not quote the word: it may be the rest of a value that needed quotes.
fn not_an_assignment(at: Place) -> ParseError {
    at.refuse("not an assignment")
        .help("a line is `export NAME=value`; quote a value that holds blanks or line breaks")
}
