//! Credentials that S3 no longer accepts.

use super::{ACCESS, ARCHIVE, R1, SECRET, World, archive, read, resolve, says, sdk, timing};
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use deploy_agent::source::{Resolved, Sources};
use model::error::{Exit, Result};
use std::sync::{Arc, Mutex};
use testkit::s3::{Fault, S3Server};

const NEXT_ACCESS: &str = "AKIANEXT";

/// The role of an instance: its keys change from time to time.
#[derive(Clone)]
struct Role(Arc<Mutex<Credentials>>);

impl Role {
    fn new() -> Role {
        Role(Arc::new(Mutex::new(keys(ACCESS))))
    }

    fn sources(&self, server: &S3Server) -> Sources {
        let role = self.clone();
        let provider =
            provide_credentials_fn(move || std::future::ready(Ok(role.0.lock().unwrap().clone())));
        let provider = SharedCredentialsProvider::new(provider);
        let sdk = sdk(&server.endpoint(), SECRET).into_builder().credentials_provider(provider);
        Sources::with_timing(timing(), Some(sdk.build()))
    }

    fn change(&self, server: &S3Server) {
        server.expire(ACCESS);
        server.accept(NEXT_ACCESS, SECRET);
        *self.0.lock().unwrap() = keys(NEXT_ACCESS);
    }
}

fn keys(access: &str) -> Credentials {
    Credentials::new(access, SECRET, Some("session".into()), None, "test")
}

/// Reads the archive; after the first bytes it calls `meanwhile` and the connection is cut.
async fn read_while(
    server: &S3Server,
    resolved: &Resolved,
    meanwhile: impl FnOnce(),
) -> Result<Vec<u8>> {
    server.fault("GET", ARCHIVE, 1, Fault::Reset(50_000));
    let mut archive = resolved.archive(0);
    let mut bytes = archive.next().await.unwrap()?.to_vec();
    meanwhile();
    while let Some(more) = archive.next().await {
        bytes.extend_from_slice(&more?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn credentials_that_expire_during_a_download_are_renewed() {
    let world = World::new();
    let role = Role::new();
    let resolved = resolve(&role.sources(&world.server), R1).await.unwrap();
    let read = read_while(&world.server, &resolved, || role.change(&world.server)).await;
    assert!(read.unwrap() == archive(), "other bytes");
    let reads = world.reads_of(ARCHIVE);
    let ranges: Vec<_> = reads.iter().map(|read| read.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=50000-"), Some("bytes=50000-")]);
}

#[tokio::test]
async fn credentials_that_expire_between_two_deploys_are_renewed() {
    let World { server, .. } = World::new();
    let role = Role::new();
    let sources = role.sources(&server);
    resolve(&sources, R1).await.unwrap();
    role.change(&server);
    let resolved = resolve(&sources, R1).await.unwrap();
    assert!(read(&resolved).await.unwrap() == archive(), "other bytes");
}

#[tokio::test]
async fn expired_credentials_that_cannot_be_renewed_end_the_download() {
    let World { server, .. } = World::new();
    let resolved = resolve(&Role::new().sources(&server), R1).await.unwrap();
    let error = read_while(&server, &resolved, || server.expire(ACCESS)).await.unwrap_err();
    let expected = ["source.tar.zst: the credentials have expired", "AWS_SESSION_TOKEN"];
    says(&error, Exit::Source, &expected);
}

/// The metadata service still returns keys that S3 no longer accepts, for a while.
#[tokio::test]
async fn expired_credentials_from_the_metadata_service_are_requested_again() {
    let World { server, .. } = World::new();
    server.expire(ACCESS);
    server.accept(NEXT_ACCESS, SECRET);
    let asked = Arc::new(Mutex::new(0));
    let counted = asked.clone();
    let provider = provide_credentials_fn(move || {
        let mut asked = counted.lock().unwrap();
        *asked += 1;
        std::future::ready(Ok(keys(if *asked < 7 { ACCESS } else { NEXT_ACCESS })))
    });
    let provider = SharedCredentialsProvider::new(provider);
    let sdk = sdk(&server.endpoint(), SECRET).into_builder().credentials_provider(provider);
    let sources = Sources::with_timing(timing(), Some(sdk.build()));
    let resolved = resolve(&sources, R1).await.unwrap();
    assert!(read(&resolved).await.unwrap() == archive(), "other bytes");
}
