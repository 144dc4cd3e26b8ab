//! Tests of whole deploys on a machine in memory: one per rule of [`crate::deploy`], in
//! milliseconds, without root. Booted instances show the same with the real parts.

mod accepting;
mod failing;
mod formation;
mod going_back;
mod machine;
mod recovery;
mod release_once;
mod signatures;
mod syncing;
mod usual;

use crate::agent::history;
use crate::agent::processes::{self, ProcessAction};
use crate::context::{Common, Context};
use crate::deploy::{self, Done, RunRelease};
use crate::events::Events;
use crate::source::Sources;
use crate::store::{App, Store};
use crate::trust::Trust;
pub use machine::Fake;
use machine::{State, Syncs};
use model::error::{Error, Exit, Result};
use model::event::Event;
use model::history::Entry;
use model::release::env::Env;
use model::release::name::Label;
use model::release::settings::AgentSettings;
use nix::unistd::{AccessFlags, access};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tempfile::TempDir;

/// Short, so that no test waits longer than it needs.
const SETTINGS: &str = "DEPLOY_SETTLE=2ms\nDEPLOY_PROVE=0s\nDEPLOY_HEALTH_TIMEOUT=150ms\n\
                        DEPLOY_DRAIN_TIMEOUT=100ms\nDEPLOY_STOP_TIMEOUT=1s\n";

const WEB: &str = "web: serve\n";

/// An instance with a state of its own, and releases in a directory beside it.
pub struct Story {
    dir: TempDir,
    machine: Arc<Fake>,
    common: Arc<Common>,
    sources: Arc<Sources>,
    settings: String,
    trust: Trust,
    /// The number of requests so far.
    asked: AtomicU64,
}

impl Story {
    pub fn new() -> Story {
        Story::with("")
    }

    /// The same with further lines of agent.env.
    pub fn with(settings: &str) -> Story {
        let dir = TempDir::new_in(memory()).expect("a directory");
        let store = Store::at(dir.path().join("state"));
        let generated = dir.path().join("generator");
        machine::generate(&generated, &store);
        Story {
            machine: Arc::new(Fake::new(store, generated)),
            common: Arc::new(in_short()),
            sources: Arc::new(Sources::new()),
            settings: format!("{SETTINGS}{settings}"),
            trust: Trust::below(&dir.path().join("etc")),
            asked: AtomicU64::new(1),
            dir,
        }
    }

    /// The same with r1, which serves.
    pub async fn serving_r1() -> Story {
        let story = Story::new();
        story.publish("r1", WEB, "");
        story.deploy("r1").await.expect("r1 is good");
        story
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.machine.state()
    }

    /// Appends lines to agent.env.
    pub fn set(&mut self, lines: &str) {
        self.settings.push_str(lines);
    }

    pub fn cx(&self) -> Context {
        let env = Env::parse(self.settings.as_bytes()).expect("an env file");
        Context {
            settings: AgentSettings::from_env(&env).expect("settings"),
            agent_env: env,
            store: self.store(),
            machine: self.machine.clone(),
            common: self.common.clone(),
            sources: self.sources.clone(),
            trust: self.trust.clone(),
            events: Events::default(),
            who: "ann".to_owned(),
            id: format!("{:012x}", self.asked.fetch_add(1, Ordering::Relaxed)),
            rollback_window: Default::default(),
            cut: Default::default(),
            deadline: None,
        }
    }

    fn store(&self) -> Store {
        Store::at(self.dir.path().join("state"))
    }

    pub fn app(&self) -> App {
        self.named("my-app")
    }

    pub fn named(&self, app: &str) -> App {
        self.store().app(&app.parse().expect("a name"))
    }

    /// Publishes a release of my-app: its Procfile, and further lines of its env.
    pub fn publish(&self, release: &str, procfile: &str, env: &str) {
        self.publish_as("my-app", release, procfile, env);
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own directory")]
    pub fn publish_as(&self, app: &str, release: &str, procfile: &str, env: &str) {
        let dir = self.place(app, release);
        fs::create_dir_all(&dir).expect("a directory");
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in [("Procfile", procfile), ("VERSION", release)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, text.as_bytes()).expect("in memory");
        }
        let bytes = archive.into_inner().expect("in memory");
        fs::write(dir.join("source.tar"), bytes).expect("write");
        fs::write(dir.join("env"), env.replace(';', "\n")).expect("write");
    }

    pub fn place(&self, app: &str, release: &str) -> PathBuf {
        self.dir.path().join("releases").join(app).join("production").join(release)
    }

    fn url(&self, app: &str, release: &str) -> model::release::url::ReleaseUrl {
        let path = self.place(app, release);
        format!("file://{}", path.display()).parse().expect("a URL")
    }

    pub async fn deploy(&self, release: &str) -> Result<Done> {
        self.deploy_as("my-app", release).await
    }

    pub async fn deploy_as(&self, app: &str, release: &str) -> Result<Done> {
        self.deploy_in(&self.cx(), app, release).await
    }

    pub async fn deploy_in(&self, cx: &Context, app: &str, release: &str) -> Result<Done> {
        let locked = self.named(app).lock()?;
        deploy::deploy(cx, locked, &self.url(app, release), RunRelease::No).await
    }

    /// Deploys with the release phase.
    pub async fn release(&self, release: &str) -> Result<Done> {
        let locked = self.app().lock()?;
        deploy::deploy(&self.cx(), locked, &self.url("my-app", release), RunRelease::Yes).await
    }

    /// Deploys with the release phase, which runs once for this id.
    pub async fn release_once(&self, release: &str, id: &str) -> Result<Done> {
        let locked = self.app().lock()?;
        let once = RunRelease::Once(id.to_owned());
        deploy::deploy(&self.cx(), locked, &self.url("my-app", release), once).await
    }

    pub async fn stage(&self, release: &str) -> Result<Done> {
        self.stage_in(&self.cx(), release).await
    }

    pub async fn stage_in(&self, cx: &Context, release: &str) -> Result<Done> {
        deploy::stage_only(cx, self.app().lock()?, &self.url("my-app", release)).await
    }

    pub async fn roll_back(&self, to: Option<&str>) -> Result<Done> {
        let to = to.map(|label| label.parse::<Label>().expect("a label"));
        deploy::roll_back(&self.cx(), self.app().lock()?, to).await
    }

    /// Deploys with a daemon that is killed when it requests this job, and starts again with
    /// nothing in its memory.
    pub async fn dies_at(&mut self, job: &str, release: &str) {
        self.state().dies_at = Some(job.to_owned());
        tokio::select! {
            done = self.deploy(release) => panic!("it lived: {done:?}"),
            () = self.machine.death() => {}
        }
        self.starts_anew();
    }

    /// Starts another run of the daemon.
    pub fn starts_anew(&mut self) {
        self.common = Arc::new(in_short());
    }

    /// Decides how long a deploy that has failed waits for the disk.
    pub fn waits_for_the_disk(&mut self, last_wait: Duration) {
        Arc::get_mut(&mut self.common).expect("no job runs").last_wait = last_wait;
    }

    pub async fn recover(&self) -> Result<Done> {
        deploy::recover(&self.cx(), self.app().lock()?).await
    }

    pub async fn restart(&self, process: Option<&str>) -> Result<String> {
        self.perform(ProcessAction::Restart, process).await
    }

    pub async fn perform(&self, action: ProcessAction, process: Option<&str>) -> Result<String> {
        let (cx, words) = (self.cx(), action.name().to_owned());
        let work = |app| processes::perform(action, &cx, app, process, false);
        history::recorded(&cx, self.app().lock()?, words, work).await
    }

    pub async fn scale(&self, kind: &str, count: u16) -> Result<String> {
        let counts = BTreeMap::from([(kind.to_owned(), count)]);
        processes::scale(&self.cx(), self.app().lock()?, &counts).await
    }

    /// What status says of settings that the current release does not run by yet.
    pub fn unapplied(&self) -> Option<String> {
        let label = self.app().current().expect("readable").expect("a current release");
        let manifest = self.app().manifest(&label).expect("readable");
        let cx = self.cx();
        crate::formation::unapplied(&cx.agent_env, &self.app(), &manifest).expect("readable")
    }

    /// Changes the lines of agent.env after the short settings of all stories.
    pub fn configure(&mut self, settings: &str) {
        self.settings = format!("{SETTINGS}{settings}");
    }

    /// Asserts that a deploy fails with this code.
    #[track_caller]
    pub fn fails(result: Result<Done>, exit: Exit) -> Error {
        let error = result.expect_err("it is to fail");
        assert_eq!(error.exit(), exit, "{}", error.chain());
        error
    }

    pub fn current(&self) -> Option<String> {
        self.app().current().expect("readable").map(|label| label.to_string())
    }

    pub fn installed(&self) -> Vec<String> {
        let snapshot = self.app().snapshot().expect("readable");
        snapshot.releases.iter().map(|manifest| manifest.label.to_string()).collect()
    }

    pub fn state_of(&self, release: &str) -> model::release::state::State {
        let snapshot = self.app().snapshot().expect("readable");
        snapshot.release(&release.parse().expect("a label")).expect("installed").state
    }

    /// The processes that run, without the common prefix of their names.
    pub fn runs(&self) -> Vec<String> {
        let own = |unit: String| unit.strip_prefix("deploy-my-app-").map(str::to_owned);
        let processes = self.machine.running().into_iter().filter(|unit| unit.contains('@'));
        processes.filter_map(own).collect()
    }

    /// The processes that serve clients of my-app.
    pub fn served_by(&self) -> Vec<String> {
        let own = |unit: String| unit.strip_prefix("deploy-my-app-").map(str::to_owned);
        self.machine.reached_by(5000).into_iter().filter_map(own).collect()
    }

    pub fn jobs(&self) -> Vec<String> {
        std::mem::take(&mut self.state().jobs)
    }

    pub fn last(&self) -> Entry {
        self.app().history(1).expect("readable").pop().expect("an entry")
    }

    pub fn reboot(&self) {
        self.machine.reboot();
    }

    pub fn kill(&self, unit: &str) {
        self.machine.kill(unit);
    }

    /// Decides how long a sync takes, also one that goes on.
    pub fn syncs(&self, how: Syncs) {
        self.state().disk = how;
    }
}

/// Where files are in memory, so that no test waits for a disk; Linux has it, a container may not.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    match access(&shared, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => shared,
        Err(_) => std::env::temp_dir(),
    }
}

/// The values that the jobs of one daemon share, with no longer pause than a test needs.
fn in_short() -> Common {
    Common { restore_pause: Duration::from_millis(1), ..Common::default() }
}

/// The steps and warnings of a deploy, in order.
pub async fn texts(events: &Events) -> Vec<String> {
    let mut follower = events.follow();
    events.close();
    let mut told = Vec::new();
    while let Some(event) = follower.next().await {
        match event {
            Event::Step { step, .. } => told.push(step.name().to_owned()),
            Event::Warning { text } => told.push(text),
            _ => {}
        }
    }
    told
}
