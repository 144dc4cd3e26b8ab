//! The `deploy` command: parse, ask, print, exit code.

pub mod args;
mod boot;
mod client;
mod doctor;
mod env;
mod exec;
mod interrupts;
mod logs;
mod metrics;
pub mod foreground;
mod history;
mod releases;
mod render;
mod tables;
mod terminal;

use args::{By, Cli, Command, DeployArgs, OneApp, Processes, Shown};
use clap::CommandFactory;
use client::{Client, Following};
use interrupts::Interrupts;
use model::api::{self, AppStatus};
use model::error::{Error, Exit, Result};
use model::event::{Event, Outcome};
use model::reason::Reason;
use model::text::{self, for_terminal};
use render::Progress;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How long deployd may be gone in the middle of work: systemd starts it again
/// a second after it has ended.
const AGAIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
/// A failure quotes fewer lines.
const QUOTED: usize = 500;
/// After so long without an event it is said what is waited for.
const SILENCE: Duration = Duration::from_secs(10);

/// Parses `90s` or `10m` on the command line.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    model::release::settings::parse_duration(text).map_err(|error| error.to_string())
}

/// Does what the command line asks; the exit code is the answer in short.
pub async fn run(cli: Cli) -> u8 {
    let (name, json) = (cli.name(), cli.wants_json());
    let outcome = match perform(cli).await {
        Ok(End::Shown(exit)) => return exit.code(),
        Ok(End::Status(status)) => return status,
        Ok(End::Outcome(outcome)) => *outcome,
        Err(error) => Outcome::from(&error),
    };
    render::outcome(&outcome, name, json);
    outcome.exit.code()
}

/// How a command ends.
enum End {
    /// With an answer that is printed already.
    Shown(Exit),
    /// With an outcome, yet to be printed.
    Outcome(Box<Outcome>),
    /// With the status of a command that ran.
    Status(u8),
}

async fn perform(cli: Cli) -> Result<End> {
    let command = match (cli.command, cli.deploy) {
        (Some(command), _) => command,
        (None, Some(deploy)) => Command::Release(deploy),
        (None, None) => return Err(Error::usage("deploy needs a URL or a command")),
    };
    match command {
        Command::Release(args) => deploy(args).await,
        Command::Rollback(args) => {
            let request = api::Rollback { app: args.app, to: args.to };
            follow(args.asked, "/v1/rollback", &request, args.shown).await
        }
        Command::Stage(args) => {
            let request = api::Release { url: checked(args.url)? };
            follow(args.asked, "/v1/stage", &request, args.shown).await
        }
        Command::Plan(args) => {
            let request = api::Release { url: checked(args.url)? };
            let plan: api::PlanStatus = Client::new()?.post("/v1/plan", &request).await?;
            let exit = plan.exit;
            show(&plan, args.json, |plan| tables::plan(plan, tables::width()))?;
            Ok(End::Shown(exit))
        }
        Command::Attach(args) => {
            watch(Client::new()?.attach(&api::Attach { id: args.id }).await?, args.shown).await
        }
        Command::Status(args) => status(args).await.map(End::Shown),
        Command::Releases(args) => {
            let table = |list: &[_]| releases::releases(list, tables::width());
            question("/v1/releases", args, table).await.map(End::Shown)
        }
        Command::History(args) => {
            let asked = api::History { app: args.app, most: Some(args.lines) };
            let entries: Vec<api::Recorded> = Client::new()?.get("/v1/history", &asked).await?;
            let table = |entries: &Vec<_>| history::history(entries, tables::width());
            show(&entries, args.json, table).map(End::Shown)
        }
        Command::Restart(args) => {
            let Processes { words, asked, json } = args.processes;
            let request = api::Processes { words, own_user: args.own_user };
            follow(asked, "/v1/restart", &request, plainly(json)).await
        }
        Command::Scale(args) => {
            let request = scale(args.words)?;
            follow(args.asked, "/v1/scale", &request, args.shown).await
        }
        Command::Stop(args) => post_processes("/v1/stop", args).await,
        Command::Start(args) => post_processes("/v1/start", args).await,
        Command::Remove(args) => {
            if !args.yes && !confirmed(&args.app)? {
                return Err(Error::usage(format!("remove {}", args.app)).because("not confirmed"));
            }
            let request = api::Remove { app: args.app, force: args.force };
            follow(args.asked, "/v1/remove", &request, plainly(args.json)).await
        }
        Command::Cancel(args) => {
            let request = api::Cancel { word: args.word };
            let outcome: Outcome = Client::of(args.asked.by)?.post("/v1/cancel", &request).await?;
            Ok(End::Outcome(Box::new(outcome)))
        }
        Command::Doctor(args) => doctor::run(args).await.map(End::Shown),
        Command::Run(args) => foreground::run(args).await.map(End::Shown),
        Command::Logs(args) => logs::logs(args).await.map(End::Shown),
        Command::Exec(args) => exec::exec(args).await.map(End::Status),
        Command::Env(args) => env::env(args).await.map(End::Shown),
        Command::Metrics(args) => metrics::metrics(args).await.map(End::Shown),
        Command::Boot(args) => boot::boot(args).await,
    }
}

async fn deploy(args: DeployArgs) -> Result<End> {
    let timeout_ms = Some(args.timeout.as_millis().try_into().unwrap_or(u64::MAX));
    let shown = args.shown();
    let DeployArgs { url, no_wait, run_release, detach, by, .. } = args;
    let url = checked(url)?;
    let release_id = run_release.clone().filter(|id| !id.is_empty());
    let run_release = run_release.is_some();
    let request = api::Deploy { url, no_wait, run_release, release_id, detach, timeout_ms };
    if detach {
        let begun: Event = Client::of(by)?.post("/v1/deploy", &request).await?;
        render::begun(&begun, shown.json);
        return Ok(End::Shown(Exit::Done));
    }
    follow(By { by }, "/v1/deploy", &request, shown).await
}

/// A URL that can never be right is refused here, whether or not deployd runs.
fn checked(url: String) -> Result<String> {
    if !url.contains("://") {
        return Err(no_command(&url));
    }
    let parsed: model::release::url::ReleaseUrl = url.parse()?;
    Ok(parsed.to_string())
}

/// The error for a word that is neither a URL nor a command.
fn no_command(word: &str) -> Error {
    let commands = Cli::command();
    let names = commands.get_subcommands().map(|command| command.get_name().to_owned());
    let known: Vec<String> = names.collect();
    let alias = ALIASES.iter().find(|(other, _)| *other == word).map(|(_, own)| *own);
    let distance = |name: &&String| strsim::damerau_levenshtein(word, name);
    // A mistyped command has most of its letters; `shop` is an app, and not `stop`.
    let most = if word.chars().count() > 5 { 2 } else { 1 };
    let near = known.iter().min_by_key(distance).filter(|name| distance(name) <= most);
    let near = near.filter(|name| !HARMFUL.contains(&name.as_str()));
    let meant = alias.map(str::to_owned).or_else(|| near.cloned());
    let error = Error::usage(format!("deploy {}", text::quoted(word)))
        .because("that is no command, and a release's URL begins with s3://, https:// or file://");
    match meant {
        Some(meant) => error.help(format!("say `deploy {meant}`; `deploy --help` lists all")),
        None => error.help("`deploy --help` lists the commands"),
    }
}

/// Commands that are never suggested to someone who may have meant an app.
const HARMFUL: [&str; 2] = ["remove", "stop"];

/// Words of other tools.
const ALIASES: [(&str, &str); 12] = [
    ("bash", "exec"),
    ("config", "env"),
    ("console", "exec"),
    ("down", "stop"),
    ("list", "status"),
    ("log", "logs"),
    ("ls", "status"),
    ("ps", "status"),
    ("shell", "exec"),
    ("ssh", "exec"),
    ("uninstall", "remove"),
    ("up", "start"),
];

async fn post_processes(path: &str, args: Processes) -> Result<End> {
    let request = api::Processes { words: args.words, own_user: false };
    follow(args.asked, path, &request, plainly(args.json)).await
}

/// Reads `[APP] TYPE=COUNT…`.
fn scale(words: Vec<String>) -> Result<api::Scale> {
    let usage = |word: &str| {
        let error = Error::usage(format!("scale {}", text::quoted(word)));
        error.because("that is no TYPE=COUNT").help("write it as in `deploy scale web=3`")
    };
    let (mut app, mut counts) = (None, BTreeMap::new());
    for (nth, word) in words.into_iter().enumerate() {
        match word.split_once('=') {
            None if nth == 0 => app = Some(word),
            None => return Err(usage(&word)),
            Some((kind, count)) => {
                let count = count.parse().map_err(|_| usage(&word))?;
                counts.insert(kind.to_owned(), count);
            }
        }
    }
    match counts.is_empty() {
        true => Err(usage(app.as_deref().unwrap_or_default())),
        false => Ok(api::Scale { app, counts }),
    }
}

/// Progress without timings.
fn plainly(json: bool) -> Shown {
    Shown { json, quiet: false, timings: false }
}

/// Asks for work and shows its events until it ends.
async fn follow(by: By, path: &str, request: &impl Serialize, shown: Shown) -> Result<End> {
    watch(Client::of(by.by)?.follow(path, request).await?, shown).await
}

/// Shows the events of a job until it ends, whatever becomes of deployd.
async fn watch(mut events: Following, shown: Shown) -> Result<End> {
    let mut progress = Progress::new(shown.json, shown.quiet);
    let mut work = None;
    // The newest lines that a build or the release phase wrote: they are not quoted again.
    let mut output: VecDeque<String> = VecDeque::new();
    let mut interrupts = Interrupts::new(shown);
    loop {
        let next = tokio::select! {
            next = events.next() => next?,
            () = interrupts.next() => {
                if interrupts.is_final(&progress, work.as_deref()).await {
                    return Ok(End::Shown(Exit::NoAgent));
                }
                continue;
            }
            () = tokio::time::sleep(SILENCE) => {
                progress.remind();
                continue;
            }
        };
        match next {
            Some(Event::Ended { mut outcome }) => {
                let is_shown =
                    |line: &String| output.iter().any(|one| line.ends_with(one.as_str()));
                if !shown.json && outcome.log.iter().all(is_shown) {
                    outcome.log.clear();
                }
                progress.show(&Event::Ended { outcome: outcome.clone() });
                if shown.timings && !shown.json {
                    render::timings(&outcome.timings);
                }
                return Ok(End::Outcome(Box::new(outcome)));
            }
            Some(event) => {
                match &event {
                    Event::Begun { id, .. } => work = Some(id.clone()),
                    Event::Output { line } if !shown.quiet => {
                        output.truncate(QUOTED - 1);
                        output.push_front(line.clone());
                    }
                    _ => {}
                }
                progress.show(&event);
            }
            None => events = again(work.as_deref()).await?,
        }
    }
}

/// deployd is gone in the middle of the work: whoever takes the work up is followed.
async fn again(work: Option<&str>) -> Result<Following> {
    let lost = || Error::new(Exit::NoAgent, "follow the work to its end");
    let help = "see `deploy status`, `deploy history` and `journalctl -u deployd`";
    let Some(work) = work else {
        return Err(lost().because("deployd closed the connection").help(help));
    };
    let deadline = Instant::now() + AGAIN;
    loop {
        let query = api::Attach { id: Some(work.to_owned()) };
        let attached = async { Client::new()?.attach(&query).await };
        match attached.await {
            Err(error) if error.reason() == Reason::NoAgent && Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(lost().because(error).help(help)),
            attached => return attached,
        }
    }
}

/// Shows what runs. Its exit code is that of a deploy that ends so: 12 where a release that
/// was deployed is not healthy.
async fn status(args: OneApp) -> Result<Exit> {
    let (json, status) = (args.json, ask::<AppStatus>("/v1/status", args.app).await?);
    let is_ill = |app: &AppStatus| app.release.is_some() && !app.healthy;
    let exit = if status.iter().any(is_ill) { Exit::Unhealthy } else { Exit::Done };
    show(&status, json, |status| tables::status(status, tables::width())).map(|_| exit)
}

async fn question<T>(path: &str, args: OneApp, table: impl Fn(&[T]) -> String) -> Result<Exit>
where
    T: Serialize + serde::de::DeserializeOwned,
{
    let answer: Vec<T> = ask(path, args.app).await?;
    show(&answer, args.json, |answer| table(answer))
}

async fn ask<T: serde::de::DeserializeOwned>(path: &str, app: Option<String>) -> Result<Vec<T>> {
    Client::new()?.get(path, &api::Which { app }).await
}

fn show<T: Serialize>(answer: &T, json: bool, table: impl Fn(&T) -> String) -> Result<Exit> {
    let text = match json {
        true => serde_json::to_string(answer).unwrap_or_default() + "\n",
        false => for_terminal(&table(answer)),
    };
    print(&text)
}

fn print(text: &str) -> Result<Exit> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A closed pipe (`deploy status | head -1`) is the reader's choice.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed("print the answer").because(error))
        }
        _ => Ok(Exit::Done),
    }
}

fn confirmed(app: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let error = Error::usage(format!("remove {app}")).because("there is no terminal to ask on");
        return Err(error.help("say --yes"));
    }
    eprint!("Remove {app} with its releases and shared files? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
