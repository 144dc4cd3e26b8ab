//! The harness keeps its promises: its instances behave like machines, and leave nothing
//! behind.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, io, panic, thread};
use testkit::instance::{Image, Instance, Lifeline, Network, loop_files, poll};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn boots_a_whole_systemd_with_a_machine_id_of_its_own() {
    let network = Network::of(2);
    let (one, other) = (network.instance().boot(), network.instance().boot());
    assert_eq!(one.exec(&["systemctl", "is-system-running"]).ok(), "running\n");
    let machine_id = |host: &Instance| host.sh("cat /etc/machine-id").trim().to_owned();
    assert_eq!(machine_id(&one), one.machine_id());
    assert_eq!(machine_id(&other), other.machine_id());
    assert_ne!(one.machine_id(), other.machine_id());
}

#[test]
fn a_command_gives_its_exit_code_and_both_outputs() {
    let host = Network::new().instance().boot();
    let out = host.exec(&["sh", "-c", "echo out; echo err >&2; exit 42"]).exits(42);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(host.exec(&["sh", "-c", "kill -9 $$"]).status, None);

    let out = host.command(&["sh", "-c", "cat; echo $WHO"]).input("hello\n").env("WHO", "me");
    assert_eq!(out.output().ok(), "hello\nme\n");

    let user =
        host.run(&["--uid=nobody", "--property=MemoryMax=64M", "sh", "-c", "id -un; exit 3"]);
    assert_eq!(user.exits(3).stdout, "nobody\n");
    assert!(host.journal(&["-u", "rsyslog"]).contains("Started"));
}

#[test]
fn a_command_that_hangs_is_killed_with_all_it_started() {
    let host = Network::new().instance().boot();
    let hang = host.command(&["sh", "-c", "sleep 4711 & echo started; wait"]);
    let hang = hang.deadline(Duration::from_secs(2));
    let said = panic::catch_unwind(|| hang.output()).expect_err("it cannot end");
    let said = said.downcast_ref::<String>().expect("a message");
    assert!(said.contains("did not end within 2s") && said.contains("started"), "{said}");
    host.exec(&["pgrep", "-f", "sleep 4711"]).exits(1);
}

#[test]
fn a_command_cannot_reach_the_machine_below() {
    let host = Network::new().instance().boot();
    host.exec(&["date", "--set=2001-01-01"]).exits(1);
    // Through /proc/PID/root this link would lead to a directory of this machine.
    let outside = env::temp_dir().join("written-from-an-instance");
    let outside = outside.to_str().expect("a temporary directory in UTF-8");
    host.exec(&["ln", "-s", "/tmp", "/srv/link"]).ok();
    host.write("/srv/link/written-from-an-instance", "inside");
    assert!(!Path::new(outside).exists());
    assert_eq!(host.read("/tmp/written-from-an-instance"), b"inside");
}

#[test]
fn pushes_a_file_with_its_mode() {
    let host = Network::new().instance().boot();
    let program = env::current_exe().expect("this program");
    host.push(&program, "/opt/new/directory/program");
    assert_eq!(host.sh("stat -c %a /opt/new/directory/program"), "755\n");
    let pushed = host.read("/opt/new/directory/program");
    assert!(pushed == fs::read(program).expect("this program"), "other bytes");
}

#[test]
fn a_reboot_keeps_the_disk_and_the_address() {
    let host = Network::new().instance().boot();
    let boot_id =
        || host.sh("cat /proc/sys/kernel/random/boot_id; journalctl --list-boots | wc -l");
    let address =
        || host.sh("ip -oneline -4 address show dev eth0; cat /sys/class/net/eth0/address");
    host.write("/var/lib/kept", "kept");
    host.write("/run/lost", "lost");
    let before = (boot_id(), address());
    host.reboot();
    assert_eq!(host.read("/var/lib/kept"), b"kept");
    host.exec(&["test", "-e", "/run/lost"]).exits(1);
    assert_ne!(boot_id(), before.0);
    assert_eq!(address(), before.1);
    host.network().connect(SocketAddrV4::new(host.address(), 22)).expect("ssh answers");
}

#[test]
fn a_kill_keeps_what_was_written() {
    let host = Network::new().instance().boot();
    host.write("/var/lib/written", "not synced");
    host.kill_hard();
    assert!(!host.is_running());
    host.boot();
    assert_eq!(host.read("/var/lib/written"), b"not synced");
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_nothing_else() {
    let host = Network::new().instance().disk(256).boot();
    for round in ["first", "second"] {
        host.sh(&format!(
            "cd /var/lib; mkdir {round}; echo a >{round}/synced; sync; echo b >{round}/not-synced"
        ));
        host.power_loss();
        host.boot();
        assert_eq!(host.sh(&format!("ls /var/lib/{round}")), "synced\n");
    }
    assert_eq!(host.sh("cat /var/lib/first/synced"), "a\n");
}

#[test]
fn a_command_ends_with_the_power() {
    let host = Network::new().instance().disk(256).boot();
    let mut job = host.command(&["sh", "-c", "echo up >/run/up; sleep 4711"]).spawn();
    host.wait_for("/run/up", SOON, || {
        (host.exec(&["test", "-e", "/run/up"]).status == Some(0)).then_some(())
    });
    assert!(!job.has_ended());
    host.power_loss();
    assert_eq!(job.output().status, None);
}

#[test]
fn hosts_reach_each_other_and_the_test_and_no_other_machine() {
    let network = Network::of(2);
    let (client, server) = (network.instance().boot(), network.instance().boot());
    server.write("/srv/index.html", "from the other host");
    let serve = ["--unit=web", "--working-directory=/srv", "python3", "-m", "http.server", "80"];
    server.exec(&[&["systemd-run"], &serve[..]].concat()).ok();
    let url = format!("http://{}/index.html", server.address());
    let answer = server.wait_for("answer", SOON, || network.http_get(&url).ok());
    assert_eq!((answer.status, answer.body.as_str()), (200, "from the other host"));
    assert_eq!(client.exec(&["curl", "-sS", &url]).ok(), "from the other host");

    for address in [Network::GATEWAY, Network::METADATA] {
        let listener = network.listen_at(SocketAddrV4::new(address, 80));
        let answered = thread::spawn(move || answer_once(&listener));
        let got = client.exec(&["curl", "-sS", &format!("http://{address}/")]);
        assert_eq!(got.ok(), "from the test");
        answered.join().expect("no panic").expect("an answer");
    }

    server.unplug();
    client.exec(&["curl", "-sS", "--max-time", "1", &url]).exits(28);
    server.plug();
    client.exec(&["curl", "-sS", "--retry", "5", "--retry-all-errors", &url]).ok();
    // A documentation address (RFC 5737), which represents the internet.
    client.exec(&["ping", "-c1", "-W1", "192.0.2.1"]).exits(1);
}

#[test]
fn memory_limits_apply_to_a_unit_and_to_the_host() {
    let host = Network::new().instance().memory(256).boot();
    let hoard = "x = bytearray(128 << 20); print(len(x))";
    host.run(&["python3", "-c", hoard]).ok();
    let limited =
        ["--property=MemoryMax=64M", "--property=MemorySwapMax=0", "python3", "-c", hoard];
    assert_ne!(host.run(&limited).status, Some(0));
    assert_ne!(host.run(&["python3", "-c", "x = bytearray(512 << 20)"]).status, Some(0));
}

#[test]
fn an_instance_that_is_off_becomes_an_image_of_others() {
    let network = Network::new();
    let run = std::process::id();
    let image = Image::base().frozen("harness-frozen", run, |base| {
        let host = network.instance().image(base).boot();
        host.sh("echo kept >/etc/kept; rm /etc/debian_version; : >/etc/machine-id");
        host.power_off();
        host
    });
    assert_eq!(image.read("/etc/kept"), b"kept\n");
    let host = network.instance().image(&image).boot();
    assert_eq!(
        host.sh("cat /etc/kept; ls /etc/debian_version 2>&1 || true"),
        "kept\n\
        ls: cannot access '/etc/debian_version': No such file or directory\n"
    );
    assert_eq!(host.sh("cat /etc/machine-id").trim(), host.machine_id());
}

#[test]
fn a_layer_is_made_once_for_the_same_inputs() {
    let input = Lifeline::get().dir().join("input");
    let make = |content: &str| {
        fs::write(&input, content).expect("write the input");
        let script = "cp input /etc/from-the-layer; cat /proc/sys/kernel/random/uuid >/etc/made";
        Image::base().layer("harness", &[&input], script)
    };
    let look = |image: &Image| {
        let host = Network::new().instance().image(image).boot();
        assert_eq!(
            host.sh("ls /run/layer 2>&1 || true").trim(),
            "ls: cannot access '/run/layer': No such file or directory"
        );
        (host.sh("cat /etc/from-the-layer"), host.sh("cat /etc/made"))
    };
    let first = look(&make("one"));
    assert_eq!(first.0, "one");
    assert_eq!(look(&make("one")), first);
    // The image for `one` is removed, as it is no longer held, except for a moment by a program
    // that another test is just starting.
    let gone = poll(SOON, || {
        assert_eq!(look(&make("two")).0, "two");
        (look(&make("one")).1 != first.1).then_some(())
    });
    assert!(gone.is_some(), "{first:?} is still there");
}

#[test]
fn leaves_nothing_behind() {
    let host = Network::new().instance().disk(256).boot();
    host.exec(&["systemd-run", "sleep", "4711"]).ok();
    let (traces, dir) = (Traces::of(&host), Lifeline::get().dir().to_owned());
    assert!(traces.left().0.len() >= 3, "{:?}", traces.left());
    drop(host);
    assert_eq!(traces.left(), Traces(vec![]));
    assert!(dir.exists(), "the directory belongs to this process, not to the instance");
}

#[test]
fn an_instance_dies_with_a_killed_test_process() {
    let (mut victim, traces, _) = start_victim();
    victim.kill().expect("kill the victim");
    victim.wait().expect("wait for the victim");
    let gone = poll(SOON, || traces.left().0.is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", traces.left());
}

#[test]
fn the_next_test_process_clears_what_a_killed_watcher_could_not() {
    let (mut victim, traces, watcher) = start_victim();
    kill(watcher, Signal::SIGKILL).expect("kill the watcher");
    victim.kill().expect("kill the victim");
    victim.wait().expect("wait for the victim");
    let (mut next, ..) = start_victim();
    assert_eq!(traces.left(), Traces(vec![]));
    drop(next.stdin.take());
    assert!(next.wait().expect("wait for the next").success());
}

/// Starts another test process, which holds an instance until its input ends. Returns it, the
/// paths of its instance, and its watcher.
fn start_victim() -> (Child, Traces, Pid) {
    let mut victim = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the victim");
    let output = BufReader::new(victim.stdout.take().expect("a pipe"));
    let mut lines = output.lines().map_while(Result::ok);
    let told = lines.find_map(|line| {
        let (_, told) = line.split_once("victim of ")?;
        let (watcher, traces) = told.split_once(": ")?;
        let traces = Traces(traces.split(' ').map(PathBuf::from).collect());
        Some((traces, Pid::from_raw(watcher.parse().ok()?)))
    });
    let (traces, watcher) = told.expect("the victim booted an instance");
    thread::spawn(move || lines.count());
    assert!(traces.left().0.len() >= 3, "{:?}", traces.left());
    (victim, traces, watcher)
}

#[test]
#[ignore = "not a test: a process for others to kill"]
fn victim() {
    let host = Network::new().instance().disk(256).boot();
    let lifeline = Lifeline::get();
    let mut traces = Traces::of(&host).0;
    traces.push(lifeline.dir().to_owned());
    let traces: Vec<_> = traces.iter().map(|path| path.to_string_lossy()).collect();
    println!("victim of {}: {}", lifeline.watcher_id(), traces.join(" "));
    let _ = io::stdin().read(&mut [0]);
}

/// Paths that exist as long as an instance does.
#[derive(Debug, PartialEq)]
struct Traces(Vec<PathBuf>);

impl Traces {
    fn of(host: &Instance) -> Traces {
        Traces(host.traces())
    }

    /// Returns those that still exist, and the files below them behind loop devices.
    fn left(&self) -> Traces {
        let below = |file: &PathBuf| self.0.iter().any(|path| file.starts_with(path));
        let mut left = loop_files();
        left.retain(below);
        left.extend(self.0.iter().filter(|path| path.exists()).cloned());
        Traces(left)
    }
}

fn answer_once(listener: &std::net::TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom the test")
}
