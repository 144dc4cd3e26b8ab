//! The shell commands that instances run. They work with any shell and any version of the agent.

use crate::fleet::aws::api::Command;
use crate::fleet::{Host, Order, agent};
use crate::place::Place;
use std::time::Duration;

/// The most characters of a comment.
const COMMENT: usize = 100;

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The last line of `deploy --json`, an outcome, and its exit status as `status=0`.
    Outcome,
    /// `deploy status --json` and `deploy --version`, compressed, as only 2,500 characters are
    /// kept.
    Status,
    /// What a command of a person prints, which is fetched once it has ended.
    Printed,
}

/// A command, before it is known who runs it.
#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    /// What it does, in words.
    pub about: String,
    pub reply: Reply,
    pub execution: Duration,
}

impl Line {
    /// Asks what runs, and which version the agent has. Nothing is printed if there is no status,
    /// so that standard error says why.
    pub fn status() -> Line {
        let text = "s=$(deploy status --json); \
            { [ -z \"$s\" ] || { printf '%s\\n' \"$s\"; deploy --version; }; } | \
            gzip -9 | base64 -w 0";
        Line {
            text: text.to_owned(),
            about: "status".to_owned(),
            reply: Reply::Status,
            execution: Duration::from_secs(30),
        }
    }

    /// Gives an order. `patience` is the time that the instance has.
    pub fn of(order: &Order, patience: Duration) -> Line {
        let timeout = format!("{}s", patience.as_secs().max(1));
        let agent::Call { before, call } = agent::call(&agent::words(order, &timeout));
        let about = match order {
            Order::Deploy { url, .. } => url.rsplit('/').next().unwrap_or_default().to_owned(),
            Order::Rollback { to, .. } => format!("back to {to}"),
        };
        // Exit codes such as 137 and 194 mean something else to the SSM agent, and a shell that
        // is not bash knows no `pipefail`: 1 says that it failed, and the outcome says how. Where
        // there is none, the status of deploy says whether it has begun.
        let text = format!(
            "{before}o=$({{ {call}; echo \"status=$?\"; }} | tail -n 2); printf '%s\\n' \"$o\"; \
             case $o in *'\"code\":0,'*) ;; *) exit 1;; esac"
        );
        // The agent gives up by itself, and says why, before it is killed.
        let execution = patience + Duration::from_secs(60);
        Line { text, about, reply: Reply::Outcome, execution }
    }

    /// Whether a command does the same.
    pub fn is(&self, command: &Command) -> bool {
        command.line == self.text
    }

    /// Returns the command for these instances. Its comment names the rollout, if there is one, what
    /// it is for, and a number that no other command has.
    pub fn command(&self, hosts: &[Host], rollout: &str, number: u32, place: &Place) -> Command {
        let comment = match rollout {
            "" => format!("ship {} {number:08x}: {place}", self.about),
            rollout => format!("ship {rollout} {number:08x}: {}, {place}", self.about),
        };
        let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
        Command {
            line: self.text.clone(),
            hosts: hosts.to_vec(),
            comment: comment.chars().filter(is_plain).take(COMMENT).collect(),
            delivery: super::DELIVERY,
            execution: self.execution,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use flate2::read::GzDecoder;
    use std::io::Read;
    use std::process::Command as Process;

    fn ada() -> String {
        "Ada".to_owned()
    }

    fn place() -> Place {
        let app = "a".repeat(63).parse().unwrap();
        Place { app, environment: "production".parse().unwrap() }
    }

    /// Runs a line with a program in the place of deploy.
    fn run(line: &Line, deploy: &str) -> (i32, String) {
        let script = format!("deploy() {{ {deploy}\n}}\n{}", line.text);
        let ran = Process::new("sh").args(["-c", &script]).output().unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stdout).unwrap())
    }

    #[test]
    fn words_reach_the_agent_as_they_are() {
        let url = "s3://b/it's $(id)/`x`/r8".to_owned();
        let line = Line::of(
            &Order::Deploy { url, by: ada(), release: Some("5b1f".into()) },
            Duration::from_secs(90),
        );
        let echoes = "for w do printf '[%s]' \"$w\"; done";
        let knows =
            format!("case $2 in --help) echo ' --run-release[=<ID>] ';; *) {echoes};; esac");
        let (code, said) = run(&line, &knows);
        assert_eq!(code, 1);
        let words =
            "[release][--json][--timeout][90s][--run-release=5b1f][--][s3://b/it's $(id)/`x`/r8]";
        assert!(said.starts_with(words), "{said}");
        let order = Order::Rollback { app: "-x; y".to_owned(), to: "r7".to_owned(), by: ada() };
        let (_, said) = run(&Line::of(&order, Duration::ZERO), "printf '[%s]' \"$@\"");
        assert!(said.starts_with("[rollback][--json][--to][r7][--][-x; y]"), "{said}");
    }

    #[test]
    fn an_agent_that_does_not_know_the_release_phase_is_not_asked_for_it() {
        let url = "s3://b/r8".to_owned();
        let order = Order::Deploy { url, by: ada(), release: Some("5b1f".into()) };
        let line = Line::of(&order, Duration::from_secs(90));
        for help in ["--run-release  Run it", "--timeout TIME", ""] {
            let (code, said) = run(&line, &format!("echo '{help}'"));
            assert_eq!((code, said.as_str()), (1, "status=2\n"), "{help}");
        }
    }

    #[test]
    fn the_last_line_is_printed_with_the_status_of_deploy() {
        let order = Order::Rollback { app: "shop".to_owned(), to: "r7".to_owned(), by: ada() };
        let line = Line::of(&order, Duration::ZERO);
        let done = r#"{"event":"ended","outcome":{"exit":"done","code":0,"message":"done"}}"#;
        let (code, said) = run(&line, &format!("seq 9; echo '{done}'"));
        assert_eq!((code, said), (0, format!("{done}\nstatus=0\n")));
        let no = r#"{"code":12,"message":"no"}"#;
        let (code, said) = run(&line, &format!("seq 9; echo '{no}'; return 12"));
        assert_eq!((code, said), (1, format!("{no}\nstatus=12\n")));
        let (code, said) = run(&line, "sh -c 'kill -9 $$'");
        assert_eq!((code, said.as_str()), (1, "status=137\n"));
    }

    #[test]
    fn a_status_has_the_version_after_it_and_fits() {
        let app = r#"{"app":"shop","release":"r8","url":"s3://b/shop/production/r8","id":N}"#;
        let apps: Vec<String> = (100..140).map(|n| app.replace('N', &n.to_string())).collect();
        let agent = format!(
            "case $1 in status) echo '[{}]';; *) echo 'deploy 0.2.0';; esac",
            apps.join(",")
        );
        let (code, said) = run(&Line::status(), &agent);
        assert_eq!(code, 0);
        assert!(said.len() < 2400, "{}", said.len());
        let bytes = BASE64_STANDARD.decode(said).unwrap();
        let mut text = String::new();
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        assert!(text.starts_with("[{\"app\"") && text.ends_with("]\ndeploy 0.2.0\n"), "{text}");
        let (_, said) =
            run(&Line::status(), "echo no >&2; case $1 in status) false;; *) echo x;; esac");
        let bytes = BASE64_STANDARD.decode(said).unwrap();
        assert_eq!(GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap(), 0);
    }

    #[test]
    fn a_comment_fits_and_keeps_its_number() {
        let order = Order::Deploy {
            url: format!("s3://b/a/b/{}", "r".repeat(63)),
            by: ada(),
            release: None,
        };
        let line = Line::of(&order, Duration::ZERO);
        let comment = line.command(&[], "5b1f03c2", 0xab, &place()).comment;
        assert_eq!(comment.len(), 100);
        assert!(comment.starts_with("ship 5b1f03c2 000000ab: rrr"), "{comment}");
        let comment = Line::status().command(&[], "", 0xab, &place()).comment;
        assert!(comment.starts_with("ship status 000000ab: aaa"), "{comment}");
    }
}
