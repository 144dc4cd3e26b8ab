//! `deploy run`: a release's processes in the foreground, without root and
//! without systemd, to try a release on a laptop.

mod interrupts;
mod tree;

use super::args::RunArgs;
use crate::host::child::{self, Child};
use crate::host::descendants;
use futures_util::future::select_all;
use interrupts::Interrupts;
use model::error::{Error, Exit, Result};
use model::release::manifest::Plan;
use model::release::settings::{STATE_DIR, Strategy};
use model::units;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use tree::Tree;

pub async fn run(args: RunArgs) -> Result<Exit> {
    if geteuid().is_root() && !args.as_root {
        return Err(refused_to_root());
    }
    if let Some(app) = installed(Path::new(&args.target)) {
        let error = Error::usage(format!("run {}", args.target));
        let error = error.because(format!("it is a release of the installed app {app}"));
        return Err(error.help(format!(
            "`deploy exec {app} -- CMD` runs a command in it, with its env, user and sandbox"
        )));
    }
    let interrupts = Interrupts::catch()?;
    descendants::adopt().map_err(|e| Error::failed("adopt what processes leave").because(e))?;
    let tree = if args.target.contains("://") {
        let url = args.target.parse()?;
        tokio::select! {
            tree = tree::fetched(&url) => tree?,
            () = interrupts.first() => return Ok(Exit::Done),
        }
    } else {
        tree::local(Path::new(&args.target))?
    };
    let user = geteuid().to_string();
    let mut plan = Plan::new(&tree.procfile, &tree.settings, &user);
    // There is no port map here: `web` binds the port itself.
    plan.strategy = Strategy::Restart;
    if let Some(port) = args.port.and_then(std::num::NonZeroU16::new) {
        plan.port = port;
    }
    let run = Run { stop: Stop::new(&plan), tree, plan, interrupts };
    let (build, release) = (run.tree.procfile.build(), run.tree.procfile.release());
    let line = match args.types.as_slice() {
        [only] if only == "build" => Some(("build", build)),
        [only] if only == "release" => Some(("release", release)),
        _ => None,
    };
    if run.tree.is_fetched()
        && let Some(command) = build
        && !run.once("build", command).await?
    {
        return Ok(Exit::Done);
    }
    match line {
        Some(("build", Some(_))) if run.tree.is_fetched() => Ok(Exit::Done),
        Some((kind, Some(command))) => run.once(kind, command).await.map(|_| Exit::Done),
        Some((kind, None)) => {
            Err(Error::usage(format!("run {kind}")).because("the Procfile has none"))
        }
        None => run.services(&args.types).await,
    }
}

/// Returns the app whose release on this instance contains this path.
fn installed(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let rest = path.strip_prefix(Path::new(STATE_DIR).join("apps")).ok()?;
    let app = rest.components().next()?;
    Some(app.as_os_str().to_string_lossy().into_owned())
}

/// What a release holds is not to be run as root by mistake: on an instance its processes
/// run as an own user, in a sandbox.
fn refused_to_root() -> Error {
    let error = Error::usage("run a release as root");
    let error = error.because("its commands could change all of this machine");
    error.help(match env::var("SUDO_USER") {
        Ok(user) if user != "root" => {
            "`deploy exec` runs a command of an installed app; to try a release, run it without \
             sudo; --as-root runs it as root all the same"
                .to_owned()
        }
        _ => "`deploy exec` runs a command of an installed app; to try a release, run it as \
              another user, such as `runuser -u USER -- deploy run …` or `sudo -u USER \
              deploy run …`; --as-root runs it as root all the same"
            .to_owned(),
    })
}

/// How processes are stopped.
struct Stop {
    signal: Signal,
    timeout: Duration,
}

impl Stop {
    fn new(plan: &Plan) -> Stop {
        let signal = Signal::from_str(plan.stop_signal.name()).unwrap_or(Signal::SIGTERM);
        Stop { signal, timeout: plan.stop_timeout }
    }
}

struct Run {
    tree: Tree,
    plan: Plan,
    stop: Stop,
    interrupts: Interrupts,
}

impl Run {
    /// Runs processes of these types, or all, until one ends or the operator interrupts them.
    async fn services(&self, types: &[String]) -> Result<Exit> {
        self.check(types)?;
        let mut children = Vec::new();
        for process in self.plan.instances() {
            let kind = process.kind.as_str();
            if !types.is_empty() && !types.iter().any(|wanted| wanted == kind) {
                continue;
            }
            let service = self.plan.processes.iter().find(|service| service.kind == process.kind);
            let Some(service) = service else { continue };
            match self.spawn(&process.to_string(), &service.command, process.port) {
                Ok(child) => children.push(child),
                Err(error) => {
                    self.end(children).await;
                    return Err(error);
                }
            }
        }
        if children.is_empty() {
            let error = Error::usage("run the Procfile's services");
            return Err(error.because("DEPLOY_CONCURRENCY has none of them run"));
        }
        let ended = {
            let mains = child::mains(&children);
            let waits = children.iter_mut().map(|child| {
                Box::pin(async move { (child.name().to_owned(), child.wait().await) })
            });
            tokio::select! {
                () = self.interrupts.first() => None,
                () = child::reap(mains) => None,
                (ended, _, _) = select_all(waits) => Some(ended),
            }
        };
        self.end(children).await;
        match ended {
            None => Ok(Exit::Done),
            Some((name, status)) => {
                let why = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                Err(Error::unhealthy(format!("{name} did not stay up")).because(why))
            }
        }
    }

    fn check(&self, types: &[String]) -> Result<()> {
        let all: Vec<_> =
            self.plan.processes.iter().map(|service| service.kind.to_string()).collect();
        let Some(unknown) = types.iter().find(|wanted| !all.contains(wanted)) else {
            return Ok(());
        };
        let once = ["build", "release"].contains(&unknown.as_str());
        let error = Error::usage(format!("run {unknown}"));
        Err(match once {
            true => error
                .because("it runs once, and the others go on")
                .help(format!("run it alone: `deploy run … {unknown}`")),
            false => error.because(format!("the Procfile has {}", all.join(", "))),
        })
    }

    /// Runs a command to its end; false where the operator interrupted it.
    async fn once(&self, kind: &str, command: &str) -> Result<bool> {
        let mut child = self.spawn(&format!("{kind}.1"), command, None)?;
        let mains = child::mains(std::slice::from_ref(&child));
        let ended = tokio::select! {
            status = child.wait() => Some(status),
            () = child::reap(mains) => None,
            () = self.interrupts.first() => None,
        };
        match ended {
            None => self.end(vec![child]).await,
            // As on an instance, what it has left is not waited for.
            Some(_) => child::stop(vec![child], self.stop.signal, Duration::ZERO, async {}).await,
        }
        match ended {
            None => Ok(false),
            Some(Ok(status)) if status.success() => Ok(true),
            Some(Ok(status)) => {
                Err(Error::unusable(format!("run {kind}")).because(status.to_string()))
            }
            Some(Err(error)) => Err(Error::failed(format!("run {kind}")).because(error)),
        }
    }

    async fn end(&self, children: Vec<Child>) {
        let Stop { signal, timeout } = self.stop;
        child::stop(children, signal, timeout, self.interrupts.second()).await;
    }

    fn spawn(&self, name: &str, command: &str, port: Option<u16>) -> Result<Child> {
        let mut environment = self.environment(name);
        if let Some(port) = port {
            environment.insert("PORT".into(), port.to_string());
            environment.insert("PUBLIC_PORT".into(), self.plan.port.to_string());
        }
        let prefix = name.to_owned();
        let print = move |line: String| {
            let _ = writeln!(std::io::stdout(), "{prefix:<9} | {line}");
        };
        let script = units::script(command);
        Child::spawn(name, &script, &self.tree.dir, &environment, print)
            .map_err(|e| Error::failed(format!("start {name}")).because(e))
    }

    /// What a service would be given, with the caller's own home, paths and locale.
    fn environment(&self, process: &str) -> BTreeMap<String, String> {
        let own = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR"];
        let own = own.into_iter().filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)));
        let agent = [("PS".to_owned(), process.to_owned())];
        own.chain(self.tree.variables()).chain(agent).collect()
    }
}
