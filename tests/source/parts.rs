//! A large object is downloaded in parallel parts, and its content is unchanged.

use super::http::{STRONG, World as Web};
use super::web::Habits;
use super::{ARCHIVE, BUCKET, MEMORY, R1, World, archive, read, resolve, says, timing};
use deploy_agent::source::Timing;
use model::error::Exit;
use std::collections::BTreeSet;
use testkit::s3::{Fault, Stored};

/// Part size for an archive of 400,000 bytes; four parts at once.
const PART: usize = MEMORY as usize / 4;

fn in_parts() -> Timing {
    Timing { whole: 1000, part: PART as u64, parts: 8, ..timing() }
}

fn ranges(world: &World) -> Vec<String> {
    let reads = world.reads_of("source.tar.zst");
    assert!(reads.iter().all(|read| read.if_match.is_some()));
    reads.into_iter().map(|read| read.range.expect("a range")).collect()
}

fn parts() -> BTreeSet<String> {
    let begins = (0..archive().len()).step_by(PART);
    begins.map(|begin| format!("bytes={begin}-{}", begin + PART - 1)).collect()
}

#[tokio::test]
async fn a_large_object_is_read_in_pinned_parts() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    assert_eq!(read(&resolved).await.unwrap(), archive());
    let asked = ranges(&world);
    assert_eq!(asked.len(), archive().len() / PART);
    assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), parts());
}

#[tokio::test]
async fn no_more_is_fetched_ahead_than_the_memory_allows() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    let mut reader = resolved.archive(MEMORY);
    let mut at = 0;
    while let Some(bytes) = reader.next().await {
        at += bytes.unwrap().len();
        let asked = world.reads_of("source.tar.zst").len();
        assert!(asked <= at / PART + 1 + 4, "{asked} parts when {at} bytes are read");
    }
    assert_eq!(at, archive().len());

    let mut alone = resolved.archive(MEMORY / 4);
    while let Some(bytes) = alone.next().await {
        bytes.unwrap();
    }
    let last = world.reads_of("source.tar.zst").pop().unwrap();
    assert_eq!(last.range, None, "the memory is enough for one part only");
}

#[tokio::test]
async fn a_cut_part_alone_is_resumed_where_it_stopped() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    for fault in [Fault::Reset(600), Fault::Truncate(600), Fault::Stall(600), Fault::SLOW_DOWN] {
        world.server.fault("GET", "source.tar.zst", 1, fault);
    }
    assert_eq!(read(&resolved).await.unwrap(), archive());
    let (whole, rest): (Vec<_>, Vec<_>) =
        ranges(&world).into_iter().partition(|range| parts().contains(range));
    // The throttled part is requested again as a whole.
    assert_eq!((whole.len(), rest.len()), (archive().len() / PART + 1, 3));
    assert!(rest.iter().all(|range| range.starts_with("bytes=") && range.contains("600-")));
}

#[tokio::test]
async fn a_part_that_keeps_failing_fails_the_download() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.fault("GET", "source.tar.zst", 1000, Fault::Reset(100));
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["source.tar.zst", "the connection failed"]);
}

#[tokio::test]
async fn parts_of_two_objects_are_never_mixed() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    let mut reader = resolved.archive(MEMORY);
    reader.next().await.unwrap().unwrap();
    world.server.put(BUCKET, ARCHIVE, vec![7; archive().len()]);
    let error = loop {
        match reader.next().await {
            Some(Ok(bytes)) => assert!(bytes.iter().any(|byte| *byte != 7)),
            Some(Err(error)) => break error,
            None => panic!("the mixed archive was read to its end"),
        }
    };
    says(&error, Exit::Source, &["source.tar.zst changed while it was being read"]);
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_asked_once_for_the_whole_object() {
    let world = World::with(in_parts());
    let resolved = resolve(&world.sources, R1).await.unwrap();
    world.server.fault("GET", "source.tar.zst", 1000, Fault::IgnoreRange);
    assert_eq!(read(&resolved).await.unwrap(), archive());
    assert!(world.reads_of("source.tar.zst").len() <= 6);
}

#[tokio::test]
async fn the_stored_checksum_covers_all_parts_in_order() {
    let world = World::with(in_parts());
    world.server.put_with_checksum(BUCKET, ARCHIVE, archive(), Stored::Right("CRC64NVME"));
    let resolved = resolve(&world.sources, R1).await.unwrap();
    assert_eq!(read(&resolved).await.unwrap(), archive());
    let wrong = Stored::Wrong("CRC64NVME", "AAAAAAAAAAA=");
    world.server.put_with_checksum(BUCKET, ARCHIVE, archive(), wrong);
    let resolved = resolve(&world.sources, R1).await.unwrap();
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["CRC64NVME"]);
}

#[tokio::test]
async fn a_web_server_serves_parts_too() {
    for habits in [STRONG, Habits { ignores_ranges: true, ..STRONG }] {
        let world = Web::with(Habits { cut: (700, 3), ..habits }, in_parts()).await;
        let resolved = resolve(&world.sources, &world.r1()).await.unwrap();
        assert_eq!(read(&resolved).await.unwrap(), archive());
    }
}
