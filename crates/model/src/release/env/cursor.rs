//! A character reader that tracks its position.

use crate::release::ParseError;

/// The rest of a text, and the place of its next character.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    place: Place,
}

/// Line and column, both counted from 1, the column in characters.
#[derive(Clone, Copy)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub fn refuse(self, what: impl Into<String>) -> ParseError {
        ParseError::new(self.line, self.column, what)
    }
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { rest: text, place: Place { line: 1, column: 1 } }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        match c {
            '\n' => self.place = Place { line: self.place.line + 1, column: 1 },
            _ => self.place.column += 1,
        }
        Some(c)
    }

    /// Takes `expected` if the text continues with it.
    pub fn take(&mut self, expected: &str) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            for _ in expected.chars() {
                self.next();
            }
        }
        found
    }

    /// Takes characters while `fits` holds.
    pub fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        self.take_up_to(usize::MAX, fits)
    }

    /// Takes at most `most` characters while `fits` holds.
    pub fn take_up_to(&mut self, most: usize, fits: impl Fn(char) -> bool) -> &'a str {
        let from = self.rest;
        let mut taken = 0;
        while taken < most && self.peek().is_some_and(&fits) {
            self.next();
            taken += 1;
        }
        &from[..from.len() - self.rest.len()]
    }

    /// Takes the name of a variable, if there is one.
    pub fn take_name(&mut self) -> Option<&'a str> {
        self.peek().filter(|c| c.is_ascii_alphabetic() || *c == '_')?;
        Some(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_'))
    }
}
