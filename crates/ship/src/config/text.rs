//! Changes the text of an `env`, and keeps what people wrote in it: comments, order, quotes.
//!
//! Before a changed text is used, its variables are compared with those wanted.

use super::Changes;
use super::quote::assignment;
use crate::check;
use crate::place::ENV;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::{Command, Env, Word};
use std::collections::BTreeMap;
use std::ops::Range;

/// A changed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub text: String,
    /// Whether it was written anew, without comments.
    pub anew: bool,
}

/// Applies changes to a text: exactly these variables change. Other values that refer to them
/// (`URL=http://$HOST/`) stay what they are.
pub fn apply(text: &str, changes: &Changes) -> Result<Applied> {
    let refused = |why| check::refused(ENV, Reason::InvalidEnv, why);
    let old = Env::parse(text.as_bytes()).map_err(refused)?;
    let mut wanted: BTreeMap<&str, &str> = old.iter().collect();
    for (name, value) in changes {
        match value {
            Some(value) => wanted.insert(name, value),
            None => wanted.remove(name.as_str()),
        };
    }
    let changes = changes.iter().filter(|(name, value)| old.get(name) != value.as_deref());
    let changes: Vec<_> = changes.map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let gives = |text: &str| {
        Env::parse(text.as_bytes())
            .is_ok_and(|env| env.iter().eq(wanted.iter().map(|(n, v)| (*n, *v))))
    };
    let commands = Env::commands(text).map_err(refused)?;
    for candidate in [in_place(text, &commands, &changes), appended(text, &commands, &changes)] {
        if gives(&candidate) {
            return Ok(Applied { text: candidate, anew: false });
        }
    }
    let anew: String = wanted
        .iter()
        .map(|(name, value)| format!("export {}\n", assignment(name, value)))
        .collect();
    match gives(&anew) {
        true => Ok(Applied { text: anew, anew: true }),
        false => {
            let error = Error::unusable("change the config").with_reason(Reason::InvalidEnv);
            let error = error.because("together with the rest of it these variables are too long");
            Err(error.help("remove what is not needed: `ship config unset`"))
        }
    }
}

/// Replaces the last assignment of each name, or appends one; removes all of a name that goes.
fn in_place(text: &str, commands: &[Command], changes: &[(&str, Option<&str>)]) -> String {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut new = Vec::new();
    for (name, value) in changes {
        if let Some(value) = value {
            let mut words = commands.iter().flat_map(|command| &command.words);
            let assigns =
                |word: &&Word| text[word.name.clone()] == **name && word.bytes != word.name;
            match words.rfind(assigns) {
                Some(word) => edits.push((word.bytes.clone(), assignment(name, value))),
                None => new.push((*name, Some(*value))),
            }
        }
    }
    let goes = |word: &&Word| {
        let name = &text[word.name.clone()];
        changes.iter().any(|(gone, value)| value.is_none() && *gone == name)
    };
    for command in commands {
        let gone: Vec<&Word> = command.words.iter().filter(goes).collect();
        if gone.len() == command.words.len() {
            edits.push((line(text, command), String::new()));
        } else {
            edits.extend(gone.iter().map(|word| (with_blanks(text, word), String::new())));
        }
    }
    edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    let mut changed = text.to_owned();
    for (place, new) in edits {
        changed.replace_range(place, &new);
    }
    appended(&changed, commands, &new)
}

/// Returns what goes with a command: its line, where nothing else is on it.
fn line(text: &str, command: &Command) -> Range<usize> {
    let Range { start, end } = command.bytes.clone();
    let begins_line = start == 0 || text[..start].ends_with('\n');
    match !begins_line && text[..end].ends_with('\n') {
        true => start..end - 1,
        false => start..end,
    }
}

/// The word and the blanks after it.
fn with_blanks(text: &str, word: &Word) -> Range<usize> {
    let after = &text[word.bytes.end..];
    let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
    word.bytes.start..word.bytes.end + blanks
}

/// Appends assignments, with `export` if the last command has it; a removal cannot be appended.
fn appended(text: &str, commands: &[Command], changes: &[(&str, Option<&str>)]) -> String {
    let export = if commands.last().is_none_or(|last| last.exports) { "export " } else { "" };
    let mut text = text.to_owned();
    for (name, value) in changes {
        if let Some(value) = value {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            text.push_str(&format!("{end}{export}{}\n", assignment(name, value)));
        }
    }
    text
}

#[cfg(test)]
mod tests;
