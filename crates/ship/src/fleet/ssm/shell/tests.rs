use super::*;
use crate::fleet::aws::Calls;
use crate::fleet::aws::api::Kind;
use crate::fleet::aws::fake::Fake;
use crate::place::Place;
use std::sync::Arc;
use tokio::sync::mpsc::channel;

fn ssm(fake: &Arc<Fake>) -> Ssm {
    let place = Place { app: "shop".parse().unwrap(), environment: "production".parse().unwrap() };
    Ssm::new(Arc::new(Calls::new(fake.clone())), &place, Duration::from_secs(600))
}

/// An instance on which `deploy` is this.
fn fake(deploy: &str) -> (Arc<Fake>, Host) {
    let fake = Fake::running(1, "r7");
    let host = fake.change(|inner| {
        let (id, machine) = inner.machines.first_key_value().unwrap();
        let (id, mut machine) = (id.clone(), machine.clone());
        machine.deploy = Some(deploy.to_owned());
        inner.machines.insert(id.clone(), machine);
        Host(id)
    });
    (fake, host)
}

fn exec(words: &[&str]) -> Vec<String> {
    ["exec", "shop", "--"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn words_streams_and_exit_code_are_those_of_the_command() {
    let (fake, host) = fake("printf '[%s]' \"$@\"; echo no >&2; return 194");
    let printed = ssm(&fake).ran(&host, &exec(&["it's", "{{x}} $(id)", ""])).await.unwrap();
    assert_eq!(printed.out, "[exec][shop][--][it's][{{x}} $(id)][]");
    assert_eq!((printed.err.as_str(), printed.code), ("no", 194));
    assert!(printed.cut.is_empty());
    let sent = fake.sent();
    assert!(!sent[0].line.contains("{{"), "{}", sent[0].line);
    let comment = &sent[0].comment;
    assert!(
        comment.starts_with("ship exec ") && comment.ends_with(": shop/production"),
        "{comment}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_output_is_cut_and_said_so() {
    let (fake, host) = fake("head -c 100000 /dev/zero | tr '\\0' x; return 3");
    let printed = ssm(&fake).ran(&host, &exec(&["x"])).await.unwrap();
    assert_eq!((printed.out.len(), printed.code), (OUT, 3));
    assert_eq!(printed.cut, ["78000 more bytes of its output are left out: 22000 are kept"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_keeps_its_last_lines() {
    let (fake, host) = fake("seq 20000");
    let words = vec!["logs".to_owned(), "--json".to_owned()];
    let printed = ssm(&fake).ran(&host, &words).await.unwrap();
    assert!(printed.out.ends_with("\n19999\n20000\n"), "{}", printed.out.len());
    assert_eq!(printed.cut.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lines_come_with_their_stream() {
    let (fake, host) = fake("echo one; echo two; echo no >&2");
    let (sender, mut receiver) = channel(64);
    let task = Task::Deploy(exec(&["x"]));
    assert_eq!(ssm(&fake).lines(&host, &task, sender).await, Ok(0));
    let mut said = Vec::new();
    while let Some(Said { stream, text }) = receiver.recv().await {
        said.push((stream, text));
    }
    let line = |stream, text: &str| (stream, text.to_owned());
    let all = [line(Stream::Out, "one"), line(Stream::Out, "two"), line(Stream::Err, "no")];
    assert_eq!(said, all);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_reached_and_a_right_that_is_missing_are_named() {
    let (fake, host) = fake("true");
    fake.refuse(Action::GetCommandInvocation, Kind::Denied, 1);
    let error = ssm(&fake).ran(&host, &exec(&["x"])).await.unwrap_err();
    assert!(error.advice().unwrap().starts_with("allow ssm:GetCommandInvocation"));
    fake.change(|inner| inner.machines.get_mut(&host.0).unwrap().online = false);
    let error = ssm(&fake).ran(&host, &exec(&["x"])).await.unwrap_err();
    assert_eq!(error.exit().code(), 41);
    assert!(error.chain().ends_with("its SSM agent has not fetched the command"));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_fetched_is_cancelled_by_ctrl_c() {
    let (fake, host) = fake("echo ran");
    fake.change(|inner| {
        inner.pings_online = true;
        inner.machines.get_mut(&host.0).unwrap().online = false;
    });
    let ssm = ssm(&fake);
    let interrupted = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        crate::fleet::Transport::let_go(&ssm).await.unwrap();
        fake.change(|inner| inner.machines.get_mut(&host.0).unwrap().online = true);
    };
    let words = exec(&["true"]);
    let (ran, ()) = tokio::join!(ssm.ran(&host, &words), interrupted);
    assert_eq!(ran.unwrap_err().exit().code(), 41);
    assert_eq!(fake.calls()[&Action::CancelCommand].0, 1);
}
