//! Detecting that `current` names another release.

use super::web::{Habits, Web};
use super::{BUCKET, R1, World, says, timing};
use deploy_agent::source::{Mark, PointerChange, Sources};
use model::error::{Exit, Result};

const CURRENT: &str = "s3://releases/team/app/production/current";
const POINTER: &str = "team/app/production/current";

async fn news(sources: &Sources, known: Option<&PointerChange>) -> Result<Option<PointerChange>> {
    sources.pointer_change(&CURRENT.parse().unwrap(), known).await
}

#[tokio::test]
async fn an_unchanged_pointer_is_never_read_again() {
    let World { server, sources } = World::new();
    server.put(BUCKET, POINTER, "r1\n");
    let first = news(&sources, None).await.unwrap().unwrap();
    assert_eq!(first.url.to_string(), R1);
    let before = server.requests().len();
    assert!(news(&sources, Some(&first)).await.unwrap().is_none());
    // Published again, unchanged.
    server.put(BUCKET, POINTER, "r1\n");
    assert!(news(&sources, Some(&first)).await.unwrap().is_none());
    let asked = server.requests().split_off(before);
    let asked: Vec<_> = asked.iter().map(|one| (one.method.as_str(), one.status)).collect();
    assert_eq!(asked, [("GET", Some(304)), ("GET", Some(304))]);
}

#[tokio::test]
async fn a_pointer_that_moves_is_followed() {
    let World { server, sources } = World::new();
    server.put(BUCKET, POINTER, "r1\n");
    let first = news(&sources, None).await.unwrap().unwrap();
    server.put(BUCKET, POINTER, "r2\n");
    let second = news(&sources, Some(&first)).await.unwrap().unwrap();
    assert!(second.url.to_string().ends_with("/r2"), "{second:?}");
    assert!(news(&sources, Some(&second)).await.unwrap().is_none());
    let stored = serde_json::to_string(&second.mark).unwrap();
    assert_eq!(serde_json::from_str::<Mark>(&stored).unwrap(), second.mark);
}

#[tokio::test]
async fn a_release_under_the_name_current_is_recognized_by_its_identity() {
    let World { server, sources } = World::new();
    server.put(BUCKET, "team/app/production/current/source.tar", "tar");
    server.put(BUCKET, "team/app/production/current/env", "");
    let first = news(&sources, None).await.unwrap().unwrap();
    assert_eq!(first.url.to_string(), CURRENT);
    assert!(news(&sources, Some(&first)).await.unwrap().is_none());
    server.put(BUCKET, "team/app/production/current/env", "A=1");
    assert!(news(&sources, Some(&first)).await.unwrap().is_some());
    // A pointer object takes precedence.
    server.put(BUCKET, POINTER, "r1");
    let pointed = news(&sources, Some(&first)).await.unwrap().unwrap();
    assert_eq!(pointed.url.to_string(), R1);
}

/// A file server that derives its ETag from a time in seconds and a size.
#[tokio::test]
async fn a_pointer_on_a_web_server_is_recognized_by_its_text() {
    let dated = Some("Sat, 21 Nov 2026 02:00:00 GMT");
    for etag in [Some("\"6920-3\""), None] {
        let habits = Habits { etag, last_modified: dated, conditional: true, ..Habits::default() };
        let web = Web::start(habits).await;
        web.put("/app/production/current", "r1\n");
        let sources = Sources::with_timing(timing(), None);
        let url = format!("{}/app/production/current", web.url).parse().unwrap();
        let first = sources.pointer_change(&url, None).await.unwrap().unwrap();
        assert_eq!(first.url.release().as_str(), "r1");
        assert!(sources.pointer_change(&url, Some(&first)).await.unwrap().is_none());
        // A mirror, or the same text written again.
        web.habits.lock().unwrap().last_modified = Some("Sun, 22 Nov 2026 02:00:00 GMT");
        assert!(sources.pointer_change(&url, Some(&first)).await.unwrap().is_none());
        // A different text within the same second.
        web.habits.lock().unwrap().last_modified = dated;
        web.put("/app/production/current", "r2\n");
        let second = sources.pointer_change(&url, Some(&first)).await.unwrap().unwrap();
        assert_eq!(second.url.release().as_str(), "r2");
    }
}

#[tokio::test]
async fn a_url_without_pointer_or_release_is_an_error() {
    let World { server, sources } = World::new();
    let error = news(&sources, None).await.unwrap_err();
    says(&error, Exit::Source, &["production/current is no release"]);
    server.put(BUCKET, POINTER, "two words");
    let error = news(&sources, None).await.unwrap_err();
    says(&error, Exit::Unusable, &["production/current", "not a release name"]);
}
