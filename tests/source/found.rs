//! Finding the release that a URL names, and reading its bytes.

use super::{ARCHIVE, BUCKET, ENV, R1, SECRET, World, archive, read, resolve, says, sdk, timing};
use deploy_agent::source::Sources;
use model::error::Exit;
use model::release::compression::Compression;
use testkit::s3::Stored;

#[tokio::test]
async fn reads_an_archive_of_each_compression_and_the_env() {
    let World { server, sources } = World::new();
    for (compression, checksum) in
        Compression::ALL.into_iter().zip(["CRC32C", "SHA256", "CRC64NVME"])
    {
        let name = compression.archive_name();
        let key = format!("app/production/{name}/{name}");
        server.put_with_checksum(BUCKET, &key, archive(), Stored::Right(checksum));
        server.put(BUCKET, &format!("app/production/{name}/env"), "export B=2\n");

        let url = format!("s3://releases/app/production/{name}");
        let resolved = resolve(&sources, &url).await.unwrap();
        assert_eq!(resolved.compression(), compression);
        assert_eq!(resolved.archive_size(), Some(400_000));
        assert_eq!(resolved.env().await.unwrap(), b"export B=2\n");
        assert_eq!(read(&resolved).await.unwrap(), archive());
    }
}

#[tokio::test]
async fn prefers_zstd_where_there_are_several_archives() {
    let World { server, sources } = World::new();
    server.put(BUCKET, "team/app/production/r1/source.tar", "plain");
    let resolved = resolve(&sources, R1).await.unwrap();
    assert_eq!(resolved.compression(), Compression::Zstd);
}

#[tokio::test]
async fn an_empty_object_is_read_as_empty() {
    let World { server, sources } = World::new();
    server.put(BUCKET, ENV, "");
    assert_eq!(resolve(&sources, R1).await.unwrap().env().await.unwrap(), b"");
}

#[tokio::test]
async fn the_same_url_has_the_same_identity_only_for_the_same_bytes() {
    let World { server, sources } = World::new();
    let first = resolve(&sources, R1).await.unwrap().sighting();
    server.put(BUCKET, ENV, "export A=1\n");
    assert!(resolve(&sources, R1).await.unwrap().sighting().is_same(&first));
    server.put(BUCKET, ENV, "export A=2\n");
    assert!(!resolve(&sources, R1).await.unwrap().sighting().is_same(&first));
}

#[tokio::test]
async fn another_version_or_checksum_of_the_same_bytes_is_the_same_release() {
    let World { server, sources } = World::new();
    let first = resolve(&sources, R1).await.unwrap().sighting();
    server.put_with_checksum(BUCKET, ARCHIVE, archive(), Stored::Right("SHA1"));
    assert!(resolve(&sources, R1).await.unwrap().sighting().is_same(&first));
    server.keep_versions(BUCKET);
    for _ in 0..2 {
        server.put_with_checksum(BUCKET, ARCHIVE, archive(), Stored::Right("CRC32"));
        assert!(resolve(&sources, R1).await.unwrap().sighting().is_same(&first));
    }
}

#[tokio::test]
async fn current_as_an_object_is_followed_to_the_release() {
    let World { server, sources } = World::new();
    server.put(BUCKET, "team/app/production/current", " r1\n");
    let url = "s3://releases/team/app/production/current";
    let resolved = resolve(&sources, url).await.unwrap();
    assert_eq!((resolved.name().as_str(), resolved.url().to_string().as_str()), ("r1", R1));
}

#[tokio::test]
async fn current_as_a_prefix_is_the_release() {
    for deny_listing in [false, true] {
        let World { server, sources } = World::new();
        server.put(BUCKET, "team/app/production/current/source.tar", "tar");
        server.put(BUCKET, "team/app/production/current/env", "");
        if deny_listing {
            server.deny_listing();
        }
        let url = "s3://releases/team/app/production/current";
        let resolved = resolve(&sources, url).await.unwrap();
        assert_eq!(resolved.name().as_str(), "current");
        assert_eq!(read(&resolved).await.unwrap(), b"tar");
    }
}

#[tokio::test]
async fn refuses_a_pointer_that_holds_no_release_name() {
    let World { server, sources } = World::new();
    let url = "s3://releases/team/app/production/current";
    let long = "r".repeat(300);
    for (text, why) in [
        ("../other", "not a release name"),
        ("r1\nr2", "not a release name"),
        ("", "not a release name"),
        ("current", "points to itself"),
        (&long, "at most 256 bytes"),
        ("\u{feff}r1", "byte order mark of UTF-8"),
    ] {
        server.put(BUCKET, "team/app/production/current", text);
        let error = resolve(&sources, url).await.unwrap_err();
        says(&error, Exit::Unusable, &["production/current", why]);
    }
}

#[tokio::test]
async fn an_endpoint_with_a_path_needs_no_trailing_slash() {
    let World { server, .. } = World::new();
    server.put("gateway", "releases/team/app/production/r1/source.tar.zst", "below");
    server.put("gateway", "releases/team/app/production/r1/env", "");
    for slash in ["", "/"] {
        // The path is the bucket on a server that does not know such paths.
        let endpoint = format!("{}/gateway{slash}", server.endpoint());
        let sources = Sources::with_timing(timing(), Some(sdk(&endpoint, SECRET)));
        let resolved = resolve(&sources, R1).await.unwrap();
        assert_eq!(read(&resolved).await.unwrap(), b"below");
    }
}

#[tokio::test]
async fn a_composite_checksum_without_a_type_is_not_taken_for_a_full_object_checksum() {
    let World { server, sources } = World::new();
    server.tell_no_types();
    server.put_with_checksum(BUCKET, ARCHIVE, archive(), Stored::Wrong("SHA256", "AAAA"));
    let resolved = resolve(&sources, R1).await.unwrap();
    assert_eq!(read(&resolved).await.unwrap(), archive());
}
