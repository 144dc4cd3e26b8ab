//! No input exhausts the daemon's memory or time.

use testkit::app::{BUCKET, Release, url};
use testkit::host::{Host, SOON};
use testkit::s3::Fault;

/// A web process that first starts children with many open files.
const CROWD: &str = "\
import os, resource, runpy, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
count = min(most - 100, 30000)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(20):
    if os.fork() == 0:
        for _ in range(count):
            os.dup(0)
        import time; time.sleep(3600)
sys.argv = ['app.py', 'web']
runpy.run_path('app.py', run_name='__main__')
";

#[test]
fn hundreds_of_thousands_of_open_files_delay_nothing() {
    let host = Host::running_r1();
    let web = "web: python3 crowd.py\nworker: python3 app.py worker\n";
    host.publish(&Release::new("r2").file("crowd.py", CROWD).procfile(web));
    let pid = host.sh("systemctl show -P MainPID deployd");
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(host.status()["healthy"], true);
    assert_eq!(host.sh("systemctl show -P MainPID deployd"), pid);
}

#[test]
fn an_unresponsive_source_delays_no_other_watched_app() {
    let host = Host::boot();
    Release::new("r1").publish_as(host.s3(), "slow");
    host.publish(&Release::new("r1"));
    host.s3().put(BUCKET, "slow/production/current", "r1\n");
    host.s3().put(BUCKET, "my-app/production/current", "r1\n");
    host.s3().fault("GET", "slow/production/current", 100, Fault::RefusedAndStalled(403));
    host.configure(
        "DEPLOY_WATCH=s3://releases/slow/production/current,\
         s3://releases/my-app/production/current\nDEPLOY_WATCH_INTERVAL=1s\n",
    );
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    for release in ["r1", "r2"] {
        host.publish(&Release::new(release));
        host.s3().put(BUCKET, "my-app/production/current", format!("{release}\n"));
        let served = || (host.served().as_deref() == Some(release)).then_some(());
        host.wait_for(release, SOON, served);
    }
}

#[test]
fn idle_connections_are_limited_and_time_out() {
    let host = Host::running_r1();
    let hold = "import socket, time
held = []
for _ in range(500):
    s = socket.socket(socket.AF_UNIX); s.connect('/run/deploy/deployd.sock'); held.append(s)
open('/run/held', 'w').close()
time.sleep(3600)";
    let holder = host.command(&["python3", "-c", hold]).spawn();
    host.wait_for("connections", SOON, || {
        host.exec(&["test", "-e", "/run/held"]).status.eq(&Some(0)).then_some(())
    });
    let open = || {
        let pid = host.sh("systemctl show -P MainPID deployd");
        let count = host.sh(&format!("ls /proc/{}/fd | wc -l", pid.trim()));
        count.trim().parse::<u32>().expect("a number")
    };
    host.wait_for("a bound", SOON, || (open() < 200).then_some(()));
    // The connections time out, and root is served again.
    host.wait_for("their end", SOON, || (host.deploy(&["status"]).status == Some(0)).then_some(()));
    host.publish(&Release::new("r2"));
    host.deploy(&[&url("r2")]).exits(0);
    drop(holder);
}

/// The window of `zstd --long=27`, the largest that is accepted: 128 MiB.
#[test]
fn twelve_concurrent_stages_with_the_largest_windows_use_bounded_memory() {
    const APPS: u32 = 12;
    let host = Host::boot();
    let archive = with_largest_window();
    for number in 0..APPS {
        let place = format!("many{number}/production/r1");
        host.s3().put(BUCKET, &format!("{place}/source.tar.zst"), archive.clone());
        host.s3().put(BUCKET, &format!("{place}/env"), "");
    }
    let stage = |number| {
        let release = format!("s3://{BUCKET}/many{number}/production/r1");
        host.command(&["deploy", "stage", &release]).deadline(SOON * 4).spawn()
    };
    let staging: Vec<_> = (0..APPS).map(stage).collect();
    for one in staging {
        one.output().exits(0);
    }
    let status = host.sh("cat /proc/$(systemctl show -P MainPID deployd)/status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    println!("twelve stages with windows of 128 MiB: {}", peak.trim());
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 640 << 10, "{kib} KiB");
    assert_eq!(host.sh("systemctl show -P NRestarts deployd"), "0\n");
}

fn with_largest_window() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(27).expect("a window");
    let mut tar = tar::Builder::new(encoder);
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).expect("in memory");
    };
    add("Procfile", b"web: sleep 99\n");
    add("zeros", &vec![0; 160 << 20]);
    tar.into_inner().and_then(|encoder| encoder.finish()).expect("in memory")
}
