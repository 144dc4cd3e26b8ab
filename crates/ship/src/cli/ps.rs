//! `ship ps`: what runs on each instance of an environment.

mod shown;

use super::args::rollouts::PsArgs;
use super::{Desk, print, rollouts};
use crate::document;
use crate::rollout::{self, Group};
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use shown::{Row, Screen};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// The pause between two looks of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);

pub async fn ps(desk: &Desk, args: PsArgs) -> Result<u8> {
    let group = rollouts::group(desk, args.environment, None, rollouts::PATIENCE).await?;
    if args.watch {
        tokio::select! {
            ended = watch(&group, desk.global.json) => return ended,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done.code()),
        }
    }
    let seen = look(&group).await?;
    if let Some(warning) = &seen.warning {
        group.cx.report.warn(warning);
    }
    if desk.global.json {
        print::json(&seen.rows)?;
    } else if seen.rows.is_empty() {
        print::text(&format!("{} has no instance\n", group.cx.place))?;
    } else {
        print::exactly(&shown::table(&seen.rows, seen.now, print::width()))?;
    }
    let is_well = seen.rows.iter().all(Row::is_well);
    Ok(if is_well { Exit::Done.code() } else { Exit::Unhealthy.code() })
}

/// The group at one moment.
struct Look {
    rows: Vec<Row>,
    /// The release that the pointer names.
    current: Option<String>,
    /// By the store's clock.
    now: Timestamp,
    /// Why the states in the load balancer are not known.
    warning: Option<String>,
}

async fn look(group: &Group) -> Result<Look> {
    let cx = &group.cx;
    let current = document::current(&*cx.store, &cx.place).await?;
    let instances = group.fleet.instances().await?;
    let hosts: Vec<_> = instances.iter().map(|instance| instance.host.clone()).collect();
    let (seen, targets) = tokio::join!(rollout::look(group), group.fleet.targets(&hosts));
    let (targets, warning) = match targets {
        Ok(targets) => (targets, None),
        Err(error) => (BTreeMap::new(), Some(unknown(&error))),
    };
    let now = cx.store.now().await?;
    let rows = shown::rows(instances, seen?, targets, current.as_deref());
    Ok(Look { rows, current, now, warning })
}

/// Renders why the states in the load balancer are not known, and what to do about it.
fn unknown(error: &Error) -> String {
    let help = error.advice().map(|help| format!("; {help}")).unwrap_or_default();
    format!("states in the load balancer are not known: {}{help}", error.chain())
}

/// Shows the group again and again, until nobody reads it. A look that fails is shown, too.
async fn watch(group: &Group, as_json: bool) -> Result<u8> {
    let mut screen = Screen::new();
    let mut frame = String::new();
    loop {
        let seen = look(group).await;
        let drawn = if as_json {
            print::json_line(&seen?.rows)?
        } else {
            let (height, width) = print::size();
            let (head, table) = match seen {
                Ok(Look { rows, current, now, warning }) => {
                    let current = current.as_deref().unwrap_or("not set");
                    let time = now.strftime("%H:%M:%SZ");
                    let (place, table) = (&group.cx.place, shown::table(&rows, now, width));
                    let warning = warning.map(|text| format!("  {text}")).unwrap_or_default();
                    (format!("{place}  current is {current}  {time}{warning}"), table)
                }
                Err(error) => (format!("not known now: {}", error.chain()), frame.clone()),
            };
            frame = table;
            screen.draw(&for_terminal(&head), &frame, height, width)
        };
        if !print::is_read(&drawn)? {
            return Ok(Exit::Done.code());
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_the_right_that_is_missing() {
        let error = Error::source("ask a load balancer").because("AccessDenied").help("allow it");
        assert_eq!(
            unknown(&error),
            "states in the load balancer are not known: ask a load balancer: AccessDenied; allow it"
        );
    }
}
