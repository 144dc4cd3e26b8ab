//! `deploy exec`: one-off commands under the conditions of an app's processes, at the caller's
//! terminal or pipes.
//!
//! The caller passes its ends of a terminal or of pipes, and deployd passes them on to systemd:
//! no byte of a session goes through deployd, and no process is a child of the caller, so that
//! the sandbox is the one of a unit. The caller's connection stays open meanwhile; its end stops
//! the command, and a restart of deployd does not ([`OneOffs`]).

use super::caller::Caller;
use super::one_offs::OneOffs;
use super::processes;
use crate::host::systemd::Systemd;
use crate::host::transient::{Command, OneOff, Property, Streams};
use crate::host::user;
use crate::stage::confined;
use crate::store::{App, Store};
use axum::response::Response;
use model::api::Exec;
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::one_off::Described;
use model::release::manifest::{Manifest, Service};
use model::release::procfile::Procfile;
use model::units;
use nix::sys::stat::{SFlag, fstat};
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Runs the arguments after it, found by the PATH of the app.
const BY_PATH: &str = "exec -- \"$@\"";

/// Starts a command, and streams its beginning and its end.
pub(super) async fn exec(
    store: &Store,
    one_offs: &OneOffs,
    caller: &Caller,
    asked: Exec,
) -> Result<Response> {
    let (app, line) = app_and_line(store, &asked)?;
    let manifest = processes::current(&app)?;
    let snapshot = app.snapshot()?;
    let (service, argv) = match line {
        Some(line) => of_line(&app, &manifest, &line)?,
        None => of_command(&manifest, &asked)?,
    };
    let streams = streams(caller, &manifest.plan.user)?;
    let unit = format!("deploy-{}-exec:{}:{}", app.name(), manifest.label, new_id());
    // Arguments may hold secrets.
    let program = asked.command.first().unwrap_or(&service.command);
    tracing::info!(DEPLOY_APP = %app.name(), "exec for {} ({unit}): {program}", caller.name);
    let described = Described {
        app: app.name().to_string(),
        release: manifest.label.to_string(),
        who: caller.name.clone(),
        pid: caller.pid,
        program: program.clone(),
    };
    let command = Command {
        description: described.to_string(),
        unit,
        argv,
        timeout: Duration::MAX,
        properties: properties(&snapshot, &manifest, &service, asked.term)?,
    };
    let one_off = OneOff::start(Systemd::connect().await?, command, streams).await?;
    Ok(one_offs.follow(one_off).await)
}

/// Returns an id that no other one-off has, even after a restart of deployd.
fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    static OWN: LazyLock<u32> = LazyLock::new(|| fastrand::u32(..));
    format!("{:08x}-{}", *OWN, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The app that is meant, and the line of its Procfile if the request has no command.
fn app_and_line(store: &Store, asked: &Exec) -> Result<(App, Option<String>)> {
    let selected = processes::select(&store.apps()?, &asked.words)?;
    let app = store.app(&selected.app);
    let what = || Error::usage(format!("run a command of {}", selected.app));
    match (selected.process, asked.command.is_empty()) {
        (Some(line), true) if asked.kind.is_none() => Ok((app, Some(line))),
        (Some(line), true) => {
            let why = format!("the line {line} of the Procfile has a type: itself");
            Err(what().because(why).help("leave --type out"))
        }
        (None, false) => Ok((app, None)),
        (Some(word), false) => {
            let why = format!("{word} stands before a command, and is no app");
            Err(what().because(why).help("`deploy exec [APP] -- CMD…`; --type names a type"))
        }
        (None, true) => {
            let help = "`deploy exec APP -- bash` is a shell, `deploy exec APP release` a line of \
                        the Procfile";
            Err(what().because("none is given").help(help))
        }
    }
}

/// A line of the Procfile, run by the shell as a service or the release phase would be.
fn of_line(app: &App, manifest: &Manifest, line: &str) -> Result<(Service, Vec<String>)> {
    if line == "web" {
        let error = Error::usage(format!("run web of {} once", app.name()));
        let why = "it serves on a port of its own, which a one-off does not have";
        return Err(error.because(why).help(format!(
            "`deploy scale {} web=N` starts more of them, `deploy run` runs one on a laptop",
            app.name()
        )));
    }
    let text = app.procfile(&manifest.label)?;
    let procfile = text.and_then(|text| Procfile::parse(&text).ok());
    let services = procfile.iter().flat_map(Procfile::services);
    let services = services.filter(|(kind, _)| kind.as_str() != "web");
    let release = procfile.as_ref().and_then(Procfile::release);
    let mut known: Vec<(&str, &str)> =
        services.map(|(kind, command)| (kind.as_str(), command)).collect();
    known.extend(release.map(|command| ("release", command)));
    let Some((_, command)) = known.iter().find(|(kind, _)| *kind == line) else {
        let names: Vec<_> = known.iter().map(|(kind, _)| *kind).collect();
        let error = Error::usage(format!("run {line} of {}", app.name()));
        let why = format!("the Procfile of release {} has {}", manifest.label, names.join(", "));
        return Err(error.because(why).help(format!("`-- {line}` runs a command of that name")));
    };
    let argv = ["/bin/bash".to_owned(), "-c".to_owned(), units::script(command)];
    let kind = match line == "release" || has_a_home(manifest, line) {
        true => line.parse()?,
        false => default_kind(manifest)?.parse()?,
    };
    Ok((Service { kind, command: line.to_owned(), count: 1 }, argv.to_vec()))
}

fn of_command(manifest: &Manifest, asked: &Exec) -> Result<(Service, Vec<String>)> {
    let types = || manifest.plan.processes.iter().map(|service| service.kind.as_str());
    let kind = match asked.kind.as_deref() {
        None => default_kind(manifest)?,
        Some(kind) if has_a_home(manifest, kind) => kind.to_owned(),
        Some(kind) if types().any(|known| known == kind) => default_kind(manifest)?,
        Some(kind) => {
            let names: Vec<_> = types().collect();
            let error = Error::usage(format!("run a command as {kind}"));
            let why = format!("release {} has {}", manifest.label, names.join(", "));
            return Err(error.because(why).help("name one of those types"));
        }
    };
    let mut argv = ["/bin/bash", "-c", BY_PATH, "deploy-exec"].map(str::to_owned).to_vec();
    argv.extend(asked.command.iter().cloned());
    Ok((Service { kind: kind.parse()?, command: String::new(), count: 1 }, argv))
}

/// Whether the first process of the type exists: only those have a home.
fn has_a_home(manifest: &Manifest, kind: &str) -> bool {
    manifest.plan.instances().any(|process| process.kind.as_str() == kind)
}

/// `web`, or else the first type of the formation.
fn default_kind(manifest: &Manifest) -> Result<String> {
    let first = manifest.plan.instances().next().map(|process| process.kind.to_string());
    let kind = if has_a_home(manifest, "web") { Some("web".to_owned()) } else { first };
    kind.ok_or_else(|| {
        let error = Error::usage(format!("run a command of {}", manifest.url.app()));
        error.because("no process of it is to run").help("see DEPLOY_CONCURRENCY")
    })
}

fn properties(
    snapshot: &Snapshot,
    manifest: &Manifest,
    service: &Service,
    term: Option<String>,
) -> Result<Vec<(&'static str, Property)>> {
    let mut all = confined::like(snapshot, manifest, service)?;
    // As on Heroku: no process of the formation is called so.
    let mut own = vec!["PS=run.1".to_owned()];
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    own.extend(term.filter(|term| term.chars().all(plain)).map(|term| format!("TERM={term}")));
    for (name, property) in &mut all {
        if let ("Environment", Property::List(variables)) = (*name, property) {
            // systemd refuses a name that is there twice.
            variables.retain(|variable| !variable.starts_with("PS="));
            variables.append(&mut own);
        }
    }
    all.extend([
        ("IgnoreSIGPIPE", Property::Bool(false)),
        // An interactive shell ignores SIGTERM.
        ("SendSIGHUP", Property::Bool(true)),
        ("LimitNOFILE", Property::Number(65536)),
    ]);
    Ok(all)
}

/// The streams that the caller has passed: a terminal, or three pipes. They become the app's
/// user's, which may then open /dev/stdout or its terminal.
fn streams(caller: &Caller, user: &str) -> Result<Streams> {
    let what = || Error::usage("run a command at the caller's terminal");
    let mut passed = caller.handed.take();
    let owner = user::ids(user)?;
    for fd in &passed {
        let found = fstat(fd).map_err(|e| what().because(e))?;
        let is_pipe = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits();
        if found.st_uid != caller.uid || !(is_pipe || fd.is_terminal()) {
            return Err(what().because("what came along is no terminal or pipe of the caller's"));
        }
    }
    // Only now: stdout and stderr may be the same pipe.
    for fd in &passed {
        fchown(fd, Some(owner.uid), None).map_err(|e| what().because(e))?;
    }
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| what().because(e));
    match passed.len() {
        1 => {
            let terminal = passed.remove(0);
            let (output, error) = (copy(&terminal)?, copy(&terminal)?);
            Ok(Streams { input: Some(terminal), output, error })
        }
        3 => {
            let mut next = || passed.remove(0);
            Ok(Streams { input: Some(next()), output: next(), error: next() })
        }
        count => Err(what().because(format!("{count} files came along, not 1 or 3"))),
    }
}
