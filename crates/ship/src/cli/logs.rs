//! `ship logs`: the lines of all instances, merged by time.

mod merge;
#[cfg(test)]
mod tests;

use super::args::instances::LogsArgs;
use super::instances::{self, Instances};
use super::{Desk, print};
use crate::fleet::{Host, Said, Shell, Stream, Task};
use crate::place::Place;
use jiff::Timestamp;
use merge::Merge;
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The most instances whose logs are read at once.
const MOST: usize = 50;
/// Lines that an instance may be ahead of the others.
const AHEAD: usize = 64;

/// A line of a process, as `deploy logs --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    #[serde(default)]
    host: String,
    at: Option<Timestamp>,
    app: String,
    process: String,
    release: Option<String>,
    #[serde(default)]
    candidate: bool,
    pid: Option<u32>,
    text: String,
}

pub async fn logs(desk: &Desk, args: LogsArgs) -> Result<u8> {
    let (environment, process) = instances::words(&desk.settings, &args.words)?;
    let mut instances = Instances::find(desk, environment).await?;
    instances.named(&args.hosts)?;
    let hosts = &instances.hosts;
    if hosts.len() > MOST {
        let error = Error::usage(format!("read the logs of {} instances at once", hosts.len()));
        return Err(error.because(format!("at most {MOST} are")).help("name some with --host"));
    }
    let app = instances.group.cx.place.app.as_str();
    if args.follow && !instances.shell()?.is_live() {
        return Err(not_live(&instances.group.cx.place));
    }
    let (shell, task) = (instances.shell()?, Task::Deploy(words(app, process, &args)));
    let mut readers = Vec::new();
    let mut streams = Vec::new();
    for host in hosts {
        let (sender, receiver) = channel(AHEAD);
        readers.push(read(shell, host, &task, sender));
        streams.push(receiver);
    }
    let reading = async {
        let ends = futures_util::future::join_all(readers).await;
        let is_whole = ends.into_iter().all(|is_whole| is_whole);
        if is_whole { Exit::Done.code() } else { Exit::NoAgent.code() }
    };
    let printing = show(streams, &instances, args.follow, desk.global.json);
    tokio::select! {
        (code, printed) = async { tokio::join!(reading, printing) } => printed.map(|()| code),
        _ = tokio::signal::ctrl_c(), if args.follow => Ok(Exit::Done.code()),
    }
}

fn not_live(place: &Place) -> Error {
    let error = Error::usage(format!("follow the logs of {place}"));
    let Place { app, environment } = place;
    error.because("Systems Manager returns what a command prints only once it has ended").help(
        format!(
            "leave out -f; or log in, `ship ssh {environment}`, and run `sudo deploy logs {app} -f`"
        ),
    )
}

/// Returns the words for `deploy` on each instance.
fn words(app: &str, process: Option<String>, args: &LogsArgs) -> Vec<String> {
    let mut words = vec!["logs".to_owned(), "--json".to_owned()];
    if args.follow {
        words.push("--follow".to_owned());
    }
    let lines = args.lines.map(|lines| lines.to_string());
    let options = [("--since", &args.since), ("--lines", &lines), ("--release", &args.release)];
    for (name, value) in options {
        words.extend(value.iter().map(|value| format!("{name}={value}")));
    }
    words.extend(["--".to_owned(), app.to_owned()]);
    words.extend(process);
    words
}

/// Reads the log of an instance to its end; returns whether it came to one.
async fn read(shell: &dyn Shell, host: &Host, task: &Task, to: Sender<Line>) -> bool {
    let (sender, mut said) = channel(AHEAD);
    let reading = shell.lines(host, task, sender);
    let passing = async {
        while let Some(Said { stream, text }) = said.recv().await {
            match (stream, serde_json::from_str::<Line>(&text)) {
                (Stream::Out, Ok(mut line)) => {
                    line.host.clone_from(&host.0);
                    if to.send(line).await.is_err() {
                        break;
                    }
                }
                (Stream::Out, Err(_)) => {}
                (Stream::Err, _) => warn(host, &text),
            }
        }
        // Without it, the others would wait for a line of this instance.
        drop(to);
    };
    match tokio::join!(reading, passing).0 {
        Ok(0) => true,
        Ok(_) => false,
        Err(why) => {
            warn(host, &format!("it is not reached: {why}"));
            false
        }
    }
}

fn warn(host: &Host, text: &str) {
    crate::report::Report::default().warn(format!("{host}: {}", model::text::line(text, 300)));
}

async fn show(
    streams: Vec<Receiver<Line>>,
    instances: &Instances,
    follow: bool,
    as_json: bool,
) -> Result<()> {
    let prefixes = instances.prefixes();
    let mut merge = Merge::new(streams, follow);
    while let Some((index, line)) = merge.next().await {
        let prefix = prefixes.get(index).map_or("", String::as_str);
        let text = match as_json {
            true => print::json_line(&line)?,
            false => format!("{prefix} {}\n", line.render()),
        };
        if !print::is_read(&text)? {
            break;
        }
    }
    Ok(())
}

impl Line {
    /// Renders the line for people. No byte of it can steer a terminal.
    fn render(&self) -> String {
        let at = self.at.map(|at| at.strftime("%m-%d %H:%M:%SZ ").to_string()).unwrap_or_default();
        let release = match &self.release {
            Some(label) if self.candidate => format!(" {label} (candidate)"),
            Some(label) => format!(" {label}"),
            None => String::new(),
        };
        let text = console::strip_ansi_codes(&self.text);
        for_terminal(&format!("{at}{}{release}: {text}", self.process)).replace('\n', "\n    ")
    }
}
