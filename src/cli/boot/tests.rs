//! An instance in memory boots: its metadata, its hook and its deployd are fakes that keep one
//! list of what was asked of them.

use super::*;
use async_trait::async_trait;
use model::api::{Lifecycle, LifecycleCall};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

const URL: &str = "s3://releases/my-app/production/current";

struct World {
    metadata: BTreeMap<String, String>,
    /// Attempts to read the metadata that fail first.
    silent: Mutex<u32>,
    /// Whether it answers once a deploy has ended.
    answers_late: bool,
    /// Answers to the calls of the hook; then it is active.
    answers: Mutex<VecDeque<Result<bool>>>,
    exit: Exit,
    takes: Duration,
    was_deployed: bool,
    keep: bool,
    asked: Mutex<Vec<String>>,
    said: Mutex<Vec<String>>,
}

fn world(metadata: &[(&str, &str)]) -> World {
    let metadata = metadata.iter().map(|(path, text)| (path.to_string(), text.to_string()));
    World {
        metadata: metadata.collect(),
        silent: Mutex::new(0),
        answers_late: false,
        answers: Mutex::default(),
        exit: Exit::Done,
        takes: Duration::from_millis(20),
        was_deployed: false,
        keep: false,
        asked: Mutex::default(),
        said: Mutex::default(),
    }
}

/// An instance of a group with a hook, and all of the tags.
fn in_group(state: &str) -> World {
    world(&[
        ("instance-id", "i-1"),
        ("placement/region", "eu-central-1"),
        ("autoscaling/target-lifecycle-state", state),
        ("tags/instance/", "deploy:url\ndeploy:hook"),
        ("tags/instance/aws:autoscaling:groupName", "web"),
        ("tags/instance/deploy:hook", "boot"),
        ("tags/instance/deploy:url", URL),
    ])
}

#[async_trait(?Send)]
impl Metadata for World {
    async fn get(&self, path: &str) -> Result<Option<String>, String> {
        let mut silent = self.silent.lock().unwrap();
        if *silent > 0 {
            *silent -= 1;
            return Err("error: connection refused".to_owned());
        }
        Ok(self.metadata.get(path).cloned())
    }
}

#[async_trait(?Send)]
impl Hooks for World {
    async fn call(&self, call: &Lifecycle) -> Result<bool> {
        let word = match call.call {
            LifecycleCall::Heartbeat => "heartbeat",
            LifecycleCall::Continue => "CONTINUE",
            LifecycleCall::Abandon => "ABANDON",
        };
        let Lifecycle { group, hook, instance, .. } = call;
        self.ask(format!("{word} {group} {hook} {instance}"));
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(true))
    }
}

#[async_trait(?Send)]
impl LocalDeployd for World {
    async fn wait(&self, _: Instant, _: &dyn Fn(&str)) {}

    async fn has_deployed(&self, _: &str) -> bool {
        self.was_deployed
    }

    async fn deploy(&self, url: &str, _: Duration) -> Result<End> {
        self.work(format!("deploy {url}")).await
    }

    async fn stage(&self, url: &str, _: Duration) -> Result<End> {
        self.work(format!("stage {url}")).await
    }
}

impl World {
    fn ask(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    async fn work(&self, what: String) -> Result<End> {
        self.ask(what);
        tokio::time::sleep(self.takes).await;
        self.ask("done".to_owned());
        if self.answers_late {
            *self.silent.lock().unwrap() = 0;
        }
        match self.exit {
            Exit::Done => Ok(End::Outcome(Box::new(Outcome::done("deployed")))),
            exit => Err(Error::new(exit, "deploy r1")),
        }
    }

    /// Boots, and returns the exit code.
    async fn boot(&self, url: Option<&str>) -> Exit {
        let names = Asked { keep: self.keep, url: url.map(str::to_owned), ..Asked::default() };
        self.boot_with(names).await.exit
    }

    async fn boot_with(&self, asked: Asked) -> Outcome {
        let ms = Duration::from_millis;
        let pace = Pace {
            metadata: ms(1),
            optional_metadata: ms(20),
            heartbeat: ms(5),
            again: ms(2),
            grace: ms(100),
            completion: ms(100),
        };
        let say = |text: &str| self.said.lock().unwrap().push(text.to_owned());
        let boot = Boot { metadata: self, hooks: self, deployd: self, pace, say: &say };
        let asked = Asked { timeout: Duration::from_secs(10), ..asked };
        match boot.run(&asked).await {
            Ok(End::Outcome(outcome)) => *outcome,
            Ok(_) => panic!("it ended otherwise"),
            Err(error) => Outcome::from(&error),
        }
    }

    /// What was asked, with heartbeats in a row once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.dedup();
        asked
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

fn busy() -> Result<bool> {
    Err(Error::source("throttled").with_reason(Reason::SourceBusy))
}

#[tokio::test]
async fn continue_is_sent_after_the_deploy_and_heartbeats_before() {
    let world = in_group("InService");
    assert_eq!(world.boot(None).await, Exit::Done);
    let asked = world.asked();
    assert_eq!(asked.first().unwrap(), &format!("deploy {URL}"));
    assert!(asked.contains(&"heartbeat web boot i-1".to_owned()), "{asked:?}");
    assert_eq!(asked[asked.len() - 2..], ["done", "CONTINUE web boot i-1"]);
}

#[tokio::test]
async fn a_release_that_fails_is_abandoned_unless_the_instance_is_kept() {
    let mut world = in_group("InService");
    world.exit = Exit::Unhealthy;
    assert_eq!(world.boot(None).await, Exit::Unhealthy);
    assert_eq!(world.asked().last().unwrap(), "ABANDON web boot i-1");

    let mut world = in_group("InService");
    (world.exit, world.keep) = (Exit::Unhealthy, true);
    assert_eq!(world.boot(None).await, Exit::Unhealthy);
    let kept = ["done", "heartbeat web boot i-1"];
    assert!(world.asked().ends_with(&kept.map(str::to_owned)), "{:?}", world.asked());
    assert!(world.said().contains("--keep"), "{}", world.said());
}

#[tokio::test]
async fn a_warm_pool_gets_the_release_staged() {
    for state in ["Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"] {
        let world = in_group(state);
        assert_eq!(world.boot(None).await, Exit::Done);
        let asked = world.asked();
        assert_eq!(asked.first().unwrap(), &format!("stage {URL}"));
        assert_eq!(asked.last().unwrap(), "CONTINUE web boot i-1");
    }
}

#[tokio::test]
async fn an_instance_that_leaves_its_group_is_left_alone() {
    for state in ["Terminated", "Warmed:Terminated"] {
        let world = in_group(state);
        assert_eq!(world.boot(None).await, Exit::Done);
        assert!(world.asked().is_empty());
    }
}

#[tokio::test]
async fn without_a_group_or_a_hook_it_only_deploys() {
    let world = world(&[("instance-id", "i-1")]);
    assert_eq!(world.boot(Some(URL)).await, Exit::Done);
    assert_eq!(world.asked(), [&format!("deploy {URL}"), "done"]);

    let mut world = in_group("InService");
    world.metadata.remove("tags/instance/deploy:hook");
    assert_eq!(world.boot(None).await, Exit::Done);
    assert_eq!(world.asked(), [&format!("deploy {URL}"), "done"]);
    assert!(world.said().contains("--hook NAME"), "{}", world.said());
}

#[tokio::test]
async fn names_may_come_from_the_command_line_and_a_hook_needs_its_group() {
    let mut world = in_group("InService");
    let names = || Asked { hook: Some("other".into()), ..Asked::default() };
    let asked = Asked { group: Some("elsewhere".into()), ..names() };
    assert_eq!(world.boot_with(asked).await.exit, Exit::Done);
    assert_eq!(world.asked().last().unwrap(), "CONTINUE elsewhere other i-1");

    world.metadata.remove("tags/instance/aws:autoscaling:groupName");
    let outcome = world.boot_with(names()).await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.help.unwrap().contains("--group"));
}

#[tokio::test]
async fn a_hook_that_is_not_active_yet_is_asked_again_and_one_that_never_is_ends_well() {
    let mut world = in_group("InService");
    world.takes = Duration::ZERO;
    world.answers.lock().unwrap().extend([Ok(false), Ok(false), Ok(false)]);
    assert_eq!(world.boot(None).await, Exit::Done);
    let said = world.said();
    assert!(said.contains("completed: CONTINUE"), "{said}");

    let world = in_group("InService");
    world.answers.lock().unwrap().extend((0..1000).map(|_| Ok(false)));
    assert_eq!(world.boot(None).await, Exit::Done);
    assert!(world.said().contains("no hook waits"), "{}", world.said());
}

/// The hook was completed before the instance booted again.
#[tokio::test]
async fn at_a_second_boot_no_hook_is_waited_for() {
    let mut world = in_group("InService");
    world.was_deployed = true;
    world.answers.lock().unwrap().extend((0..1000).map(|_| Ok(false)));
    assert_eq!(world.boot(None).await, Exit::Done);
    let calls = world.asked.lock().unwrap().len();
    assert_eq!(calls, 4, "deploy, one heartbeat, done, one completion: {:?}", world.asked());
}

#[tokio::test]
async fn throttled_and_lost_calls_are_sent_again_and_a_refusal_is_not() {
    let mut world = in_group("InService");
    world.takes = Duration::ZERO;
    world.answers.lock().unwrap().extend([busy(), busy(), busy()]);
    assert_eq!(world.boot(None).await, Exit::Done);
    assert!(world.said().contains("completed: CONTINUE"), "{}", world.said());

    let denied = || Err(Error::source("denied").with_reason(Reason::AccessDenied).help("allow it"));
    let world = in_group("InService");
    world.answers.lock().unwrap().extend((0..1000).map(|_| denied()));
    let outcome = world.boot_with(Asked::default()).await;
    assert_eq!((outcome.exit, outcome.reason), (Exit::Failed, Some(Reason::AccessDenied)));
    assert_eq!(outcome.help.as_deref(), Some("allow it"));
    assert!(outcome.message.starts_with("the release is good, but"), "{}", outcome.message);
    assert_eq!(world.said().matches("no heartbeat").count(), 1, "each reason once");
}

#[tokio::test]
async fn what_to_run_is_in_the_tags() {
    let mut parts = in_group("InService");
    parts.metadata.remove("tags/instance/deploy:url");
    for (name, value) in [
        ("deploy:store", "s3://releases/of/us/"),
        ("deploy:app", "my-app"),
        ("deploy:environment", "staging"),
    ] {
        parts.metadata.insert(format!("tags/instance/{name}"), value.to_owned());
    }
    assert_eq!(parts.boot(None).await, Exit::Done);
    assert_eq!(parts.asked()[0], "deploy s3://releases/of/us/my-app/staging/current");

    parts.metadata.remove("tags/instance/deploy:app");
    let outcome = parts.boot_with(Asked::default()).await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.message.ends_with("lack deploy:url, and deploy:app"), "{}", outcome.message);

    parts.metadata.insert("tags/instance/deploy:app".into(), "../no app\u{1b}".into());
    let outcome = parts.boot_with(Asked::default()).await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(!outcome.message.contains('\u{1b}'));
    // The group must not wait for an instance that will never know what to run.
    assert_eq!(parts.asked().last().unwrap(), "ABANDON web boot i-1");
}

#[tokio::test]
async fn tags_that_are_not_enabled_are_explained() {
    let world = world(&[("instance-id", "i-1")]);
    let outcome = world.boot_with(Asked::default()).await;
    assert_eq!(outcome.exit, Exit::Usage);
    let help = outcome.help.unwrap();
    assert!(help.contains("InstanceMetadataTags=enabled") && help.contains("deploy boot s3://"));
}

#[tokio::test]
async fn metadata_is_waited_for_and_is_optional_with_a_url() {
    let mut world = in_group("InService");
    *world.silent.lock().unwrap() = 3;
    assert_eq!(world.boot(None).await, Exit::Done);
    let said = world.said();
    assert_eq!(said.matches("waiting for the instance's metadata: connection refused").count(), 1);

    // It answers when the deploy has ended: the hook is completed still.
    world.answers_late = true;
    *world.silent.lock().unwrap() = u32::MAX;
    world.asked.lock().unwrap().clear();
    let asked = Asked { url: Some(URL.into()), ..Asked::default() };
    let outcome = world.boot_with(asked).await;
    assert_eq!(outcome.exit, Exit::Done);
    assert_eq!(world.asked().last().unwrap(), "CONTINUE web boot i-1");

    world.answers_late = false;
    *world.silent.lock().unwrap() = u32::MAX;
    world.asked.lock().unwrap().clear();
    assert_eq!(world.boot(Some(URL)).await, Exit::Done);
    assert_eq!(world.asked(), [&format!("deploy {URL}"), "done"]);
}
