//! The command line: parse, do, print, exit code.

pub mod args;
mod config;
mod exec;
mod instances;
mod interrupt;
mod logs;
mod print;
mod progress;
mod ps;
mod reach;
mod rollouts;

pub use args::Cli;

use crate::context::Context;
use crate::maker::{self, Order};
use crate::objects::{Bucket, connect};
use crate::place::Place;
use crate::publish::Published;
use crate::report::Report;
use crate::settings::{Given, Settings, Target};
use crate::signature::Signer;
use crate::source::Wanted;
use crate::{lock, promote, releases};
use args::{Command, Global, LockArgs, Maker, PromoteArgs, ReleaseArgs, ReleasesArgs, UnlockArgs};
use model::error::{Error, Exit, Result};
use model::release::name::EnvironmentName;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Does what the command line asks for; returns the exit code.
pub async fn run(cli: Cli) -> u8 {
    let (name, json) = (cli.command.name(), cli.global.json);
    match perform(cli).await {
        Ok(code) => code,
        Err(error) => {
            print::failed(&error, name, json);
            error.exit().code()
        }
    }
}

async fn perform(cli: Cli) -> Result<u8> {
    let Cli { global, command } = cli;
    let here = std::env::current_dir()
        .map_err(|why| Error::failed("find the working directory").because(why))?;
    let settings = Settings::find(&here)?;
    let desk = Desk { global, settings, here };
    let done = match command {
        Command::Release(args) => desk.release(args).await,
        Command::Releases(args) => desk.releases(args).await,
        Command::Promote(args) => desk.promote(args).await,
        Command::Config(args) => config::config(&desk, args).await,
        Command::Lock(args) => desk.lock(args).await,
        Command::Unlock(args) => desk.unlock(args).await,
        Command::Deploy(args) => return rollouts::deploy(&desk, args).await,
        Command::Rollback(args) => return rollouts::rollback(&desk, args).await,
        Command::Attach(args) => return rollouts::attach(&desk, args).await,
        Command::Cancel(args) => return rollouts::cancel(&desk, args).await,
        Command::History(args) => return rollouts::history(&desk, args).await,
        Command::Ps(args) => return ps::ps(&desk, args).await,
        Command::Exec(args) => return exec::exec(&desk, args).await,
        Command::Ssh(args) => return exec::ssh(&desk, args).await,
        Command::Logs(args) => return logs::logs(&desk, args).await,
    };
    done.map(|()| Exit::Done.code())
}

/// The settings and options of every command.
struct Desk {
    global: Global,
    settings: Settings,
    here: PathBuf,
}

impl Desk {
    fn target(&self, environment: Option<EnvironmentName>) -> Result<Target> {
        let Global { app, store, region, group, .. } = self.global.clone();
        self.settings.target(&Given { app, store, environment, region, group })
    }

    /// Connects to the store of an environment.
    async fn open(&self, target: Target) -> Result<Context> {
        let config = connect(target.region.as_deref()).await?;
        let store = Arc::new(Bucket::new(&config, target.store));
        let (by, report) = (maker::person(None, &self.here), Report { quiet: self.global.json });
        Ok(Context { store, place: target.place, by, signer: None, report })
    }

    /// Connects in order to make a release. Only that needs the key.
    async fn make(&self, target: Target, maker: Maker) -> Result<Context> {
        let base = self.settings.directory.as_deref().unwrap_or(&self.here);
        let signer = match (&maker.sign, &self.settings.sign) {
            (Some(key), _) => Some(Signer::new(key, &self.here)?),
            (None, Some(key)) => Some(Signer::new(key, base)?),
            (None, None) => None,
        };
        let by = maker::person(maker.by, &self.here);
        Ok(Context { by, signer, ..self.open(target).await? })
    }

    async fn release(&self, args: ReleaseArgs) -> Result<()> {
        let cx = self.make(self.target(args.environment)?, args.maker).await?;
        let app = self.settings.directory.clone();
        let wanted = Wanted { source: args.source, dirty: args.dirty, app };
        let made = maker::release(&cx, Order { here: self.here.clone(), wanted, tag: args.tag });
        let made = made.await?;
        self.published(&cx.place, &made.published)?;
        made.untagged.map_or(Ok(()), Err)
    }

    async fn promote(&self, args: PromoteArgs) -> Result<()> {
        let (from, to) = (self.target(Some(args.from))?, self.target(Some(args.to))?);
        if from.store != to.store {
            let error = Error::usage(format!("promote from {} to {}", from.place, to.place));
            let why = "their stores differ, and a store copies within itself alone";
            return Err(error.because(why).help("make the release again: `ship release`"));
        }
        let cx = self.make(to, args.maker).await?;
        let published = promote::promote(&cx, &from.place, args.release).await?;
        self.published(&cx.place, &published)
    }

    async fn releases(&self, args: ReleasesArgs) -> Result<()> {
        let cx = self.open(self.target(args.environment)?).await?;
        let (listed, now) = releases::list(&cx, args.lines).await?;
        if self.global.json {
            return print::json(&listed);
        }
        if listed.is_empty() {
            let help = format!("`ship release {}` makes one", cx.place.environment);
            return print::text(&format!("{} has no release; {help}\n", cx.place));
        }
        print::text(&releases::table(&listed, now, print::width()))
    }

    async fn lock(&self, args: LockArgs) -> Result<()> {
        let LockArgs { environment, why, by } = args;
        let mut cx = self.open(self.target(environment)?).await?;
        cx.by = maker::person(by, &self.here);
        let held = lock::take(&cx, &why, None).await?;
        if self.global.json {
            return print::json(&held.lock);
        }
        let environment = &cx.place.environment;
        cx.report.step("locked", format!("{}; `ship unlock {environment}` ends it", cx.place));
        Ok(())
    }

    async fn unlock(&self, args: UnlockArgs) -> Result<()> {
        let cx = self.open(self.target(args.environment)?).await?;
        let lock = lock::unlock(&cx, args.force).await?;
        if self.global.json {
            return print::json(&lock);
        }
        cx.report.step("unlocked", format!("{}: {} had it for {}", cx.place, lock.by, lock.why));
        Ok(())
    }

    /// Prints the number of a release: the result of the command.
    fn published(&self, place: &Place, published: &Published) -> Result<()> {
        let Published { number, document } = published;
        if !self.global.json {
            return print::text(&format!("{number}\n"));
        }
        let Place { app, environment } = place;
        let release = number.to_string();
        print::json(&json!({
            "app": app, "environment": environment, "release": release, "document": document,
        }))
    }
}
