//! Too little disk or memory: the running release runs on, the error gives the shortfall, and
//! the failed attempt leaves nothing behind.

use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::Output;

const MIB: usize = 1 << 20;
const APP: &str = "/var/lib/deploy/apps/my-app";

/// Bytes that cannot be compressed, different for every seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Text that compresses to about half its size.
fn half_noise(length: usize, seed: u64) -> Vec<u8> {
    let hex =
        |byte: u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    noise(length / 2, seed).into_iter().flat_map(hex).collect()
}

/// Helpers of these tests, as methods of the host.
trait Resources {
    /// Puts the state on its own file system, which has no reserve for root.
    fn with_state_of(self, bytes: usize, inodes: u32) -> Host;
    /// Fills the disk until this number of bytes is left.
    fn fill_all_but(&self, bytes: usize);
    /// Fills the disk to the last byte and the last inode.
    fn fill(&self);
    /// Uses up inodes until this number is left.
    fn use_inodes_all_but(&self, left: u32);
    fn free_the_disk(&self);
    /// Checks that the release is refused with `why`, because the disk is too small, and that
    /// r1 still serves.
    fn refuses(&self, release: &str, why: &str) -> Output;
    fn releases(&self) -> String;
    fn asked_for_archive(&self, release: &str) -> usize;
}

impl Resources for Host {
    fn with_state_of(self, bytes: usize, inodes: u32) -> Host {
        let options = format!("size={bytes},nr_inodes={inodes},mode=755");
        self.exec(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", "/var/lib/deploy"]).ok();
        self
    }

    fn fill_all_but(&self, bytes: usize) {
        self.sh(&format!(
            "cd /var/lib/deploy
             left() {{ stat --file-system --format='%a %S' . | {{ read a s; echo $((a * s)); }}; }}
             fallocate --length $(($(left) - {bytes})) ballast"
        ));
    }

    fn fill(&self) {
        self.sh("cat /dev/zero >>/var/lib/deploy/ballast || true");
        self.use_inodes_all_but(0);
        // The inodes took some blocks: fill the rest of the last ones.
        self.sh("cat /dev/zero >>/var/lib/deploy/ballast || true");
        for path in ["/var/lib/deploy/x", "/var/lib/deploy/many/0"] {
            let full = self.exec(&["bash", "-c", &format!("echo x >>{path}")]);
            assert_ne!(full.status, Some(0), "{path}");
        }
    }

    fn use_inodes_all_but(&self, left: u32) {
        self.sh(&format!(
            "mkdir -p /var/lib/deploy/many; cd /var/lib/deploy/many
             python3 - <<'END'
import os
try:
    for number in range(os.statvfs('.').f_ffree - {left}):
        open(str(number), 'x').close()
except OSError:
    pass
END"
        ));
    }

    fn free_the_disk(&self) {
        self.sh("rm -rf /var/lib/deploy/ballast /var/lib/deploy/many");
    }

    #[track_caller]
    fn refuses(&self, release: &str, why: &str) -> Output {
        let said = self.deploy(&[&url(release)]).exits(10);
        assert!(said.stdout.contains(why), "{said:?}");
        assert!(said.stdout.contains(&url(release)), "{said:?}");
        assert!(said.stderr.contains("help: "), "{said:?}");
        assert_eq!(said.stdout.lines().count(), 1, "{said:?}");
        said
    }

    fn releases(&self) -> String {
        self.sh(&format!("ls -A {APP}/releases | paste -sd ' '")).trim().to_owned()
    }

    fn asked_for_archive(&self, release: &str) -> usize {
        let wanted = format!("{release}/source.tar.gz");
        let requests = self.s3().requests();
        requests.iter().filter(|one| one.method == "GET" && one.path.ends_with(&wanted)).count()
    }
}

/// Returns the number before ` MiB more are needed`.
fn mib_needed(said: &Output) -> f64 {
    let (before, _) = said.stdout.split_once(" MiB more are needed").expect("how much is missing");
    let number = before.rsplit_once(' ').expect("a number").1;
    number.parse().expect("a number")
}

#[test]
fn an_archive_that_cannot_fit_is_not_fetched() {
    let host = Host::on_disk(256);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.fill_all_but(4 * MIB);
    let before = host.state();
    host.publish(&Release::new("r2").file("noise", noise(10 * MIB, 2)));
    let said = host.refuses("r2", "are missing");
    assert!(said.stdout.contains("its archive alone has 10.00 MiB, 6."), "{said:?}");
    assert_eq!(host.asked_for_archive("r2"), 0);
    assert_eq!(host.state(), before);
    host.free_the_disk();
    host.use_inodes_all_but(3);
    let before = host.state();
    host.refuses("r2", " inodes are missing");
    assert_eq!(host.asked_for_archive("r2"), 0);
    assert_eq!(host.state(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.free_the_disk();
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn a_disk_that_fills_up_during_unpacking_leaves_the_old_release_alone() {
    let host = Host::on_disk(256);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.fill_all_but(30 * MIB);
    let before = host.state();
    host.publish(&Release::new("r2").file("half-noise", half_noise(40 * MIB, 2)));
    let said = host.refuses("r2", "no space left after unpacking");
    let missing = mib_needed(&said);
    assert!((6.0..14.0).contains(&missing), "about 10 MiB are missing: {said:?}");
    assert_eq!(host.state(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
    assert_eq!(host.json(&["history", "--json"])[0]["exit"], "unusable");
    host.free_the_disk();
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn inodes_that_run_out_during_unpacking_leave_the_old_release_alone() {
    let host = Host::on_disk(256);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host.use_inodes_all_but(1000);
    let before = host.state();
    let file = |release: Release, number| release.file(&format!("{number}"), noise(1000, number));
    host.publish(&(0..3000).fold(Release::new("r2"), file));
    let said = host.refuses("r2", "inodes more are needed");
    let (before_it, _) = said.stdout.split_once(" inodes more").expect("inodes");
    let missing: u32 = before_it.rsplit_once(' ').expect("a number").1.parse().expect("a number");
    assert!((1500..2500).contains(&missing), "about 2000 inodes are missing: {said:?}");
    assert_eq!(host.state(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
    host.free_the_disk();
    host.deploys("r2");
}

/// A release whose archive is as large as its content.
fn solid(name: &str, mib: usize) -> Release {
    let seed = name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
    Release::new(name).file("noise", noise(mib * MIB, seed))
}

/// Installs three releases of this size in MiB each; the last one serves.
fn three_of(mib: usize, host: &Host) {
    host.configure("DEPLOY_KEEP_RELEASES=9\n");
    for release in ["r1", "r2", "r3"] {
        host.publish(&solid(release, mib));
        host.deploys(release);
    }
    assert_eq!(host.releases(), "r1 r2 r3");
}

#[test]
fn old_releases_are_pruned_before_anything_is_fetched() {
    let host = Host::boot().with_state_of(80 * MIB, 10_000);
    three_of(12, &host);
    // Room for half of r4; the estimate, made from r3, is 12 MiB.
    host.fill_all_but(6 * MIB);
    host.publish(&solid("r4", 12));
    let said = host.deploys("r4");
    let before = said.stderr.split("\nstage ").next().expect("the output before stage");
    assert!(before.contains("prune r1 to make room"), "{said:?}");
    assert_eq!(host.releases(), "r2 r3 r4", "more releases were pruned than necessary");
    assert_eq!(host.sh("ls /run/systemd/generator | grep -e -r1@ || true"), "");
    assert_eq!(host.served().as_deref(), Some("r4"));

    // Even pruning r2 would not make room for r5, so nothing is pruned in vain.
    let before = host.state();
    host.publish(&solid("r5", 40));
    host.refuses("r5", "are missing");
    assert_eq!(host.state(), before);

    // Neither the running release nor the rollback target is ever pruned.
    host.publish(&Release::new("r6").file("half-noise", half_noise(28 * MIB, 6)));
    host.refuses("r6", "more are needed");
    assert_eq!(host.releases(), "r3 r4");
    assert_eq!(host.sh("ls /run/systemd/generator | grep -e -r2@ || true"), "");
    assert_eq!(host.served().as_deref(), Some("r4"));
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn a_release_that_did_not_fit_is_retried_after_pruning_old_ones() {
    let host = Host::boot().with_state_of(70 * MIB, 10_000);
    three_of(10, &host);
    // Estimated from r3 it needs 11 MiB; in fact it needs 20.
    host.fill_all_but(14 * MIB);
    host.publish(&Release::new("r4").file("half-noise", half_noise(20 * MIB, 4)));
    let said = host.deploys("r4");
    let told: Vec<_> = ["\nstage ", "no space left", "prune r1", "\nstage "]
        .iter()
        .scan(said.stderr.as_str(), |rest, wanted| {
            let found = rest.split_once(wanted);
            found.map(|(_, after)| *rest = after)
        })
        .collect();
    assert_eq!(told.len(), 4, "{said:?}");
    assert_eq!(host.releases(), "r2 r3 r4");
    assert_eq!(host.served().as_deref(), Some("r4"));
}

#[test]
fn a_disk_that_fills_up_in_the_build_or_env_leaves_the_old_release_alone() {
    let host = Host::boot().with_state_of(40 * MIB, 10_000);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    let before = host.state();
    let build = |command: &str| format!("web: python3 app.py web\nbuild: {command}\n");
    let tidy = "head -c 100M /dev/zero >big || { rm big; exit 1; }";
    for (name, command) in [("hoard", "head -c 100M /dev/zero >big"), ("tidy", tidy)] {
        host.publish(&Release::new(name).procfile(&build(command)));
        let said = host.deploy(&[&url(name)]).exits(10);
        // The disk is full for the build itself, or for deployd before it.
        let why = format!("build of release {name} (deploy-my-app-build:{name}.service): ");
        assert!(said.stdout.contains(&why), "{said:?}");
        assert!(said.stdout.contains("No space left on device"), "{said:?}");
        assert_eq!(host.state(), before);
    }
    host.publish(&Release::new("inodes").procfile(&build("mkdir x; cd x; touch $(seq 20000)")));
    host.deploy(&[&url("inodes")]).exits(10);
    assert_eq!(host.state(), before);

    host.fill_all_but(MIB / 4);
    let before = host.state();
    let variable = |number| format!("LONG{number}={}\n", "x".repeat(100 << 10));
    let long = (0..4).map(variable).collect::<String>();
    host.publish(&Release::new("long-env").env(long));
    let said = host.refuses("long-env", "No space left on device");
    assert!(said.stdout.contains("/env: "), "{said:?}");
    assert_eq!(host.state(), before);
    host.free_the_disk();
    host.publish(&Release::new("r2").procfile(&build("head -c 20M /dev/zero >big")));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

/// Neither a byte nor an inode is left, not even for root.
#[test]
fn a_full_disk_blocks_no_rollback_no_restart_and_no_recovery() {
    let host = Host::boot().with_state_of(40 * MIB, 2_000);
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release));
        host.deploys(release);
    }
    host.fill();
    let serves = |release: &str| {
        assert_eq!(host.served().as_deref(), Some(release));
        let status = host.status();
        assert_eq!((&status["release"], &status["healthy"]), (&release.into(), &true.into()));
    };
    serves("r2");
    host.deploy(&["rollback"]).exits(0);
    serves("r1");
    assert_eq!(host.json(&["history", "--json"])[0]["after"], "r1");
    host.deploy(&["stop"]).exits(0);
    assert_eq!(host.served(), None);
    host.deploy(&["start"]).exits(0);
    serves("r1");
    host.deploy(&["restart"]).exits(0);
    host.exec(&["systemctl", "kill", "--signal=KILL", "deployd"]).ok();
    serves("r1");
    host.deploy(&["rollback", "--to", "r2"]).exits(0);
    serves("r2");
    host.publish(&Release::new("r3"));
    host.refuses("r3", "are missing");
    serves("r2");
    host.free_the_disk();
    host.deploys("r3");
    serves("r3");
    host.deploy(&["rollback"]).exits(0);
    serves("r2");
}

/// The same with everything on that disk: /tmp, the journal, the package.
#[test]
fn a_full_root_disk_blocks_no_rollback() {
    let host = Host::on_disk(256);
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release));
        host.deploys(release);
    }
    host.fill();
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
    // No `deploy restart` here: systemd needs room in /tmp to start a unit, and a log may have
    // taken the room that the old process freed.
    host.exec(&["systemctl", "restart", "deployd"]).ok();
    host.wait_for("healthy app", SOON, || (host.status()["healthy"] == true).then_some(()));
    host.free_the_disk();
    host.publish(&Release::new("r3"));
    host.deploys("r3");
    assert_eq!(host.served().as_deref(), Some("r3"));
}

#[test]
fn a_process_killed_for_lack_of_memory_is_reported_as_such() {
    let host = Host::running_r1();
    let hoard = "web: python3 -c 'x = bytearray(512 << 20); import time; time.sleep(3600)'\n";
    host.publish(&Release::new("r2").procfile(hoard).set("DEPLOY_MEMORY_MAX=64M"));
    let said = host.deploy(&[&url("r2")]).exits(12);
    assert!(said.stdout.contains("it was killed for memory"), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_MEMORY_MAX"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
    let under_a_shell = hoard.replace("python3 -c", "true && python3 -c");
    host.publish(&Release::new("r3").procfile(&under_a_shell).set("DEPLOY_MEMORY_MAX=64M"));
    let said = host.deploy(&[&url("r3")]).exits(12);
    assert!(said.stdout.contains("it was killed for memory"), "{said:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

/// When the instance runs out of memory the build is killed, even if a process of the running
/// release is the largest of all.
#[test]
fn a_build_that_takes_all_memory_is_killed_and_no_running_process() {
    let host = Host::of_memory(400);
    let large = format!("x = bytearray(120 << 20)\n{}", testkit::app::APP);
    host.publish(&Release::new("r1").file("app.py", large).procfile("web: python3 app.py web\n"));
    host.deploys("r1");
    let before = host.state();
    let hoard = "python3 -c 'x = bytearray(16 << 20); import time; time.sleep(60)'";
    let build = format!("for _ in $(seq 40); do {hoard} & done; wait -n; exit $?");
    host.publish(
        &Release::new("r2").procfile(&format!("build: {build}\nweb: python3 app.py web\n")),
    );
    let said = host.deploy(&[&url("r2")]).exits(10);
    let why = "(deploy-my-app-build:r2.service): killed for memory";
    assert!(said.stdout.contains(why), "{said:?}");
    assert_eq!(host.state(), before);
    assert_eq!(host.served().as_deref(), Some("r1"));
}
