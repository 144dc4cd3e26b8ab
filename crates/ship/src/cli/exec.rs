//! `ship exec` and `ship ssh`: a command or a shell on instances.

use super::args::instances::{ExecArgs, SshArgs};
use super::instances::{self, Instances};
use super::{Desk, interrupt, print};
use crate::fleet::{Host, Said, Stream, Task, names};
use futures_util::stream::{FuturesUnordered, StreamExt};
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use tokio::sync::mpsc::{Receiver, channel};

/// Lines that an instance may be ahead of the terminal.
const AHEAD: usize = 64;

pub async fn exec(desk: &Desk, args: ExecArgs) -> Result<u8> {
    let mut instances = Instances::find(desk, args.environment).await?;
    instances.named(&args.hosts)?;
    let mut words = vec!["exec".to_owned()];
    if let Some(kind) = args.kind {
        words.extend(["--type".to_owned(), kind]);
    }
    words.extend([instances.group.cx.place.app.to_string(), "--".to_owned()]);
    words.extend(args.command);
    let task = Task::Deploy(words);
    if args.all || args.hosts.len() > 1 {
        return interruptible(&instances, on_each(&instances, &task, desk.global.json)).await;
    }
    let host = &instances.hosts[0];
    interruptible(&instances, attached(&instances, host, &task)).await
}

/// Runs a command to its end, or until Ctrl-C; a connection by ssh ends by that itself.
async fn interruptible(
    instances: &Instances,
    command: impl Future<Output = Result<u8>>,
) -> Result<u8> {
    if instances.shell()?.is_live() {
        return command.await;
    }
    tokio::select! {
        ended = command => ended,
        () = interrupt::signal() => {
            let why = interrupt::let_go(&*instances.group.transport).await;
            let error = Error::failed("run it to its end").because(why);
            Err(error.help("where it had begun, it goes on: look at the instance"))
        }
    }
}

pub async fn ssh(desk: &Desk, args: SshArgs) -> Result<u8> {
    let (environment, host) = instances::words(&desk.settings, &args.words)?;
    let mut instances = Instances::find(desk, environment).await?;
    instances.named(host.as_slice())?;
    let host = &instances.hosts[0];
    attached(&instances, host, &Task::Login).await
}

/// Runs a task at this terminal, if it is one.
async fn attached(instances: &Instances, host: &Host, task: &Task) -> Result<u8> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if is_terminal && instances.hosts.len() > 1 {
        instances.group.cx.report.step("on", host.to_string());
    }
    instances.shell()?.attached(host, task, is_terminal).await
}

/// Runs a task on each instance. Ends with the highest exit code.
async fn on_each(instances: &Instances, task: &Task, as_json: bool) -> Result<u8> {
    let shell = instances.shell()?;
    let prefixes = instances.prefixes();
    let calls = instances.hosts.iter().zip(&prefixes).map(|(host, prefix)| async move {
        let (sender, receiver) = channel(AHEAD);
        let printed = print_lines(receiver, host, prefix, as_json);
        let (ended, printed) = tokio::join!(shell.lines(host, task, sender), printed);
        printed.map(|()| (host, ended))
    });
    let mut calls: FuturesUnordered<_> = calls.collect();
    let mut ends: BTreeMap<&Host, Result<u8, String>> = BTreeMap::new();
    while let Some(ended) = calls.next().await {
        let (host, ended) = ended?;
        if as_json {
            let (code, error) = (ended.as_ref().ok(), ended.as_ref().err());
            print::json(&json!({ "host": host, "code": code, "unreachable": error }))?;
        }
        ends.insert(host, ended);
    }
    if !as_json {
        summarize(&ends);
    }
    let worst = ends.into_values().map(|ended| ended.unwrap_or(Exit::NoAgent.code())).max();
    Ok(worst.unwrap_or_default())
}

async fn print_lines(
    mut lines: Receiver<Said>,
    host: &Host,
    prefix: &str,
    as_json: bool,
) -> Result<()> {
    while let Some(Said { stream, text }) = lines.recv().await {
        let is_error = stream == Stream::Err;
        if as_json {
            let stream = if is_error { "stderr" } else { "stdout" };
            print::json(&json!({ "host": host, "stream": stream, "text": text }))?;
            continue;
        }
        let text = for_terminal(&console::strip_ansi_codes(&text));
        if is_error {
            let _ = writeln!(stderr(), "{prefix} {text}");
        } else {
            print::exactly(&format!("{prefix} {text}\n"))?;
        }
    }
    Ok(())
}

/// Prints which instance ended how: `2 ended with 0; 1 ended with 3: web3`.
fn summarize(ends: &BTreeMap<&Host, Result<u8, String>>) {
    let report = crate::report::Report::default();
    let mut by_code: BTreeMap<u8, Vec<&Host>> = BTreeMap::new();
    for (host, ended) in ends {
        match ended {
            Ok(code) => by_code.entry(*code).or_default().push(host),
            Err(why) => {
                report.warn(format!("{host} is not reached: {}", model::text::line(why, 300)))
            }
        }
    }
    let all = by_code.iter().map(|(code, hosts)| match code {
        0 => format!("{} ended with 0", hosts.len()),
        _ => format!("{} ended with {code}: {}", hosts.len(), names(hosts.iter().copied())),
    });
    let lost = ends.values().filter(|ended| ended.is_err()).count();
    let lost = (lost > 0).then(|| format!("{lost} not reached"));
    report.step("summary", all.chain(lost).collect::<Vec<_>>().join("; "));
}
