//! A directory as a source.

use super::{read, resolve, says, timing};
use deploy_agent::source::Sources;
use model::error::Exit;
use model::release::compression::Compression;
use nix::sys::stat::Mode;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

struct World {
    _directory: TempDir,
    environment: PathBuf,
    sources: Sources,
}

impl World {
    fn new() -> World {
        let directory = TempDir::new().unwrap();
        let environment = directory.path().join("app/production");
        fs::create_dir_all(environment.join("r1")).unwrap();
        fs::write(environment.join("r1/source.tar.gz"), vec![1; 600_000]).unwrap();
        fs::write(environment.join("r1/env"), "A=1\n").unwrap();
        let sources = Sources::with_timing(timing(), None);
        World { _directory: directory, environment, sources }
    }

    fn url(&self, release: &str) -> String {
        format!("file://{}/{release}", self.environment.display())
    }
}

#[tokio::test]
async fn reads_a_release_from_a_directory() {
    let world = World::new();
    let resolved = resolve(&world.sources, &world.url("r1")).await.unwrap();
    assert_eq!(resolved.compression(), Compression::Gzip);
    assert_eq!(resolved.archive_size(), Some(600_000));
    assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
    assert_eq!(read(&resolved).await.unwrap(), vec![1; 600_000]);
    let again = resolve(&world.sources, &world.url("r1")).await.unwrap();
    assert!(again.sighting().is_same(&resolved.sighting()));
}

#[tokio::test]
async fn current_is_a_pointer_a_directory_or_a_link() {
    let world = World::new();
    let current = world.environment.join("current");
    fs::write(&current, "r1\n").unwrap();
    let resolved = resolve(&world.sources, &world.url("current")).await.unwrap();
    assert_eq!(resolved.name().as_str(), "r1");

    fs::remove_file(&current).unwrap();
    symlink("r1", &current).unwrap();
    let resolved = resolve(&world.sources, &world.url("current")).await.unwrap();
    assert_eq!(resolved.name().as_str(), "current");
    assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
}

#[tokio::test]
async fn a_replaced_file_is_read_as_it_was_when_opened() {
    let world = World::new();
    let resolved = resolve(&world.sources, &world.url("r1")).await.unwrap();
    let path = world.environment.join("r1/env");
    fs::write(world.environment.join("new"), "A=2\n").unwrap();
    fs::rename(world.environment.join("new"), &path).unwrap();
    assert_eq!(resolved.env().await.unwrap(), b"A=1\n");
}

#[tokio::test]
async fn a_file_changed_after_it_was_resolved_is_refused() {
    let world = World::new();
    let resolved = resolve(&world.sources, &world.url("r1")).await.unwrap();
    fs::write(world.environment.join("r1/source.tar.gz"), vec![2; 500_000]).unwrap();
    let error = read(&resolved).await.unwrap_err();
    says(&error, Exit::Source, &["source.tar.gz changed while it was being read"]);
}

#[tokio::test]
async fn a_fifo_is_refused_and_does_not_hang() {
    let world = World::new();
    let env = world.environment.join("r1/env");
    fs::remove_file(&env).unwrap();
    nix::unistd::mkfifo(&env, Mode::S_IRWXU).unwrap();
    let error = resolve(&world.sources, &world.url("r1")).await.unwrap_err();
    says(&error, Exit::Source, &["r1/env cannot be read", "no regular file"]);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_release() {
    let world = World::new();
    let error = resolve(&world.sources, &world.url("r9")).await.unwrap_err();
    says(&error, Exit::Source, &["r9 is no release", "neither an archive"]);
}
