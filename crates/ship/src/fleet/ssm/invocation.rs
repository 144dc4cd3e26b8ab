//! What an invocation says of an instance.

use super::command::Reply;
use crate::fleet::aws::api::Invocation;
use crate::fleet::{Ended, Progress};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use model::event::Event;
use std::io::Read;

/// From this length on, the output of an invocation may have been cut: 2,500 characters are kept.
const CUT: usize = 2400;
/// Where the SSM agent puts standard error.
const ERROR: &str = "----------ERROR-------";
/// The most bytes of a decompressed answer.
const LARGEST: u64 = 1 << 20;

/// Whether only a part of what the instance printed is here.
pub fn is_cut(invocation: &Invocation) -> bool {
    let has_ended = matches!(invocation.status.as_str(), "Success" | "Failed");
    has_ended && invocation.output.len() >= CUT
}

/// Returns how far the instance is.
pub fn progress(invocation: &Invocation, reply: Reply) -> Progress {
    let lost = |why: &str| Progress::Lost(why.to_owned());
    let details = invocation.details.replace(' ', "");
    match (invocation.status.as_str(), details.as_str()) {
        (_, "Terminated") => Progress::NotBegun,
        (_, "Undeliverable") => lost("Systems Manager cannot deliver the command to it"),
        (_, "DeliveryTimedOut") => lost("its SSM agent has not fetched the command"),
        (_, "ExecutionTimedOut") => lost("the command took too long, and its SSM agent stopped it"),
        (_, "AccessDenied") => lost("Systems Manager may not send commands to it"),
        (_, "InvalidPlatform") => lost("it is no Linux instance"),
        ("Pending" | "Delayed", _) => Progress::Waiting,
        ("InProgress" | "Cancelling", _) => Progress::Running(None),
        ("Cancelled", _) if !invocation.has_begun => Progress::NotBegun,
        ("Cancelled", _) => lost("the command was cancelled while it ran"),
        ("TimedOut", _) => lost("the command timed out"),
        ("Success" | "Failed", _) => ended(invocation, reply),
        (status, _) => lost(&format!("Systems Manager says {}", model::text::quoted(status))),
    }
}

fn ended(invocation: &Invocation, reply: Reply) -> Progress {
    let (said, error) = invocation.output.split_once(ERROR).unwrap_or((&invocation.output, ""));
    let ended = match reply {
        Reply::Outcome => outcome(said),
        Reply::Status => unpacked(said),
        Reply::Printed => Some(Ended::default()),
    };
    if let Some(ended) = ended {
        return Progress::Ended(ended);
    }
    let status = match reply {
        Reply::Outcome => status(said),
        Reply::Status | Reply::Printed => invocation.code,
    };
    let message = match (error.trim().lines().next(), status) {
        (Some(line), _) => model::text::line(line, 300),
        (None, Some(status)) => {
            format!("deploy ended with status {status}, and without an outcome")
        }
        (None, None) => "deploy has said nothing".to_owned(),
    };
    match status {
        // deploy is not there, or refuses the command.
        Some(2 | 126 | 127) => Progress::Ended(Ended { code: 1, message, ..Ended::default() }),
        // Its job may go on in the agent.
        _ => Progress::Lost(message),
    }
}

/// Finds the exit status of deploy.
fn status(said: &str) -> Option<i32> {
    let (_, status) = said.rsplit_once("status=")?;
    status.trim().parse().ok()
}

/// Finds the outcome of a deploy; of one whose end was cut, its exit code.
fn outcome(said: &str) -> Option<Ended> {
    let line = said.lines().rfind(|line| line.starts_with('{'))?;
    if let Ok(Event::Ended { outcome }) = serde_json::from_str(line) {
        return Some(outcome.into());
    }
    let (_, rest) = line.split_once("\"code\":")?;
    let code = rest.split(',').next()?.parse().ok()?;
    let message = "its outcome is longer than Systems Manager keeps".to_owned();
    let help = Some("see `deploy history` on it".to_owned());
    Some(Ended { code, message, help, log: Vec::new() })
}

/// Decompresses what an instance has said about its apps.
fn unpacked(said: &str) -> Option<Ended> {
    let bytes = BASE64_STANDARD.decode(said.trim()).ok()?;
    let mut message = String::new();
    GzDecoder::new(bytes.as_slice()).take(LARGEST).read_to_string(&mut message).ok()?;
    (!message.is_empty()).then(|| Ended { message, ..Ended::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: &str, details: &str, code: i32, output: &str) -> Progress {
        let invocation = Invocation {
            status: status.to_owned(),
            details: details.to_owned(),
            code: Some(code),
            output: output.to_owned(),
            ..Invocation::default()
        };
        progress(&invocation, Reply::Outcome)
    }

    fn code(progress: Progress) -> u8 {
        match progress {
            Progress::Ended(ended) => ended.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        assert_eq!(of("Pending", "Pending", -1, ""), Progress::Waiting);
        assert_eq!(of("Delayed", "Delayed", -1, ""), Progress::Waiting);
        assert_eq!(of("InProgress", "InProgress", -1, ""), Progress::Running(None));
        assert_eq!(of("Cancelled", "Cancelled", -1, ""), Progress::NotBegun);
        assert_eq!(of("Failed", "Terminated", -1, ""), Progress::NotBegun);
        for (status, details) in [
            ("Failed", "Undeliverable"),
            ("TimedOut", "Delivery Timed Out"),
            ("TimedOut", "ExecutionTimedOut"),
            ("TimedOut", ""),
            ("Failed", "AccessDenied"),
            ("Unheard", "Unheard"),
        ] {
            assert!(matches!(of(status, details, -1, ""), Progress::Lost(_)), "{details}");
        }
        let begun =
            Invocation { has_begun: true, status: "Cancelled".into(), ..Invocation::default() };
        assert!(matches!(progress(&begun, Reply::Outcome), Progress::Lost(_)));
    }

    #[test]
    fn an_outcome_is_the_agents_own() {
        let said = r#"{"event":"ended","outcome":{"exit":"unhealthy","code":12,"message":"r8 did not become healthy","log":["boom"],"seconds":1.0}}"#;
        let all = format!("{said}\n{ERROR}\nfailed to run commands: exit status 1");
        let Progress::Ended(ended) = of("Failed", "Failed", 1, &all) else { panic!() };
        assert_eq!((ended.code, ended.log), (12, vec!["boom".to_owned()]));
        // Cut in the middle of the log.
        assert_eq!(code(of("Failed", "Failed", 1, &said[..95])), 12);
    }

    #[test]
    fn without_an_outcome_it_is_a_failure_or_unknown() {
        let error = "sh: 1: deploy: not found\nfailed to run commands: exit status 1";
        for status in [2, 126, 127] {
            let said = format!("status={status}\n{ERROR}\n{error}");
            let Progress::Ended(ended) = of("Failed", "Failed", 1, &said) else { panic!() };
            assert_eq!((ended.code, ended.message.as_str()), (1, "sh: 1: deploy: not found"));
        }
        let refused = format!("status=2\n{ERROR}\n{}\n{error}", crate::fleet::agent::TOO_OLD);
        let Progress::Ended(ended) = of("Failed", "Failed", 1, &refused) else { panic!() };
        assert_eq!((ended.code, ended.message.as_str()), (1, crate::fleet::agent::TOO_OLD));
        // Killed, out of memory or at a shutdown; or the shell itself has failed.
        let step = r#"{"event":"step","step":"prove","text":"r8"}"#;
        for said in ["status=137", "status=143", "status=1", "status=0", "", step] {
            for code in [1, 2, 126, 127, 137, 168, 194, -1] {
                let end = of("Failed", "Failed", code, said);
                assert!(matches!(end, Progress::Lost(_)), "{code} {said}: {end:?}");
            }
        }
        let end = of("Failed", "Failed", 1, &format!("{step}\nstatus=137\n"));
        let why = "deploy ended with status 137, and without an outcome";
        assert_eq!(end, Progress::Lost(why.to_owned()));
        // Killed in the middle of a line.
        let end = of("Failed", "Failed", 1, "{\"event\":\"stestatus=143\n");
        assert!(matches!(end, Progress::Lost(_)), "{end:?}");
        assert!(matches!(of("Success", "Success", 0, ""), Progress::Lost(_)));
    }

    #[test]
    fn a_status_is_unpacked_within_bounds() {
        let packed = "H4sIAAAAAAACA4uOBQApu0wNAgAAAA==";
        let Some(ended) = unpacked(packed) else { panic!() };
        assert_eq!(ended.message, "[]");
        for wrong in ["", "x", "H4sIAAAA", "H4sIAAAAAAACAwMAAAAAAAAAAAA="] {
            assert_eq!(unpacked(wrong), None, "{wrong}");
        }
    }
}
