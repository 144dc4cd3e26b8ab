//! The command line: types only. Help, completions and man pages are made of them.
//!
//! xtask compiles this file too, so that it can write the man pages without the rest of
//! the agent: it imports clap, and the parser of durations from the module above.

use super::duration;
use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// Deploys a release from S3 to this instance.
///
/// `deploy URL` downloads the release, checks and unpacks it, turns its Procfile
/// into systemd services, starts them, and keeps the old release for rollback.
/// Whatever fails, the release that ran before runs on or runs again, and the
/// exit code says which.
#[derive(Debug, Parser)]
#[command(
    name = "deploy",
    version,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  deploy s3://releases/my-app/production/r42     deploy release r42
  deploy s3://releases/my-app/production/current deploy what `current` names
  deploy rollback                                go back, without the network
  deploy status                                  what runs, and how it is

Exit codes:
   0  deployed, or already there
   1  the agent itself failed; what ran before runs on
   2  usage
  10  the release is unusable; untouched
  11  the source cannot be reached or refuses us; untouched
  12  the release did not become healthy; the one before runs on, untouched
      (`deploy status`: a release that runs here is not healthy)
  20  failed after the switch (or, with strategy restart, did not become healthy);
      the previous release runs again
  30  failed and could not roll back
  40  another deploy of this app is running
  41  deployd cannot be reached, or the connection was lost: see `deploy status`
  43  cancelled before its commit; what ran before runs on"
)]
pub struct Cli {
    #[command(flatten)]
    pub deploy: Option<DeployArgs>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy the release at URL (the same as `deploy URL`).
    Release(DeployArgs),
    /// Go back to the release that ran before; needs no network.
    Rollback(RollbackArgs),
    /// Follow a deploy that is under way, or that ended, to its outcome.
    Attach(AttachArgs),
    /// What runs, since when, health, restarts, memory, ports, the last outcome. Exits with
    /// 12 where an app that is shown is not healthy.
    Status(OneApp),
    /// The releases installed on this instance: what runs, where a rollback goes, what waits.
    Releases(OneApp),
    /// What was asked for on this instance, by whom, and how it ended.
    ///
    /// Deploys, rollbacks, restarts, stops, starts and removals, the newest last, with times
    /// in UTC. An app that was removed keeps its history. At a terminal long results are cut;
    /// in a pipe and with --json they are whole. With --json the newest comes first.
    History(HistoryArgs),
    /// Fetch and check a release without running it: bake it into an image, or
    /// have it ready on a fleet.
    Stage(StageArgs),
    /// What deploying URL would change: processes, units, names in env.
    Plan(UrlArgs),
    /// Run a release's Procfile in the foreground: no root, no systemd.
    ///
    /// TARGET is a release's URL, or a directory with a Procfile (and perhaps a
    /// file `env`). Ctrl-C stops it, as an instance stops services; the second one
    /// kills what is left. Your HOME stays; DEPLOY_SHARED is a directory that goes with
    /// the run, unless your environment names one.
    Run(RunArgs),
    /// End a deploy that waits, or has not committed its release yet.
    ///
    /// What ran before runs on, and whoever waits for the deploy is told so with exit code
    /// 43. A release that is staged by then stays on the disk. After the commit it is
    /// `deploy rollback` that takes a release back.
    Cancel(CancelArgs),
    /// What the processes wrote to stdout and stderr.
    ///
    /// Lines of more than one release name theirs; `(candidate)` marks a release that was never
    /// current. Times are in UTC. What an app wrote before its first success is found too.
    Logs(LogsArgs),
    /// Restart an app, a process type (`web`) or one process (`web.1`), while it serves.
    ///
    /// A new process is started beside the old one, gets its clients when it is healthy, and
    /// then the old one restarts; with several processes of a type one restarts after the
    /// other. One that does not become healthy stops nothing: exit code 12, and what ran runs
    /// on. A restart of the whole app applies the settings that agent.env has now. Processes
    /// that clients do not reach through the port map (workers, DEPLOY_STRATEGY=restart) stop
    /// first. `deploy stop` and `deploy start` do it without a proof.
    Restart(RestartArgs),
    /// Run more or fewer processes of a type, such as `deploy scale web=3`.
    ///
    /// It stays so, over reboots too, until another release is deployed; `deploy status` shows
    /// it. New processes get connections once they are healthy, and those that are stopped are
    /// drained first. DEPLOY_CONCURRENCY in the release's env is for good.
    Scale(ScaleArgs),
    /// Stop an app, a process type or one process. It stays stopped, over a
    /// reboot too, until it is started or a release is deployed.
    Stop(Processes),
    /// Start what was stopped.
    Start(Processes),
    /// Stop an app and take it off this instance: releases and shared files. Its history stays.
    Remove(RemoveArgs),
    /// Examine this instance, and say what to do about each fault.
    ///
    /// Nothing is changed. With URL, its store is examined too: the pointer, each permission
    /// by name, the clock. A line is ok, a warning, FAILED, or skipped where it does not
    /// apply. Exits with 1 if a line has failed, with 0 otherwise. Also works while deployd
    /// does not, with fewer lines.
    Doctor(DoctorArgs),
    /// Run a command of an app: a console, or a one-off.
    ///
    /// The command gets what a process of the app has: the current release's directory, env,
    /// user, HOME and sandbox, and a terminal if it is run at one. PS is run.1, and there is no
    /// PORT. It goes on during deploys and restarts of deployd, and ends when its caller does;
    /// `deploy status` shows it. The exit code is the command's own; 128 and the number of the
    /// signal that ended it.
    ///
    /// `deploy exec my-app -- bin/rails console`, `deploy exec my-app -- bash -c 'ls | wc'`,
    /// `deploy exec my-app release`.
    Exec(ExecArgs),
    /// The names of an app's variables, where each comes from, and what is new or changed.
    ///
    /// Values are printed only for the names that are given.
    Env(EnvArgs),
    /// What `deploy status` knows, as text for Prometheus, with deployd and the disk.
    ///
    /// Nothing is probed: health is what deployd found at its last look, ten seconds ago at
    /// most. The timer deployd-metrics.timer writes it for node_exporter's textfile collector.
    Metrics(MetricsArgs),
    /// Deploy what this instance is to run: for user-data, and at every boot.
    ///
    /// Without URL, the instance's tags say what: deploy:url, or deploy:store
    /// (s3://BUCKET/PREFIX), deploy:app and deploy:environment, whose `current` is deployed.
    /// Tags are read from the instance's metadata (InstanceMetadataTags=enabled).
    ///
    /// In an Auto Scaling group with a launching hook it sends heartbeats while it works, then
    /// CONTINUE if the release is good, and ABANDON if it is not; for a warm pool it only stages
    /// the release. The hook's name is the tag deploy:hook, the group's is in the tag that Auto
    /// Scaling sets. Exit codes are those of `deploy URL`; 1 also if the hook cannot be completed.
    Boot(BootArgs),
}

#[derive(Debug, Args)]
pub struct BootArgs {
    /// A release, or `current` of its environment, in place of the tags.
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// The launching hook to complete, in place of the tag deploy:hook.
    #[arg(long, value_name = "NAME")]
    pub hook: Option<String>,
    /// The Auto Scaling group, in place of the tag aws:autoscaling:groupName.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Send no ABANDON if the release is not good, so that the instance can be examined until
    /// the hook's own timeout.
    #[arg(long)]
    pub keep: bool,
    /// Give up when the release is not committed by then, waits included, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m")]
    pub timeout: Duration,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The app, which may be left out where one is installed; then, instead of CMD, a line of
    /// the Procfile to run, such as `release`.
    #[arg(value_name = "APP] [LINE", num_args = 0..=2)]
    pub words: Vec<String>,
    /// Run it as a process of this type would run; by default `web`, or else the first type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The program, found by the app's PATH, and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct EnvArgs {
    /// The app, which may be left out where one is installed; then the variables to print with
    /// their values.
    #[arg(value_name = "APP] [NAME", num_args = 0..)]
    pub words: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Replace this file at once, instead of printing. Its directory must exist.
    #[arg(long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// An app: all that waits or is under way for it. Or an id, as `deploy status` and
    /// `deploy --detach` have it. May be left out where one deploy is under way.
    #[arg(value_name = "APP|ID")]
    pub word: Option<String>,
    #[command(flatten)]
    pub asked: By,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[group(id = "deploying")]
pub struct DeployArgs {
    /// s3://BUCKET/[PREFIX/]APP/ENVIRONMENT/RELEASE, or https:// or file:// of the same shape.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Fail with exit code 40 instead of waiting for another deploy of the app.
    #[arg(long)]
    pub no_wait: bool,
    /// Run the Procfile's `release` once before the release starts, such as a migration
    /// of the database. In a group of instances, ask one of them for it. A deploy that is
    /// repeated with the same ID does not run it again, and fails if it failed.
    #[arg(
        long,
        value_name = "ID",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub run_release: Option<String>,
    /// Print the deploy's id and return; it goes on without this command.
    #[arg(long)]
    pub detach: bool,
    /// Give up when the release is not committed by then, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub timeout: Duration,
    /// The person or job that asks, for the history and `deploy status`: `NAME (root)`. Only
    /// root may name another.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    // Not Shown itself: clap takes a flattened Option of arguments that flatten others to be
    // absent.
    /// Print each event and the outcome as one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Print the outcome alone.
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Say where the time went; with --json the outcome always says so.
    #[arg(long)]
    pub timings: bool,
}

impl DeployArgs {
    pub fn shown(&self) -> Shown {
        Shown { json: self.json, quiet: self.quiet, timings: self.timings }
    }
}

/// Who asks for a job.
#[derive(Clone, Debug, Default, Args)]
pub struct By {
    /// The person or job that asks, for the history and `deploy status`: `NAME (root)`. Only
    /// root may name another.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// How the events of a job are shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct Shown {
    /// Print each event and the outcome as one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Print the outcome alone.
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Say where the time went; with --json the outcome always says so.
    #[arg(long)]
    pub timings: bool,
}

#[derive(Debug, Args)]
pub struct StageArgs {
    /// The release, as for `deploy URL`.
    #[arg(value_name = "URL")]
    pub url: String,
    #[command(flatten)]
    pub asked: By,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct UrlArgs {
    /// The release, as for `deploy URL`.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// May be left out where one app is installed.
    pub app: Option<String>,
    /// The release to go back to; `deploy releases` lists them.
    #[arg(long, value_name = "LABEL")]
    pub to: Option<String>,
    #[command(flatten)]
    pub asked: By,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// As `deploy --detach`, `deploy status` or `deploy history` has it. May be
    /// left out where one deploy is under way.
    pub id: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct OneApp {
    /// May be left out where one app is installed.
    pub app: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The app, which may have been removed; by default all apps.
    pub app: Option<String>,
    /// How many of the newest entries to show.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub lines: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Processes {
    /// The app, then a process type (`web`) or a process (`web.1`). The app may
    /// be left out where one is installed.
    #[arg(value_name = "APP] [PROCESS", num_args = 0..=2)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub asked: By,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The app, which may be left out where one is installed, and TYPE=COUNT, once or more.
    #[arg(value_name = "APP|TYPE=COUNT", required = true)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub asked: By,
    #[command(flatten)]
    pub shown: Shown,
}

#[derive(Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    pub processes: Processes,
    /// Give an app that runs as a user which others share, as 0.1.0 had it, a user of its
    /// own, with all its files. All of it stops meanwhile.
    #[arg(long)]
    pub own_user: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Apps; or an app, then a process type (`web`) or a process (`web.1`). The app may be left
    /// out where one is installed.
    #[arg(value_name = "APP...|APP PROCESS", num_args = 0..)]
    pub words: Vec<String>,
    /// Begin there: `10m` or `2h` ago, or a time as `journalctl --since` takes it.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only the lines of this release.
    #[arg(long, value_name = "LABEL")]
    pub release: Option<String>,
    /// Go on printing what is written.
    #[arg(short, long)]
    pub follow: bool,
    /// How many lines to begin with: 100, or all with --since.
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Print each line as one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// A release's URL, or a directory.
    #[arg(value_name = "URL|DIR")]
    pub target: String,
    /// The process types to run; by default all services. `build` or `release` alone
    /// runs that to its end.
    #[arg(value_name = "TYPE")]
    pub types: Vec<String>,
    /// The port of `web`.
    #[arg(long)]
    pub port: Option<u16>,
    /// Run it although you are root, and with root's rights.
    #[arg(long)]
    pub as_root: bool,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The app to remove.
    pub app: String,
    /// Remove it whatever state it is in: what is being done with it is cut off, its state
    /// on disk may be damaged, and what cannot be removed is named.
    #[arg(long)]
    pub force: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub asked: By,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A release that this instance is to deploy, or `current` of its environment.
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// Print JSON: one object a line of the page.
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// The command in the words of a shell.
    pub fn name(&self) -> &'static str {
        match &self.command {
            None | Some(Command::Release(_)) => "deploy",
            Some(Command::Rollback(_)) => "deploy rollback",
            Some(Command::Attach(_)) => "deploy attach",
            Some(Command::Status(_)) => "deploy status",
            Some(Command::Releases(_)) => "deploy releases",
            Some(Command::History(_)) => "deploy history",
            Some(Command::Stage(_)) => "deploy stage",
            Some(Command::Plan(_)) => "deploy plan",
            Some(Command::Run(_)) => "deploy run",
            Some(Command::Cancel(_)) => "deploy cancel",
            Some(Command::Logs(_)) => "deploy logs",
            Some(Command::Restart(_)) => "deploy restart",
            Some(Command::Scale(_)) => "deploy scale",
            Some(Command::Stop(_)) => "deploy stop",
            Some(Command::Start(_)) => "deploy start",
            Some(Command::Remove(_)) => "deploy remove",
            Some(Command::Doctor(_)) => "deploy doctor",
            Some(Command::Exec(_)) => "deploy exec",
            Some(Command::Env(_)) => "deploy env",
            Some(Command::Metrics(_)) => "deploy metrics",
            Some(Command::Boot(_)) => "deploy boot",
        }
    }

    /// Whether the answer is for a program.
    pub fn wants_json(&self) -> bool {
        let of_command = |command: &Command| match command {
            Command::Release(args) => args.json,
            Command::Rollback(args) => args.shown.json,
            Command::Stage(args) => args.shown.json,
            Command::Attach(args) => args.shown.json,
            Command::Plan(args) => args.json,
            Command::Status(args) | Command::Releases(args) => args.json,
            Command::History(args) => args.json,
            Command::Restart(args) => args.processes.json,
            Command::Stop(args) | Command::Start(args) => args.json,
            Command::Scale(args) => args.shown.json,
            Command::Remove(args) => args.json,
            Command::Cancel(args) => args.json,
            Command::Logs(args) => args.json,
            Command::Doctor(args) => args.json,
            Command::Run(_) | Command::Exec(_) | Command::Metrics(_) => false,
            Command::Env(args) => args.json,
            Command::Boot(args) => args.shown.json,
        };
        let of_deploy = || self.deploy.as_ref().is_some_and(|args| args.json);
        self.command.as_ref().map_or_else(of_deploy, of_command)
    }
}
