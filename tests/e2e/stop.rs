//! Every process of a unit gets one signal and its timeout, even behind the launchers that
//! people write into Procfiles.

use std::collections::BTreeMap;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};

const JOB: &str = include_str!("stop/job.py");

/// A launcher that waits for its program instead of replacing itself with it.
const SCRIPT: &str = "#!/bin/sh\necho preparing\npython3 job.py \"$@\"\n";

/// Ways to start one program; the first ones exec it, the others do not. Without
/// `--foreground`, timeout(1) signals its program twice: alone, and with its group.
const KINDS: &str = "\
direct: python3 job.py
niced: nice -n 5 python3 job.py
assigned: A=1 python3 job.py
default: python3 ${JOB:-job.py}
script: ./bin/worker
shscript: sh bin/worker
envscript: env A=1 ./bin/worker
inlist: true && ./bin/worker
list: cd . && python3 job.py
bashc: bash -c 'cd . && python3 job.py'
shc: sh -c 'echo x; python3 job.py'
loginshell: bash -lc \"python3 job.py; echo ended\"
pipe: python3 job.py | cat
bothpiped: python3 job.py 2>&1 | tee /dev/null | cat
subshell: (python3 job.py)
timed: timeout --foreground 3600 python3 job.py
background: python3 job.py & wait
waitingsetsid: setsid --wait python3 job.py
";

/// Launchers that forward the signal themselves, and then wait.
const FORWARDING: &str = "\
trapped: python3 job.py & child=$!; trap 'kill $child' TERM; wait $child; wait $child
";

fn release(name: &str) -> Release {
    Release::empty(name)
        .file("job.py", JOB)
        .file("VERSION", name)
        .file_of_mode(0o755, "bin/worker", SCRIPT)
        .file_of_mode(0o755, "bin/web", SCRIPT)
        .procfile(&format!("web: ./bin/web serve\n{KINDS}{FORWARDING}"))
}

/// Returns the notes that each process of a release has made since its start.
fn notes(host: &Host, release: &str) -> BTreeMap<String, Vec<String>> {
    let all = host.sh("cat /var/lib/deploy/apps/my-app/shared/notes");
    let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in all.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [of, kind, what] = words[..] else { panic!("{line}") };
        if of == release {
            notes.entry(kind.to_owned()).or_default().push(what.to_owned());
        }
    }
    notes
}

/// Checks that each process has begun, got one signal and finished its job, this many times; and
/// `web` as often as another process stood in for it during a restart besides.
#[track_caller]
fn all_ended(host: &Host, release: &str, times: usize, stand_ins: usize) {
    let notes = notes(host, release);
    let kinds = KINDS.lines().chain(FORWARDING.lines()).filter_map(|line| line.split_once(':'));
    let expected = ["begins", "signal", "done"].repeat(times);
    for (kind, _) in kinds {
        assert_eq!(notes.get(kind).map(Vec::as_slice), Some(&to_owned(&expected)[..]), "{kind}");
    }
    for what in ["begins", "signal", "done"] {
        assert_eq!(count(&notes["web"], what), times + stand_ins, "{what} of {notes:?}");
    }
}

fn count(notes: &[String], what: &str) -> usize {
    notes.iter().filter(|note| *note == what).count()
}

fn to_owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Waits until all processes of a release have begun, this many times.
fn have_begun(host: &Host, release: &str, times: usize, stand_ins: usize) {
    let kinds = KINDS.lines().count() + FORWARDING.lines().count() + 1;
    host.wait_for("every process", SOON, || {
        let notes = notes(host, release);
        let wanted = |kind: &str| times + if kind == "web" { stand_ins } else { 0 };
        let mut all = notes.iter();
        let begun = all.all(|(kind, notes)| count(notes, "begins") == wanted(kind));
        (notes.len() == kinds && begun).then_some(())
    });
}

#[test]
fn every_launchers_program_gets_one_signal_and_its_stop_timeout() {
    let host = Host::boot();
    host.publish(&release("r1"));
    host.publish(&release("r2"));

    host.deploys("r1");
    have_begun(&host, "r1", 1, 0);
    host.deploys("r2");
    all_ended(&host, "r1", 1, 0);

    have_begun(&host, "r2", 1, 0);
    host.deploy(&["restart", "my-app"]).exits(0);
    have_begun(&host, "r2", 2, 1);
    host.deploy(&["stop", "my-app"]).exits(0);
    all_ended(&host, "r2", 2, 1);
    host.deploy(&["start", "my-app"]).exits(0);
    have_begun(&host, "r2", 3, 1);
    host.reboot();
    have_begun(&host, "r2", 4, 1);
    host.deploy(&["stop", "my-app"]).exits(0);
    all_ended(&host, "r2", 4, 1);
}

#[test]
fn a_request_survives_the_end_of_its_servers_launcher() {
    let host = Host::boot();
    let of = |name| release(name).procfile("web: ./bin/web serve\n").set("DEPLOY_DRAIN_TIMEOUT=0s");
    host.publish(&of("r1"));
    host.publish(&of("r2"));
    host.deploys("r1");
    let slow = format!("http://{}:5000/slow", host.address());
    let answered_during = |work: &[&str]| {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| host.network.http_get(&slow));
            host.wait_for("request", SOON, || {
                let ports = host.web_listens_on();
                let port = ports.first()?;
                let open = format!("ss -Htn state established 'sport = :{port}'");
                (!host.sh(&open).trim().is_empty()).then_some(())
            });
            host.deploy(work).exits(0);
            asked.join().expect("no panic").map(|answer| answer.body).ok()
        })
    };
    assert_eq!(answered_during(&["restart", "my-app"]).as_deref(), Some("r1"));
    host.wait_for("answer", SOON, || host.served());
    assert_eq!(answered_during(&[&url("r2")]).as_deref(), Some("r1"));
    assert_eq!(host.served().as_deref(), Some("r2"));
    assert_eq!(answered_during(&["remove", "my-app", "--yes"]).as_deref(), Some("r2"));
}

/// A process that outlives its signal and the stop timeout is killed, and so are its children.
#[test]
fn processes_that_exceed_the_stop_timeout_are_killed() {
    let host = Host::boot();
    let stubborn = "#!/bin/sh\n(trap '' TERM QUIT; exec sleep 4242) &\nwait\n";
    for signal in ["TERM", "QUIT"] {
        let release = Release::empty(signal)
            .file_of_mode(0o755, "bin/worker", stubborn)
            .procfile("worker: ./bin/worker\n")
            .set("DEPLOY_STOP_TIMEOUT=1s")
            .set(&format!("DEPLOY_STOP_SIGNAL={signal}"));
        host.publish(&release);
        host.deploys(signal);
        let sleeps = || host.sh("pgrep -cf '^sleep 4242' || true").trim().to_owned();
        host.wait_for("process", SOON, || (sleeps() == "1").then_some(()));
        host.deploy(&["stop", "my-app"]).exits(0);
        assert_eq!(sleeps(), "0", "{signal}");
    }
}

/// Launchers that survive one of these signals while they wait for their program.
#[test]
fn a_signal_other_than_sigterm_can_be_configured() {
    const KINDS: &str = "\
worker: python3 job.py
script: ./bin/worker
bashscript: ./bin/bashworker
pipe: bash -c 'python3 job.py | cat'
background: python3 job.py & wait
timed: cd . && timeout --foreground 3600 python3 job.py; true
trapped: python3 job.py & child=$!; trap 'kill -SIGNAL $child' SIGNAL; wait $child; wait $child
";
    let host = Host::boot();
    for signal in ["QUIT", "INT", "WINCH"] {
        let of = release(signal)
            .file_of_mode(0o755, "bin/bashworker", SCRIPT.replace("/bin/sh", "/bin/bash"))
            .procfile(&KINDS.replace("SIGNAL", signal))
            .set(&format!("DEPLOY_STOP_SIGNAL={signal}"))
            .set(&format!("ENDS_AT=SIG{signal}"));
        host.publish(&of);
        host.deploys(signal);
        let kinds = || KINDS.lines().filter_map(|line| line.split_once(':'));
        host.wait_for("every process", SOON, || {
            (notes(&host, signal).len() == kinds().count()).then_some(())
        });
        host.deploy(&["stop", "my-app"]).exits(0);
        let expected = to_owned(&["begins", "signal", "done"]);
        let notes = notes(&host, signal);
        for (kind, _) in kinds() {
            assert_eq!(notes[kind], expected, "{kind} at {signal}");
        }
    }
}

/// The last stage of the pipeline still has lines to read when the program has ended.
#[test]
fn a_slow_reader_of_a_pipeline_writes_its_last_lines() {
    let host = Host::boot();
    let job = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [15])\n\
        print('begins', flush=True)\nsignal.sigwait([15])\n\
        for line in range(25): print('line', line)\n";
    let filter = "import sys, time\nfor line in sys.stdin:\n    \
        time.sleep(0.02)\n    print(line, end='', flush=True)\n";
    let release = Release::empty("r1")
        .file("job.py", job)
        .file("filter.py", filter)
        .procfile("worker: python3 job.py | python3 filter.py\n");
    host.publish(&release);
    host.deploys("r1");
    let logged = |text: &str| {
        let count = format!("journalctl -o cat -t my-app.worker.1 | grep -c '^{text}' || true");
        host.sh(&count).trim().to_owned()
    };
    host.wait_for("process", SOON, || (logged("begins") == "1").then_some(()));
    host.deploy(&["stop", "my-app"]).exits(0);
    host.sh("journalctl --sync");
    assert_eq!(logged("line"), "25");
}

/// Such a process has the state of a zombie, yet still works.
#[test]
fn a_process_whose_first_thread_has_ended_gets_its_signal_and_its_stop_timeout() {
    let host = Host::boot();
    let job = "import ctypes, os, platform, signal, threading, time\n\
        def note(what):\n    os.system(f'echo r1 worker {what} >>$DEPLOY_SHARED/notes')\n\
        def work():\n    note('begins')\n    signal.sigwait([15])\n    note('signal')\n    \
        time.sleep(1)\n    note('done')\n    os._exit(0)\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [15])\n\
        threading.Thread(target=work).start()\n\
        ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)\n";
    let release = Release::empty("r1")
        .file("job.py", job)
        .procfile("worker: bash -c 'python3 job.py; true'\n");
    host.publish(&release);
    host.deploys("r1");
    host.wait_for("process", SOON, || {
        host.sh("ps -C python3 -o state=").contains('Z').then_some(())
    });
    host.deploy(&["stop", "my-app"]).exits(0);
    assert_eq!(notes(&host, "r1")["worker"], to_owned(&["begins", "signal", "done"]));
}
