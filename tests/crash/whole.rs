//! Invariants of an instance whatever was done to it: exactly one release runs, complete,
//! `deploy status` agrees, and nothing is left over.

use aws_smithy_checksums::ChecksumAlgorithm;
use model::release::env::Env;
use model::release::settings::SET_BY_AGENT;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use testkit::app::{File, Release};
use testkit::host::Host;
use testkit::instance::poll;

/// The expected files of a published release on the disk.
pub struct Published {
    /// A line for each file and directory of the tree, sorted.
    tree: BTreeSet<String>,
    env: String,
}

impl Published {
    pub fn of(release: &Release) -> Published {
        let mut tree = BTreeSet::new();
        let version = release.files().iter().find(|file| file.path == "VERSION");
        let built = version.map(|version| File {
            path: "made/by/build".to_owned(),
            mode: 0o644,
            bytes: version.bytes.clone(),
        });
        for file in release.files().iter().chain(&built) {
            let sum = sha256(&file.bytes);
            tree.insert(format!("f {:o} app-my-app {} {sum}", file.mode, file.path));
            let parents = Path::new(&file.path).ancestors().skip(1);
            let parents = parents.filter(|parent| *parent != Path::new(""));
            // A build's directories are group-writable: the app owns them in the end.
            let mode = if file.path.starts_with("made/") { 775 } else { 755 };
            tree.extend(parents.map(|parent| format!("d {mode} app-my-app {}", parent.display())));
        }
        // DEPLOY_WRITABLE
        tree.extend(["log", "tmp"].map(|name| format!("d 755 app-my-app {name}")));
        Published { tree, env: environment_file(release) }
    }
}

/// The format of the file is tested elsewhere; this test only checks that it is complete.
fn environment_file(release: &Release) -> String {
    let env = Env::parse(release.env_bytes()).expect("an env file");
    env.to_environment_file(SET_BY_AGENT)
}

fn sha256(bytes: &[u8]) -> String {
    let mut sum = ChecksumAlgorithm::Sha256.into_impl();
    sum.update(bytes);
    sum.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The state of an instance at one moment.
pub struct Seen {
    /// The response of the web process, if there is one.
    pub served: Option<String>,
    /// The output of `deploy status`.
    pub status: Value,
    sections: BTreeMap<String, String>,
}

const RELEASES: &str = "/var/lib/deploy/apps/my-app/releases/";

/// Each line of output belongs to the section that began last.
const LOOK: &str = r#"
section() { echo "== $1"; }
cd /var/lib/deploy/apps
# Old releases go when deployd has the time.
for try in $(seq 300); do
    [ -n "$(find . -maxdepth 3 -name '.removing-*')" ] || break
    sleep 0.1
done
section status; deploy status --json
section releases; deploy releases my-app --json || echo '[]'
section history; deploy history my-app --json || echo '[]'
section processes
for pid in $(pgrep -u app-my-app || true); do
    echo "$(readlink /proc/$pid/cwd) $(tr '\0' ' ' </proc/$pid/cmdline)"
done | sort
section units; systemctl list-units --all --plain --no-legend 'deploy-my*'
section failed; systemctl list-units --failed --plain --no-legend
section ports; nft list table inet deploy 2>/dev/null || true
section generated; ls /run/systemd/generator | grep '^deploy-my.*@' || true
section leftovers
find . \( -path '*/app' -o -path '*/shared' -o -path '*/releases/*/home' \) -prune -o \( -name '*.new' -o -name '.staging-*' \
    -o -name '.removing-*' -o -name underway.json -o -name unsynced \) -print
section installed; ls -A my-app/releases 2>/dev/null || true
for label in $(ls my-app/releases 2>/dev/null || true); do
    cd my-app/releases/$label
    section "env $label"; cat env; stat -c '%a %U' env
    cd app
    section "tree $label"
    find . -mindepth 1 -type f -printf '%P\n' | sort | xargs -d '\n' sha256sum | sed 's/ .*//' >/run/sums
    find . -mindepth 1 -type f -printf '%P\n' | sort | xargs -d '\n' stat -c 'f %a %U %n' | paste -d ' ' - /run/sums
    find . -mindepth 1 ! -type f -printf '%y %m %u %P\n'
    cd ../../../..
done
"#;

impl Seen {
    pub fn of(host: &Host) -> Result<Seen, String> {
        let looked = host.exec(&["bash", "-uo", "pipefail", "-c", LOOK]);
        if looked.status != Some(0) {
            return Err(format!("it cannot be looked at: {looked:?}"));
        }
        let mut sections = BTreeMap::new();
        for section in looked.stdout.split("== ").skip(1) {
            let (name, text) = section.split_once('\n').unwrap_or((section, ""));
            sections.insert(name.to_owned(), text.to_owned());
        }
        let mut seen = Seen { served: host.served(), status: Value::Null, sections };
        let status = seen.json("status")?;
        let mut apps = status.as_array().into_iter().flatten();
        seen.status = apps.find(|app| app["app"] == "my-app").cloned().unwrap_or_default();
        Ok(seen)
    }

    fn section(&self, name: &str) -> &str {
        self.sections.get(name).map_or("", String::as_str)
    }

    fn lines(&self, name: &str) -> BTreeSet<&str> {
        self.section(name).lines().map(str::trim_end).collect()
    }

    fn json(&self, name: &str) -> Result<Value, String> {
        let text = self.section(name);
        serde_json::from_str(text).map_err(|error| format!("{name}: {error}: {text}"))
    }

    /// Returns the history entries, newest first.
    pub fn history(&self) -> Vec<Value> {
        self.json("history").ok().and_then(|all| all.as_array().cloned()).unwrap_or_default()
    }

    /// Returns the current release according to `deploy status`.
    pub fn says(&self) -> Option<&str> {
        self.status["release"].as_str()
    }

    /// Returns the target of `deploy rollback`.
    pub fn rollback(&self) -> Option<&str> {
        self.status["rollback"].as_str()
    }

    /// Returns the labels of releases with a running process.
    pub fn runs(&self) -> BTreeSet<&str> {
        let below =
            self.section("processes").lines().filter_map(|line| line.strip_prefix(RELEASES));
        below.filter_map(|path| path.split('/').next()).collect()
    }

    /// Names the running releases.
    pub fn running(&self) -> String {
        let runs: Vec<_> = self.runs().into_iter().collect();
        if runs.is_empty() { "nothing".to_owned() } else { runs.join(" and ") }
    }

    /// Returns everything that is wrong with the state.
    pub fn faults(&self, published: &BTreeMap<String, Published>) -> Vec<String> {
        let mut faults = Vec::new();
        match self.says() {
            Some(label) => self.must_run(label, &mut faults),
            None => self.must_run_nothing(&mut faults),
        }
        self.must_be_whole(published, &mut faults);
        self.must_have_nothing_left_over(&mut faults);
        faults
    }

    fn must_run(&self, label: &str, faults: &mut Vec<String>) {
        let status = &self.status;
        if self.served.as_deref() != Some(label) {
            faults.push(format!("{:?} is served, and status says {label}", self.served));
        }
        for (what, must) in [("healthy", Value::from(true)), ("state", Value::from("good"))] {
            if status[what] != must {
                faults.push(format!("{what} is {}", status[what]));
            }
        }
        let processes =
            ["web", "worker"].map(|kind| format!("{RELEASES}{label}/app python3 app.py {kind}"));
        must_be_same("processes", self.lines("processes"), &processes, faults);
        let mut units = ["web", "worker"]
            .map(|kind| format!("deploy-my-app-{kind}-{label}@1.service active running"))
            .to_vec();
        units.push("deploy-my-app.target active active".to_owned());
        must_be_same("active units", self.active(), &units, faults);
        self.must_be_reached(faults);
    }

    fn must_run_nothing(&self, faults: &mut Vec<String>) {
        if let Some(served) = &self.served {
            faults.push(format!("{served} is served, and status says nothing is current"));
        }
        must_be_same("processes", self.lines("processes"), &[], faults);
        must_be_same("active units", self.active(), &[], faults);
    }

    /// Checks that the public port leads to the process that status lists, and to no other.
    fn must_be_reached(&self, faults: &mut Vec<String>) {
        let ports = self.status["processes"].as_array().into_iter().flatten();
        let web = ports.filter_map(|one| one["port"].as_u64()).find(|port| *port != 5000);
        let to: BTreeSet<&str> = (self.section("ports").lines())
            .filter_map(|line| Some(line.trim().split_once(" dnat to :")?.1))
            .collect();
        let expected: Vec<String> = web.iter().map(u64::to_string).collect();
        must_be_same("the port map", to, &expected, faults);
    }

    /// Units that are not inactive, except those without a process: slices, and the port map's.
    fn active(&self) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let units = self.section("units").lines().map(words);
        let live = |unit: &Vec<String>| {
            let [name, _, active, ..] = &unit[..] else { return false };
            active != "inactive" && !name.ends_with(".slice") && name != "deployd-ports.service"
        };
        units.filter(live).map(|unit| format!("{} {} {}", unit[0], unit[2], unit[3])).collect()
    }

    fn must_be_whole(&self, published: &BTreeMap<String, Published>, faults: &mut Vec<String>) {
        let releases = self.json("releases").unwrap_or_default();
        let releases = releases.as_array().cloned().unwrap_or_default();
        let labels: Vec<String> =
            releases.iter().filter_map(|one| Some(one["release"].as_str()?.to_owned())).collect();
        must_be_same("what is installed", self.lines("installed"), &labels, faults);
        for label in &labels {
            let Some(published) = published.get(label) else {
                faults.push(format!("{label} was never published"));
                continue;
            };
            let tree: Vec<String> = published.tree.iter().cloned().collect();
            must_be_same(
                &format!("the tree of {label}"),
                self.lines(&format!("tree {label}")),
                &tree,
                faults,
            );
            let env = self.section(&format!("env {label}"));
            if env != format!("{}600 root\n", published.env) {
                faults.push(format!("the env of {label} is not what was published: {env:?}"));
            }
        }
    }

    fn must_have_nothing_left_over(&self, faults: &mut Vec<String>) {
        must_be_same("left over", self.lines("leftovers"), &[], faults);
        must_be_same("failed units", self.lines("failed"), &[], faults);
        if let Some(working) = self.status["working"].as_str() {
            faults.push(format!("it is at work: {working}"));
        }
        let installed = self.lines("installed");
        for unit in self.lines("generated") {
            let of = unit.split_once('@').map_or(unit, |(name, _)| name);
            if !installed.iter().any(|label| of.ends_with(&format!("-{label}"))) {
                faults.push(format!("there is a unit of a release that is gone: {unit}"));
            }
        }
    }
}

fn must_be_same<T: AsRef<str>>(
    what: &str,
    found: impl IntoIterator<Item = T>,
    wanted: &[String],
    faults: &mut Vec<String>,
) {
    let found: Vec<T> = found.into_iter().collect();
    let found: BTreeSet<&str> = found.iter().map(AsRef::as_ref).collect();
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    if found != wanted {
        let more: Vec<_> = found.difference(&wanted).collect();
        let less: Vec<_> = wanted.difference(&found).collect();
        faults.push(format!("{what}: there is {more:?}; there is no {less:?}"));
    }
}

/// Waits until deployd has finished its recovery: no job is running, and the current release is
/// healthy.
pub fn wait_until_recovered(host: &Host, limit: Duration) -> Result<(), String> {
    let mut last = String::new();
    let recovered = poll(limit, || {
        let asked = host.exec(&["deploy", "status", "--json"]);
        last = format!("{asked:?}");
        let all: Value = serde_json::from_str(&asked.stdout).ok()?;
        let calm = |app: &Value| {
            app["working"].is_null() && (app["release"].is_null() || app["healthy"] == true)
        };
        (asked.status == Some(0) && all.as_array()?.iter().all(calm)).then_some(())
    });
    recovered.ok_or_else(|| format!("it has not recovered within {limit:?}: {last}"))
}
