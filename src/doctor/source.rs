//! The instance's role, and the store of a release.

use super::{Instance, THERE};
use crate::source::Access;
use jiff::Timestamp;
use model::doctor::{Check, Row};
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::settings::WatchSettings;
use model::release::url::{ReleaseUrl, Scheme};
use std::time::{Duration, SystemTime};

/// S3 refuses requests whose time differs by 15 minutes; a clock that is kept is off by less
/// than a second.
const REFUSED: Duration = Duration::from_secs(15 * 60);
const WRONG: Duration = Duration::from_secs(30);

/// A row ends a little before its deadline, with a reason.
const ANSWER: Duration = THERE.saturating_sub(Duration::from_millis(500));

const NO_URL: &str = "no URL was given";

pub async fn metadata(instance: &Instance) -> Row {
    if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value == "true") {
        return Row::skipped(Check::Metadata, "AWS_EC2_METADATA_DISABLED=true");
    }
    let role = tokio::time::timeout(ANSWER, instance.cx.sources.role()).await;
    match role.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
        Ok(Some(role)) => Row::ok(Check::Metadata, format!("it answers, with the role {role}")),
        Ok(None) => {
            let text = "it answers, and this instance has no role";
            let remedy = "attach a role (an instance profile) to this instance, unless its keys \
                          are in agent.env or a profile file";
            Row::warning(Check::Metadata, text, remedy)
        }
        Err(why) => {
            // The layers above the last reason only say that the request failed.
            let why = why.rsplit(": ").next().unwrap_or_default();
            let text = format!("no metadata service: {}", model::text::shortened(why));
            Row::skipped(Check::Metadata, text)
        }
    }
}

/// Credentials and region, by the SDK's own chains.
pub async fn credentials(instance: &Instance) -> Row {
    if !is_on_s3(instance) {
        return Row::skipped(Check::Credentials, "no release is read from S3 here");
    }
    match in_time("credentials", instance.cx.sources.credentials()).await {
        Ok(region) => {
            let region = model::text::shortened(&region);
            Row::ok(Check::Credentials, format!("found, for the region {region}"))
        }
        Err(error) => Row::of_error(Check::Credentials, &error),
    }
}

/// Whether the URL, a release that runs, or watch mode names S3.
fn is_on_s3(instance: &Instance) -> bool {
    let is_s3 = |url: &ReleaseUrl| matches!(url.scheme(), Scheme::S3 { .. });
    let watched = WatchSettings::from_env(&instance.cx.agent_env);
    let watched = watched.map(|watched| watched.urls).unwrap_or_default();
    instance.url.as_ref().is_some_and(is_s3)
        || watched.iter().any(is_s3)
        || super::state::current(instance).iter().any(|(_, manifest)| is_s3(&manifest.url))
}

pub async fn clock(instance: &Instance) -> Row {
    let Some(url) = &instance.url else { return Row::skipped(Check::Clock, NO_URL) };
    match in_time("the store's time", instance.cx.sources.date(url)).await {
        Ok(Some(theirs)) => judge_clock(theirs, SystemTime::now()),
        Ok(None) => Row::skipped(Check::Clock, "the store does not tell its time"),
        Err(error) if error.reason() == Reason::ClockWrong => Row::of_error(Check::Clock, &error),
        Err(error) => Row::skipped(Check::Clock, error.chain()),
    }
}

fn judge_clock(theirs: SystemTime, ours: SystemTime) -> Row {
    let (off, how) = match theirs.duration_since(ours) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    };
    let text = format!("{} s {how} the store's", off.as_secs());
    let remedy = "set the clock: `timedatectl` shows it, chrony or systemd-timesyncd keeps it";
    if off >= REFUSED {
        Row { reason: Some(Reason::ClockWrong), ..Row::failed(Check::Clock, text, remedy) }
    } else if off >= WRONG {
        Row::warning(Check::Clock, text, remedy)
    } else {
        let now = Timestamp::try_from(ours).map(|now| now.strftime("%H:%M:%SZ").to_string());
        Row::ok(Check::Clock, format!("{}, as the store's", now.unwrap_or_default()))
    }
}

pub async fn pointer(instance: &Instance) -> Row {
    match &instance.url {
        None => return Row::skipped(Check::Pointer, NO_URL),
        Some(url) if !url.is_current() => {
            return Row::skipped(Check::Pointer, "the URL names a release, not `current`");
        }
        Some(_) => {}
    }
    match release_url(instance).await {
        Ok(url) if url.is_current() => {
            let text = "there is no object `current`: the directory of that name is the release";
            Row::ok(Check::Pointer, text)
        }
        Ok(url) => Row::ok(Check::Pointer, format!("it names {}", url.release())),
        Err(error) => Row::of_error(Check::Pointer, error),
    }
}

/// The URL of the release itself, after its pointer.
async fn release_url(instance: &Instance) -> Result<&ReleaseUrl, &Error> {
    let followed = async || match &instance.url {
        Some(url) if url.is_current() => {
            let change = instance.cx.sources.pointer_change(url, None);
            let change = in_time(&url.to_string(), change).await?;
            Ok(change.map_or_else(|| url.clone(), |change| change.url))
        }
        Some(url) => Ok(url.clone()),
        None => Err(Error::usage(NO_URL)),
    };
    instance.release.get_or_init(followed).await.as_ref()
}

pub async fn list_bucket(instance: &Instance) -> Row {
    let url = match examined(instance, Check::ListBucket).await {
        Ok(url) => url,
        Err(row) => return row,
    };
    let answer = timed(url, instance.cx.sources.try_list(url)).await;
    match answer {
        Access::Refused(error) if error.reason() == Reason::AccessDenied => {
            let Scheme::S3 { bucket, .. } = url.scheme() else {
                return Row::of_error(Check::ListBucket, &error);
            };
            let text = "denied: a missing object is reported as a denied one";
            let remedy = format!("allow s3:ListBucket on arn:aws:s3:::{bucket}");
            let row = Row::warning(Check::ListBucket, text, remedy);
            Row { reason: Some(Reason::AccessDenied), ..row }
        }
        Access::Missing => Row::ok(Check::ListBucket, "allowed"),
        answer => judge(Check::ListBucket, answer, "allowed", url),
    }
}

pub async fn get_env(instance: &Instance) -> Row {
    match examined(instance, Check::GetEnv).await {
        Ok(url) => {
            let answer = timed(url, instance.cx.sources.try_env(url)).await;
            judge(Check::GetEnv, answer, "s3:GetObject on env is allowed", url)
        }
        Err(row) => row,
    }
}

pub async fn get_archive(instance: &Instance) -> Row {
    match examined(instance, Check::GetArchive).await {
        Ok(url) => {
            let answer = timed(url, instance.cx.sources.try_archive(url)).await;
            judge(Check::GetArchive, answer, "s3:GetObject on the archive is allowed", url)
        }
        Err(row) => row,
    }
}

/// The release as a deploy resolves it, from any store.
pub async fn release(instance: &Instance) -> Row {
    let Some(url) = &instance.url else { return Row::skipped(Check::Release, NO_URL) };
    match in_time(&url.to_string(), instance.cx.sources.resolve(url)).await {
        Ok(resolved) => {
            let archive = resolved.compression().archive_name();
            Row::ok(Check::Release, format!("{}: env and {archive}", resolved.url()))
        }
        Err(error) => Row::of_error(Check::Release, &error),
    }
}

/// The release whose objects on S3 are tried, or the row that says why they are not.
async fn examined(instance: &Instance, check: Check) -> Result<&ReleaseUrl, Row> {
    let Some(url) = &instance.url else { return Err(Row::skipped(check, NO_URL)) };
    if !matches!(url.scheme(), Scheme::S3 { .. }) {
        return Err(Row::skipped(check, "the URL is not of S3"));
    }
    let unknown = |_: &Error| Row::skipped(check, "the pointer cannot be read");
    release_url(instance).await.map_err(unknown)
}

fn judge(check: Check, answer: Access, allowed: &str, url: &ReleaseUrl) -> Row {
    match answer {
        Access::Allowed => Row::ok(check, allowed),
        Access::Missing => {
            let text = format!("{url} has no such object");
            let row = Row::failed(
                check,
                text,
                "check the release's name, and that its upload is complete",
            );
            Row { reason: Some(Reason::ReleaseMissing), ..row }
        }
        Access::Refused(error) => Row::of_error(check, &error),
        Access::NotS3 => Row::skipped(check, "the URL is not of S3"),
    }
}

async fn timed(url: &ReleaseUrl, answer: impl Future<Output = Access>) -> Access {
    let late = || Access::Refused(no_answer(&url.to_string()));
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| late())
}

async fn in_time<T>(what: &str, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(no_answer(what)))
}

fn no_answer(what: &str) -> Error {
    let why = format!("no answer within {:.1} s", ANSWER.as_secs_f32());
    Error::source(format!("read {what}"))
        .because(why)
        .with_reason(Reason::NoAnswer)
        .help("check the network, security groups, and the route to S3 (a VPC endpoint or NAT)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::doctor::Health;

    #[test]
    fn a_clock_is_judged_by_what_s3_refuses() {
        let now = SystemTime::now();
        for (seconds, result) in [(1, Health::Ok), (60, Health::Warning), (1000, Health::Failed)] {
            let off = Duration::from_secs(seconds);
            assert_eq!(judge_clock(now + off, now).result, result);
            assert_eq!(judge_clock(now - off, now).result, result);
        }
        assert!(judge_clock(now - WRONG, now).text.contains("ahead of the store's"));
    }
}
