//! A download resumes after a failure, and never with the bytes of another object.

use super::{ARCHIVE, BUCKET, ENV, R1, World, archive, read, resolve, says};
use model::error::Exit;
use std::time::Duration;
use testkit::s3::{Fault, Stored};

#[tokio::test]
async fn a_few_server_errors_are_no_failure() {
    let World { server, sources } = World::new();
    server.fault("GET", "env", 2, Fault::SLOW_DOWN);
    server.fault("GET", "source", 2, Fault::INTERNAL_ERROR);
    let resolved = resolve(&sources, R1).await.unwrap();
    assert_eq!(read(&resolved).await.unwrap(), archive());
}

#[tokio::test]
async fn a_cut_download_is_resumed_where_it_stopped() {
    let world = World::new();
    let resolved = resolve(&world.sources, R1).await.unwrap();
    for fault in [Fault::Reset(50_000), Fault::Truncate(70_000), Fault::Stall(90_000)] {
        world.server.fault("GET", "source.tar.zst", 1, fault);
    }
    assert_eq!(read(&resolved).await.unwrap(), archive());

    let reads = world.reads_of("source.tar.zst");
    let ranges: Vec<_> = reads.iter().map(|read| read.range.as_deref()).collect();
    let expected = [None, Some("bytes=50000-"), Some("bytes=120000-"), Some("bytes=210000-")];
    assert_eq!(ranges, expected);
    assert!(reads.iter().all(|read| read.if_match.is_some()));
}

#[tokio::test]
async fn a_request_to_a_trickling_server_is_retried() {
    let world = World::new();
    let resolved = resolve(&world.sources, R1).await.unwrap();
    let trickle = Fault::Trickle(50_000, Duration::from_millis(50));
    world.server.fault("GET", "source.tar.zst", 1, trickle);
    assert_eq!(read(&resolved).await.unwrap(), archive());
    let reads = world.reads_of("source.tar.zst");
    let range = reads[1].range.as_deref().unwrap();
    assert!(range.starts_with("bytes=5000"), "{range}");
}

#[tokio::test]
async fn gives_up_on_a_server_that_only_ever_trickles() {
    let World { server, sources } = World::new();
    let resolved = resolve(&sources, R1).await.unwrap();
    server.fault("GET", "source.tar.zst", 100, Fault::Trickle(0, Duration::from_millis(50)));
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["source.tar.zst stopped at byte", "only ", "came in 300ms"]);
}

#[tokio::test]
async fn a_request_without_a_response_is_retried() {
    let World { server, sources } = World::new();
    server.fault("GET", "env", 1, Fault::Silence);
    server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    server.fault("GET", "source.tar.zst", 1, Fault::Silence);
    let resolved = resolve(&sources, R1).await.unwrap();
    assert_eq!(read(&resolved).await.unwrap(), archive());
}

#[tokio::test]
async fn throttling_and_server_errors_during_a_download_are_retried() {
    let World { server, sources } = World::new();
    let resolved = resolve(&sources, R1).await.unwrap();
    server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    server.fault("GET", "source.tar.zst", 1, Fault::SLOW_DOWN);
    server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    server.fault("GET", "source.tar.zst", 1, Fault::INTERNAL_ERROR);
    assert_eq!(read(&resolved).await.unwrap(), archive());
}

#[tokio::test]
async fn a_server_that_is_down_for_a_while_is_retried_until_it_is_back() {
    let World { server, sources } = World::new();
    let resolved = resolve(&sources, R1).await.unwrap();
    server.fault("GET", "source.tar.zst", 1, Fault::Stall(50_000));
    let mut archive_read = resolved.archive(0);
    let mut bytes = archive_read.next().await.unwrap().unwrap().to_vec();
    let address = server.address();
    let start = server.stop();
    // The server accepts connections and cuts them before it serves again. The socket is bound
    // here and not by the thread, which may begin after the last attempt on a busy machine.
    let listener = std::net::TcpListener::bind(address).unwrap();
    let back = std::thread::spawn(move || {
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
        start(listener)
    });
    while let Some(more) = archive_read.next().await {
        bytes.extend_from_slice(&more.unwrap());
    }
    assert!(bytes == archive(), "other bytes");
    drop(back.join().unwrap());
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_from_its_first_byte_again() {
    let World { server, sources } = World::new();
    let resolved = resolve(&sources, R1).await.unwrap();
    server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    server.fault("GET", "source.tar.zst", 1, Fault::IgnoreRange);
    assert_eq!(read(&resolved).await.unwrap(), archive());
}

#[tokio::test]
async fn gives_up_after_some_attempts_without_progress() {
    let world = World::new();
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    world.server.fault("GET", "source.tar.zst", 100, Fault::Stall(10));
    let error = read(&resolved).await.unwrap_err();
    says(
        &error,
        Exit::Source,
        &["source.tar.zst stopped at byte 500", "of 400000", "only 10 bytes came in 300ms"],
    );
    assert_eq!(world.reads_of("source.tar.zst").len(), 4);
}

#[tokio::test]
async fn a_body_that_is_too_short_is_no_archive() {
    let World { server, sources } = World::new();
    let resolved = resolve(&sources, R1).await.unwrap();
    server.fault("GET", "source.tar.zst", 1, Fault::Truncate(399_999));
    server.fault("GET", "source.tar.zst", 100, Fault::Truncate(0));
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["stopped at byte 399999 of 400000", "before the last byte"]);
}

#[tokio::test]
async fn parts_of_a_replaced_object_are_never_mixed() {
    let other = vec![7; 400_000];
    let World { server, sources } = World::new();
    server.fault("GET", "r1/env", 1, Fault::Reset(5));
    let resolved = resolve(&sources, R1).await.unwrap();
    server.put(BUCKET, ENV, "export A=2\n");
    let error = resolved.env().await.unwrap_err();
    says(&error, Exit::Source, &["env changed while it was being read", "run the deploy again"]);

    server.fault("GET", "source.tar.zst", 1, Fault::Reset(50_000));
    server.fault("GET", "source.tar.zst", 1, Fault::Replaced(other));
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["source.tar.zst changed while it was being read"]);

    server.delete(BUCKET, ARCHIVE);
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["changed while", "it was removed"]);
}

#[tokio::test]
async fn a_pinned_version_is_read_although_a_newer_one_exists() {
    let world = World::new();
    world.server.keep_versions(BUCKET);
    world.server.put(BUCKET, ENV, "export A=1\n");
    world.server.fault("GET", "r1/env", 1, Fault::Reset(5));
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.put(BUCKET, ENV, "export A=2\n");
    assert_eq!(resolved.env().await.unwrap(), b"export A=1\n");
    let query = world.reads_of("env")[1].query.clone().unwrap();
    assert!(query.contains("versionId=v"), "{query}");
}

#[tokio::test]
async fn a_role_that_may_not_read_versions_reads_by_etag() {
    let world = World::new();
    world.server.keep_versions(BUCKET);
    world.server.put(BUCKET, ENV, "export A=1\n");
    world.server.fault("GET", "r1/env", 1, Fault::Reset(5));
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.fault("GET", "r1/env", 1, Fault::ACCESS_DENIED);
    assert_eq!(resolved.env().await.unwrap(), b"export A=1\n");
    let reads = world.reads_of("env");
    let versions: Vec<_> = reads
        .iter()
        .map(|read| read.query.as_deref().unwrap_or("").contains("versionId"))
        .collect();
    assert_eq!(versions, [false, true, false]);
}

#[tokio::test]
async fn bytes_that_do_not_match_the_stored_checksum_are_refused() {
    let World { server, sources } = World::new();
    for (algorithm, value) in [("CRC32C", "AAAAAA=="), ("CRC64NVME", "AAAAAAAAAAA=")] {
        server.put_with_checksum(BUCKET, ARCHIVE, archive(), Stored::Wrong(algorithm, value));
        let error = read(&resolve(&sources, R1).await.unwrap()).await.unwrap_err();
        let expected = format!("checksum {algorithm} of the bytes received does not match");
        says(&error, Exit::Source, &["source.tar.zst", &expected]);
    }
    server.put_with_checksum(BUCKET, ENV, "export A=1\n", Stored::Wrong("CRC32", "AAAAAA=="));
    let error = resolve(&sources, R1).await.unwrap().env().await.unwrap_err();
    says(&error, Exit::Source, &["/env", "checksum CRC32"]);
}

#[tokio::test]
async fn objects_without_a_checksum_of_the_whole_are_read_by_size_and_etag() {
    let World { server, sources } = World::new();
    for stored in [Stored::None, Stored::OfParts("CRC32C", "AAAAAA==-3")] {
        server.put_with_checksum(BUCKET, ARCHIVE, archive(), stored);
        assert_eq!(read(&resolve(&sources, R1).await.unwrap()).await.unwrap(), archive());
    }
}

#[tokio::test]
async fn a_long_env_is_refused_before_it_is_read() {
    let world = World::new();
    world.server.put(BUCKET, ENV, vec![b'#'; 1024 * 1024 + 1]);
    let error = resolve(&world.sources, R1).await.unwrap().env().await.unwrap_err();
    says(&error, Exit::Unusable, &["r1/env", "1048577 bytes long", "at most 1048576"]);
    assert_eq!(world.reads_of("env").len(), 1);
}

#[tokio::test]
async fn an_env_is_one_request() {
    let world = World::new();
    world.server.put(BUCKET, ENV, "export A=1\n");
    let resolved = resolve(&world.sources, R1).await.unwrap();
    assert_eq!(resolved.env().await.unwrap(), b"export A=1\n");
    // The first response was consumed; another read sends another request.
    assert_eq!(resolved.clone().env().await.unwrap(), b"export A=1\n");
    let asked = world.server.requests();
    let asked: Vec<_> = asked.iter().filter(|one| one.path.ends_with("r1/env")).collect();
    let methods: Vec<_> = asked.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET"]);
    assert_eq!((&asked[0].if_match, asked[1].if_match.is_some()), (&None, true));
}

#[tokio::test]
async fn without_etags_an_object_is_pinned_by_its_time_and_size() {
    let world = World::new();
    world.server.keep_no_etags();
    world.server.put(BUCKET, ARCHIVE, archive());
    world.server.put(BUCKET, ENV, "export A=1\n");
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.fault("GET", ARCHIVE, 1, Fault::Reset(50_000));
    assert_eq!(read(&resolved).await.unwrap(), archive());
    assert!(world.reads_of(ARCHIVE).iter().all(|read| read.if_unmodified_since.is_some()));

    world.server.fault("GET", ARCHIVE, 1, Fault::Reset(50_000));
    world.server.fault("GET", ARCHIVE, 1, Fault::Replaced(vec![7; 399_999]));
    let error = read(&resolved).await.unwrap_err();
    let what = "source.tar.zst changed while it was being read";
    says(&error, Exit::Source, &[what, "no ETag", "400000 bytes before", "399999 bytes now"]);
}
