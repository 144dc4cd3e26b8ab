//! `deploy-generator`: writes the units of every app, even if other apps are damaged.

use crate::context::load_env;
use crate::host::namespaces::kernel;
use crate::store::{Seen, Store, last_place};
use model::installed::Snapshot;
use model::release::manifest::Manifest;
use model::release::name::AppName;
use model::release::settings::{self, STATE_DIR};
use model::units::{SCRIPT, Unit, generate_shared, of_release, of_target};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// All units to write, by their path below the generator's directory.
#[derive(Debug, Default)]
struct Generated {
    units: BTreeMap<String, Unit>,
    /// Why units are missing, or were made from old data.
    problems: Vec<String>,
}

/// Writes the units of every app below `dir`. An app that cannot be read is
/// logged and left out; the others are still generated.
pub fn run(dir: &Path) {
    let mut problems = Vec::new();
    let store = Store::at(state_dir(&mut problems));
    problems.iter().for_each(|problem| log(problem));
    write_all(dir, &store);
}

/// The directory of an administrator's units until the next boot; systemd.unit(5).
const RUNTIME: &str = "/run/systemd/system";

/// Adds the units of new releases below `dir`, between two runs of the generator, and makes systemd
/// find them. systemd looks for files again if the time of a directory of units has changed, of all
/// but the generators' own; it reads a unit that it has not loaded yet from them.
pub fn add(dir: &Path) -> io::Result<()> {
    let mut problems = Vec::new();
    let store = Store::at(state_dir(&mut problems));
    add_all(dir, &store)?;
    File::open(RUNTIME)?.set_modified(SystemTime::now())
}

#[expect(clippy::disallowed_methods, reason = "they lie below /run, made anew at each boot")]
pub(crate) fn add_all(dir: &Path, store: &Store) -> io::Result<()> {
    for (name, unit) in generated(store).units {
        // Nothing that systemd may have loaded; the script is no unit.
        let path = dir.join(&name);
        let is_new = name.contains('@') && path.symlink_metadata().is_err();
        if is_new || (name == SCRIPT && path.exists()) {
            let fresh = path.with_extension("new");
            write_unit(&fresh, &unit)?;
            fs::rename(fresh, path)?;
        }
    }
    Ok(())
}

/// Prints what [`run`] would write, and why anything is left out.
pub fn print(mut to: impl Write) -> io::Result<()> {
    let mut problems = Vec::new();
    let store = Store::at(state_dir(&mut problems));
    let generated = generated(&store);
    problems.extend(generated.problems);
    for (name, unit) in &generated.units {
        match unit {
            Unit::Text(text) => writeln!(to, "# {name}\n{text}")?,
            Unit::Link(target) => writeln!(to, "# {name} -> {target}\n")?,
        }
    }
    problems.iter().try_for_each(|problem| writeln!(to, "# problem: {problem}"))
}

pub(crate) fn write_all(dir: &Path, store: &Store) {
    let Generated { units, problems } = generated(store);
    problems.iter().for_each(|problem| log(problem));
    for (name, unit) in units {
        if let Err(error) = write_unit(&dir.join(&name), &unit) {
            log(&format!("write {name}: {error}"));
        }
    }
}

fn generated(store: &Store) -> Generated {
    let mut all = Generated::default();
    let apps = store.seen().unwrap_or_else(|error| {
        all.problems.push(error.chain());
        Vec::new()
    });
    let snapshots: Vec<Snapshot> =
        apps.into_iter().filter_map(|seen| readable(seen, &mut all.problems)).collect();
    let mut owners = BTreeMap::new();
    // Current releases come first: no other release takes a unit name from them.
    for (snapshot, manifest) in releases(&snapshots, true) {
        all.add(&snapshot.app, of_release(snapshot, manifest, kernel()), &mut owners);
        all.add(&snapshot.app, of_target(snapshot, manifest), &mut owners);
    }
    for (snapshot, manifest) in releases(&snapshots, false) {
        all.add(&snapshot.app, of_release(snapshot, manifest, kernel()), &mut owners);
    }
    all.units.extend(generate_shared(&snapshots));
    all
}

/// The releases that are current, or all others.
fn releases(apps: &[Snapshot], current: bool) -> impl Iterator<Item = (&Snapshot, &Manifest)> {
    let all = apps.iter().flat_map(|app| app.releases.iter().map(move |release| (app, release)));
    all.filter(move |(app, release)| (app.current.as_ref() == Some(&release.label)) == current)
}

impl Generated {
    fn add(
        &mut self,
        app: &AppName,
        units: impl IntoIterator<Item = (String, Unit)>,
        owners: &mut BTreeMap<String, AppName>,
    ) {
        for (name, unit) in units {
            let owner = owners.entry(name.clone()).or_insert_with(|| app.clone());
            if owner == app {
                self.units.insert(name, unit);
            } else {
                let why = format!("skipped {name} of {app}: {owner} has it already");
                self.problems.push(why);
            }
        }
    }
}

/// Returns the last readable state of an app, also if the app is damaged now.
fn readable(seen: Seen, problems: &mut Vec<String>) -> Option<Snapshot> {
    if let Some(damage) = &seen.damage {
        let units = match &seen.snapshot {
            Some(_) => "made from what was known of it before",
            None => "skipped",
        };
        problems.push(format!("{}: {}: {units}", seen.app, damage.chain()));
    }
    seen.snapshot
}

/// A mistake elsewhere in the settings must not lose any unit. If this one cannot be read, the
/// last known state directory is used.
fn state_dir(problems: &mut Vec<String>) -> PathBuf {
    let named = match load_env() {
        Ok(env) => settings::state_dir(&env).or_else(|| {
            problems.push("agent.env: DEPLOY_STATE_DIR cannot be used: the last one is".to_owned());
            None
        }),
        Err(error) => {
            problems.push(error.chain());
            None
        }
    };
    named.or_else(|| last_place(Path::new(STATE_DIR))).unwrap_or_else(|| STATE_DIR.into())
}

#[expect(clippy::disallowed_methods, reason = "they lie below /run, made anew at each boot")]
fn write_unit(path: &Path, unit: &Unit) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match unit {
        Unit::Text(text) => fs::write(path, text),
        Unit::Link(target) => match symlink(target, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        },
    }
}

/// Early in the boot there is no journal yet, only the kernel's log.
#[expect(clippy::disallowed_methods, reason = "the kernel's log is no file")]
fn log(message: &str) {
    let line = format!("<3>deploy-generator: {message}\n");
    let kmsg = OpenOptions::new().write(true).open("/dev/kmsg");
    if kmsg.and_then(|mut kmsg| kmsg.write_all(line.as_bytes())).is_err() {
        eprint!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::user::Ids;
    use model::fixtures::release_of;
    use tempfile::TempDir;

    /// A store, and a directory to generate into.
    struct World {
        root: TempDir,
        dir: PathBuf,
    }

    impl World {
        fn new() -> World {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("generator");
            World { root, dir }
        }

        fn store(&self) -> Store {
            Store::at(self.root.path().join("state"))
        }

        /// Installs a release of an app and makes it current.
        fn install(&self, app: &str, label: &str, procfile: &str) {
            let manifest = release_of(app, label, 0, procfile, "");
            let app = self.store().app(&app.parse().unwrap()).lock().unwrap();
            let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
            let staging =
                app.begin_staging(&manifest.label, Ids { uid, gid }, Ids { uid, gid }).unwrap();
            staging.finish(&manifest).unwrap().is_synced().unwrap();
            app.commit(&manifest.label).unwrap();
        }

        /// Generates, and returns the names in the directory.
        fn generate(&self) -> Vec<String> {
            write_all(&self.dir, &self.store());
            let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.dir.join(name)).unwrap()
        }
    }

    #[test]
    fn generates_nothing_without_apps() {
        assert!(World::new().generate().is_empty());
    }

    #[test]
    fn is_idempotent() {
        let world = World::new();
        world.install("my-app", "r1", "web: ./web");
        let once = world.generate();
        let target = fs::read_link(world.dir.join("multi-user.target.wants/deploy-my-app.target"));
        assert_eq!(target.unwrap(), Path::new("../deploy-my-app.target"));
        assert_eq!(world.generate(), once);
    }

    #[test]
    fn adds_new_releases_and_leaves_what_is_loaded() {
        let world = World::new();
        world.install("my-app", "r1", "web: ./web");
        world.generate();
        let loaded = world.dir.join("deploy-my-app-web-r1@.service");
        fs::write(&loaded, "as loaded").unwrap();
        world.install("my-app", "r2", "web: ./web");
        add_all(&world.dir, &world.store()).unwrap();
        assert_eq!(fs::read_to_string(loaded).unwrap(), "as loaded");
        assert!(world.text("deploy-my-app.target").contains("deploy-my-app-web-r1@1.service"));
        let added = world.text("deploy-my-app-web-r2@.service");
        world.generate();
        assert_eq!(world.text("deploy-my-app-web-r2@.service"), added);
    }

    #[test]
    fn a_damaged_app_keeps_its_units() {
        let world = World::new();
        world.install("broken", "r1", "web: ./web");
        world.install("fine", "r1", "worker: ./worker");
        let before = world.generate();
        let text = world.text("deploy-broken-web-r1@.service");
        fs::remove_dir_all(&world.dir).unwrap();
        let broken = world.root.path().join("state/apps/broken");
        fs::write(broken.join("releases/r1/release.json"), "{").unwrap();
        assert_eq!(world.generate(), before);
        assert_eq!(world.text("deploy-broken-web-r1@.service"), text);
    }

    #[test]
    fn an_unreadable_app_does_not_affect_others() {
        let world = World::new();
        world.install("broken", "r1", "web: ./web");
        world.install("fine", "r1", "worker: ./worker");
        let broken = world.root.path().join("state/apps/broken");
        fs::remove_file(broken.join("known.json")).unwrap();
        fs::remove_file(broken.join("current")).unwrap();
        symlink("/etc", broken.join("current")).unwrap();
        let expected = ["deploy-fine-worker-r1@.service", "deploy-fine.target"];
        assert_eq!(world.generate()[..2], expected);
        assert!(!world.dir.join("deploy-broken.target").exists());
    }

    #[test]
    fn a_name_that_two_apps_have_goes_to_the_current_release() {
        let world = World::new();
        world.install("a", "r1", "b-web: ./first");
        world.install("a", "r2", "other: ./other");
        world.install("a-b", "r1", "web: ./second");
        world.generate();
        let text = world.text("deploy-a-b-web-r1@.service");
        assert!(text.contains("PartOf=deploy-a-b.target\n"), "{text}");
        assert!(world.text("deploy-a.target").contains("Wants=deploy-a-other-r2@1.service"));
    }
}
