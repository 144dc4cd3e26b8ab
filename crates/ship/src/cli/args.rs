//! The command line: types only. Help and man pages are made of them.

// xtask includes this file, too, and would look for these elsewhere.
#[path = "args/examples.rs"]
mod examples;
#[path = "args/instances.rs"]
pub mod instances;
#[path = "args/rollouts.rs"]
pub mod rollouts;

use crate::place::Number;
use clap::{Args, Parser, Subcommand};
use model::release::name::{AppName, EnvironmentName};
use std::path::PathBuf;

/// Makes releases from Git, keeps their config, and deploys them to groups of instances.
///
/// A release is an archive and an env in an S3 bucket, under a number: r1, r2 … The program
/// `deploy` on an instance deploys it as it is. ship itself has no state: all of it is in the
/// bucket. Credentials are found as by the AWS CLI.
#[derive(Debug, Parser)]
#[command(
    name = "ship",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  ship release production              of the commit that is checked out
  ship releases production             what there is, and what is current
  ship promote staging production      its release, with production's config
  ship config set -e production A=1    a variable of the next release
  ship deploy production               the newest release, on all instances
  ship rollback production             the release before
  ship ps production                   what runs on each instance
  ship logs production -f              what all processes write

ship.toml in the app's repository saves most options:
  app = \"my-app\"
  store = \"s3://releases\"
  [environments.production]
  region = \"eu-central-1\"

Exit codes:
   0  done
   1  ship itself failed
   2  usage
  10  the release or the config is unusable; nothing is changed
  11  the store refuses the request, or there are no credentials
  12  an instance did not become healthy; the group runs the old release
  20  it failed after the switch; the group runs the old release
  30  the group is mixed: the error says who runs what
  40  someone else has changed it meanwhile, or has locked it
  41  AWS, or an instance, cannot be reached
  42  deployed, and instances were left out; or rolled back while S3 was down
  43  cancelled; the group runs the old release"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The app; by default the one in ship.toml.
    #[arg(long, global = true, env = "SHIP_APP", value_name = "APP")]
    pub app: Option<AppName>,
    /// The bucket of the releases, s3://BUCKET or s3://BUCKET/PREFIX; by default the one in ship.toml.
    #[arg(long, global = true, env = "SHIP_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// The AWS region; by default the one in ship.toml, AWS_REGION or the profile.
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The Auto Scaling group; by default the one in ship.toml, or those with the tags deploy:app
    /// and deploy:environment.
    #[arg(long, global = true, env = "SHIP_GROUP", value_name = "NAME")]
    pub group: Option<String>,
    /// Print the result, or the failure, as a line of JSON, and no progress; of a rollout, each
    /// event.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a release: pack, check, number, upload. Prints its number.
    ///
    /// Packs the commit that is checked out, without what .deployignore and the attribute
    /// export-ignore name. The same commit makes the same bytes everywhere. Procfile, config and
    /// settings are checked as the agent checks them; nothing is uploaded if they are refused.
    #[command(after_help = examples::RELEASE)]
    Release(ReleaseArgs),
    /// List the releases of an environment, the newest first; * marks the one that `current`
    /// names.
    #[command(after_help = examples::RELEASES)]
    Releases(ReleasesArgs),
    /// Copy a release into another environment, with that environment's config.
    ///
    /// The store copies the archive itself: the same bytes, under the next number.
    #[command(after_help = examples::PROMOTE)]
    Promote(PromoteArgs),
    /// Read and change the variables of the next release.
    ///
    /// Running processes are not affected: a release never changes. Values are printed only if they are
    /// asked for by name.
    #[command(after_help = examples::CONFIG)]
    Config(ConfigArgs),
    /// Ask others to leave an environment alone, until it is unlocked.
    #[command(after_help = examples::LOCK)]
    Lock(LockArgs),
    /// Remove the lock of an environment.
    #[command(after_help = examples::UNLOCK)]
    Unlock(UnlockArgs),
    /// Deploy a release to all instances of an environment, a batch at a time.
    ///
    /// The first instance is alone. At the first failure nothing more is begun, and the instances
    /// that have the release go back: the group ends on the new release, or on the old one.
    /// `current` moves last. A rollout whose ship is gone is taken up by `ship attach`, or by the
    /// next `ship deploy`. With --json each event is a line.
    #[command(after_help = examples::DEPLOY)]
    Deploy(rollouts::DeployArgs),
    /// Go back to the release before, on all instances, from what they still have on their disks.
    ///
    /// If S3 does not respond, the rollback goes on without the lock, the history and `current`
    /// (exit 42): repeat the command once S3 responds. Without --to, all instances must then name
    /// the same release.
    #[command(after_help = examples::ROLLBACK)]
    Rollback(rollouts::RollbackArgs),
    /// Follow a rollout to its end, and go on with it if its ship is gone.
    #[command(after_help = examples::ATTACH)]
    Attach(rollouts::AttachArgs),
    /// Make a rollout stop and go back; instances that work on it finish first.
    #[command(after_help = examples::CANCEL)]
    Cancel(rollouts::AttachArgs),
    /// List the rollouts of an environment, the newest first.
    #[command(after_help = examples::HISTORY)]
    History(rollouts::HistoryArgs),
    /// Show the instances of an environment, and what runs on each.
    ///
    /// A row that begins with ! is an instance that is unreachable, is not healthy, or runs another
    /// release than `current` names (drift): exit code 12. Columns that say nothing are left out.
    #[command(after_help = examples::PS)]
    Ps(rollouts::PsArgs),
    /// Run a command of the app on an instance, or on all.
    ///
    /// It is `deploy exec` there: the command has the current release's directory, env, user and
    /// sandbox, and a terminal if ship is run at one. The exit code is the command's own; with
    /// several instances, the highest.
    #[command(after_help = examples::EXEC)]
    Exec(instances::ExecArgs),
    /// Log in to an instance.
    #[command(after_help = examples::SSH)]
    Ssh(instances::SshArgs),
    /// Print what the processes on all instances wrote, merged by time.
    ///
    /// Times are in UTC. Lines that are followed come as they are written.
    #[command(after_help = examples::LOGS)]
    Logs(instances::LogsArgs),
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Command::Release(_) => "release",
            Command::Releases(_) => "releases",
            Command::Promote(_) => "promote",
            Command::Config(_) => "config",
            Command::Lock(_) => "lock",
            Command::Unlock(_) => "unlock",
            Command::Deploy(_) => "deploy",
            Command::Rollback(_) => "rollback",
            Command::Attach(_) => "attach",
            Command::Cancel(_) => "cancel",
            Command::History(_) => "history",
            Command::Ps(_) => "ps",
            Command::Exec(_) => "exec",
            Command::Ssh(_) => "ssh",
            Command::Logs(_) => "logs",
        }
    }
}

/// The maker of a release.
#[derive(Debug, Args)]
pub struct Maker {
    /// Name of the maker, for release.json; otherwise user.name of Git.
    #[arg(long, env = "SHIP_BY", value_name = "NAME")]
    pub by: Option<String>,
    /// Sign it with this SSH key: a private key's file, or the public half of a key that the SSH
    /// agent holds; otherwise `sign` of ship.toml.
    #[arg(long, value_name = "KEY")]
    pub sign: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// A directory, whose files are packed as they are, or a branch, a tag or a commit.
    #[arg(long, value_name = "DIR|COMMIT", conflicts_with = "dirty")]
    pub source: Option<String>,
    /// Pack the working tree with its changes: files that Git tracks, and new ones that it does
    /// not ignore.
    #[arg(long)]
    pub dirty: bool,
    /// Put the annotated Git tag rN on the commit.
    #[arg(long, conflicts_with = "dirty")]
    pub tag: bool,
    #[command(flatten)]
    pub maker: Maker,
}

#[derive(Debug, Args)]
pub struct ReleasesArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The most releases to list.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The environment that has the release.
    #[arg(value_name = "FROM")]
    pub from: EnvironmentName,
    /// The environment that gets it.
    #[arg(value_name = "TO")]
    pub to: EnvironmentName,
    /// The release; otherwise the one that FROM's `current` names, or its newest.
    #[arg(value_name = "rN")]
    pub release: Option<Number>,
    #[command(flatten)]
    pub maker: Maker,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(short, long, global = true, value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the names of all variables, or the values of those that are named.
    #[command(after_help = examples::CONFIG_GET)]
    Get {
        /// One name prints its value; several print assignments.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Set variables: NAME=VALUE, or NAME with the value on standard input, which keeps it out
    /// of the shell's history.
    #[command(after_help = examples::CONFIG_SET)]
    Set {
        #[arg(value_name = "NAME[=VALUE]", required = true)]
        assignments: Vec<String>,
        #[command(flatten)]
        release: AndRelease,
    },
    /// Remove variables.
    #[command(after_help = examples::CONFIG_UNSET)]
    Unset {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        release: AndRelease,
    },
    /// Edit all of it with $VISUAL or $EDITOR, in a private file in memory.
    #[command(after_help = examples::CONFIG_EDIT)]
    Edit {
        #[command(flatten)]
        release: AndRelease,
    },
    /// Print the names that differ from a release: + new, ~ changed, - removed.
    #[command(after_help = examples::CONFIG_DIFF)]
    Diff {
        /// The release; otherwise the one that `current` names, or the newest.
        #[arg(value_name = "rN")]
        release: Option<Number>,
    },
}

#[derive(Debug, Args)]
pub struct AndRelease {
    /// Also make a release: the archive of the newest one, with the new config.
    #[arg(long)]
    pub release: bool,
    #[command(flatten)]
    pub maker: Maker,
}

#[derive(Debug, Args)]
pub struct LockArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// The reason, which others see.
    #[arg(short = 'm', long = "message", value_name = "WHY")]
    pub why: String,
    /// Name of the owner; otherwise user.name of Git.
    #[arg(long, env = "SHIP_BY", value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct UnlockArgs {
    /// The environment; not needed where ship.toml has only one.
    #[arg(value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// Also remove a lock whose lease has not run out: of a deploy that is surely gone.
    #[arg(long)]
    pub force: bool,
}
