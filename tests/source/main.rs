//! Releases are found, pinned and read from S3, HTTP and directories, or refused with an error
//! that names the remedy.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod credentials;
mod file;
mod follow;
mod found;
mod http;
mod parts;
mod refused;
mod resumed;
mod web;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use deploy_agent::source::{Resolved, Sources, Timing};
use model::error::{Error, Exit, Result};
use std::time::Duration;
use testkit::s3::{Asked, S3Server};

const ACCESS: &str = "AKIAEXAMPLE";
const SECRET: &str = "test-secret-marker";
const BUCKET: &str = "releases";
const R1: &str = "s3://releases/team/app/production/r1";
const ARCHIVE: &str = "team/app/production/r1/source.tar.zst";
const ENV: &str = "team/app/production/r1/env";

/// Memory for parts of an archive, in tests that download in parts.
const MEMORY: u64 = 160_000;

fn timing() -> Timing {
    Timing {
        connect: Duration::from_secs(2),
        stall: Duration::from_millis(300),
        least: 1024,
        asks: 3,
        attempts: 4,
        progress: 1024,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        whole: u64::MAX,
        part: 1000,
        parts: 4,
    }
}

fn sdk(endpoint: &str, secret: &str) -> SdkConfig {
    let credentials = Credentials::new(ACCESS, secret, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(aws_sdk_s3::config::SharedAsyncSleep::new(Sleep))
        .build()
}

#[derive(Debug)]
struct Sleep;

impl aws_sdk_s3::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_s3::config::Sleep {
        aws_sdk_s3::config::Sleep::new(tokio::time::sleep(duration))
    }
}

/// A server with release r1, and the sources that read from it.
struct World {
    server: S3Server,
    sources: Sources,
}

impl World {
    fn new() -> World {
        World::with(timing())
    }

    fn with(timing: Timing) -> World {
        let server = S3Server::start("127.0.0.1:0", ACCESS, SECRET);
        server.put(BUCKET, ARCHIVE, archive());
        server.put(BUCKET, ENV, "export A=1\n");
        let sources = Sources::with_timing(timing, Some(sdk(&server.endpoint(), SECRET)));
        World { server, sources }
    }

    fn reads_of(&self, key: &str) -> Vec<Asked> {
        let mut asked = self.server.requests();
        asked.retain(|asked| asked.method == "GET" && asked.path.ends_with(key));
        asked
    }
}

/// Bytes that encode their own position, more than one chunk of any reader.
fn archive() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn resolve(sources: &Sources, url: &str) -> Result<Resolved> {
    sources.resolve(&url.parse().unwrap()).await
}

async fn read(resolved: &Resolved) -> Result<Vec<u8>> {
    let mut archive = resolved.archive(MEMORY);
    let mut bytes = Vec::new();
    while let Some(chunk) = archive.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    assert!(archive.next().await.is_none());
    Ok(bytes)
}

#[track_caller]
fn says(error: &Error, exit: Exit, parts: &[&str]) {
    let said = format!("{} | {}", error.chain(), error.advice().unwrap_or("NO HELP"));
    assert_eq!(error.exit(), exit, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(error.advice().is_some(), "{said}");
    assert!(!said.contains(SECRET) && !said.contains("Signature="), "{said}");
}
