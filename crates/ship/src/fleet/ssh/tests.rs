//! The transport with a program in ssh's place.

use super::*;
use crate::fleet::Ended;
use crate::testing::program;
use tempfile::TempDir;

/// A directory with a program that acts as ssh does for the host in `$dest`, with `$command`.
fn ssh(script: &str) -> (TempDir, Ssh) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ssh");
    let words = "for w do dest=$command; command=$w; done\n";
    program(&path, &format!("{words}{script}"));
    let ssh = Ssh::by(path.to_str().unwrap(), Duration::from_secs(600)).unwrap();
    (directory, ssh)
}

fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|name| Host((*name).to_owned())).collect()
}

async fn ends(ssh: &Ssh, ticket: &Ticket) -> BTreeMap<Host, Progress> {
    let open = |one: &Progress| matches!(one, Progress::Waiting | Progress::Running(_));
    let wait = async {
        loop {
            let progress = ssh.poll(ticket).await.unwrap();
            if !progress.values().any(open) {
                return progress;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("an end")
}

const OUTCOME: &str = r#"{"event":"ended","outcome":{"exit":"unhealthy","code":12,"message":"r8 did not become healthy","log":["boom"],"seconds":1.0}}"#;

#[tokio::test]
async fn an_outcome_is_that_of_the_event_and_a_broken_connection_is_lost() {
    let (_directory, ssh) = ssh(&format!(
        "case $dest in\n\
         web1) echo '{{\"event\":\"step\",\"step\":\"prove\",\"text\":\"r8\"}}'; echo '{OUTCOME}'; exit 12;;\n\
         web2) echo 'Connection refused' >&2; exit 255;;\n\
         web3) echo 'sudo: a password is required' >&2; exit 1;;\n\
         web4) exit 137;;\n\
         esac"
    ));
    let url = "s3://releases/shop/production/r8".to_owned();
    let order = Order::Deploy { url, by: "Ada".to_owned(), release: None };
    let ticket = ssh.begin(&order, &hosts(&["web1", "web2", "web3", "web4"])).await.unwrap();
    let ends = ends(&ssh, &ticket).await;
    let end = |name: &str| ends[&Host(name.to_owned())].clone();
    let (message, log) = ("r8 did not become healthy".to_owned(), vec!["boom".to_owned()]);
    assert_eq!(end("web1"), Progress::Ended(Ended { code: 12, message, help: None, log }));
    assert_eq!(end("web2"), Progress::Lost("Connection refused".to_owned()));
    let message = "sudo: a password is required".to_owned();
    assert_eq!(end("web3"), Progress::Ended(Ended { code: 1, message, ..Ended::default() }));
    assert!(matches!(end("web4"), Progress::Lost(_)), "{:?}", end("web4"));
}

#[tokio::test]
async fn a_look_finds_the_release_or_says_why_not() {
    let status = r#"[{"app":"shop","environment":"production","release":"r7.2","url":"s3://releases/shop/production/r7","state":null,"healthy":true,"port":80,"processes":[],"leaving":null,"rollback":null,"working":null,"working_id":null,"last":null}]"#;
    let (_directory, ssh) = ssh(&format!(
        "case $dest in web1) echo '{status}';; web2) echo '[]';; *) echo 'no route' >&2; exit 255;; esac"
    ));
    let seen = ssh.look("shop", &hosts(&["web1", "web2", "web3"])).await.unwrap();
    let seen = |name: &str| seen[&Host(name.to_owned())].clone();
    assert_eq!(seen("web1").unwrap().release.as_deref(), Some("r7"));
    assert_eq!(seen("web2").unwrap().release, None);
    assert_eq!(seen("web3").unwrap_err(), "no route");
}

#[tokio::test]
async fn words_reach_the_instance_as_they_are() {
    let (directory, ssh) = ssh("echo \"$command\" >\"$0.said\"; exit 255");
    let (app, to, by) = ("a'b; $(x)".to_owned(), "r7".to_owned(), "O'Hara $(id)".to_owned());
    let order = Order::Rollback { app, to, by };
    let ticket = ssh.begin(&order, &hosts(&["web1"])).await.unwrap();
    ends(&ssh, &ticket).await;
    let said = std::fs::read_to_string(directory.path().join("ssh.said")).unwrap();
    let words = r#"deploy 'rollback' "$@" '--json' '--to' 'r7' '--' 'a'\''b; $(x)'"#;
    assert!(said.ends_with(&format!("exec {words}; else exec sudo -n {words}; fi\n")), "{said}");
    // With an agent that knows --by, and with one that does not.
    for (help, by) in [("--by NAME", "[--by][O'Hara $(id)]"), ("--to LABEL", "")] {
        let agent = format!(
            "id() {{ echo 1000; }}\nsudo() {{ shift; \"$@\"; }}\ndeploy() {{ case $2 in \
             --help) echo '{help}';; *) printf '[%s]' \"$@\";; esac; }}\n"
        );
        let line = said.replace("exec ", "");
        let mut shell = std::process::Command::new("sh");
        let output = shell.arg("-c").arg(format!("{agent}{line}")).output().unwrap();
        let given = String::from_utf8(output.stdout).unwrap();
        assert_eq!(given, format!("[rollback]{by}[--json][--to][r7][--][a'b; $(x)]"));
    }
}

#[tokio::test]
async fn the_release_phase_has_an_id() {
    let (directory, ssh) = ssh("echo \"$command\" >\"$0.said\"; exit 255");
    let order =
        Order::Deploy { url: "s3://b/r8".into(), by: "Ada".into(), release: Some("5b1f".into()) };
    let ticket = ssh.begin(&order, &hosts(&["web1"])).await.unwrap();
    ends(&ssh, &ticket).await;
    let said = std::fs::read_to_string(directory.path().join("ssh.said")).unwrap();
    let words = "'--json' '--timeout' '600s' '--run-release=5b1f' '--' 's3://b/r8'";
    assert!(said.contains(words), "{said}");
    // An agent that knows no id, or no release phase at all, is not asked for it.
    for help in ["--by NAME, --run-release", "--timeout TIME"] {
        let agent =
            format!("deploy() {{ case $2 in --help) echo '{help}';; *) echo called; esac; }}\n");
        let mut shell = std::process::Command::new("sh");
        let output = shell.arg("-c").arg(format!("{agent}{said}")).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "status=2\n");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.trim()), (Some(1), agent::TOO_OLD));
    }
}

#[tokio::test]
async fn a_look_has_the_version_of_the_agent() {
    let (_directory, ssh) = ssh(
        "case $dest in web1) echo '[]'; echo 'deploy 0.1.0';; *) echo 'deploy 0.1.0'; echo 'sudo: a password is required' >&2;; esac",
    );
    let seen = ssh.look("shop", &hosts(&["web1", "web2"])).await.unwrap();
    let seen = |name: &str| seen[&Host(name.to_owned())].clone();
    assert_eq!(seen("web1").unwrap().agent.as_deref(), Some("0.1.0"));
    assert_eq!(seen("web2").unwrap_err(), "sudo: a password is required");
}

#[tokio::test]
async fn lines_of_a_command_come_with_their_stream_and_its_exit_code() {
    let (_directory, ssh) = ssh(
        "case $dest in web1) echo out; echo err >&2; printf rest; exit 3;; *) echo 'no route' >&2; exit 255;; esac",
    );
    let task = crate::fleet::Task::Deploy(vec!["exec".to_owned()]);
    let (sender, mut said) = tokio::sync::mpsc::channel(64);
    let shell = Transport::shell(&ssh).unwrap();
    assert_eq!(shell.lines(&hosts(&["web1"])[0], &task, sender.clone()).await, Ok(3));
    assert_eq!(shell.lines(&hosts(&["web2"])[0], &task, sender).await, Err("no route".to_owned()));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(crate::fleet::Said { stream, text }) = said.recv().await {
        let lines = if stream == crate::fleet::Stream::Out { &mut out } else { &mut err };
        lines.push(text);
    }
    assert_eq!((out.join(" "), err.join(" ")), ("out rest".into(), "err no route".into()));
}
