//! ship at a terminal: what a rollout, ps, exec, ssh and logs show there.

use super::formation::Formation;
use super::group::{SETTINGS, WEB, release};
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use vt100::Parser;

/// The screens of a command, one after the other.
fn screens(raw: &str, (rows, columns): (u16, u16)) -> Vec<String> {
    let size = |size| NonZeroU16::new(size).expect("a size");
    let mut parser = Parser::new(size(rows), size(columns), 1_000);
    let mut all: Vec<String> = Vec::new();
    for chunk in raw.split_inclusive(['\n', '\r']) {
        parser.process(chunk.as_bytes());
        let rows = parser.screen().rows(0, columns);
        let screen: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        let screen = screen.join("\n").trim_end().to_owned();
        if all.last() != Some(&screen) {
            all.push(screen);
        }
    }
    all
}

#[test]
fn a_rollout_and_the_commands_beside_it_are_fit_for_a_terminal() {
    let group = Formation::boot();
    group.ok(&[&["config", "-e", "production", "set"], &SETTINGS[..]].concat());
    for size in [(24, 80), (40, 140), (24, 40)] {
        let name = release(&group, &format!("at {size:?}"), WEB);
        let (code, raw) = group.at_terminal(size, "deploy production --batch 1,100%");
        let screens = screens(&raw, size);
        let last = screens.last().expect("a screen");
        println!("{}", screens.join("\n----\n"));
        assert_eq!(code, 0, "{last}");
        let has = |words: &[&str]| {
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            assert!(screens.iter().any(|screen| screen.lines().any(has)), "{words:?}");
        };
        has(&["  web2", "prove     release r"]);
        has(&["1/3  2 running, 1 done"]);
        has(&["✓ web3"]);
        assert!(last.ends_with(&format!("{name} runs on 3 instances")), "{last}");
        assert!(!last.contains("running,"), "{last}");
        assert!(raw.contains("\u{1b}[32m"), "{raw:?}");
    }

    // A release that fails on the third: its log is the last before the outcome.
    group.others[1].write("/etc/broken", "");
    let broken = "if [ -e /etc/broken ]; then echo the disk is on fire; exit 1; fi; exec ";
    release(&group, "bad", &format!("{broken}{WEB}"));
    let (code, raw) = group.at_terminal((40, 100), "deploy production");
    let screens = screens(&raw, (40, 100));
    let last = screens.last().expect("a screen");
    println!("{last}");
    assert_eq!(code, 12, "{last}");
    assert!(last.contains("✗ web3"), "{last}");
    let (_, end) = last.split_once("web3 | web.1: the disk is on fire").expect("the log");
    assert!(end.contains("deploy failed (exit 12): r4 failed on web3"), "{last}");

    instances_are_shown(&group);
    commands_run_on_instances(&group);
    logs_are_merged(&group);
    group.ok(&["lock", "production", "-m", "the end"]);
    let left: Vec<_> = fs::read_dir(group.path("ship")).expect("the directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn instances_are_shown(group: &Formation) {
    let ps = group.ok(&["ps"]);
    assert_eq!(ps.matches("healthy").count(), 3, "{ps}");
    assert!(ps.starts_with("INSTANCE  RELEASE  SINCE  AGENT  STATE\n"), "{ps}");
    assert!(ps.contains("  r3  ") && ps.contains(" 0.1.0 "), "{ps}");
    let mut watch = group.start(&["ps", "--watch"]);
    let lines = BufReader::new(watch.stdout.take().expect("its stdout")).lines();
    let mut heads = lines.map_while(Result::ok).filter(|line| line.contains("current is r3"));
    assert!(heads.next().is_some() && heads.next().is_some());
    interrupt(&watch);
    assert!(watch.wait().expect("its end").success());
}

fn commands_run_on_instances(group: &Formation) {
    let words = ["exec", "production", "--", "sh", "-c", "echo \"it's $0\" $(cat VERSION)", "a  b"];
    assert_eq!(group.ok(&words), "it's a  b at (24, 40)\n");
    let (code, raw) = group.at_terminal((24, 80), "exec -- sh -c 'test -t 0 && tty; exit 3'");
    assert_eq!(code, 3, "{raw}");
    assert!(raw.contains("/dev/pts/"), "{raw}");
    let script = "if [ -e /etc/broken ]; then echo bad >&2; exit 7; fi; echo good";
    let ended = group.ship(&["exec", "--all", "--", "sh", "-c", script]);
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web1 good", "web2 good"]);
    assert!(ended.stderr.contains("web3 bad\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("2 ended with 0; 1 ended with 7: web3"), "{}", ended.stderr);
    let ended = group.ship(&["exec", "--host", "web9", "--", "true"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("name one of web1, web2, web3"), "{}", ended.stderr);
    group.write("input", "hostname; exit 5\n");
    let (code, raw) = group.at_terminal((24, 80), "ssh web2 <input");
    let name = group.others[0].sh("hostname");
    assert_eq!((code, raw.lines().last()), (5, name.lines().next()), "{raw}");
}

fn logs_are_merged(group: &Formation) {
    let logs = group.ok(&["logs", "production", "web", "-n", "3", "--json"]);
    let field = |line: &str, name: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line[name].as_str().unwrap_or_default().to_owned()
    };
    let times: Vec<String> = logs.lines().map(|line| field(line, "at")).collect();
    assert!(times.is_sorted() && times.len() >= 3, "{logs}");
    let mut follow = group.start(&["logs", "-f", "-n", "1"]);
    let mut lines = BufReader::new(follow.stdout.take().expect("its stdout")).lines();
    let mut found = |text: &str| {
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with {text}"))
    };
    // Each has a last line, and then is followed.
    let mut silent = vec!["web1", "web2", "web3"];
    while !silent.is_empty() {
        let line = found("web");
        silent.retain(|host| !line.starts_with(host));
    }
    group.others[0].sh("systemctl restart deploy-my-app-web-r3@1");
    assert!(found("web begins").starts_with("web2 "));
    interrupt(&follow);
    assert!(follow.wait().expect("its end").success());
}

/// What Ctrl-C does.
fn interrupt(ship: &Child) {
    let kill = Command::new("kill").args(["-INT", &ship.id().to_string()]).status();
    assert!(kill.expect("kill").success());
}
