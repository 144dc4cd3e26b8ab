//! `deploy run`: a release's processes in the foreground, without root and
//! without systemd, to try a release on a laptop.

use super::args::RunArgs;
use crate::error::{Error, Exit, Result};
use crate::event::Events;
use crate::host::child::Child;
use crate::release::env::{Env, STANDARD_PATH};
use crate::release::manifest::Plan;
use crate::release::procfile::Procfile;
use crate::release::settings::{AgentSettings, ReleaseSettings, SET_BY_AGENT, Strategy};
use crate::release::url::ReleaseUrl;
use crate::source::Sources;
use crate::stage::fetch::fetch;
use crate::stage::unpack::{Limits, Owner};
use futures_util::future::select_all;
use nix::unistd::{getegid, geteuid, mkdtemp};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// A release in a directory, ready to run.
struct Tree {
    dir: PathBuf,
    env: Env,
    procfile: Procfile,
    settings: ReleaseSettings,
    /// The directory is ours, and goes with us.
    temporary: Option<Temporary>,
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    #[expect(clippy::disallowed_methods, reason = "it is no part of the agent's state")]
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub async fn run(args: RunArgs) -> Result<Exit> {
    let mut interrupted = interrupted()?;
    let tree = if args.target.contains("://") {
        let url = args.target.parse()?;
        tokio::select! {
            tree = fetched(&url) => tree?,
            _ = &mut interrupted => return Ok(Exit::Done),
        }
    } else {
        local(Path::new(&args.target))?
    };
    let user = geteuid().to_string();
    let mut plan = Plan::new(&tree.procfile, &tree.settings, &user);
    // There is no port map here: `web` binds the port itself.
    plan.strategy = Strategy::Restart;
    if let Some(port) = args.port.and_then(std::num::NonZeroU16::new) {
        plan.port = port;
    }
    if tree.temporary.is_some()
        && let Some(command) = tree.procfile.build()
        && !one_off(&tree, "build", command, &plan, &mut interrupted).await?
    {
        return Ok(Exit::Done);
    }
    if args.types == ["release"] {
        let command = tree.procfile.release();
        let command =
            command.ok_or_else(|| Error::usage("run release").because("the Procfile has none"))?;
        one_off(&tree, "release", command, &plan, &mut interrupted).await?;
        return Ok(Exit::Done);
    }
    services(&tree, &plan, &args.types, interrupted).await
}

async fn services(
    tree: &Tree,
    plan: &Plan,
    types: &[String],
    interrupted: oneshot::Receiver<()>,
) -> Result<Exit> {
    let mut children = Vec::new();
    for process in plan.instances() {
        let kind = process.kind.as_str();
        if !types.is_empty() && !types.iter().any(|wanted| wanted == kind) {
            continue;
        }
        let name = process.to_string();
        let mut environment = environment(tree, &name);
        if let Some(port) = process.port {
            environment.insert("PORT".into(), port.to_string());
            environment.insert("PUBLIC_PORT".into(), plan.port.to_string());
        }
        let service = plan.processes.iter().find(|service| service.kind == process.kind);
        let Some(service) = service else { continue };
        children.push((name.clone(), spawn(tree, &name, &service.command, &environment)?));
    }
    if children.is_empty() {
        let all: Vec<_> = plan.processes.iter().map(|service| service.kind.to_string()).collect();
        let why = format!("the Procfile has {}", all.join(", "));
        return Err(Error::usage(format!("run {}", types.join(" "))).because(why));
    }
    let ended = {
        let waits = children
            .iter_mut()
            .map(|(name, child)| Box::pin(async move { (name.clone(), child.wait().await) }));
        tokio::select! {
            _ = interrupted => None,
            (ended, _, _) = select_all(waits) => Some(ended),
        }
    };
    for (_, child) in children {
        child.stop(plan.stop_timeout).await;
    }
    match ended {
        None => Ok(Exit::Done),
        Some((name, status)) => {
            let why = status.map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(Error::unhealthy(format!("{name} did not stay up")).because(why))
        }
    }
}

/// Runs a command to its end; false where the operator interrupted it.
async fn one_off(
    tree: &Tree,
    name: &str,
    command: &str,
    plan: &Plan,
    interrupted: &mut oneshot::Receiver<()>,
) -> Result<bool> {
    let mut child = spawn(tree, name, command, &environment(tree, name))?;
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        _ = interrupted => None,
    };
    match ended {
        None => {
            child.stop(plan.stop_timeout).await;
            Ok(false)
        }
        Some(Ok(status)) if status.success() => Ok(true),
        Some(Ok(status)) => Err(Error::unusable(format!("run {name}")).because(status.to_string())),
        Some(Err(error)) => Err(Error::failed(format!("run {name}")).because(error)),
    }
}

fn spawn(
    tree: &Tree,
    name: &str,
    command: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Child> {
    let prefix = name.to_owned();
    let print = move |line: String| {
        let _ = writeln!(std::io::stdout(), "{prefix:<9} | {line}");
    };
    Child::spawn(command, &tree.dir, environment, print)
        .map_err(|e| Error::failed(format!("start {name}")).because(e))
}

/// What systemd would give the process, with the caller's own paths and locale.
fn environment(tree: &Tree, process: &str) -> BTreeMap<String, String> {
    let own = ["PATH", "HOME", "USER", "LANG", "TERM"];
    let own = own.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let release = tree.env.iter().filter(|(name, _)| !SET_BY_AGENT.contains(name));
    let release = release.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let agent = [("PS".to_owned(), process.to_owned())];
    own.chain(release).chain(agent).collect()
}

fn local(dir: &Path) -> Result<Tree> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read(&path)
            .map_err(|e| (e.kind(), Error::unusable(format!("read {}", path.display())).because(e)))
    };
    let text =
        read("Procfile").map_err(|(_, error)| error.help("name a directory with a Procfile"))?;
    let env = match read("env") {
        Ok(bytes) => bytes,
        Err((std::io::ErrorKind::NotFound, _)) => Vec::new(),
        Err((_, error)) => return Err(error),
    };
    tree(dir.to_owned(), &text, &env, None)
}

async fn fetched(url: &ReleaseUrl) -> Result<Tree> {
    let resolved = Sources::new().resolve(url).await?;
    let env = resolved.env().await?;
    let made = mkdtemp(&std::env::temp_dir().join(format!("deploy-run-{}", "X".repeat(6))));
    let dir = made.map_err(|e| Error::failed("make a temporary directory").because(e))?;
    let temporary = Temporary(dir.clone());
    let handle =
        File::open(&dir).map_err(|e| Error::failed("open the temporary directory").because(e))?;
    let settings = AgentSettings::from_env(&Env::default())?;
    let limits = Limits { max_bytes: settings.max_unpacked, max_files: settings.max_files };
    let owner = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let memory = settings.max_fetch_memory;
    fetch(&resolved, handle.into(), owner, limits, memory, &Events::default(), None).await?;
    let path = dir.join("Procfile");
    let text = fs::read(&path)
        .map_err(|e| Error::unusable(format!("read Procfile of {url}")).because(e))?;
    tree(dir, &text, &env, Some(temporary))
}

fn tree(dir: PathBuf, procfile: &[u8], env: &[u8], temporary: Option<Temporary>) -> Result<Tree> {
    let refused = |file: &str, error: crate::release::ParseError| {
        let help = error.help.clone().unwrap_or_else(|| "correct it".to_owned());
        Error::unusable(dir.join(file).display().to_string()).because(error).help(help)
    };
    let path = std::env::var("PATH").unwrap_or_else(|_| STANDARD_PATH.to_owned());
    let env = Env::parse_on(env, &path).map_err(|e| refused("env", e))?;
    let procfile = Procfile::parse(procfile).map_err(|e| refused("Procfile", e))?;
    let settings = ReleaseSettings::merge(&Env::default(), &env)?;
    Ok(Tree { dir, env, procfile, settings, temporary })
}

/// Completes at the first SIGINT or SIGTERM.
fn interrupted() -> Result<oneshot::Receiver<()>> {
    let what = |e: std::io::Error| Error::failed("wait for signals").because(e);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(what)?;
    let (sender, receiver) = oneshot::channel();
    let wait = move || {
        signals.forever().next();
        let _ = sender.send(());
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(what)?;
    Ok(receiver)
}
