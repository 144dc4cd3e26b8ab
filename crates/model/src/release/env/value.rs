//! One value: unquoted, quoted and expanded pieces up to the end of a word.

use super::Result;
use super::cursor::{Cursor, Place};
use super::{LONGEST_TOTAL, LONGEST_VARIABLE, ansi_c, reserved};
use crate::release::{ParseError, is_noncharacter};
use std::collections::BTreeMap;

/// The effects of the commands so far on bash.
#[derive(Default)]
pub(super) struct Scope {
    /// The PATH until the file sets it.
    pub path: String,
    /// The variables set so far.
    pub variables: BTreeMap<String, String>,
    /// The bytes of all assignments so far.
    pub total: usize,
    /// Whether one of the commands may have changed the locale.
    pub locale_changed: bool,
}

pub(super) fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | ';')
}

/// Parses the value after the `=` of an assignment that began at `start` with a name of
/// `name_length` bytes. Bash expands braces only in an `export`.
pub(super) fn read(
    cursor: &mut Cursor,
    scope: &Scope,
    start: Place,
    name_length: usize,
    exports: bool,
) -> Result<String> {
    let mut value = Value { cursor, scope, start, name_length, bytes: Vec::new() };
    value.word(exports)?;
    value.finish()
}

struct Value<'p, 'a> {
    cursor: &'p mut Cursor<'a>,
    scope: &'p Scope,
    start: Place,
    name_length: usize,
    bytes: Vec<u8>,
}

impl Value<'_, '_> {
    fn word(&mut self, exports: bool) -> Result<()> {
        // The last unquoted character. A value begins as if after a colon, since bash expands
        // `~` in both places.
        let mut before = ':';
        let mut brace = None;
        while let Some(c) = self.cursor.peek().filter(|c| !ends_word(*c)) {
            let at = self.cursor.place();
            if self.cursor.take("\\\n") {
                continue;
            }
            self.cursor.next();
            match c {
                '\'' => self.single_quoted(at)?,
                '"' => self.double_quoted(at)?,
                '\\' => self.escaped(at)?,
                '$' => self.dollar(at, false)?,
                '`' => return Err(command_substitution(at)),
                '(' if self.bytes.is_empty() => {
                    return Err(at
                        .refuse("an array")
                        .help("the environment has no arrays; or quote the value"));
                }
                '(' | ')' | '&' | '|' | '<' | '>' => return Err(operator(at, c)),
                '~' if before == ':' => return Err(tilde(at)),
                '\r' => return Err(carriage_return(at)),
                ',' if brace.is_some() => return Err(brace_expansion(brace.unwrap_or(at))),
                '.' if brace.is_some() && before == '.' => {
                    return Err(brace_expansion(brace.unwrap_or(at)));
                }
                _ => self.push(c),
            }
            if c == '{' && exports {
                brace = brace.or(Some(at));
            }
            before = if matches!(c, '\'' | '"' | '\\' | '$') { 'q' } else { c };
        }
        Ok(())
    }

    fn single_quoted(&mut self, open: Place) -> Result<()> {
        let text = self.cursor.take_while(|c| c != '\'');
        self.bytes.extend(text.as_bytes());
        match self.cursor.next() {
            Some(_) => Ok(()),
            None => Err(open.refuse("this ' has no closing quote")),
        }
    }

    fn double_quoted(&mut self, open: Place) -> Result<()> {
        loop {
            let at = self.cursor.place();
            match self.cursor.next() {
                None => return Err(open.refuse("this \" has no closing quote")),
                Some('"') => return Ok(()),
                Some('$') => self.dollar(at, true)?,
                Some('`') => return Err(command_substitution(at)),
                Some('\\') => match self.cursor.next() {
                    Some('\n') | None => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => self.push(c),
                    Some(c) => {
                        reserved::check_escaped(c, at)?;
                        self.push('\\');
                        self.push(c);
                    }
                },
                Some(c) => self.push(c),
            }
        }
    }

    fn escaped(&mut self, at: Place) -> Result<()> {
        match self.cursor.next() {
            None => Err(at.refuse("a backslash at the end of the file")),
            Some('\r') => Err(carriage_return(at)),
            Some(c) => {
                reserved::check_escaped(c, at)?;
                self.push(c);
                Ok(())
            }
        }
    }

    /// Parses the text after a `$` at `at`.
    fn dollar(&mut self, at: Place, quoted: bool) -> Result<()> {
        if self.cursor.take("{") {
            return self.braced_variable(at);
        }
        if let Some(name) = self.cursor.take_name() {
            self.refuse_line_continuation(at)?;
            return self.expand(at, name);
        }
        match self.cursor.peek() {
            Some('\'') if !quoted => {
                self.cursor.next();
                ansi_c::decode(self.cursor, at, self.scope.locale_changed, &mut self.bytes)
            }
            Some('"') if !quoted => {
                Err(at.refuse("a translated string, $\"…\"").help("leave the $ out"))
            }
            Some('(') => Err(command_substitution(at)),
            Some('[') => Err(at.refuse("arithmetic").help(LITERAL_DOLLAR)),
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                Err(at.refuse("a special parameter of the shell").help(LITERAL_DOLLAR))
            }
            _ => {
                self.push('$');
                self.refuse_line_continuation(at)
            }
        }
    }

    fn braced_variable(&mut self, at: Place) -> Result<()> {
        let name = self.cursor.take_name();
        match name.filter(|_| self.cursor.take("}")) {
            Some(name) => self.expand(at, name),
            None => Err(at
                .refuse("an expansion that is more than a variable's name")
                .help("write ${NAME} or the value itself; single quotes keep a `$` as it is")),
        }
    }

    /// The error does not contain the name: it may be part of an unquoted password.
    fn expand(&mut self, at: Place, name: &str) -> Result<()> {
        let set = self.scope.variables.get(name);
        let Some(value) = set.or_else(|| (name == "PATH").then_some(&self.scope.path)) else {
            if name == "HOME" {
                return Err(at
                    .refuse("`$HOME`, which each process has its own of")
                    .help("set it in the Procfile: `web: PATH=\"$HOME/bin:$PATH\" ./server`"));
            }
            return Err(at
                .refuse("a variable that this file has not set before")
                .help("set it on a line above; single quotes keep a `$` as it is"));
        };
        self.bytes.extend(value.as_bytes());
        self.check_length()
    }

    /// Bash joins `$A\⏎B` to a longer name outside quotes, but not inside.
    fn refuse_line_continuation(&mut self, at: Place) -> Result<()> {
        if self.cursor.take("\\\n") {
            return Err(at
                .refuse("a `$` whose name may go on in the next line")
                .help("write ${NAME}"));
        }
        Ok(())
    }

    fn finish(self) -> Result<String> {
        self.check_length()?;
        let text = String::from_utf8(self.bytes)
            .map_err(|_| self.start.refuse("the value is not UTF-8 text"))?;
        if text.contains(is_noncharacter) {
            return Err(self
                .start
                .refuse("the value holds a Unicode noncharacter, which systemd drops"));
        }
        Ok(text)
    }

    fn check_length(&self) -> Result<()> {
        let length = self.name_length + "=".len() + self.bytes.len();
        if length > LONGEST_VARIABLE {
            return Err(self
                .start
                .refuse(format!("longer than the {LONGEST_VARIABLE} bytes a variable can have")));
        }
        if self.scope.total + length >= LONGEST_TOTAL {
            return Err(self
                .start
                .refuse("with this the variables are longer than 512 KiB together"));
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        self.bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

const LITERAL_DOLLAR: &str = "single quotes, or a backslash before it, keep a `$` as it is";

fn command_substitution(at: Place) -> ParseError {
    at.refuse("a command substitution or arithmetic: env is read, never executed")
        .help("write the value itself; single quotes keep `$(` and backquotes as they are")
}

fn operator(at: Place, c: char) -> ParseError {
    at.refuse(format!("`{c}` outside quotes, which bash takes for an operator"))
        .help("quote the value")
}

fn tilde(at: Place) -> ParseError {
    at.refuse("`~` where bash puts a home directory")
        .help("write the path itself, or quote the `~`")
}

fn brace_expansion(at: Place) -> ParseError {
    at.refuse("a brace expansion, of which only the last word would stay").help("quote the value")
}

fn carriage_return(at: Place) -> ParseError {
    at.refuse("a carriage return, which bash would keep in the value")
        .help("save the file with LF line ends, or write $'\\r' if the value needs it")
}
