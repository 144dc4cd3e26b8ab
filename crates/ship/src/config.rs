//! The config of an environment: the canonical `env`, which the next release gets a copy of.
//!
//! A change is written only if the config is still the version that was read: two changes at once
//! are both kept. Errors and output show a value only to a caller who named its variable.

pub mod compare;
pub mod edit;
pub mod editor;
pub mod quote;
mod release;
pub mod text;

pub use release::{check as check_release, release};

use crate::check;
use crate::context::Context;
use crate::maker::canonical_env;
use crate::objects::{Condition, Written};
use crate::place::ENV;
use crate::place::Number;
use compare::Differences;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::env::Env;
use std::collections::BTreeMap;
use text::Applied;

/// The most times that a change is merged with those of others.
const TRIES: u32 = 20;

/// The variables to set, and those to remove.
pub type Changes = BTreeMap<String, Option<String>>;

/// The config as it was read.
pub struct Config {
    pub text: String,
    pub env: Env,
    unchanged: Condition,
}

/// The names that a change has set or removed.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub differences: Differences,
    /// Whether the file had to be written anew, without its comments.
    pub anew: bool,
}

/// Reads the config; empty if there is none.
pub async fn read(cx: &Context) -> Result<Config> {
    let key = cx.place.env();
    let object = cx.store.get(&key).await?;
    let unchanged = object.as_ref().map(|object| Condition::Unchanged(object.etag.clone()));
    let bytes = object.map(|object| object.bytes).unwrap_or_default();
    let name = || cx.store.url(&key);
    let env = Env::parse(&bytes)
        .map_err(|why| check::refused(&name(), Reason::InvalidEnv, why))
        .map_err(|why| {
            let help = format!("correct that line: `ship config edit -e {}`", cx.place.environment);
            Error::unusable("read the config").because(why).help(help)
        })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Config { text, env, unchanged: unchanged.unwrap_or(Condition::Absent) })
}

/// Sets and removes variables. Changes of other names that come between are kept.
pub async fn change(cx: &Context, changes: &Changes) -> Result<Changed> {
    let mut base: Option<Env> = None;
    for _ in 0..TRIES {
        let config = read(cx).await?;
        if let Some(base) = &base {
            refuse_overlap(cx, &Differences::between(base, &config.env), changes, &config.env)?;
        }
        let applied = text::apply(&config.text, changes)?;
        let env = check::env(applied.text.as_bytes(), ENV)?;
        let before = base.get_or_insert(config.env);
        let changed = Changed {
            differences: Differences::between(before, &env).only(changes),
            anew: applied.anew,
        };
        if applied.text == config.text || write(cx, applied, config.unchanged).await? {
            return Ok(changed);
        }
    }
    Err(busy(cx, "others change it all the time"))
}

/// Writes the config, if it is still as it was read.
async fn write(cx: &Context, applied: Applied, unchanged: Condition) -> Result<bool> {
    let written = cx.store.put(&cx.place.env(), applied.text.into_bytes(), unchanged).await?;
    Ok(written != Written::Conflict)
}

/// Fails where someone else has changed the same names, to something else.
fn refuse_overlap(cx: &Context, theirs: &Differences, mine: &Changes, now: &Env) -> Result<()> {
    let differs = |name: &&str| mine.get(*name).is_some_and(|v| v.as_deref() != now.get(name));
    let names: Vec<&str> = theirs.names().filter(differs).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(busy(cx, &format!("someone else has changed {} meanwhile", names.join(", ")))),
    }
}

fn busy(cx: &Context, why: &str) -> Error {
    let error = Error::new(Exit::Busy, format!("change the config of {}", cx.place));
    let help = format!("look at it again: `ship config diff -e {}`", cx.place.environment);
    error.because(why.to_owned()).help(help)
}

/// Compares the config with the `env` of a release: the named one, or the one that `current`
/// names, or the newest.
pub async fn diff(cx: &Context, number: Option<Number>) -> Result<(String, Differences)> {
    let store = &*cx.store;
    let name = match number {
        Some(number) => number.to_string(),
        None => match crate::document::current(store, &cx.place).await? {
            Some(name) => name,
            None => crate::document::newest(store, &cx.place).await?.0.to_string(),
        },
    };
    let is_name = name.parse::<model::release::name::ReleaseName>();
    let key = format!("{}{}/{ENV}", cx.place.prefix(), is_name?);
    let object = store.get(&key).await?.ok_or_else(|| {
        let error = Error::unusable(format!("read {}", store.url(&key)));
        let error = error.because("it does not exist").with_reason(Reason::ReleaseMissing);
        error.help(format!("`ship releases {}` lists the releases", cx.place.environment))
    })?;
    let released = Env::parse(&object.bytes)
        .map_err(|why| check::refused(&store.url(&key), Reason::InvalidEnv, why))?;
    let (bytes, title) = canonical_env(cx).await?;
    let config =
        Env::parse(&bytes).map_err(|why| check::refused(&title, Reason::InvalidEnv, why))?;
    Ok((name, Differences::between(&released, &config)))
}

#[cfg(test)]
mod tests;
