//! Calls about the launching hook of an Auto Scaling group, for `deploy boot`. deployd sends
//! them, since it has the region, the credentials and the proxy of agent.env.

use super::caller::Caller;
use super::jobs::Jobs;
use crate::source::{Query, QueryRefused};
use model::api::{Lifecycle, LifecycleAnswer, LifecycleCall};
use model::error::{Error, Result};
use model::reason::Reason;
use model::text;

/// Sends a call.
pub(super) async fn lifecycle(
    jobs: &Jobs,
    caller: &Caller,
    asked: &Lifecycle,
) -> Result<LifecycleAnswer> {
    let result = match asked.call {
        LifecycleCall::Heartbeat => None,
        LifecycleCall::Continue => Some("CONTINUE"),
        LifecycleCall::Abandon => Some("ABANDON"),
    };
    let mut params = vec![
        ("AutoScalingGroupName", asked.group.as_str()),
        ("LifecycleHookName", asked.hook.as_str()),
        ("InstanceId", asked.instance.as_str()),
    ];
    params.extend(result.map(|result| ("LifecycleActionResult", result)));
    let action = match result {
        None => "RecordLifecycleActionHeartbeat",
        Some(_) => "CompleteLifecycleAction",
    };
    let query = Query { action, region: asked.region.as_deref(), params: &params };
    let answer = jobs.sources().query(&query).await.map_err(no_answer)?;
    let active = match answer {
        Ok(()) => true,
        Err(refused) if is_inactive(&refused) => false,
        Err(refused) => return Err(explain(action, asked, &refused)),
    };
    let result = result.unwrap_or("heartbeat");
    let hook = text::shortened(&asked.hook);
    tracing::info!(active, "lifecycle hook {hook}: {result} for {}", caller.name);
    Ok(LifecycleAnswer { active })
}

fn is_inactive(refused: &QueryRefused) -> bool {
    refused.code == "ValidationError" && refused.message.contains("No active Lifecycle Action")
}

/// A gateway endpoint is enough for S3, but not for Auto Scaling.
fn no_answer(error: Error) -> Error {
    let reason = error.reason();
    match reason {
        Reason::NoRoute | Reason::NoAnswer => {
            let what = Error::source("Auto Scaling cannot be reached").because(error);
            what.with_reason(reason).help(
                "give the subnet a NAT gateway, or an interface endpoint for autoscaling (an S3 \
                 gateway endpoint is not enough); behind a proxy, set HTTPS_PROXY",
            )
        }
        _ => error,
    }
}

/// Explains a refusal in the operator's words.
fn explain(action: &str, asked: &Lifecycle, refused: &QueryRefused) -> Error {
    let QueryRefused { status, code, message } = refused;
    let (group, hook) = (text::shortened(&asked.group), text::shortened(&asked.hook));
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let (reason, help) = match code.as_str() {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => (
            Reason::AccessDenied,
            format!(
                "allow the instance's role autoscaling:RecordLifecycleActionHeartbeat and \
                 autoscaling:CompleteLifecycleAction on the group {group}"
            ),
        ),
        "SignatureDoesNotMatch" if has(&["expired", "not yet current"]) => clock(),
        "RequestExpired" => clock(),
        "ExpiredToken" | "InvalidClientTokenId" | "SignatureDoesNotMatch" => (
            Reason::CredentialsExpired,
            "check AWS_ACCESS_KEY_ID and the keys beside it in /etc/deploy/agent.env and the \
             profile files, or remove them there to use the instance's role"
                .to_owned(),
        ),
        "ValidationError" => (
            Reason::NotFound,
            format!(
                "check the names of the group ({group}) and of the hook ({hook}): --group and \
                 --hook, or the tags aws:autoscaling:groupName and deploy:hook"
            ),
        ),
        _ => (
            Reason::SourceFailed,
            "check AWS_REGION and AWS_ENDPOINT_URL; the code is in Auto Scaling's list of common \
             errors"
                .to_owned(),
        ),
    };
    let why = format!("Auto Scaling answers {status} {code}: {message}");
    Error::source(format!("{action} for the hook {hook}"))
        .because(why)
        .help(help)
        .with_reason(reason)
}

fn clock() -> (Reason, String) {
    let help = "set the clock: `timedatectl` shows it, chrony or systemd-timesyncd keeps it";
    (Reason::ClockWrong, help.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> (Reason, String) {
        let (code, message) = (code.to_owned(), message.to_owned());
        let asked = Lifecycle {
            call: LifecycleCall::Continue,
            group: "web".into(),
            hook: "boot".into(),
            instance: "i-1".into(),
            region: None,
        };
        let refused = QueryRefused { status: 403, code, message };
        let error = explain("CompleteLifecycleAction", &asked, &refused);
        (error.reason(), format!("{} | {}", error.chain(), error.advice().unwrap()))
    }

    #[test]
    fn a_role_without_the_right_gets_both_actions_named() {
        let (reason, text) = said("AccessDenied", "User: x is not authorized");
        assert_eq!(reason, Reason::AccessDenied);
        for word in ["RecordLifecycleActionHeartbeat", "CompleteLifecycleAction", "group web"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_from_wrong_keys() {
        let late = "Signature expired: 20261126T100000Z is now earlier than …";
        assert_eq!(said("SignatureDoesNotMatch", late).0, Reason::ClockWrong);
        assert_eq!(said("SignatureDoesNotMatch", "calculated").0, Reason::CredentialsExpired);
        assert!(said("ValidationError", "group not found").1.contains("--group"));
    }

    #[test]
    fn no_active_action_is_an_answer() {
        let message = "No active Lifecycle Action found with instance ID i-1".to_owned();
        let refused = QueryRefused { status: 400, code: "ValidationError".into(), message };
        assert!(is_inactive(&refused));
        let other = QueryRefused { message: "Group not found".into(), ..refused };
        assert!(!is_inactive(&other));
    }
}
