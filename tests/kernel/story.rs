//! An instance from its birth through what happens to it every day.

use crate::machine::Machine;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use testkit::app::url;
use testkit::graceful::graceful;
use testkit::load::{Load, Running};

/// Probes that a process of the app may not do, and one that it may.
const TRIES: [(&str, &str); 8] = [
    ("touch /etc/x", "no"),
    ("touch /usr/x", "no"),
    ("touch x", "no"),
    ("ls /root/.ssh", "no"),
    ("test -e /dev/vda", "no"),
    ("test -d /proc/1", "no"),
    ("unshare --user true", "no"),
    ("touch \"$HOME/x\" \"$DEPLOY_SHARED/x\" tmp/x /tmp/x", "yes"),
];

/// A part of the story, which finds the machine as the one before has left it.
type Step = fn(&Machine);

const STEPS: [(&str, Step); 11] = [
    ("user-data deploys", user_data_deploys),
    ("the kernel confines a process", the_kernel_confines_a_process),
    ("no client notices a deploy", no_client_notices_a_deploy),
    ("a refused release changes nothing", a_refused_release_changes_nothing),
    ("no client notices a rollback", no_client_notices_a_rollback),
    ("the app serves without deployd", the_app_serves_without_deployd),
    ("the app is up after a reboot", the_app_is_up_after_a_reboot),
    ("doctor finds no fault", doctor_finds_no_fault),
    ("the kernel logs no error", the_kernel_logs_no_error),
    // Which it logs as an error.
    ("the kernel limits memory", the_kernel_limits_memory),
    ("deployd unpacks more than its memory", deployd_unpacks_more_than_its_memory),
];

#[test]
fn an_instance_lives_on_debians_kernel() {
    let machine = Machine::new();
    machine.s3_has(&["r1", "r2"]);
    machine.point("r1");
    let began = Instant::now();
    // A step leaves the machine to the next one whatever it has found: each run is long.
    let failed = STEPS.into_iter().filter(|(name, step)| {
        println!("{:6.0} s  {name}", began.elapsed().as_secs_f64());
        catch_unwind(AssertUnwindSafe(|| step(&machine))).is_err()
    });
    let failed: Vec<_> = failed.map(|(name, _)| name).collect();
    println!("{:6.0} s  the end", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{failed:?}; see above");
}

impl Machine {
    fn s3_has(&self, releases: &[&str]) {
        releases.iter().for_each(|release| graceful(release).publish(&self.s3));
    }

    /// Clients outside, with a connection for each request, and with kept ones.
    fn loads(&self) -> [Running; 2] {
        let load = Load::on(&[self.address()]).connections(2).pause(Duration::from_millis(10));
        let load = load.patience(Duration::from_secs(60)).longest(Duration::from_secs(1800));
        self.network.within(|| [load.clone().start(), load.keep_alive().start()])
    }

    /// Runs `work` under load; fails if any request failed.
    #[track_caller]
    fn unnoticed(&self, work: impl FnOnce()) {
        let loads = self.loads();
        loads.iter().for_each(|load| load.wait_for(10));
        work();
        loads.iter().for_each(|load| load.wait_for(10));
        for load in loads {
            let tally = load.stop();
            println!("          {tally}");
            assert_eq!(tally.failed(), 0, "{tally}");
        }
    }
}

fn user_data_deploys(machine: &Machine) {
    machine.is_born();
    machine.is_up();
    machine.serves("r1");
    let status = machine.status();
    assert_eq!((&status["release"], &status["state"]), (&"r1".into(), &"good".into()));
    println!("          {}", machine.sh("uname --kernel-release --kernel-version").trim());
    // By each of the ways that a client on the instance has.
    for host in ["127.0.0.1", "[::1]", "10.0.2.15"] {
        assert_eq!(machine.sh(&format!("curl --silent http://{host}:5000/")), "r1", "{host}");
    }
}

fn the_kernel_confines_a_process(machine: &Machine) {
    let pid = machine.pid("web.1");
    let status = machine.sh(&format!("cat /proc/{pid}/status"));
    let has = |line: &str| status.lines().any(|one| one.split_whitespace().eq(line.split(' ')));
    for line in ["NoNewPrivs: 1", "Seccomp: 2", "CapBnd: 0000000000000000"] {
        assert!(has(line), "{line}: {status}");
    }
    let tries = TRIES.map(|(one, _)| format!("({one}) >&2 && echo yes || echo no\n")).concat();
    let tried = machine.deploy(&["exec", "my-app", "--", "sh", "-c", &tries]).exits(0);
    let found: Vec<_> = tried.stdout.lines().zip(TRIES).map(|(did, (one, _))| (one, did)).collect();
    assert_eq!(found, TRIES, "{}", tried.stderr);
    // From outside of its namespaces: the mounts and the filter are those of the process itself.
    let within = format!("nsenter --target {pid} --mount");
    for path in ["/etc/x", "/usr/x", "/var/lib/deploy/x"] {
        let said = machine.exec(&["sh", "-c", &format!("{within} touch {path}")]);
        assert!(said.stderr.contains("Read-only file system"), "{path}: {said:?}");
    }
    let unit = machine.sh(&format!("ps -o unit= -p {pid}"));
    machine.sh(&format!("systemd-analyze security --no-pager --threshold=14 {}", unit.trim()));
    assert_eq!(machine.sh("cat /sys/module/apparmor/parameters/enabled"), "Y\n");
}

/// Debian's kernel has control groups of version 2 alone.
fn the_kernel_limits_memory(machine: &Machine) {
    let greedy = "web: exec python3 -c 'b\"x\" * (512 << 20)'\n";
    let greedy = graceful("greedy").procfile(greedy).set("DEPLOY_MEMORY_MAX=96M");
    greedy.publish(&machine.s3);
    let said = machine.deploy(&[&url("greedy")]).exits(12);
    assert!(said.stdout.contains("greedy failed, r1 runs on"), "{said:?}");
    assert!(said.stdout.contains("it was killed for memory"), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_MEMORY_MAX"), "{said:?}");
    machine.serves("r1");
}

/// The page cache of what it unpacks counts for its limit, and its writer waits: nothing is killed.
fn deployd_unpacks_more_than_its_memory(machine: &Machine) {
    machine.sh("mkdir /run/systemd/system/deployd.service.d
        printf '[Service]\\nMemoryMax=96M\\n' >/run/systemd/system/deployd.service.d/memory.conf
        systemctl daemon-reload
        systemctl restart deployd");
    graceful("large").file("zeros", vec![0; 300 << 20]).publish(&machine.s3);
    machine.unnoticed(|| {
        machine.deploy(&[&url("large")]).exits(0);
        machine.serves("large");
    });
    let events = machine.sh("cat /sys/fs/cgroup/system.slice/deployd.service/memory.events");
    assert!(!events.contains("max 0\n"), "the limit was not reached: {events}");
    assert!(events.contains("oom_kill 0\n"), "{events}");
}

fn no_client_notices_a_deploy(machine: &Machine) {
    machine.unnoticed(|| {
        let said = machine.deploy(&["--timings", &url("r2")]).exits(0);
        println!("{}{}", said.stderr, said.stdout.trim_end());
        machine.serves("r2");
    });
}

fn a_refused_release_changes_nothing(machine: &Machine) {
    let state = "cd /var/lib/deploy/apps/my-app
        readlink current; ls releases; systemctl show --property=MainPID,NRestarts 'deploy-*@*'
        nft list chain inet deploy public
        find /run/systemd/generator -name 'deploy-*' -type f | sort | xargs sha256sum";
    let before = machine.sh(state);
    graceful("bad").set("BEHAVE=crash").publish(&machine.s3);
    graceful("odd").procfile("web python3 server.py\n").publish(&machine.s3);
    machine.unnoticed(|| {
        let said = machine.deploy(&[&url("bad")]).exits(12);
        assert!(said.stdout.contains("bad failed, r2 runs on"), "{said:?}");
        machine.deploy(&[&url("odd")]).exits(10);
        machine.deploy(&[&url("none")]).exits(11);
    });
    assert_eq!(machine.sh(state), before);
}

fn no_client_notices_a_rollback(machine: &Machine) {
    machine.unnoticed(|| {
        machine.deploy(&["rollback"]).exits(0);
        machine.serves("r1");
    });
}

fn the_app_serves_without_deployd(machine: &Machine) {
    let pid = machine.pid("web.1");
    machine.unnoticed(|| {
        machine.sh("systemctl stop deployd.socket deployd.service");
        machine.serves("r1");
        machine.deploy(&["status"]).exits(41);
        machine.sh("systemctl start deployd.socket");
    });
    assert_eq!(machine.pid("web.1"), pid);
}

fn the_app_is_up_after_a_reboot(machine: &Machine) {
    let boot = |machine: &Machine| machine.sh("cat /proc/sys/kernel/random/boot_id");
    let before = boot(machine);
    machine.reboot();
    assert_ne!(boot(machine), before);
    machine.wait_for("answer", || machine.served().filter(|served| served == "r1"));
    machine.is_up();
    let healthy = || (machine.status()["healthy"] == true).then_some(());
    machine.wait_for("health", healthy);
}

/// Each row has a deadline of seconds, which an emulated machine misses at times.
fn doctor_finds_no_fault(machine: &Machine) {
    let page = machine.wait_for("page without a fault", || {
        let page = machine.deploy(&["doctor", &url("current")]);
        (page.status == Some(0)).then_some(page.stdout)
    });
    println!("{page}");
    for row in ["cgroups          version 2", "sandbox          all of its features"] {
        assert!(page.contains(&format!("ok       {row}")), "{row}: {page}");
    }
    assert!(page.ends_with("all is well\n"), "{page}");
}

fn the_kernel_logs_no_error(machine: &Machine) {
    // journalctl ends with 1 if there are none.
    let log = "journalctl --quiet --dmesg --output=cat";
    let errors = machine.sh(&format!("{log} --boot=0 --priority=err || true"));
    let before = machine.sh(&format!("{log} --boot=-1 --priority=err || true"));
    assert_eq!((errors.as_str(), before.as_str()), ("", ""));
    assert!(!machine.sh(log).is_empty());
}
