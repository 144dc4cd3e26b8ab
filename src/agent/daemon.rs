//! The life cycle of `deployd`: settings, recovery, the socket, signals, shutdown.

use super::environment::Environment;
use super::forwarding::Forwarder;
use super::health_watch::HealthWatch;
use super::jobs::{Jobs, Request};
use super::one_offs::{self, OneOffs};
use super::port_watch;
use super::server;
use super::watch::Watcher;
use crate::context::{self, Context};
use crate::events::Events;
use crate::host::{memory, transient};
use crate::signals;
use crate::source::Sources;
use crate::store::{App, Store};
use crate::{converge, deploy};
use model::error::{Error, Result};
use model::release::env::Env;
use model::release::settings::{ReleaseSettings, Strategy};
use model::units;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::User;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, watch};

/// Stack size of each thread in bytes; the kernel allocates only what is used. The AWS SDK has
/// needed more than tokio's 2 MiB to report an error, in a build without optimisation.
const STACK: usize = 8 << 20;

/// How long a shutdown waits for callers that are still reading a response.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long a stop waits for jobs that have stopped the previous release, or are restoring it.
const GRACE: Duration = Duration::from_secs(15);

/// Runs until a signal ends it. Jobs under way are cut off, as by a crash, and recovered by the
/// next run.
pub fn run() -> Result<()> {
    // SAFETY: no other thread runs yet.
    let environment = unsafe { Environment::set() };
    set_home();
    let listener = take_listener()?;
    make_room_for_files(&listener);
    memory::share();
    let signals = signals::receive(&[SIGTERM, SIGINT, SIGHUP])?;
    let runtime = runtime()?;
    let ended = runtime.block_on(live(listener, signals, environment));
    // Does not wait for a thread that still writes a file: it ends with the process.
    runtime.shutdown_background();
    ended
}

/// The runtime of this program.
pub(super) fn runtime() -> Result<Runtime> {
    let mut builder = runtime::Builder::new_multi_thread();
    let built = builder.thread_stack_size(STACK).worker_threads(2).enable_all().build();
    built.map_err(|e| Error::failed("start the runtime").because(e))
}

/// Sets HOME, below which the SDK looks for `.aws`: systemd gives a root service none.
fn set_home() {
    if std::env::var_os("HOME").is_some_and(|home| !home.is_empty()) {
        return;
    }
    if let Ok(Some(user)) = User::from_uid(nix::unistd::geteuid()) {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("HOME", user.dir) };
    }
}

/// Grows the table of open files while there is one thread. Once threads share it, the kernel
/// waits for an RCU grace period each time that it grows (`expand_files`, fs/file.c): 15 ms of
/// a stage that has 300 files open.
fn make_room_for_files(any: &UnixListener) {
    if let Ok(last) = fcntl(any, FcntlArg::F_DUPFD_CLOEXEC(511)) {
        let _ = nix::unistd::close(last);
    }
}

async fn live(
    listener: UnixListener,
    mut signals: mpsc::UnboundedReceiver<i32>,
    environment: Environment,
) -> Result<()> {
    let failed = |e| Error::failed("listen on the control socket").because(e);
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    let jobs = Jobs::new(Arc::new(Sources::new()));
    tokio::spawn(watchdog());
    tokio::spawn(tell(jobs.clone()));
    tokio::spawn(port_watch::run(jobs.clone()));
    tokio::spawn(port_watch::reserve());
    tokio::spawn(one_offs::adopt());
    let one_offs = OneOffs::default();
    let forwarder = Forwarder::default();
    tokio::spawn(forwarder.clone().run(jobs.sources()));
    recover(&jobs);
    let health = HealthWatch::default();
    tokio::spawn(health.clone().run(jobs.clone()));
    let watcher = Watcher::new(jobs.clone());
    let watching = tokio::spawn(watcher.clone().run());
    let (stop, mut stopped) = watch::channel(false);
    let serving = tokio::spawn(server::serve(
        listener,
        jobs.clone(),
        watcher.clone(),
        health,
        environment.clone(),
        one_offs.clone(),
        async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        },
    ));
    notify(NotifyState::Ready);
    let signal = loop {
        let signal = tokio::select! {
            signal = signals.recv() => signal,
            () = environment.needed() => Some(SIGHUP),
        };
        if signal != Some(SIGHUP) || environment.is_stale() {
            break signal;
        }
        tracing::info!("read the settings again");
        watcher.reload();
        forwarder.reload();
    };
    watching.abort();
    stop.send_replace(true);
    if signal == Some(SIGHUP) {
        // A restart has no deadline: jobs under way are finished first. systemd counts the stop
        // timeout only from the notification below.
        tokio::select! {
            () = jobs.finished() => {}
            _ = signals.recv() => {}
        }
    }
    notify(NotifyState::Stopping);
    jobs.stop(GRACE).await;
    one_offs.leave();
    let _ = tokio::time::timeout(LAST_ANSWERS, serving).await;
    Ok(())
}

/// Returns the socket that systemd listens on; sd_listen_fds(3).
fn take_listener() -> Result<UnixListener> {
    let what = || Error::failed("take the control socket from systemd");
    let mut sockets = sd_notify::listen_fds().map_err(|e| what().because(e))?;
    match sockets.next() {
        // SAFETY: systemd passed this descriptor to us, and it is taken once.
        Some(socket) => Ok(unsafe { UnixListener::from_raw_fd(socket) }),
        None => {
            let help = "deployd is started by systemd: `systemctl start deployd.socket`";
            Err(what().because("no socket was passed").help(help))
        }
    }
}

/// Recovers every app from the state in which the last run, or the last boot, left it.
fn recover(jobs: &Jobs) {
    let apps = match apps() {
        Ok(apps) => apps,
        Err(error) => return tracing::error!("{}", error.chain()),
    };
    tokio::spawn(forget_removed(jobs.clone()));
    tokio::spawn(try_nftables(jobs.clone()));
    for app in apps {
        let name = app.name().clone();
        let mut request = Request::new(&name, "recover", "deployd");
        if let Some(interrupted) = app.under_way() {
            let url = interrupted.url.unwrap_or_default();
            request.what = format!("recover {} {url}", interrupted.action).trim_end().to_owned();
            (request.who, request.id) = (interrupted.who, Some(interrupted.id));
        }
        let begun = jobs.start(request, move |cx| async move {
            drop(cx.cut.decide("it is recovered after a crash").await);
            let app = cx.store.app(&name).lock()?;
            deploy::recover(&cx, app).await.map(super::respond::done)
        });
        if let Err(error) = begun {
            tracing::error!("{}", error.chain());
        }
    }
}

/// The same for apps of which only the units are left.
async fn forget_removed(jobs: Jobs) {
    let forgotten = async {
        let cx = Context::open(jobs.common(), jobs.sources(), Events::default(), "deployd".into())
            .await?;
        for unit in transient::OWN {
            // A run that lost its output when the last daemon was killed.
            cx.machine.reset_failed(&format!("{unit}.service")).await;
        }
        converge::forget_removed(&cx).await
    };
    if let Err(error) = forgotten.await {
        tracing::warn!("{}", error.chain());
    }
}

/// Checks whether nftables can be used, so that the first deploy need not wait for that. A
/// failure is reported by the deploy that needs it.
async fn try_nftables(jobs: Jobs) {
    let cx =
        Context::open(jobs.common(), jobs.sources(), Events::default(), "deployd".into()).await;
    let Ok(cx) = cx else { return };
    let usual = ReleaseSettings::merge(&cx.agent_env, &Env::default());
    if usual.is_ok_and(|settings| settings.strategy == Strategy::Handover) {
        let _ = cx.machine.cannot_load(&units::ports::example()).await;
    }
}

/// Every app with a directory, even without a release: its first deploy may have been
/// interrupted.
fn apps() -> Result<Vec<App>> {
    let store = Store::at(context::state_dir());
    store.remove_leftovers_at_leisure();
    store.apps()
}

/// Keeps the status line of `systemctl status deployd` up to date.
async fn tell(jobs: Jobs) {
    let mut changes = jobs.watch();
    loop {
        notify(NotifyState::Status(&jobs.story()));
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Notifies the systemd watchdog at half its interval that the runtime still runs.
async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(NotifyState::Watchdog);
        tokio::time::sleep(limit / 2).await;
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("notify systemd: {error}");
    }
}
