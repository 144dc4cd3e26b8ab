//! The release that `deploy run` runs: a directory as it is, or what a URL holds.

use crate::host::deployd_program;
use crate::store::removal;
use model::error::{Error, Result};
use model::helper::{FETCH, Fetched};
use model::release::ParseError;
use model::release::env::{Env, STANDARD_PATH};
use model::release::name::AppName;
use model::release::procfile::Procfile;
use model::release::settings::{DEFAULT_VARIABLES, ReleaseSettings, SET_BY_AGENT};
use model::release::url::ReleaseUrl;
use nix::unistd::mkdtemp;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The names of what was not released yet.
const APP: &str = "app";
const ENVIRONMENT: &str = "development";
const RELEASE: &str = "local";

/// A release in a directory, ready to run.
pub(super) struct Tree {
    pub dir: PathBuf,
    pub env: Env,
    pub procfile: Procfile,
    pub settings: ReleaseSettings,
    /// As DEPLOY_APP, DEPLOY_ENVIRONMENT and DEPLOY_RELEASE have them.
    names: [String; 3],
    /// As DEPLOY_SHARED has it.
    shared: PathBuf,
    /// The tree, where it was fetched, and the shared directory, where the caller has none.
    temporary: Vec<Temporary>,
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = removal::remove(&self.0);
    }
}

impl Temporary {
    fn make() -> Result<Temporary> {
        let made = mkdtemp(&env::temp_dir().join(format!("deploy-run-{}", "X".repeat(6))));
        made.map(Temporary).map_err(|e| Error::failed("make a temporary directory").because(e))
    }
}

impl Tree {
    /// The directory is ours, and goes with us.
    pub fn is_fetched(&self) -> bool {
        self.temporary.iter().any(|temporary| temporary.0 == self.dir)
    }

    /// What its env and its names give to every process.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let release = self.env.iter().filter(|(name, _)| !SET_BY_AGENT.contains(name));
        let release = release.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names = ["DEPLOY_APP", "DEPLOY_ENVIRONMENT", "DEPLOY_RELEASE"].map(str::to_owned);
        let names = names.into_iter().zip(self.names.iter().cloned());
        let shared = self.shared.to_string_lossy().into_owned();
        let defaults = DEFAULT_VARIABLES.iter().filter(|(name, _)| self.env.get(name).is_none());
        let defaults = defaults.map(|&(name, value)| (name.to_owned(), value.to_owned()));
        release.chain(defaults).chain(names).chain([("DEPLOY_SHARED".to_owned(), shared)])
    }
}

/// A directory of the caller's, in which nothing is made.
pub(super) fn local(dir: &Path) -> Result<Tree> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read(&path)
            .map_err(|e| (e.kind(), Error::unusable(format!("read {}", path.display())).because(e)))
    };
    let text =
        read("Procfile").map_err(|(_, error)| error.help("name a directory with a Procfile"))?;
    let env = match read("env") {
        Ok(bytes) => bytes,
        Err((ErrorKind::NotFound, _)) => Vec::new(),
        Err((_, error)) => return Err(error),
    };
    let absolute = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = absolute.file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| name.parse::<AppName>().is_ok()).unwrap_or(APP);
    let names = [name, ENVIRONMENT, RELEASE].map(str::to_owned);
    tree(dir.to_owned(), names, &text, &env, Vec::new())
}

/// A release, in a directory of its own.
pub(super) async fn fetched(url: &ReleaseUrl) -> Result<Tree> {
    let temporary = Temporary::make()?;
    let dir = temporary.0.clone();
    let release: Fetched =
        deployd_program::ask(&[FETCH.as_ref(), url.to_string().as_ref(), dir.as_ref()]).await?;
    let path = dir.join("Procfile");
    let text = fs::read(&path)
        .map_err(|e| Error::unusable(format!("read Procfile of {url}")).because(e))?;
    let names = [url.app().to_string(), url.environment().to_string(), release.name];
    let tree = tree(dir, names, &text, &release.env, vec![temporary])?;
    make_writable(&tree)?;
    Ok(tree)
}

/// The directories that an instance makes for what processes write.
#[expect(clippy::disallowed_methods, reason = "it is no part of the agent's state")]
fn make_writable(tree: &Tree) -> Result<()> {
    tree.settings.writable.iter().try_for_each(|relative| {
        let path = tree.dir.join(relative);
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let what = || format!("make the writable directory {relative}");
        fs::create_dir_all(path).map_err(|e| Error::unusable(what()).because(e))
    })
}

fn tree(
    dir: PathBuf,
    names: [String; 3],
    procfile: &[u8],
    env: &[u8],
    mut temporary: Vec<Temporary>,
) -> Result<Tree> {
    let refused = |file: &str, error: ParseError| {
        let help = error.help.clone().unwrap_or_else(|| "correct it".to_owned());
        Error::unusable(dir.join(file).display().to_string()).because(error).help(help)
    };
    let path = env::var("PATH").unwrap_or_else(|_| STANDARD_PATH.to_owned());
    let env = Env::parse_on(env, &path).map_err(|e| refused("env", e))?;
    let procfile = Procfile::parse(procfile).map_err(|e| refused("Procfile", e))?;
    let settings = ReleaseSettings::merge(&Env::default(), &env)?;
    let shared = match env::var_os("DEPLOY_SHARED").filter(|shared| !shared.is_empty()) {
        Some(shared) => shared.into(),
        None => {
            temporary.push(Temporary::make()?);
            temporary.last().map(|made| made.0.clone()).unwrap_or_default()
        }
    };
    Ok(Tree { dir, env, procfile, settings, names, shared, temporary })
}
