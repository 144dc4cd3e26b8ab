//! A web server as a source.

use super::web::{Habits, Web};
use super::{archive, read, resolve, says, timing};
use deploy_agent::source::{Sources, Timing};
use model::error::Exit;

pub struct World {
    web: Web,
    pub sources: Sources,
}

pub const STRONG: Habits = Habits {
    etag: Some("\"one\""),
    last_modified: None,
    ignores_ranges: false,
    knows_no_head: false,
    cut: (0, 0),
    status: None,
    conditional: false,
    bare_head: false,
    encoding: None,
    redirect: None,
};

const DATED: Habits =
    Habits { etag: None, last_modified: Some("Sat, 21 Nov 2026 02:00:00 GMT"), ..STRONG };

impl World {
    async fn new(habits: Habits) -> World {
        World::with(habits, timing()).await
    }

    pub async fn with(habits: Habits, timing: Timing) -> World {
        let web = Web::start(habits).await;
        web.put("/app/production/r1/source.tar.zst", archive());
        web.put("/app/production/r1/env", "A=1\n");
        World { web, sources: Sources::with_timing(timing, None) }
    }

    pub fn r1(&self) -> String {
        format!("{}/app/production/r1", self.web.url)
    }
}

#[tokio::test]
async fn resumes_with_each_kind_of_validator_and_with_or_without_ranges() {
    for habits in [
        STRONG,
        DATED,
        Habits { etag: Some("W/\"weak\""), ..STRONG },
        Habits { ignores_ranges: true, ..STRONG },
        Habits { ignores_ranges: true, ..DATED },
        Habits { knows_no_head: true, ..STRONG },
        Habits { bare_head: true, ..DATED },
    ] {
        let world = World::new(Habits { cut: (150_000, 2), ..habits }).await;
        let resolved = resolve(&world.sources, &world.r1()).await.unwrap();
        assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
        assert_eq!(read(&resolved).await.unwrap(), archive());
    }
}

#[tokio::test]
async fn a_page_that_changes_is_refused() {
    for (before, after) in [
        (STRONG, Habits { etag: Some("\"two\""), ..STRONG }),
        (Habits { etag: Some("W/\"1\""), ..STRONG }, Habits { etag: Some("W/\"2\""), ..STRONG }),
        (DATED, Habits { last_modified: Some("Sat, 21 Nov 2026 02:00:01 GMT"), ..DATED }),
    ] {
        let world = World::new(before.clone()).await;
        let resolved = resolve(&world.sources, &world.r1()).await.unwrap();
        *world.web.habits.lock().unwrap() = after.clone();
        let error = read(&resolved).await.unwrap_err();
        let seen = |habits: Habits| habits.etag.or(habits.last_modified).unwrap();
        let (before, after) = (seen(before), seen(after));
        let what = "source.tar.zst changed while it was being read";
        says(&error, Exit::Source, &[what, "it ", before, "rsync --times"]);
        if before.starts_with("W/") {
            says(&error, Exit::Source, &["before, and has", after]);
        }
    }
}

#[tokio::test]
async fn a_mirror_with_another_last_modified_is_refused_with_both_values() {
    let before = Habits { etag: Some("W/\"1\""), ..DATED };
    let world = World::new(before.clone()).await;
    let resolved = resolve(&world.sources, &world.r1()).await.unwrap();
    let later = Some("Sat, 21 Nov 2026 02:00:01 GMT");
    *world.web.habits.lock().unwrap() = Habits { last_modified: later, ..before };
    let error = read(&resolved).await.unwrap_err();
    let seen = ["02:00:00 GMT, 400000 bytes before", "02:00:01 GMT, 400000 bytes now"];
    says(&error, Exit::Source, &seen);
}

#[tokio::test]
async fn a_content_encoding_is_refused_unless_it_only_labels_the_file() {
    let world = World::new(Habits { encoding: Some("gzip"), ..STRONG }).await;
    // The result of `archive` is no zstd, so the server has encoded it.
    let error = read(&resolve(&world.sources, &world.r1()).await.unwrap()).await.unwrap_err();
    says(&error, Exit::Source, &["source.tar.zst", "Content-Encoding: gzip", "gzip off"]);
    let mut zstd = b"\x28\xb5\x2f\xfd".to_vec();
    zstd.extend(archive());
    world.web.put("/app/production/r1/source.tar.zst", zstd.clone());
    let resolved = resolve(&world.sources, &world.r1()).await.unwrap();
    assert!(read(&resolved).await.unwrap() == zstd);
    assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
    world.web.put("/app/production/r1/env", &b"\x1f\x8b\x08\x00compressed"[..]);
    let error = resolve(&world.sources, &world.r1()).await.unwrap().env().await.unwrap_err();
    says(&error, Exit::Source, &["r1/env", "Content-Encoding: gzip"]);
}

#[tokio::test]
async fn a_server_without_validators_is_refused() {
    let world = World::new(Habits { etag: None, ..STRONG }).await;
    let error = resolve(&world.sources, &world.r1()).await.unwrap_err();
    says(&error, Exit::Source, &["cannot be pinned", "neither an ETag", "let the server send"]);
}

#[tokio::test]
async fn each_status_has_a_remedy() {
    for (status, expected) in [
        (401, ["401 Unauthorized", "without a password"]),
        (403, ["403 Forbidden", "without a password"]),
        (404, ["is no release", "release's name"]),
        (503, ["503 Service Unavailable", "server's log"]),
    ] {
        let world = World::new(Habits { status: Some(status), ..STRONG }).await;
        let error = resolve(&world.sources, &world.r1()).await.unwrap_err();
        says(&error, Exit::Source, &expected);
    }
}

#[tokio::test]
async fn current_is_a_pointer_or_a_directory() {
    let world = World::new(STRONG).await;
    let current = format!("{}/app/production/current", world.web.url);
    world.web.put("/app/production/current/source.tar", "tar");
    world.web.put("/app/production/current/env", "");
    let resolved = resolve(&world.sources, &current).await.unwrap();
    assert_eq!(resolved.name().as_str(), "current");
    world.web.put("/app/production/current", "r1");
    let resolved = resolve(&world.sources, &current).await.unwrap();
    assert_eq!(resolved.url().to_string(), world.r1());
}

#[tokio::test]
async fn redirects_are_followed_up_to_a_limit() {
    let world = World::new(STRONG).await;
    let old = format!("{}/old/app/production/r1", world.web.url);
    world.web.habits.lock().unwrap().redirect = Some(world.web.url.clone());
    let resolved = resolve(&world.sources, &old).await.unwrap();
    assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
    let in_circles = format!("{}/old", world.web.url);
    world.web.habits.lock().unwrap().redirect = Some(in_circles);
    let error = resolve(&world.sources, &old).await.unwrap_err();
    says(&error, Exit::Source, &["redirects too often"]);
}

#[tokio::test]
async fn a_redirect_to_this_machine_or_a_link_local_address_is_refused() {
    let world = World::new(STRONG).await;
    let old = format!("{}/old/app/production/r1", world.web.url);
    let here = |host: &str| world.web.url.replace("127.0.0.1", host);
    let metadata = "http://169.254.169.254/latest".to_owned();
    for to in [here("localhost"), here("127.0.0.2"), here("[::1]"), metadata] {
        world.web.habits.lock().unwrap().redirect = Some(to.clone());
        let error = resolve(&world.sources, &old).await.unwrap_err();
        says(&error, Exit::Source, &["it redirects to", "this machine or its own link"]);
    }
    // A URL given by the operator may point to this machine.
    let direct = format!("{}/app/production/r1", here("localhost"));
    assert!(resolve(&world.sources, &direct).await.is_ok());
}

#[tokio::test]
async fn the_content_of_a_pointer_is_not_quoted() {
    let world = World::new(STRONG).await;
    world.web.put("/app/production/current", "{\"SecretAccessKey\": \"s3cr3t\"}");
    let url = format!("{}/app/production/current", world.web.url);
    let error = resolve(&world.sources, &url).await.unwrap_err();
    says(&error, Exit::Unusable, &["what it holds is not a release name"]);
    assert!(!format!("{} {:?}", error.chain(), error.advice()).contains("s3cr3t"));
}
