//! The images of instances: the base, and layers on top of it. Each layer is created once and
//! cached, keyed by all of its inputs.

use super::lifeline::{Lifeline, cache, lock};
use super::nspawn::{NSPAWN, mount_overlay, private_mounts, with};
use super::suite::Suite;
use super::{Instance, Must, base, on_a_thread};
use nix::mount::umount;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A stack of read-only directories. While it is held, no other process removes it.
#[derive(Clone)]
pub struct Image {
    /// The topmost first, as overlayfs expects.
    dirs: Vec<PathBuf>,
    key: u64,
    held: Vec<Arc<File>>,
}

impl Image {
    /// A minimal Debian 12, or the suite that `$DEPLOY_TEST_SUITE` names; created at its first
    /// use (half a minute).
    pub fn base() -> Image {
        let nothing = Image { dirs: Vec::new(), key: 0, held: Vec::new() };
        let suite = Suite::get();
        let key = key(&(base::recipe(), suite.name()));
        nothing.topped("base", key, |root| base::make(suite, root))
    }

    /// Returns this image after `script` ran in it, as root, with this machine's network and
    /// without systemd. `inputs`, files or directories, are in its working directory under
    /// their own names, and are not kept.
    ///
    /// Created once for a given image, script and content of the inputs. Older layers of this
    /// name with other inputs are removed.
    pub fn layer(self, name: &str, inputs: &[&Path], script: &str) -> Image {
        let contents: Vec<_> = inputs.iter().map(|path| contents(path)).collect();
        let key = key(&(self.key, script, inputs, contents));
        let below = self.dirs.clone();
        self.topped(name, key, |upper| make_layer(&below, inputs, script, upper))
    }

    /// The base with our package installed, like a baked AMI: not yet booted.
    pub fn with_agent() -> Image {
        Image::base().layer("agent", &[&package()], "dpkg --install ./*.deb")
    }

    /// This image with these Debian packages, cached under this name: one runtime for all tests
    /// that need it.
    pub fn with_packages(self, name: &str, packages: &[&str]) -> Image {
        let script = format!(
            "apt-get update -q
            apt-get install -q --yes --no-install-recommends {}
            rm -rf /var/cache/apt /var/lib/apt/lists
            mkdir -p /var/cache/apt/archives/partial",
            packages.join(" ")
        );
        self.layer(name, &[], &script)
    }

    /// Returns this image with what an instance of it changed: `make` boots one, works on it,
    /// and powers it off.
    ///
    /// Kept under this name like a layer, for the given image and inputs. Other images can be
    /// created meanwhile.
    pub fn frozen(
        self,
        name: &str,
        inputs: impl Hash,
        make: impl FnOnce(&Image) -> Instance,
    ) -> Image {
        Lifeline::get();
        let images = images();
        let key = key(&(self.key, name, inputs));
        let name = Suite::get().layer(name);
        let dir = images.join(format!("{name}-{key:016x}"));
        let _order = lock(&cache().join(format!("{name}.lock")));
        if !dir.exists() {
            let instance = make(&self);
            assert!(!instance.is_running(), "only an instance that is off can be frozen");
            let _order = lock(&cache().join("images.lock"));
            remove_older(&images, &name);
            fs::rename(instance.changes(), &dir).must(format_args!("keep {}", dir.display()));
        }
        self.on_top(dir, key)
    }

    /// Reads a file of the image; the path must not lead through symlinks.
    pub fn read(&self, path: &str) -> Vec<u8> {
        let path = path.trim_start_matches('/');
        let mut found = self.dirs.iter().map(|dir| dir.join(path)).filter(|file| file.is_file());
        let file = found.next().unwrap_or_else(|| panic!("the image has no file /{path}"));
        fs::read(&file).must(format_args!("read {}", file.display()))
    }

    /// The value of overlayfs's `lowerdir=`.
    pub(super) fn lower(&self) -> OsString {
        join(&self.dirs)
    }

    /// Adds one more directory on top: the one cached under this name and key, or otherwise a
    /// new one from `make`.
    fn topped(self, name: &str, key: u64, make: impl FnOnce(&Path)) -> Image {
        let lifeline = Lifeline::get();
        let images = images();
        let _order = lock(&cache().join("images.lock"));
        let name = Suite::get().layer(name);
        let dir = images.join(format!("{name}-{key:016x}"));
        if !dir.exists() {
            remove_older(&images, &name);
            // Created elsewhere and renamed, so that a directory with this name is complete.
            let work = lifeline.scratch("image");
            let made = work.join("made");
            make(&made);
            fs::rename(&made, &dir).must(format_args!("keep {}", dir.display()));
            fs::remove_dir_all(&work).must(format_args!("remove {}", work.display()));
        }
        self.on_top(dir, key)
    }

    fn on_top(mut self, dir: PathBuf, key: u64) -> Image {
        let held = File::open(&dir).must(format_args!("open {}", dir.display()));
        held.lock_shared().must(format_args!("hold {}", dir.display()));
        self.held.push(Arc::new(held));
        self.dirs.insert(0, dir);
        self.key = key;
        self
    }
}

/// The directory of all layers.
fn images() -> PathBuf {
    let images = cache().join("images");
    fs::create_dir_all(&images).must(format_args!("make {}", images.display()));
    images
}

/// The package under test, which `make test` and `make demo` set.
pub fn package() -> PathBuf {
    package_of("DEPLOY_DEB", "deb")
}

/// The package that `variable` names, and that `target` of make builds.
pub fn package_of(variable: &str, target: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    path.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{variable} names no package; use `make test`, or `make {target}` and its output")
    })
}

/// The content of a file, or of all files below a directory, in order.
fn contents(path: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let metadata = fs::metadata(path).must(format_args!("find {}", path.display()));
    let mode = metadata.permissions().mode();
    if !metadata.is_dir() {
        let bytes = fs::read(path).must(format_args!("read {}", path.display()));
        return vec![(path.to_owned(), mode, bytes)];
    }
    let entries = fs::read_dir(path).must(format_args!("list {}", path.display()));
    let mut below: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    below.sort();
    let whole = [(path.to_owned(), mode, Vec::new())];
    whole.into_iter().chain(below.iter().flat_map(|path| contents(path))).collect()
}

/// Removes the directories of this name that no process holds.
fn remove_older(images: &Path, name: &str) {
    let entries = fs::read_dir(images).must(format_args!("list {}", images.display()));
    for entry in entries.flatten() {
        let found = entry.file_name().into_string().unwrap_or_default();
        if found.rsplit_once('-').is_none_or(|(found, _)| found != name) {
            continue;
        }
        let held = File::open(entry.path()).must(format_args!("open {found}"));
        if held.try_lock().is_ok() {
            // Renamed first, as the removal may be interrupted.
            let doomed = Lifeline::get().scratch("old").join("image");
            fs::rename(entry.path(), &doomed).must(format_args!("put away {found}"));
            fs::remove_dir_all(&doomed).must(format_args!("remove {found}"));
        }
    }
}

/// Runs `script` on top of the directories `below` and keeps the changes in `upper`.
fn make_layer(below: &[PathBuf], inputs: &[&Path], script: &str, upper: &Path) {
    let work = upper.with_file_name("work");
    let root = upper.with_file_name("root");
    for dir in [upper, &work, &root] {
        fs::create_dir(dir).must(format_args!("make {}", dir.display()));
    }
    let group = Lifeline::get().group().child(&Lifeline::get().name("layer"));
    let mut command = Command::new("systemd-nspawn");
    command
        .args(NSPAWN)
        .args(["--as-pid2", "--pipe", "--resolv-conf=bind-host"])
        .args(["--setenv=DEBIAN_FRONTEND=noninteractive", "--chdir=/run/layer"])
        .arg("--tmpfs=/run/layer")
        .arg(with("--directory=", &root));
    for input in inputs {
        let input = input.canonicalize().must(format_args!("find {}", input.display()));
        let name = input.file_name().unwrap_or_default();
        let mut bind = with("--bind-ro=", &input);
        bind.push(":/run/layer/");
        bind.push(name);
        command.arg(bind);
    }
    command.args(["--", "sh", "-euc", script]).stdin(Stdio::null());
    group.enter(&mut command);
    let ran = on_a_thread(|| {
        private_mounts();
        mount_overlay(&join(below), upper, &work, &root);
        let ran = command.output().must("start systemd-nspawn");
        umount(&root).must(format_args!("unmount {}", root.display()));
        ran
    });
    group.remove();
    assert!(
        ran.status.success(),
        "a layer's script failed ({}):\n{script}\n{}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn join(dirs: &[PathBuf]) -> OsString {
    let names: Vec<_> = dirs.iter().map(|dir| dir.as_os_str()).collect();
    names.join(":".as_ref())
}

fn key(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
