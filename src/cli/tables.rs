//! Answers as tables for people.

mod sentences;

use indicatif::HumanBytes;
use jiff::{SignedDuration, Timestamp};
use model::api::{AppStatus, PlanStatus, PlannedProcess, PlannedType, ProcessStatus};
use std::fmt::Write;

pub(super) const NONE: &str = "no app is installed; `deploy URL` installs one\n";

/// The text for a release without a process of `web`.
const NO_WEB: &str = "  no web    no port is opened: a process is healthy while it stays up\n";

pub fn status(apps: &[AppStatus], width: Option<usize>) -> String {
    let mut text = String::new();
    for (index, app) in apps.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let stopped = app.processes.iter().all(|process| process.state == "stopped");
        let health = match (stopped && app.release.is_some(), app.healthy) {
            _ if app.damaged.is_some() => "damaged",
            (true, _) => "stopped",
            (_, true) => "healthy",
            _ => "not healthy",
        };
        let state = app.state.map(|state| format!("{state}, ")).unwrap_or_default();
        let _ = match (&app.release, &app.environment) {
            (Some(release), Some(environment)) => {
                writeln!(text, "{} ({environment}): {release}, {state}{health}", app.app)
            }
            _ if app.damaged.is_some() => writeln!(text, "{}: {health}", app.app),
            _ => writeln!(text, "{}: no release runs here", app.app),
        };
        let health = app.health.as_ref().filter(|_| health != "stopped");
        let health = health.map(|health| sentences::health(health, app));
        let port = app.port.map(|port| port.to_string());
        let leaving = app.leaving.as_ref().map(|leaving| {
            let left = leaving.until.duration_since(Timestamp::now()).as_secs().max(0);
            let (units, connections) = (leaving.units.join(", "), leaving.connections);
            format!("{units}: {connections} connections, at most {left}s more")
        });
        let now = app.working.as_ref().zip(app.working_id.as_ref());
        let now = now.map(|(what, id)| format!("{what} (`deploy attach {id}`)"));
        for (name, value) in [
            ("damaged", &app.damaged),
            ("fault", &app.fault),
            ("health", &health),
            ("scaled", &app.scaled),
            ("settings", &app.settings),
            ("url", &app.url),
            ("port", &port),
            ("port map", &app.port_map),
            ("rollback", &app.rollback),
            ("now", &now),
            ("leaving", &leaving),
        ] {
            if let Some(value) = value {
                text.push_str(&paragraph(name, value, width));
            }
        }
        for one_off in &app.one_offs {
            text.push_str(&paragraph("one-off", &sentences::one_off(one_off), width));
        }
        if let Some(last) = &app.last {
            let code = last.exit.code();
            let when = ago(last.at);
            let last = format!("{} {when}: exit {code}, {}", last.action, last.message);
            text.push_str(&paragraph("last", &last, width));
        }
        if let Some(watch) = &app.watch {
            let url = watch.url.as_ref().map(|url| format!("{url}: ")).unwrap_or_default();
            let _ = writeln!(text, "  {:<9} {url}{}", "watch", watch.text);
        }
        let rows = app.processes.iter().map(|process| {
            vec![
                process.process.clone(),
                state_text(process),
                process.since.map(ago).unwrap_or_else(|| "-".into()),
                process.pid.map_or("-".into(), |pid| pid.to_string()),
                process.restarts.to_string(),
                process.memory.map_or("-".into(), size),
                listens(process),
            ]
        });
        if app.processes.is_empty() {
            continue;
        }
        let header = ["process", "state", "since", "pid", "restarts", "memory", "listens"];
        text.push_str(&table(&header, rows, "  "));
    }
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// systemd's word, or a clearer one.
fn state_text(process: &ProcessStatus) -> String {
    match (&process.ended, process.crash_loop) {
        (Some(ended), true) => format!("crash loop ({ended})"),
        (None, true) => "crash loop".to_owned(),
        (Some(ended), false) => format!("{} ({ended})", process.state),
        (None, false) => process.state.clone(),
    }
}

fn listens(process: &ProcessStatus) -> String {
    match (process.port, process.addresses.as_slice()) {
        (None, _) => "-".to_owned(),
        (Some(port), []) => port.to_string(),
        (Some(_), addresses) => addresses.join(" "),
    }
}

/// Renders a plan. With a width, reasons and lists are broken between words.
pub fn plan(plan: &PlanStatus, width: Option<usize>) -> String {
    let mut text = format!("{} {} from {}\n", plan.app, plan.release, plan.url);
    let current = plan.current.as_deref().unwrap_or("nothing");
    let _ = writeln!(text, "  runs now  {current}");
    if plan.nothing {
        text.push_str("  nothing to do: the same content already is current\n");
        return text;
    }
    for refused in &plan.refused {
        text.push_str(&paragraph("refused", refused, width));
    }
    let fetch = if plan.fetch { "the archive" } else { "nothing: it is staged already" };
    let _ = writeln!(text, "  fetch     {fetch}");
    if let Some(build) = &plan.build {
        let _ = writeln!(text, "  build     {build}");
    }
    if let Some(phase) = &plan.release_phase {
        let when = if phase.always { "before the start" } else { "only with --run-release" };
        let _ = writeln!(text, "  release   {when}: {}", phase.command);
    }
    let kinds = |wanted: &dyn Fn(&PlannedType) -> bool| {
        let kinds = plan.types.iter().filter(|kind| wanted(kind));
        let one = |kind: &PlannedType| match kind.now.filter(|now| *now != kind.count) {
            Some(now) => format!("{} x{} (now x{now})", kind.kind, kind.count),
            None => format!("{} x{}", kind.kind, kind.count),
        };
        kinds.map(one).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(text, "  runs      {}", kinds(&|kind| kind.count > 0));
    for idle in plan.types.iter().filter(|kind| kind.count == 0) {
        let _ =
            writeln!(text, "  not run   {}, by DEPLOY_CONCURRENCY: {}", idle.kind, idle.command);
    }
    if !plan.types.iter().any(|kind| kind.kind == "web" && kind.count > 0) {
        text.push_str(NO_WEB);
    }
    let mut list = |title: &str, processes: &[PlannedProcess]| {
        for process in processes {
            let how = match title == "start" && !process.how.is_empty() {
                true => format!(" {}", process.how),
                false => String::new(),
            };
            let _ = writeln!(text, "  {title:<9} {}{how}: {}", process.unit, process.command);
        }
    };
    list("stop", &plan.stop);
    list("start", &plan.start);
    let names =
        [("new", &plan.env_added), ("gone", &plan.env_removed), ("changed", &plan.env_changed)];
    let said = names.iter().filter(|(_, names)| !names.is_empty());
    let said: Vec<_> = said.map(|(word, names)| format!("{word} {}", names.join(" "))).collect();
    if !said.is_empty() {
        text.push_str(&paragraph("env", &said.join("; "), width));
    }
    text
}

/// A row whose value is broken between words.
fn paragraph(title: &str, value: &str, width: Option<usize>) -> String {
    let wide = width.map(|width| width.saturating_sub(12).max(20));
    let mut text = String::new();
    for (nth, line) in wrapped(value, wide).iter().enumerate() {
        let title = if nth == 0 { title } else { "" };
        let _ = writeln!(text, "  {title:<9} {line}");
    }
    text
}

/// Breaks a text between words into lines of at most `width` characters; one line without it.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let longer = line.chars().count() + 1 + word.chars().count();
        match width {
            _ if line.is_empty() => line.push_str(word),
            Some(width) if longer > width => lines.push(word.to_owned()),
            _ => {
                line.push(' ');
                line.push_str(word);
            }
        }
    }
    lines
}

pub(super) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    indent: &str,
) -> String {
    let head = header.iter().map(|name| name.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn ago(at: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(at).max(SignedDuration::ZERO).as_secs();
    match seconds {
        0..120 => format!("{seconds}s ago"),
        120..7_200 => format!("{}m ago", seconds / 60),
        7_200..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

pub(super) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Cuts each line that is longer than the terminal is wide.
pub(super) fn fit(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.lines().map(|line| format!("{}\n", console::truncate_str(line, width, "…"))).collect()
}

/// The columns of stdout; none in a pipe or a file, where nothing is cut.
pub(super) fn width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns).max(1))
}
