//! Each refusal has its own message and its own help.

use super::{ARCHIVE, BUCKET, ENV, R1, SECRET, World, resolve, says, sdk, timing};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use deploy_agent::source::Sources;
use model::error::Exit;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use testkit::s3::{Fault, GIVEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn reports_which_part_of_a_release_is_missing() {
    let World { server, sources } = World::new();
    let error = resolve(&sources, "s3://releases/team/app/production/r9").await.unwrap_err();
    says(&error, Exit::Source, &["r9 is no release", "neither", "source.tar.zst", "name"]);
    server.delete(BUCKET, ENV);
    let error = resolve(&sources, R1).await.unwrap_err();
    says(&error, Exit::Source, &["r1 is no release", "no env"]);
    server.put(BUCKET, ENV, "");
    server.delete(BUCKET, ARCHIVE);
    let error = resolve(&sources, R1).await.unwrap_err();
    says(&error, Exit::Source, &["r1 is no release", "no archive", "source.tar.gz"]);
    for (name, help) in [
        ("source.zip", "tar czf source.tar.gz"),
        ("source.tgz", "upload it as source.tar.gz"),
        ("source.tar.xz", "zstd >source.tar.zst"),
        ("source.tar.bz2", "zstd >source.tar.zst"),
    ] {
        let key = format!("team/app/production/r1/{name}");
        server.put(BUCKET, &key, "packed");
        let error = resolve(&sources, R1).await.unwrap_err();
        says(
            &error,
            Exit::Source,
            &["r1 is no release", &format!("there is {name}, and no"), help],
        );
        server.delete(BUCKET, &key);
    }
}

#[tokio::test]
async fn a_missing_bucket_is_distinguished_from_a_missing_release() {
    let World { server: _server, sources } = World::new();
    let error = resolve(&sources, "s3://nowhere/app/production/r1").await.unwrap_err();
    says(&error, Exit::Source, &["there is no bucket nowhere", "NoSuchBucket"]);
}

#[tokio::test]
async fn a_missing_release_may_look_like_a_denied_one() {
    let World { server, sources } = World::new();
    server.deny_listing();
    assert!(resolve(&sources, R1).await.is_ok(), "denied lookups of other archives do not matter");
    let error = resolve(&sources, "s3://releases/team/app/production/r9").await.unwrap_err();
    let expected = ["or there is no such object", "AccessDenied", "s3:GetObject", "s3:ListBucket"];
    says(&error, Exit::Source, &expected);
}

#[tokio::test]
async fn each_refusal_of_s3_has_a_remedy() {
    for (fault, expected) in [
        (
            Fault::ACCESS_DENIED,
            ["403 AccessDenied", "s3:GetObjectVersion", "arn:aws:s3:::releases/team"],
        ),
        (
            Fault::WrongRegion("eu-west-1"),
            ["in eu-west-1", "us-east-1 was asked", "AWS_REGION=eu-west-1"],
        ),
        (Fault::ClockSkew(Duration::from_secs(7200)), ["behind S3's", "clock is 7", "timedatectl"]),
        (Fault::EXPIRED_TOKEN, ["credentials have expired", "ExpiredToken", "AWS_SESSION_TOKEN"]),
        (Fault::SLOW_DOWN, ["503", "too many requests", "again"]),
        (Fault::INTERNAL_ERROR, ["500", "S3 has trouble", "again"]),
        (Fault::Refused(403, "InvalidObjectState"), ["archived", "restore-object", "403"]),
        (
            Fault::Refused(400, "AuthorizationHeaderMalformed"),
            ["not in us-east-1", "get-bucket-location", "AWS_REGION"],
        ),
    ] {
        let World { server, sources } = World::new();
        server.fault("*", "r1/", 100, fault);
        let error = resolve(&sources, R1).await.unwrap_err();
        says(&error, Exit::Source, &expected);
    }
}

#[tokio::test]
async fn an_endless_response_is_cut() {
    for (status, fault) in [
        (403, Fault::RefusedForEver(403)),
        (500, Fault::RefusedForEver(500)),
        (403, Fault::RefusedAndStalled(403)),
    ] {
        let World { server, sources } = World::new();
        let before = GIVEN.load(Ordering::Relaxed);
        server.fault("GET", "r1/", 100, fault.clone());
        let begin = Instant::now();
        let error = resolve(&sources, R1).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Source, "{status}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{fault:?}: {:?}", begin.elapsed());
        let given = GIVEN.load(Ordering::Relaxed) - before;
        assert!(given < 64 << 20, "{fault:?}: {given} bytes were taken");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_distinguished_from_an_unknown_key() {
    let World { server, .. } = World::new();
    let wrong = Sources::with_timing(timing(), Some(sdk(&server.endpoint(), "wrong")));
    let error = resolve(&wrong, R1).await.unwrap_err();
    says(&error, Exit::Source, &["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]);
    let current = "s3://releases/team/app/production/current";
    let error = resolve(&wrong, current).await.unwrap_err();
    says(&error, Exit::Source, &["/current", "SignatureDoesNotMatch"]);

    let nobody = Credentials::new("AKIANOBODY", SECRET, None, None, "test");
    let nobody = SharedCredentialsProvider::new(nobody);
    let sdk = sdk(&server.endpoint(), SECRET).into_builder().credentials_provider(nobody).build();
    let error = resolve(&Sources::with_timing(timing(), Some(sdk)), R1).await.unwrap_err();
    says(&error, Exit::Source, &["InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"]);
}

#[tokio::test]
async fn without_credentials_or_region_no_request_is_sent() {
    let World { server, .. } = World::new();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let instance = ProviderConfig::without_region().with_http_client(http);
    let mut none = sdk(&server.endpoint(), SECRET).into_builder();
    let empty = ProfileFileCredentialsProvider::builder()
        .configure(&instance)
        .profile_name("nobody")
        .build();
    none.set_credentials_provider(Some(SharedCredentialsProvider::new(empty)));
    let error = resolve(&Sources::with_timing(timing(), Some(none.build())), R1).await.unwrap_err();
    says(&error, Exit::Source, &["without AWS credentials", "attach a role", "IMDSv2"]);

    let mut nowhere = sdk("", SECRET).into_builder();
    nowhere.set_region(None).set_endpoint_url(None);
    let error =
        resolve(&Sources::with_timing(timing(), Some(nowhere.build())), R1).await.unwrap_err();
    says(&error, Exit::Source, &["without a region", "AWS_REGION"]);
    assert_eq!(server.requests(), []);
}

/// Responds to every request with a header that never ends, a byte at a time.
async fn dripping_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                connection.read_exact(&mut [0]).await?;
                let said = b"HTTP/1.1 200 OK\r\nx: ".iter().chain(std::iter::repeat(&b'x'));
                for byte in said {
                    connection.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_server_whose_headers_trickle_counts_as_unresponsive() {
    let server = dripping_server().await;
    let s3 = Sources::with_timing(timing(), Some(sdk(&server, SECRET)));
    let web = Sources::with_timing(timing(), None);
    for (sources, url) in [(s3, R1), (web, &format!("{server}/app/production/r1"))] {
        let answer = tokio::time::timeout(Duration::from_secs(20), resolve(&sources, url));
        let error = answer.await.expect("an end in time").unwrap_err();
        says(&error, Exit::Source, &["does not answer"]);
    }
}

#[tokio::test]
async fn an_absent_server_is_distinguished_from_a_silent_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    // The socket listens but never accepts, so no response comes.
    let silent = Sources::with_timing(timing(), Some(sdk(&endpoint, SECRET)));
    let error = resolve(&silent, R1).await.unwrap_err();
    says(&error, Exit::Source, &["does not answer", "outbound rules"]);
    drop(free);
    let gone = Sources::with_timing(timing(), Some(sdk(&endpoint, SECRET)));
    let error = resolve(&gone, R1).await.unwrap_err();
    says(
        &error,
        Exit::Source,
        &["refuses the connection", "Connection refused", "AWS_ENDPOINT_URL"],
    );
    let no_url = Sources::with_timing(timing(), Some(sdk("minio.local:9000", SECRET)));
    let error = resolve(&no_url, R1).await.unwrap_err();
    says(&error, Exit::Usage, &["AWS_ENDPOINT_URL is no URL", "https://minio.local:9000"]);
    let unnamed = Sources::with_timing(timing(), Some(sdk("http://s3.invalid", SECRET)));
    let error = resolve(&unnamed, R1).await.unwrap_err();
    says(&error, Exit::Source, &["cannot be resolved", "AWS_REGION"]);
}
