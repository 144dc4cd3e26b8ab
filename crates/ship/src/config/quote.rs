//! An assignment as bash and the agent read it.

use model::error::{Error, Result};
use model::release::ParseError;
use model::release::env::Env;

/// Returns `NAME=value` with the value quoted if it has to be.
pub fn assignment(name: &str, value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,-".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return format!("{name}={value}");
    }
    if !value.contains('\'') {
        return format!("{name}='{value}'");
    }
    let mut text = format!("{name}=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// Checks that an app can get this variable. The error has no part of the value.
pub fn check(name: &str, value: &str) -> Result<()> {
    check_name(name)?;
    let refused = |why: ParseError| {
        let error = Error::usage(format!("set {name}")).because(why.what);
        error.help(why.help.unwrap_or_else(|| "choose another value".to_owned()))
    };
    let env = Env::parse(assignment(name, value).as_bytes()).map_err(refused)?;
    if env.get(name) == Some(value) {
        return Ok(());
    }
    let error = Error::usage(format!("set {name}"));
    Err(error.because("every shell sets it itself, so that the app would not get it"))
}

/// Checks the name of a variable.
pub fn check_name(name: &str) -> Result<()> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    let error = Error::usage(format!("{} is not the name of a variable", shown(name)));
    Err(error.help("a name has letters, digits and _, and begins with no digit"))
}

/// Returns the name for an error, unless it may be a part of a value.
fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match name.chars().count() <= 40 && name.chars().all(plain) {
        true => model::text::quoted(name),
        false => "this".to_owned(),
    }
}
