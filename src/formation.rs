//! The formation: how many processes of each type the current release runs. It is restarted and
//! changed in size while clients are served: a new process gets no connection before it is
//! healthy, and one that is stopped gets none any more.

use crate::context::{Context, blocking};
use crate::converge::{self, converge};
use crate::health::Watch;
use crate::store::{App, Locked};
use crate::{owner, preflight, stage};
use model::error::{Error, Exit, Result};
use model::event::Step;
use model::reason::Reason;
use model::release::env::Env;
use model::release::manifest::{Manifest, Plan, Process};
use model::release::name::ProcessType;
use model::release::procfile::Procfile;
use model::release::settings::{ReleaseSettings, Strategy};
use model::units;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The counts that `deploy scale` was asked for.
pub type Counts = BTreeMap<ProcessType, u16>;

/// The processes of the current release.
pub struct Formation<'a> {
    cx: &'a Context,
    app: &'a Locked,
    manifest: Manifest,
}

impl<'a> Formation<'a> {
    /// Opens the formation of the current release, without what an interrupted restart has left.
    pub fn open(cx: &'a Context, app: &'a Locked, manifest: Manifest) -> Result<Formation<'a>> {
        let mut formation = Formation { cx, app, manifest };
        if formation.manifest.end_rolling() {
            formation.write()?;
        }
        Ok(formation)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Restarts these processes: beside another one that serves meanwhile, and one after the
    /// other, where clients reach them through the port map.
    pub async fn restart(&mut self, chosen: &[Process]) -> Result<()> {
        let serving = self.serving().await?;
        let (behind_the_map, others): (Vec<_>, Vec<_>) =
            chosen.iter().cloned().partition(|process| serving.contains(process));
        match (behind_the_map.as_slice(), serving.len()) {
            ([], _) => {}
            ([only], 1) => self.restart_with_stand_in(only).await?,
            (several, _) => self.restart_in_turn(several).await?,
        }
        if !others.is_empty() {
            self.restart_units(&others).await?;
        }
        Ok(())
    }

    /// Takes over what agent.env says now of the settings that a restart can apply. Returns the
    /// manifest as it was, where there was anything to take over.
    pub fn take_over_settings(&mut self) -> Result<Option<Manifest>> {
        let plan = settings_now(&self.cx.agent_env, self.app, &self.manifest, None)?;
        let needs_deploy = needs_deploy(&self.manifest, &plan);
        if !needs_deploy.is_empty() {
            let names = needs_deploy.join(", ");
            self.cx.events.warn(format!("a restart does not apply {names}: `deploy URL` does"));
        }
        let plan = applicable(&self.manifest.plan, plan);
        if plan == self.manifest.plan {
            return Ok(None);
        }
        let before = self.manifest.clone();
        self.manifest.plan = plan;
        self.write()?;
        Ok(Some(before))
    }

    /// Restores a manifest after a restart that has failed.
    pub async fn put_back(&mut self, before: Manifest) -> Result<()> {
        self.manifest = before;
        self.write()?;
        converge(self.cx, self.app).await
    }

    /// Runs as many processes as asked for until another release is deployed. Returns what
    /// changed, in words.
    pub async fn scale(&mut self, counts: &Counts) -> Result<String> {
        // The limits of agent.env hold for these counts too.
        settings_now(&self.cx.agent_env, self.app, &self.manifest, Some(counts))?;
        let before = self.manifest.clone();
        let mut changed = Vec::new();
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        for service in &before.plan.processes {
            let Some(count) = counts.get(&service.kind).copied() else { continue };
            let (kind, now) = (service.kind.clone(), service.count);
            if count > now {
                more.push((kind, count))
            } else if count < now {
                fewer.push((kind, count))
            }
            changed.push(format!("{} from {now} to {count}", service.kind));
        }
        if more.is_empty() && fewer.is_empty() {
            return Ok("as many as asked for run already".to_owned());
        }
        self.manifest.remember_counts();
        if let Err(why) = self.grow(&more).await {
            self.put_back(before).await?;
            return Err(why);
        }
        self.shrink(&fewer).await?;
        Ok(changed.join(", "))
    }

    /// The processes that clients reach through the port map now.
    async fn serving(&self) -> Result<Vec<Process>> {
        let plan = &self.manifest.plan;
        if plan.strategy != Strategy::Handover {
            return Ok(Vec::new());
        }
        let stopped = self.app.snapshot()?.stopped;
        let mut serving = Vec::new();
        for process in plan.instances().filter(|process| process.port.is_some()) {
            let runs = self.cx.machine.status(&self.unit(&process)).await?.is_running();
            if runs && !stopped.covers(&process.to_string()) {
                serving.push(process);
            }
        }
        Ok(serving)
    }

    /// Restarts the only process that serves: another one of its type takes its place meanwhile.
    async fn restart_with_stand_in(&mut self, only: &Process) -> Result<()> {
        let before = self.manifest.clone();
        let count = self.manifest.plan.instances().filter(|one| one.kind == only.kind).count();
        let count = u16::try_from(count).unwrap_or(u16::MAX).saturating_add(1);
        if let Err(why) = self.grow_to(&only.kind, count).await {
            self.put_back(before).await?;
            let name = self.app.name();
            let what = format!("{only} of {name} was not restarted: it runs on");
            let help = format!("`deploy stop {name}` and `deploy start {name}` do without a proof");
            let error = Error::unhealthy(what).with_log(why.log().to_vec());
            return Err(match why.advice() {
                Some(advice) => error.help(advice.to_owned()).because(why),
                None => error.help(help).because(why),
            });
        }
        let plan = &self.manifest.plan;
        let stand_in = plan.instances().find(|one| one.kind == only.kind && one.number == count);
        self.hold_back(only.port).await?;
        self.restart_held_back(only, "another process of its type serves in its place").await?;
        let port = stand_in.and_then(|process| process.port);
        self.hold_back(port).await?;
        self.drain(port).await?;
        self.put_back(before).await
    }

    async fn restart_in_turn(&mut self, processes: &[Process]) -> Result<()> {
        for process in processes {
            self.hold_back(process.port).await?;
            self.restart_held_back(process, "the others serve").await?;
        }
        self.hold_back(None).await
    }

    /// Restarts a process that gets no new connections; if it fails, it gets none until the next
    /// restart, start or deploy.
    async fn restart_held_back(&self, process: &Process, meanwhile: &str) -> Result<()> {
        self.drain(process.port).await?;
        self.restart_units(std::slice::from_ref(process)).await.map_err(|why| {
            let log = why.log().to_vec();
            let what = format!("{process} did not come up again; {meanwhile}");
            Error::unhealthy(what).because(why).with_log(log)
        })
    }

    async fn restart_units(&self, processes: &[Process]) -> Result<()> {
        let cx = self.cx;
        converge::load_units(cx, &self.app.snapshot()?).await?;
        let units: Vec<String> = processes.iter().map(|process| self.unit(process)).collect();
        let restarted =
            cx.machine.restart(&units, converge::longest_stop(&self.app.snapshot()?)).await;
        restarted.map_err(|e| e.with_exit(Exit::Unhealthy).with_reason(Reason::StartFailed))?;
        self.prove(processes).await
    }

    async fn prove(&self, processes: &[Process]) -> Result<()> {
        let plan = &self.manifest.plan;
        let names: Vec<String> = processes.iter().map(Process::to_string).collect();
        let text = names.join(", ");
        self.cx.events.step_of_at_most(Step::Prove, text, plan.health_timeout + plan.prove);
        let mut watch = Watch::new(&self.cx.machine, &self.manifest);
        watch.retain(|name| names.iter().any(|chosen| chosen == name));
        watch.prove(plan.health_timeout, &self.cx.events).await?;
        watch.stay_healthy(plan.prove).await
    }

    /// Gives new connections to all processes but the one with this port.
    async fn hold_back(&mut self, port: Option<u16>) -> Result<()> {
        self.manifest.hold_back(port);
        self.write()?;
        self.cx.events.step(
            Step::Converge,
            match port {
                Some(port) => format!("no new connections to port {port}"),
                None => "new connections to all processes".to_owned(),
            },
        );
        converge::ports::load(self.cx).await
    }

    async fn drain(&self, port: Option<u16>) -> Result<()> {
        let Some(port) = port else { return Ok(()) };
        let end = Instant::now() + self.manifest.plan.drain_timeout;
        converge::drain_ports(self.cx, &[port], end).await
    }

    async fn grow(&mut self, more: &[(ProcessType, u16)]) -> Result<()> {
        for (kind, count) in more {
            self.grow_to(kind, *count).await?;
        }
        if !more.is_empty() {
            // All of them get connections from here on, and it stays so.
            self.manifest.rolling = None;
            self.write()?;
            converge::ports::load(self.cx).await?;
        }
        Ok(())
    }

    /// Starts more processes of a type; no connection comes to them yet.
    async fn grow_to(&mut self, kind: &ProcessType, count: u16) -> Result<()> {
        let (cx, app) = (self.cx, self.app);
        let before = self.manifest.plan.clone();
        {
            let _turn = cx.common.allocating.lock().await;
            self.manifest.set_count(kind, count);
            let missing = self.manifest.plan.private_ports_needed();
            let missing = missing.saturating_sub(before.private_ports.len());
            stage::ports::give_more(&cx.store, &*cx.machine, &mut self.manifest, missing)?;
            let new = self.manifest.plan.private_ports[before.private_ports.len()..].to_vec();
            self.manifest.begin_rolling(&before, new);
            preflight::release(cx, app, &self.manifest)?;
            self.write()?;
        }
        let started: Vec<Process> = self.manifest.plan.instances().collect();
        let started: Vec<Process> =
            started.into_iter().filter(|one| !before.instances().any(|old| old == *one)).collect();
        let owner = owner::identities(cx, app).await?;
        let names: Vec<String> = started.iter().map(Process::to_string).collect();
        if self.manifest.homes {
            let (label, builder) = (&self.manifest.label, owner.builder.ids);
            blocking(|| app.make_missing_homes(label, owner.ids, builder, &names))?;
        }
        converge::load_units(cx, &app.snapshot()?).await?;
        converge::ports::load_whole(cx).await?;
        let units: Vec<String> = started.iter().map(|process| self.unit(process)).collect();
        let up = cx.machine.start(&units).await;
        up.map_err(|e| e.with_exit(Exit::Unhealthy).with_reason(Reason::StartFailed))?;
        self.prove(&started).await
    }

    /// Stops processes, once no client is connected to them.
    async fn shrink(&mut self, fewer: &[(ProcessType, u16)]) -> Result<()> {
        if fewer.is_empty() {
            return Ok(());
        }
        let mut then = self.manifest.clone();
        fewer.iter().for_each(|(kind, count)| then.set_count(kind, *count));
        let kept: BTreeSet<u16> = then.plan.instances().filter_map(|one| one.port).collect();
        let leaving: Vec<u16> = self
            .manifest
            .plan
            .private_ports
            .iter()
            .copied()
            .filter(|p| !kept.contains(p))
            .collect();
        if !leaving.is_empty() {
            self.manifest.hold_back_all(leaving.clone());
            self.write()?;
            converge::ports::load(self.cx).await?;
            let end = Instant::now() + self.manifest.plan.drain_timeout;
            converge::drain_ports(self.cx, &leaving, end).await?;
        }
        then.plan.private_ports.truncate(kept.len());
        then.rolling = None;
        self.put_back(then).await
    }

    fn write(&self) -> Result<()> {
        self.app.write_manifest(&self.manifest)
    }

    fn unit(&self, process: &Process) -> String {
        units::service(self.app.name(), &self.manifest.label, process)
    }
}

/// Ends what an interrupted restart or scaling has left of the current release.
pub fn recover(app: &Locked) -> Result<()> {
    let Some(label) = app.current()? else { return Ok(()) };
    let mut manifest = app.manifest(&label)?;
    match manifest.end_rolling() {
        true => app.write_manifest(&manifest),
        false => Ok(()),
    }
}

/// The plan of an installed release by the settings as they are now, and with other counts.
fn settings_now(
    agent_env: &Env,
    app: &App,
    manifest: &Manifest,
    counts: Option<&Counts>,
) -> Result<Plan> {
    let label = &manifest.label;
    let what = |file: &str| Error::failed(format!("read {file} of release {label}"));
    let text = app.environment_file(label)?;
    let mut text = text;
    if let Some(counts) = counts {
        // The last one counts.
        let line = format!("\nDEPLOY_CONCURRENCY={}\n", concurrency(&manifest.plan, counts));
        text.extend_from_slice(line.as_bytes());
    }
    let env = Env::parse(&text).map_err(|e| what("the env").because(e))?;
    let settings = ReleaseSettings::merge(agent_env, &env)?;
    let text = app.procfile(label)?.unwrap_or_default();
    let procfile = Procfile::parse(&text).map_err(|e| what("Procfile").because(e))?;
    Ok(Plan::new(&procfile, &settings, &manifest.plan.user))
}

/// Returns which command applies what agent.env says now of the settings of a release, if its
/// processes do not run by it yet.
pub fn unapplied(agent_env: &Env, app: &App, manifest: &Manifest) -> Result<Option<String>> {
    let now = settings_now(agent_env, app, manifest, None)?;
    let needs_deploy = needs_deploy(manifest, &now);
    let name = app.name();
    if !needs_deploy.is_empty() {
        let names = needs_deploy.join(", ");
        return Ok(Some(format!("{names} in agent.env changed: `deploy URL` applies it")));
    }
    let differs = !applicable(&manifest.plan, now).is_same(&manifest.plan);
    Ok(differs.then(|| format!("agent.env changed: `deploy restart {name}` applies it")))
}

/// The plan with what a restart can apply of another one.
fn applicable(plan: &Plan, now: Plan) -> Plan {
    Plan {
        port: plan.port,
        strategy: plan.strategy,
        user: plan.user.clone(),
        private_ports: plan.private_ports.clone(),
        processes: plan.processes.clone(),
        ..now
    }
}

/// The settings that differ, and that only a deploy applies.
fn needs_deploy(manifest: &Manifest, now: &Plan) -> Vec<&'static str> {
    let plan = &manifest.plan;
    let scaled = !manifest.staged_counts.is_empty();
    let rows = [
        ("PORT", !manifest.port_is_own && plan.port != now.port),
        ("DEPLOY_STRATEGY", plan.strategy != now.strategy),
        ("DEPLOY_CONCURRENCY", !scaled && plan.counts() != now.counts()),
    ];
    rows.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn concurrency(plan: &Plan, counts: &Counts) -> String {
    let count = |kind: &ProcessType, now: u16| counts.get(kind).copied().unwrap_or(now);
    let all =
        plan.processes.iter().map(|one| format!("{}={}", one.kind, count(&one.kind, one.count)));
    all.collect::<Vec<_>>().join(",")
}
