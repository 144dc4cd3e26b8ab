//! `deploy history` as a table: what was asked for, and how it ended.

use super::tables::{fit, table};
use model::api::Recorded;
use model::reason::Reason;
use model::text::line;

/// Characters of a name that a column of a terminal shows.
const NAME: usize = 20;
/// A terminal with fewer columns shows neither the release before nor who asked.
const WIDE: usize = 110;
/// The columns that a narrow terminal lacks.
const SPARE: [usize; 2] = [4, 5];

/// Renders the entries, which come newest first, with the newest last. With a width, no line is
/// longer.
pub fn history(entries: &[Recorded], width: Option<usize>) -> String {
    if entries.is_empty() {
        return "nothing was deployed yet\n".to_owned();
    }
    let narrow = width.is_some_and(|width| width < WIDE);
    let shown = |column: &usize| !(narrow && SPARE.contains(column));
    let header = ["began", "app", "asked", "release", "from", "by", "took", "exit", "result"];
    let columns: Vec<usize> = (0..header.len()).filter(shown).collect();
    let rows = entries.iter().rev().map(|recorded| {
        let mut cells = cells(recorded);
        if width.is_some() {
            cells[1..6].iter_mut().for_each(|cell| *cell = shortened(cell));
        }
        columns.iter().map(|column| std::mem::take(&mut cells[*column])).collect()
    });
    let header: Vec<&str> = columns.iter().map(|column| header[*column]).collect();
    fit(&table(&header, rows, ""), width)
}

fn cells(Recorded { app, entry }: &Recorded) -> Vec<String> {
    let took = jiff::SignedDuration::try_from_secs_f64(entry.seconds).unwrap_or_default();
    let began = entry.at.checked_sub(took).unwrap_or(entry.at);
    let named = entry.url.as_deref().and_then(|url| url.rsplit('/').next()).map(str::to_owned);
    let asked = match &named {
        Some(named) => format!("{} {named}", entry.action),
        None => entry.action.clone(),
    };
    // A pointer names no release.
    let named = named.filter(|named| named != "current");
    let none = || "-".to_owned();
    vec![
        began.strftime("%m-%d %H:%M").to_string(),
        app.clone(),
        asked,
        entry.release.clone().or(named).unwrap_or_else(none),
        entry.before.clone().unwrap_or_else(none),
        entry.who.clone(),
        seconds(entry.seconds),
        entry.exit.code().to_string(),
        result(recorded_reason(entry.reason), &entry.message),
    ]
}

fn recorded_reason(reason: Option<Reason>) -> Option<String> {
    let word = serde_json::to_value(reason?).ok()?;
    Some(word.as_str()?.replace('_', " "))
}

fn result(reason: Option<String>, message: &str) -> String {
    let message = line(message, usize::MAX);
    match reason {
        Some(reason) => format!("{reason}: {message}"),
        None => message,
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.1}s"),
        ..6000.0 => format!("{:.0}m", seconds / 60.0),
        _ => format!("{:.0}h", seconds / 3600.0),
    }
}

fn shortened(name: &str) -> String {
    match name.chars().count() > NAME {
        true => line(name, NAME - 1) + "…",
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::error::Exit;
    use model::history::Entry;
    use model::timings::Timings;

    fn entry(action: &str, release: Option<&str>, exit: Exit, message: &str) -> Recorded {
        let entry = Entry {
            at: "2026-11-26T03:04:05Z".parse().unwrap(),
            id: "0a1b".into(),
            action: action.into(),
            who: "ann".into(),
            url: None,
            release: release.map(str::to_owned),
            before: Some("r1".into()),
            after: Some("r1".into()),
            exit,
            reason: (exit != Exit::Done).then_some(Reason::HealthTimeout),
            message: message.into(),
            seconds: 65.25,
            timings: Timings::default(),
        };
        Recorded { app: "my-app".into(), entry }
    }

    fn entries() -> Vec<Recorded> {
        let message = "r2 failed, r1 runs on: web.1 has not opened\na port after 60 s, and more";
        let mut failed = entry("deploy", None, Exit::Unhealthy, message);
        failed.entry.url = Some("s3://releases/my-app/production/r2".into());
        vec![entry("restart web", Some("r1"), Exit::Done, "restarted my-app web.1"), failed]
    }

    #[test]
    fn the_newest_comes_last_and_a_pipe_gets_whole_messages() {
        let expected = "\
BEGAN        APP     ASKED        RELEASE  FROM  BY   TOOK   EXIT  RESULT
11-26 03:02  my-app  deploy r2    r2       r1    ann  65.2s  12    health timeout: \
            r2 failed, r1 runs on: web.1 has not opened a port after 60 s, and more
11-26 03:02  my-app  restart web  r1       r1    ann  65.2s  0     restarted my-app web.1
";
        assert_eq!(history(&entries(), None), expected);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let mut entries = entries();
        entries[0].app = "a".repeat(200);
        for width in [20, 40, 80, 140] {
            let text = history(&entries, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            assert!(text.contains('…'), "{text}");
        }
        let text = history(&super::tests::entries(), Some(80));
        assert!(text.contains("12    health timeout: r2"), "{text}");
    }

    #[test]
    fn a_pointer_is_what_was_asked_for_and_no_release() {
        let mut one = entry("deploy", None, Exit::Source, "gone");
        one.entry.url = Some("s3://releases/my-app/production/current".into());
        let cells = cells(&one);
        assert_eq!((&*cells[2], &*cells[3]), ("deploy current", "-"));
    }
}
