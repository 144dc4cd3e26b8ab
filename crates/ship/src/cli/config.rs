//! `ship config`.

use super::{Desk, print};
use crate::cli::args::{AndRelease, ConfigArgs, ConfigCommand};
use crate::config::compare::Differences;
use crate::config::{self, Changed, Changes, edit, editor, quote};
use crate::context::Context;
use crate::place::Number;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::name::EnvironmentName;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, stdin};
use std::sync::Arc;

/// A variable is shorter.
const LONGEST_VALUE: u64 = 1 << 20;

pub async fn config(desk: &Desk, args: ConfigArgs) -> Result<()> {
    let ConfigArgs { environment, command } = args;
    match command {
        ConfigCommand::Get { names } => get(desk, environment, &names).await,
        ConfigCommand::Set { assignments, release } => {
            let changes = assignments_of(assignments)?;
            change(desk, environment, changes, release).await
        }
        ConfigCommand::Unset { names, release } => {
            names.iter().try_for_each(|name| quote::check_name(name))?;
            let changes = names.into_iter().map(|name| (name, None)).collect();
            change(desk, environment, changes, release).await
        }
        ConfigCommand::Edit { release } => {
            let editor = Arc::new(editor::Program::find()?);
            let (cx, release) = open(desk, environment, release).await?;
            if release {
                config::check_release(&cx, &Changes::new()).await?;
            }
            let changed = edit::edit(&cx, editor).await?;
            report(desk, &cx, &changed, release).await
        }
        ConfigCommand::Diff { release } => diff(desk, environment, release).await,
    }
}

async fn get(desk: &Desk, environment: Option<EnvironmentName>, names: &[String]) -> Result<()> {
    let cx = desk.open(desk.target(environment)?).await?;
    let env = config::read(&cx).await?.env;
    let values: Vec<(&str, &str)> =
        names.iter().map(|name| value(&cx, &env, name)).collect::<Result<_>>()?;
    if desk.global.json {
        return match names {
            [] => print::json(&env.names().collect::<Vec<_>>()),
            _ => print::json(&values.into_iter().collect::<BTreeMap<_, _>>()),
        };
    }
    match values.as_slice() {
        [] => print::text(&env.names().map(|name| format!("{name}\n")).collect::<String>()),
        [(_, value)] => print::exactly(&format!("{value}\n")),
        several => {
            let line = |(name, value): &(&str, &str)| quote::assignment(name, value) + "\n";
            print::exactly(&several.iter().map(line).collect::<String>())
        }
    }
}

fn value<'a>(cx: &Context, env: &'a Env, name: &'a str) -> Result<(&'a str, &'a str)> {
    quote::check_name(name)?;
    env.get(name).map(|value| (name, value)).ok_or_else(|| {
        let error = Error::usage(format!("the config of {} has no {name}", cx.place));
        let help = format!("`ship config get -e {}` lists the names", cx.place.environment);
        error.with_reason(Reason::NotFound).help(help)
    })
}

async fn change(
    desk: &Desk,
    environment: Option<EnvironmentName>,
    changes: Changes,
    release: AndRelease,
) -> Result<()> {
    let (cx, release) = open(desk, environment, release).await?;
    if release {
        config::check_release(&cx, &changes).await?;
    }
    let changed = config::change(&cx, &changes).await?;
    report(desk, &cx, &changed, release).await
}

/// Connects; returns also whether a release is to be made.
async fn open(
    desk: &Desk,
    environment: Option<EnvironmentName>,
    and: AndRelease,
) -> Result<(Context, bool)> {
    let target = desk.target(environment)?;
    let cx = match and.release {
        true => desk.make(target, and.maker).await?,
        false => desk.open(target).await?,
    };
    Ok((cx, and.release))
}

/// Prints what has changed, and makes a release if one is asked for.
async fn report(desk: &Desk, cx: &Context, changed: &Changed, release: bool) -> Result<()> {
    let Changed { differences, anew } = changed;
    if *anew {
        let why = "other values refer to what was changed, or stand on its line";
        cx.report.warn(format!("the config was written anew, without its comments: {why}"));
    }
    if differences.is_empty() {
        cx.report.step("config", "no variable has changed");
    } else {
        differences.lines().lines().for_each(|line| cx.report.step("config", line));
    }
    if release {
        let published = config::release(cx).await?;
        return desk.published(&cx.place, &published);
    }
    if desk.global.json {
        return print::json(differences);
    }
    if !differences.is_empty() {
        let environment = &cx.place.environment;
        cx.report
            .step("", format!("the next release of {environment} gets it; what runs does not"));
    }
    Ok(())
}

async fn diff(
    desk: &Desk,
    environment: Option<EnvironmentName>,
    number: Option<Number>,
) -> Result<()> {
    let cx = desk.open(desk.target(environment)?).await?;
    let (release, differences) = config::diff(&cx, number).await?;
    if desk.global.json {
        let Differences { added, changed, removed } = &differences;
        return print::json(&json!({
            "release": release, "added": added, "changed": changed, "removed": removed,
        }));
    }
    cx.report.step("compared", format!("with {release}"));
    print::text(&differences.lines())
}

/// Reads `NAME=VALUE` words; the value of a word without `=` is on standard input.
fn assignments_of(words: Vec<String>) -> Result<Changes> {
    let mut changes = Changes::new();
    let mut read = false;
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None if read => {
                let error = Error::usage("set two variables from standard input");
                return Err(error.help("give all but one as NAME=VALUE"));
            }
            None => {
                quote::check_name(&word)?;
                read = true;
                let value = from_stdin(&word)?;
                (word, value)
            }
        };
        quote::check(&name, &value)?;
        if changes.insert(name.clone(), Some(value)).is_some() {
            return Err(Error::usage(format!("set {name}")).because("it is given twice"));
        }
    }
    Ok(changes)
}

/// Reads a value, without the newline at its end; at a terminal it is not shown.
fn from_stdin(name: &str) -> Result<String> {
    let failed =
        |why: std::io::Error| Error::usage(format!("read the value of {name}")).because(why);
    if stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(&format!("{name}: ")).map_err(failed)?;
        return terminal.read_secure_line().map_err(failed);
    }
    let mut value = String::new();
    stdin().take(LONGEST_VALUE).read_to_string(&mut value).map_err(failed)?;
    let end = value.strip_suffix('\n').map_or(value.len(), str::len);
    value.truncate(end);
    Ok(value)
}
