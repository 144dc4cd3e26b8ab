//! What a person sees at a terminal, rendered by a terminal emulator.

use std::num::NonZeroU16;
use std::{env, fs};
use testkit::app::{Release, url};
use testkit::host::{Host, SOON};
use testkit::instance::Output;
use vt100::Parser;

const ROWS: u16 = 40;

/// The screens of a command, one after the other.
pub struct Screens {
    raw: String,
    all: Vec<String>,
}

impl Screens {
    fn of(output: &Output, columns: u16) -> Screens {
        let size = |size| NonZeroU16::new(size).expect("a terminal has a size");
        let mut parser = Parser::new(size(ROWS), size(columns), 1_000);
        let mut all: Vec<String> = Vec::new();
        // A frame ends with what moves the cursor or ends a line.
        for chunk in output.stdout.split_inclusive(['\n', '\r']) {
            parser.process(chunk.as_bytes());
            let screen = parser.screen().contents();
            if all.last() != Some(&screen) {
                all.push(screen);
            }
        }
        Screens { raw: output.stdout.clone(), all }
    }

    pub fn last(&self) -> &str {
        self.all.last().expect("a screen")
    }

    /// The first screen with this text.
    #[track_caller]
    fn first_with(&self, text: &str) -> &str {
        self.all.iter().find(|screen| screen.contains(text)).expect("a screen with it")
    }

    /// Whether a screen had a line with all of these.
    pub fn showed(&self, words: &[&str]) -> bool {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        self.all.iter().any(|screen| screen.lines().any(has))
    }

    #[track_caller]
    pub fn must_have_shown(&self, words: &[&str]) {
        assert!(self.showed(words), "no {words:?} in\n{}", self.all.join("\n----\n"));
    }
}

pub trait AtTerminal {
    fn at_terminal(&self, columns: u16, environment: &str, command: &str) -> Screens;
}

impl AtTerminal for Host {
    fn at_terminal(&self, columns: u16, environment: &str, command: &str) -> Screens {
        let inside = format!("stty cols {columns} rows {ROWS}; {environment} {command}");
        let argv = ["script", "--quiet", "--return", "--command", &inside, "/dev/null"];
        let output = self.command(&argv).env("TERM", "xterm-256color").output();
        Screens::of(&output, columns)
    }
}

/// A release that listens three seconds after its start.
fn slow(name: &str) -> Release {
    Release::new(name).procfile("web: sleep 3; exec python3 app.py web\n").set("DEPLOY_SETTLE=3s")
}

#[test]
fn each_step_is_shown_with_its_time_and_what_it_waits_for() {
    let host = Host::running_r1();
    for columns in [140, 80, 40] {
        let name = format!("r{columns}");
        host.publish(&slow(&name));
        let deploy = format!("deploy {}", url(&name));
        let screens = host.at_terminal(columns, "LANG=C.UTF-8", &deploy);
        println!("{}", screens.all.join("\n----\n"));
        for step in ["resolve", "stage", "prove", "commit", "converge", "settle", "finish"] {
            screens.must_have_shown(&["✓", step]);
        }
        screens.must_have_shown(&["prove", "web.1: it does not listen"]);
        screens.must_have_shown(&["settle", "live after"]);
        if columns >= 80 {
            screens.must_have_shown(&["watching", "s more"]);
            screens.must_have_shown(&["prove", "at most", "s more"]);
            screens.must_have_shown(&["deployed my-app", "is kept for rollback"]);
        }
        assert!(!screens.showed(&["drain"]), "nobody was connected");
        assert!(screens.raw.contains("\u{1b}[32m"), "no colour in {:?}", screens.raw);
    }
}

#[test]
fn a_terminal_without_colours_or_a_moving_line_gets_what_it_can_show() {
    let host = Host::running_r1();
    let screens = host.at_terminal(80, "NO_COLOR=1 LANG=C.UTF-8", "deploy rollback");
    assert!(!screens.raw.contains("\u{1b}[3"), "{:?}", screens.raw);
    host.publish(&Release::new("r2"));
    let deploy = format!("deploy {}", url("r2"));
    let screens = host.at_terminal(80, "TERM=dumb", &deploy);
    assert!(!screens.raw.contains('\u{1b}'), "{:?}", screens.raw);
    screens.must_have_shown(&["prove     release r2"]);
    // Not a terminal: a line for each step as it begins, and nothing else.
    host.publish(&Release::new("r3"));
    let output = host.deploys("r3");
    assert!(output.stderr.starts_with("begin "), "{output:?}");
    assert!(!output.stderr.contains('\u{1b}') && !output.stdout.contains('\u{1b}'), "{output:?}");
    host.publish(&Release::new("r4"));
    let output = host.deploy(&["--quiet", &url("r4")]);
    assert_eq!((output.stderr.as_str(), output.stdout.lines().count()), ("", 1), "{output:?}");
}

#[test]
fn without_a_terminal_a_long_wait_is_explained_every_ten_seconds() {
    let host = Host::running_r1();
    host.publish(&slow("r2").procfile("web: sleep 13; exec python3 app.py web\n"));
    let said = host.deploys("r2").stderr;
    println!("{said}");
    let waits: Vec<_> = said.lines().filter(|line| line.starts_with("waits")).collect();
    // The settle window is shorter than that.
    let [line] = waits[..] else { panic!("{said}") };
    assert!(line.starts_with("waits     web.1: it does not listen on port 29"), "{line}");
    assert!(
        line.ends_with(", at most 10 s more") || line.ends_with(", at most 9 s more"),
        "{line}"
    );
}

#[test]
fn an_interrupt_says_what_goes_on_and_a_second_one_cancels() {
    let host = Host::running_r1();
    host.publish(&slow("r2").procfile("web: sleep 60\n").set("DEPLOY_HEALTH_TIMEOUT=60s"));
    // The terminal's keyboard is a pipe that this test writes to.
    host.sh("mkfifo /run/keys; systemd-run --quiet sh -c 'exec 3<>/run/keys; sleep 600'");
    let deploy = format!("script -qefc 'exec deploy {}' /run/seen </run/keys", url("r2"));
    let deploying = host.command(&["sh", "-c", &deploy]).env("TERM", "xterm").spawn();
    host.wait_for("the proof", SOON, || host.status()["working"].is_string().then_some(()));
    host.wait_for("the candidate", SOON, || {
        host.sh("systemctl is-active deploy-my-app-web-r2@1 || true")
            .starts_with("active")
            .then_some(())
    });
    host.sh("printf '\\003' >/run/keys");
    let id = host.status()["working_id"].as_str().expect("an id").to_owned();
    host.wait_for("the answer to the first", SOON, || {
        host.sh("cat /run/seen").contains("goes on without").then_some(())
    });
    host.sh("printf '\\003' >/run/keys");
    let output = deploying.output().exits(43);
    assert!(output.stdout.contains(&format!("`deploy attach {id}`")), "{output:?}");
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn the_pictures_in_the_documentation_are_true() {
    let host = Host::running_r1();
    host.publish(&slow("r2"));
    let deploy = host.at_terminal(80, "LANG=C.UTF-8", &format!("deploy {}", url("r2")));
    let crash = "web: echo 'no database at db.example.com:5432' >&2; exit 1\n";
    host.publish(&Release::new("r3").procfile(crash));
    let failing = host.at_terminal(80, "LANG=C.UTF-8", &format!("deploy {}", url("r3")));
    host.publish(&Release::new("r4").set("GREETING=hi").set("DEPLOY_CONCURRENCY=web=2"));
    let shown = |command: &str| host.at_terminal(80, "LANG=C.UTF-8", command).last().to_owned();
    let pictures = [
        ("proving", deploy.first_with("web.1: it does not listen")),
        ("settling", deploy.first_with("watching")),
        ("deploy", deploy.last()),
        ("failing", failing.last()),
        ("status", &shown("deploy status")),
        ("history", &shown("deploy history")),
        ("releases", &shown("deploy releases")),
        ("plan", &shown(&format!("deploy plan {}", url("r4")))),
        ("doctor", &shown(&format!("deploy doctor {}", url("r4")))),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/terminal.md");
    let before = fs::read_to_string(path).expect("the page");
    let mut page = before.clone();
    for (name, picture) in pictures {
        let mark = format!("<!-- picture: {name} -->\n```text\n");
        let begin = page.find(&mark).unwrap_or_else(|| panic!("no {name}")) + mark.len();
        let end = begin + page[begin..].find("```").expect("its end");
        let picture: Vec<&str> = picture.lines().map(str::trim_end).collect();
        page.replace_range(begin..end, &(picture.join("\n").trim_end().to_owned() + "\n"));
    }
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &page).expect("write the page");
        return;
    }
    let (before, now) = (words_of(&before), words_of(&page));
    let at = before.iter().zip(&now).position(|(one, other)| one != other);
    let around = |words: &[String], at: usize| {
        words[at.saturating_sub(8)..].iter().take(16).cloned().collect::<Vec<_>>().join(" ")
    };
    if let Some(at) = at {
        panic!("{} is now {}; UPDATE_GOLDEN=1 renews it", around(&before, at), around(&now, at));
    }
    assert_eq!(before.len(), now.len(), "UPDATE_GOLDEN=1 renews it");
}

/// The words of a page without numbers, units, spinners and ids.
fn words_of(page: &str) -> Vec<String> {
    let units = ["ms", "s", "min", "h", "d", "m", "B", "KiB", "MiB", "GiB", "bytes", "ago"];
    let mut words = Vec::new();
    // Where a line is cut depends on its numbers, and a clock may be a second off: only the
    // beginning of such a line counts.
    let varies = |line: &str| line.contains('…') || line.contains(" clock ");
    let lines = page.lines().map(|line| (line, if varies(line) { 2 } else { usize::MAX }));
    for word in lines.flat_map(|(line, most)| line.split_whitespace().take(most)) {
        let plain: String = word.chars().filter(|c| c.is_ascii_alphabetic()).collect();
        let is_id = word.trim_matches(['(', ')']).len() == 12
            && word.trim_matches(['(', ')']).chars().all(|c| c.is_ascii_hexdigit());
        if !plain.is_empty() && !is_id && !units.contains(&plain.as_str()) {
            words.push(plain);
        }
    }
    words
}
