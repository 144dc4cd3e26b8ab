//! Whatever hangs, every deploy ends in time with the right exit code, and the right release
//! serves. (Network faults are in `network`; a process that ignores SIGTERM is in `deploying`.)

use std::time::Duration;
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::Output;
use testkit::s3::Fault;

/// Much less than the hour for which processes hang here, and enough on a busy machine.
const IN_TIME: Duration = Duration::from_secs(45);

/// A child in its own session that holds the output open and ignores every signal it can,
/// `sleep 4711`.
const STAYS: &str =
    "setsid bash -c \"trap '' TERM HUP INT; while :; do sleep 4711; done\" & echo begun";

/// Helpers of these tests, as methods of the host.
trait Deadlines {
    /// Runs a deploy that fails in time.
    fn fails(&self, arguments: &[&str], code: i32, why: &str) -> Output;
    /// Checks that no hung process is left, and that r1 serves.
    fn runs_r1_alone(&self);
}

impl Deadlines for Host {
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, why: &str) -> Output {
        let command = [&["deploy"], arguments].concat();
        let said = self.command(&command).deadline(IN_TIME).output().exits(code);
        assert!(said.stdout.contains(why), "{said:?}");
        said
    }

    #[track_caller]
    fn runs_r1_alone(&self) {
        self.exec(&["pgrep", "-f", "sleep 47"]).exits(1);
        assert_eq!(self.served().as_deref(), Some("r1"));
        let status = self.status();
        assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));
    }
}

fn with_build(name: &str, build: &str) -> Release {
    Release::new(name).procfile(&format!("web: python3 app.py web\nbuild: {build}\n"))
}

#[test]
fn a_hung_build_ends_with_all_its_processes() {
    let host = Host::running_r1();
    let before = host.state();
    let hangs = format!("{STAYS}; trap '' TERM; while :; do sleep 4712; done");
    host.publish(&with_build("r2", &hangs).set("DEPLOY_BUILD_TIMEOUT=2s"));
    let said = host.fails(&[&url("r2")], 10, "(deploy-my-app-build:r2.service): timeout");
    assert!(said.stderr.contains("  | begun"), "{said:?}");
    assert!(said.stderr.contains("DEPLOY_BUILD_TIMEOUT"), "{said:?}");
    host.runs_r1_alone();
    // The caller's timeout may be shorter than the build's own.
    host.publish(&with_build("r3", &hangs));
    let over = "(deploy-my-app-build:r3.service): the time given with --timeout is over";
    host.fails(&["--timeout", "3s", &url("r3")], 11, over);
    host.runs_r1_alone();
    assert_eq!(host.state(), before);
}

#[test]
fn background_processes_of_a_build_end_with_it() {
    let host = Host::running_r1();
    host.publish(&with_build("r2", STAYS));
    host.command(&["deploy", &url("r2")]).deadline(IN_TIME).output().exits(0);
    host.exec(&["pgrep", "-f", "sleep 47"]).exits(1);
    assert_eq!(host.served().as_deref(), Some("r2"));
}

/// Other programs reload systemd at any time, and each deploy does too.
#[test]
fn a_reload_of_systemd_ends_neither_build_nor_release_phase() {
    let host = Host::running_r1();
    // Holds every character that could break a line of a unit file.
    let odd = r#": 'a"b' "c'd" \; \\ \x %n %% $$ ${HOME} ü x#x - @ ! + | \""#;
    let until_reloaded = |part| {
        format!(
            "{odd}; while ! [ -e /usr/local/share/{part}-may-end ]; do sleep 0.1; done; \
         echo \"done in $(basename $HOME) 100% $((1 + 1))\""
        )
    };
    let procfile =
        ["build", "release"].map(|part| format!("{part}: {}\n", until_reloaded(part))).concat();
    let procfile = format!("web: python3 app.py web\n{procfile}");
    host.publish(&Release::new("r2").procfile(&procfile));
    let deploying = host.command(&["deploy", &url("r2"), "--run-release"]).spawn();
    for part in ["build", "release"] {
        let unit = format!("deploy-my-app-{part}:r2.service");
        let show = format!("systemctl show --value -p ActiveState {unit}");
        host.wait_for(part, SOON, || (host.sh(&show) == "activating\n").then_some(()));
        host.sh("systemctl daemon-reload");
        assert_eq!(host.sh(&show), "activating\n");
        host.write(&format!("/usr/local/share/{part}-may-end"), "");
    }
    let said = deploying.output().exits(0);
    assert_eq!(said.stderr.matches("| done in ").count(), 2, "{said:?}");
    assert_eq!(said.stderr.matches(" 100% 2\n").count(), 2, "{said:?}");
    // systemd could parse the transient unit files that it had written for the two runs.
    let wrong = r"Refusing|Unknown key|transient/.*(Invalid|Failed to (parse|resolve)|Missing)";
    let complaints = host.exec(&["journalctl", "--boot", "--grep", wrong]);
    complaints.exits(1);
}

#[test]
fn a_candidate_that_hangs_is_given_up() {
    let host = Host::running_r1();
    let probed = " DEPLOY_HEALTH_PATH=/health";
    for (name, behave, why) in [
        ("hang", "BEHAVE=hang".to_owned(), "it does not listen on port "),
        ("mute", format!("BEHAVE=mute{probed}"), "it did not answer in time"),
        ("trickle", format!("BEHAVE=trickle{probed}"), "it did not answer in time"),
    ] {
        host.publish(&Release::new(name).set(&behave).set("DEPLOY_HEALTH_TIMEOUT=3s"));
        let said = host.fails(&[&url(name)], 12, "web.1 was not healthy within 3 s");
        assert!(said.stdout.contains(why), "{said:?}");
        host.runs_r1_alone();
    }
    // With a longer timeout it is the probe that ends first, and its result is reported.
    host.publish(
        &Release::new("slow").set(&format!("BEHAVE=mute{probed} DEPLOY_HEALTH_TIMEOUT=7s")),
    );
    host.fails(&[&url("slow")], 12, "web.1 was not healthy within 7 s");
    host.runs_r1_alone();
}

/// The settle window is shorter than the probe's own timeout.
#[test]
fn a_release_that_stops_answering_in_the_settle_window_is_rolled_back() {
    let host = Host::running_r1();
    let late = "BEHAVE=mute-after=2 DEPLOY_HEALTH_PATH=/health DEPLOY_SETTLE=3s";
    host.publish(&Release::new("r2").set(late));
    let said = host.fails(&[&url("r2")], 20, "web.1 stopped being healthy");
    assert!(said.stdout.contains("no answer within 5 s"), "{said:?}");
    host.runs_r1_alone();
}

#[test]
fn a_stalled_source_gets_no_more_time_than_the_caller_allows() {
    let host = Host::running_r1();
    let before = host.state();
    for (release, object, what) in [
        ("r2", "r2/env", "read env of s3://releases/my-app/production/r2"),
        ("r3", "r3/source.tar.gz", "fetch the archive"),
    ] {
        host.publish(&Release::new(release).set("A=1"));
        host.s3().fault("GET", object, 100, Fault::Stall(0));
        let why = format!("{what}: the time given with --timeout is over");
        host.fails(&["--timeout", "4s", &url(release)], 11, &why);
        assert_eq!(host.state(), before);
    }
    host.runs_r1_alone();
}

#[test]
fn every_deploy_has_a_timeout() {
    let host = Host::boot();
    let help = host.deploy(&["--help"]).ok();
    assert!(help.contains("--timeout") && help.contains("[default: 1h]"), "{help}");
}
