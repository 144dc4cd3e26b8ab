//! `deploy doctor`: asks deployd for its rows, or has its program examine what it can if the
//! daemon is not there.

use super::args::DoctorArgs;
use super::client::Client;
use super::tables::wrapped;
use super::{checked, show};
use crate::host::deployd_program;
use console::Term;
use model::api::SOCKET;
use model::doctor::{Ask, Check, Health, Row};
use model::error::{Error, Exit, Result};
use model::helper::{EXAMINE, Examined};
use model::reason::Reason;
use std::path::Path;
use std::time::Duration;

/// Lines are not made longer than this, however wide the terminal is.
const WIDEST: usize = 100;
/// The width of the columns before the text, and the least of the text.
const BEFORE: usize = 9 + 17;
const LEAST: usize = 24;
/// The longest time for deployd's answer; its rows have shorter deadlines.
const ANSWER: Duration = Duration::from_secs(30);

pub async fn run(args: DoctorArgs) -> Result<Exit> {
    let ask = Ask { url: args.url.map(checked).transpose()? };
    let rows = match tokio::time::timeout(ANSWER, ask_deployd(&ask)).await {
        Ok(Ok(mut rows)) => {
            rows.insert(0, Row::ok(Check::Deployd, "it answers"));
            rows
        }
        Ok(Err(error)) if error.reason() == Reason::NoAgent => without_deployd(error).await,
        Ok(Err(error)) => return Err(error),
        Err(_) => without_deployd(silent()).await,
    };
    let width = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    show(&rows, args.json, |rows| page(rows, width))?;
    let failed = rows.iter().any(|row| row.result == Health::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn ask_deployd(ask: &Ask) -> Result<Vec<Row>> {
    Client::new()?.get("/v1/doctor", ask).await
}

fn silent() -> Error {
    Error::new(Exit::NoAgent, format!("ask deployd at {SOCKET}"))
        .because(format!("it does not answer within {} s", ANSWER.as_secs()))
}

/// Says what is known of deployd, and then, to root, the rows that need no daemon.
async fn without_deployd(error: Error) -> Vec<Row> {
    match deployd_program::ask::<Examined>(&[EXAMINE.as_ref()]).await {
        Ok(Examined { units, rows }) => [deployd(&error, &units)].into_iter().chain(rows).collect(),
        Err(why) => {
            let row = deployd(&error, &why.chain());
            let remedy = why.advice().map(str::to_owned).or(row.remedy);
            vec![Row { remedy, ..row }]
        }
    }
}

fn deployd(error: &Error, units: &str) -> Row {
    let socket = match Path::new(SOCKET).try_exists() {
        Ok(true) => "the socket is there",
        Ok(false) => "the socket is not there",
        Err(_) => "the socket cannot be seen",
    };
    let text = format!("{}; {socket}; {units}", error.chain());
    let last = "read its last lines with `journalctl -u deployd -n 20`";
    let remedy = match error.advice() {
        Some(advice) => format!("{advice}; {last}"),
        None => format!("`systemctl restart deployd.socket deployd`; {last}"),
    };
    Row { reason: Some(Reason::NoAgent), ..Row::failed(Check::Deployd, text, remedy) }
}

/// Renders the rows for people: a state, a name and a text on each line, the remedy below it.
fn page(rows: &[Row], width: Option<usize>) -> String {
    let wide = width.map(|width| width.clamp(BEFORE + LEAST, WIDEST) - BEFORE);
    let mut text = String::new();
    for row in rows {
        let word = match row.result {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Failed => "FAILED",
            Health::Skipped => "-",
        };
        let remedy = row.remedy.iter().flat_map(|remedy| wrapped(&format!("-> {remedy}"), wide));
        let lines = wrapped(&row.text, wide).into_iter().chain(remedy);
        for (nth, line) in lines.enumerate() {
            let (word, name) = if nth == 0 { (word, row.name.as_str()) } else { ("", "") };
            text.push_str(format!("{word:<8} {name:<16} {line}").trim_end());
            text.push('\n');
        }
    }
    let count = |result| rows.iter().filter(|row| row.result == result).count();
    text.push_str(&match (count(Health::Failed), count(Health::Warning)) {
        (0, 0) => "all is well\n".to_owned(),
        (failed, warnings) => format!("failed: {failed}, warnings: {warnings}\n"),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_its_terminal() {
        let rows = [
            Row::ok(Check::Systemd, "version 252"),
            Row::failed(
                Check::Clock,
                "1000 s behind the store's",
                "set the clock: `timedatectl` shows it",
            ),
        ];
        let narrow = page(&rows, Some(60));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        assert!(
            narrow.contains("FAILED   clock            1000 s behind the store's\n"),
            "{narrow}"
        );
        assert!(narrow.ends_with("failed: 1, warnings: 0\n"), "{narrow}");
        let piped = page(&rows, None);
        assert_eq!(piped.lines().count(), 4, "{piped}");
        assert!(page(&rows[..1], Some(3)).ends_with("all is well\n"));
    }
}
