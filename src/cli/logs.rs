//! `deploy logs`: reads entries of the journal and prints them, with the release where the lines
//! of more than one are shown.

use super::args::LogsArgs;
use super::client::Client;
use crate::host::journal::{Query, Reader};
use jiff::Timestamp;
use model::api::{self, Logged};
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many lines are shown where the caller says neither how many nor since when.
const USUAL: u32 = 100;

/// The most bytes of text that are held back.
const MOST_HELD: usize = 8 << 20;

/// How often deployd is asked at most whether a candidate has become current.
const AGAIN: Duration = Duration::from_secs(2);

/// What to think of where nothing was found.
const NO_LINES: &str = "no lines; a program that is not at a terminal may keep back what it \
    prints until it has some KiB: in Ruby, set `$stdout.sync = true`";

pub async fn logs(args: LogsArgs) -> Result<Exit> {
    let query = api::Logs { word: args.words.join(" "), release: args.release.clone() };
    let client = Client::new()?;
    let mut logged: Vec<Logged> = client.get("/v1/logs", &query).await?;
    let mut asked = Instant::now();
    let mut reader = Reader::start(&journal_query(&args, &logged))
        .map_err(|error| Error::failed("run journalctl").because(error))?;
    let mut output = Output::new(&args);
    let mut any = false;
    let mut gone = std::pin::pin!(reader_is_gone());
    loop {
        let entry = tokio::select! {
            entry = reader.next() => entry,
            // Without waiting for a line that could not be printed.
            () = &mut gone => return Ok(Exit::Done),
        };
        let entry = entry.map_err(|e| Error::failed("read the journal").because(e))?;
        let Some(entry) = entry else { break };
        let Some(mut line) = line(&entry, &logged) else { continue };
        any = true;
        if args.follow && line.candidate && asked.elapsed() > AGAIN {
            asked = Instant::now();
            if let Ok(now) = client.get("/v1/logs", &query).await {
                logged = now;
                line.candidate = is_candidate(&line, &logged);
            }
        }
        if let Err(error) = output.push(line) {
            return closed(error);
        }
    }
    if let Err(error) = output.end() {
        return closed(error);
    }
    match reader.end().await {
        Ok(status) if status.success() => {
            if !any {
                eprintln!("{NO_LINES}");
            }
            Ok(Exit::Done)
        }
        Ok(status) => {
            let error = Error::failed("read the journal").because(format!("journalctl: {status}"));
            Err(error.help("see what it printed; --since takes what journalctl takes, 10m and 2h"))
        }
        Err(error) => Err(Error::failed("read the journal").because(error)),
    }
}

/// Waits until nobody reads stdout any more: for ever, where it is no pipe or socket.
async fn reader_is_gone() {
    if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned() {
        // SAFETY: it is an OwnedFd of this function alone, which stays open until it is dropped
        // with the AsyncFd.
        let registered = unsafe { AsyncFd::register_with_interest(stdout, Interest::ERROR) };
        if let Ok(stdout) = registered {
            let _ = stdout.ready(Interest::ERROR).await;
            return;
        }
    }
    std::future::pending().await
}

/// A closed pipe (`deploy logs | head -1`) is the reader's choice.
fn closed(error: io::Error) -> Result<Exit> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(Exit::Done),
        _ => Err(Error::failed("print the lines").because(error)),
    }
}

fn journal_query(args: &LogsArgs, logged: &[Logged]) -> Query {
    // With both, journalctl may count the lines from the beginning.
    let lines = args.since.is_none().then(|| args.lines.unwrap_or(USUAL));
    Query {
        slices: logged.iter().filter_map(|app| app.slice.clone()).collect(),
        units: logged.iter().flat_map(|app| app.units.clone()).collect(),
        identifiers: logged.iter().flat_map(|app| app.identifiers.clone()).collect(),
        since: args.since.as_deref().map(since),
        lines,
        follow: args.follow,
    }
}

/// Returns journalctl's words for a time; `10m` is ten minutes ago.
fn since(text: &str) -> String {
    match super::duration(text) {
        Ok(ago) => format!("-{}s", ago.as_secs()),
        Err(_) => text.to_owned(),
    }
}

/// One line of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Line {
    at: Option<Timestamp>,
    app: String,
    process: String,
    release: Option<String>,
    /// Whether the release was never current.
    candidate: bool,
    pid: Option<u32>,
    text: String,
}

/// Reads an entry. Its app and release are those of its unit, which journald has from the
/// kernel; the identifier is the writer's own word.
fn line(entry: &Value, logged: &[Logged]) -> Option<Line> {
    let field = |name: &str| entry[name].as_str().unwrap_or_default();
    let (unit, slice) = (field("_SYSTEMD_UNIT"), field("_SYSTEMD_SLICE"));
    let identifier = field("SYSLOG_IDENTIFIER");
    let is_its = |app: &&Logged| {
        app.slice.as_deref() == Some(slice) || app.units.iter().any(|one| one == unit)
    };
    let app = logged.iter().find(is_its)?;
    let found = split(unit, identifier, app);
    let process = match &found {
        Some((process, _)) => process.clone(),
        None => identifier.strip_prefix(&format!("{}.", app.app)).unwrap_or(identifier).to_owned(),
    };
    let micros = field("__REALTIME_TIMESTAMP").parse().ok();
    let mut line = Line {
        at: micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        app: app.app.clone(),
        process,
        release: found.map(|(_, label)| label),
        candidate: false,
        pid: field("_PID").parse().ok(),
        text: text(&entry["MESSAGE"])?,
    };
    line.candidate = is_candidate(&line, logged);
    Some(line)
}

fn is_candidate(line: &Line, logged: &[Logged]) -> bool {
    let Some(release) = &line.release else { return false };
    logged.iter().any(|app| app.app == line.app && !app.ran.contains(release))
}

/// Splits `deploy-my-app-web-r42@1.service` into the process and the label. Where two types fit,
/// the identifier decides, then the longer type.
fn split(unit: &str, identifier: &str, app: &Logged) -> Option<(String, String)> {
    let rest = unit.strip_prefix("deploy-")?.strip_prefix(&app.app)?.strip_prefix('-')?;
    let (rest, number) = rest.strip_suffix(".service")?.rsplit_once('@')?;
    let own = identifier.strip_prefix(&app.app).and_then(|rest| rest.strip_prefix('.'));
    let own = own.and_then(|process| process.rsplit_once('.')).map(|(kind, _)| kind);
    let mut kinds: Vec<&str> = app.kinds.iter().map(String::as_str).collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
    // A release that is no longer installed may have had other types.
    let mut kinds = own.into_iter().chain(kinds);
    let fits = |kind: &str| {
        let label = rest.strip_prefix(kind)?.strip_prefix('-')?;
        (!label.is_empty()).then(|| (format!("{kind}.{number}"), label.to_owned()))
    };
    kinds.find_map(fits)
}

/// The text of an entry, in which bytes that are not UTF-8 come as an array.
fn text(message: &Value) -> Option<String> {
    match message {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

impl Line {
    /// Renders the line for people. No byte of it can steer a terminal.
    fn render(&self, with_release: bool) -> String {
        let at = self.at.map(|at| at.strftime("%m-%d %H:%M:%SZ ").to_string()).unwrap_or_default();
        let release = match (&self.release, with_release) {
            (Some(label), true) if self.candidate => format!(" {label} (candidate)"),
            (Some(label), true) => format!(" {label}"),
            _ => String::new(),
        };
        let text = console::strip_ansi_codes(&self.text);
        let line = format!("{at}{}.{}{release}: {text}", self.app, self.process);
        for_terminal(&line).replace('\n', "\n    ")
    }
}

/// The printed lines. They are held back until it is known whether they need the release.
struct Output {
    json: bool,
    with_release: Option<bool>,
    releases: BTreeSet<(String, Option<String>)>,
    held: VecDeque<Line>,
    bytes: usize,
    /// The number of lines to show, if only the end of all that is read is shown.
    last: Option<usize>,
}

impl Output {
    fn new(args: &LogsArgs) -> Output {
        let last = args.lines.filter(|_| args.since.is_some() && !args.follow);
        Output {
            json: args.json,
            with_release: (args.follow || args.json).then_some(true),
            releases: BTreeSet::new(),
            held: VecDeque::new(),
            bytes: 0,
            last: last.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        }
    }

    fn push(&mut self, line: Line) -> io::Result<()> {
        if let (Some(with_release), None) = (self.with_release, self.last) {
            return print(&line, self.json, with_release);
        }
        self.bytes += line.text.len();
        self.held.push_back(line);
        let needs_release = self.needs_release();
        match self.last {
            Some(last) => {
                while self.held.len() > last || self.bytes > MOST_HELD {
                    let dropped = self.held.pop_front();
                    self.bytes -= dropped.map_or(0, |line| line.text.len());
                }
                Ok(())
            }
            None if needs_release || self.bytes > MOST_HELD => {
                self.with_release = Some(true);
                self.flush(true)
            }
            None => Ok(()),
        }
    }

    /// Whether the last line shows that the lines need their release.
    fn needs_release(&mut self) -> bool {
        let Some(line) = self.held.back() else { return false };
        if line.release.is_some() {
            self.releases.insert((line.app.clone(), line.release.clone()));
        }
        line.candidate || several(&self.releases)
    }

    fn end(&mut self) -> io::Result<()> {
        let named = self.held.iter().filter(|line| line.release.is_some());
        self.releases = named.map(|line| (line.app.clone(), line.release.clone())).collect();
        let candidate = self.held.iter().any(|line| line.candidate);
        self.flush(self.with_release.unwrap_or(candidate || several(&self.releases)))
    }

    fn flush(&mut self, with_release: bool) -> io::Result<()> {
        let json = self.json;
        self.bytes = 0;
        self.held.drain(..).try_for_each(|line| print(&line, json, with_release))
    }
}

/// Whether an app has lines of more than one release.
fn several(releases: &BTreeSet<(String, Option<String>)>) -> bool {
    releases.iter().zip(releases.iter().skip(1)).any(|(one, next)| one.0 == next.0)
}

fn print(line: &Line, json: bool, with_release: bool) -> io::Result<()> {
    let text = match json {
        true => serde_json::to_string(line).unwrap_or_default(),
        false => line.render(with_release),
    };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn app() -> Logged {
        Logged {
            app: "my-app".into(),
            slice: Some("deploy-my\\x2dapp.slice".into()),
            units: vec!["deploy-my-app-web-r2@1.service".into()],
            identifiers: Vec::new(),
            kinds: vec!["web".into(), "web-admin".into()],
            current: Some("r2".into()),
            ran: vec!["r1".into(), "r2".into()],
        }
    }

    fn entry(unit: &str, identifier: &str, message: Value) -> Value {
        json!({
            "_SYSTEMD_UNIT": unit, "_SYSTEMD_SLICE": "deploy-my\\x2dapp.slice", "_PID": "7",
            "SYSLOG_IDENTIFIER": identifier, "__REALTIME_TIMESTAMP": "1000000", "MESSAGE": message,
        })
    }

    fn rendered(unit: &str, identifier: &str, message: Value) -> String {
        line(&entry(unit, identifier, message), &[app()]).expect("a line").render(true)
    }

    #[test]
    fn a_line_has_the_release_of_its_unit_and_candidates_are_marked() {
        let web = |label: &str| format!("deploy-my-app-web-{label}@1.service");
        let shown = rendered(&web("r2"), "my-app.web.1", json!("hi"));
        assert_eq!(shown, "01-01 00:00:01Z my-app.web.1 r2: hi");
        let shown = rendered(&web("r3"), "my-app.web.1", json!("hi"));
        assert_eq!(shown, "01-01 00:00:01Z my-app.web.1 r3 (candidate): hi");
        // A writer chooses its identifier, not its unit.
        let shown = rendered(&web("r1"), "other.web.9", json!("hi"));
        assert_eq!(shown, "01-01 00:00:01Z my-app.web.1 r1: hi");
        let shown =
            rendered("deploy-my-app-web-admin-r1@2.service", "my-app.web-admin.2", json!(""));
        assert_eq!(shown, "01-01 00:00:01Z my-app.web-admin.2 r1: ");
    }

    #[test]
    fn no_bytes_steer_the_terminal() {
        let unit = "deploy-my-app-web-r2@1.service";
        let shown =
            rendered(unit, "my-app.web.1", json!("\u{1b}[32mgreen\u{1b}[0m \u{7}\u{1b}]0;x"));
        assert!(shown.contains("green") && !shown.contains('\u{1b}'), "{shown:?}");
        assert!(!shown.contains('\u{7}'), "{shown:?}");
        let shown = rendered(unit, "my-app.web.1", json!([104, 105, 255]));
        assert!(shown.ends_with("hi\u{fffd}"), "{shown:?}");
    }

    #[test]
    fn an_entry_of_another_app_is_no_line() {
        let mut foreign = entry("deploy-other-web-r1@1.service", "my-app.web.1", json!("forged"));
        foreign["_SYSTEMD_SLICE"] = json!("deploy-other.slice");
        assert_eq!(line(&foreign, &[app()]), None);
    }

    #[test]
    fn releases_are_told_apart_within_an_app_only() {
        let one = |app: &str, label: &str| (app.to_owned(), Some(label.to_owned()));
        assert!(!several(&BTreeSet::from([one("a", "r1"), one("b", "r2")])));
        assert!(several(&BTreeSet::from([one("a", "r1"), one("a", "r2"), one("b", "r2")])));
    }

    #[test]
    fn times_are_ago_or_journalctls() {
        assert_eq!(since("10m"), "-600s");
        assert_eq!(since("2h"), "-7200s");
        assert_eq!(since("yesterday"), "yesterday");
    }
}
