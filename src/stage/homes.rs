//! Directories that the processes of a release do not share: their homes, and their own copies of
//! directories in the tree.

use crate::context::Context;
use crate::store::{Homes, Locked, Staging};
use model::error::Result;
use model::release::env::Env;
use model::release::manifest::Plan;
use model::release::procfile::Procfile;
use model::release::settings::{ReleaseSettings, Sandbox};
use std::path::Path;

/// Begins the homes of a release, or warns why $HOME is the shared directory.
pub(super) fn begin(cx: &Context, app: &Locked, staging: &Staging) -> Result<Option<Homes>> {
    let homes = staging.begin_homes()?;
    if homes.is_none() {
        let (name, shared) = (app.name(), app.shared());
        cx.events.warn(format!(
            "{name}: {} has so many entries that it stays the $HOME of every process; let the app \
             write to $DEPLOY_SHARED, and keep few entries at its top",
            shared.display()
        ));
    }
    Ok(homes)
}

/// Lists the processes that need a home: the running ones, and the release phase.
pub(super) fn processes(procfile: &Procfile, plan: &Plan) -> impl Iterator<Item = String> {
    let phase = procfile.release().map(|_| "release.1".to_owned());
    plan.instances().map(|process| process.to_string()).chain(phase).collect::<Vec<_>>().into_iter()
}

/// Lists the directories that each process has to itself: those that the tree has, and, if the
/// setting was given explicitly, all that it names.
pub(super) fn process_dirs(
    cx: &Context,
    staging: &Staging,
    env: &Env,
    settings: &ReleaseSettings,
) -> Result<Vec<String>> {
    let set = [env, &cx.agent_env].map(|env| env.get("DEPLOY_PROCESS_DIRS").is_some());
    let by_name = set.contains(&true);
    let mut dirs = outermost(&settings.process_dirs);
    if by_name {
        dirs.iter().try_for_each(|path| staging.make_process_dir(path))?;
    } else if settings.sandbox == Sandbox::Off {
        dirs.clear();
    }
    dirs.retain(|path| staging.has_directory(path));
    Ok(dirs)
}

/// Drops paths that lie within another one: each process sees an empty directory there.
fn outermost(paths: &[String]) -> Vec<String> {
    let covered = |path: &str, other: &String| {
        path != other.as_str() && Path::new(path).starts_with(Path::new(other))
    };
    let mut outermost: Vec<String> = paths
        .iter()
        .filter(|path| !paths.iter().any(|other| covered(path, other)))
        .cloned()
        .collect();
    outermost.sort();
    outermost.dedup();
    outermost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_a_directory_inside_another() {
        let paths = ["tmp/pids/a", "tmp/pids", "run", "running", "run"].map(str::to_owned);
        assert_eq!(outermost(&paths), ["run", "running", "tmp/pids"]);
    }
}
