use super::*;
use crate::document::{self, Document, Progress};
use crate::objects::memory::Memory;
use crate::place::Number;
use crate::testing::{Repository, context, git, in_store, put, release};
use model::reason::Reason;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

const PROCFILE: (&str, &str) = ("Procfile", "web: ./serve\nworker: ./work\n");

fn source(name: &str) -> Wanted {
    Wanted { source: Some(name.to_owned()), ..Wanted::default() }
}

fn dirty() -> Wanted {
    Wanted { dirty: true, ..Wanted::default() }
}

/// Reads the archive of a release: each path with its mode, and its text or its target.
async fn unpacked(cx: &Context, number: u64) -> BTreeMap<String, (u32, String)> {
    let key = cx.place.of(Number(number), archive::NAME);
    let bytes = cx.store.get(&key).await.unwrap().unwrap().bytes;
    let mut tar = tar::Archive::new(zstd::Decoder::new(bytes.as_slice()).unwrap());
    let mut found = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, mode) = (entry.path().unwrap().into_owned(), entry.header().mode().unwrap());
        let mut text = String::new();
        match entry.link_name().unwrap() {
            Some(target) => text = target.to_string_lossy().into_owned(),
            None => drop(entry.read_to_string(&mut text).unwrap()),
        }
        found.insert(path.to_string_lossy().into_owned(), (mode, text));
    }
    found
}

async fn document(cx: &Context, number: u64) -> Document {
    document::ready(&*cx.store, &cx.place, Number(number)).await.unwrap()
}

#[tokio::test]
async fn a_release_is_complete_before_it_is_ready() {
    let (cx, store) = context("production");
    put(&cx, "shop/production/env", "A=1\n").await;
    let repository = Repository::new(&[PROCFILE, ("serve", "#!/bin/sh\n")]);
    let made = release(&cx, repository.path(), Wanted::default()).await.unwrap();
    assert_eq!(made.published.number.to_string(), "r1");
    assert_eq!(store.text("shop/production/r1/env").as_deref(), Some("A=1\n"));
    let document = document(&cx, 1).await;
    let packed = document.archive.clone().unwrap();
    let sums = store.text("shop/production/r1/SHA256SUMS").unwrap();
    assert_eq!(
        sums,
        format!(
            "# shop/production/r1\n{}  source.tar.zst\n{}  env\n",
            packed.sha256.begin(64),
            document.env.clone().unwrap().begin(64)
        )
    );
    let commit = repository.git(&["rev-parse", "HEAD"]);
    assert_eq!(document.origin.commit.as_deref(), Some(commit.as_str()));
    assert_eq!(document.origin.author.as_deref(), Some("Ada <ada@x>"));
    assert_eq!(document.origin.subject.as_deref(), Some("Sell hats"));
    assert_eq!((document.state, document.by.as_str()), (Progress::Ready, "Ada"));
    assert_eq!(document.types.iter().map(|t| t.as_str()).collect::<Vec<_>>(), ["web", "worker"]);
    assert_eq!(store.writes().last().unwrap(), "shop/production/r1/release.json");
    let second = release(&cx, repository.path(), Wanted::default()).await.unwrap();
    assert_eq!(second.published.number, Number(2));
}

#[tokio::test]
async fn a_release_that_was_interrupted_is_not_ready_and_costs_its_number() {
    let repository = Repository::new(&[PROCFILE]);
    // The writes: number, archive, env, sums, ready.
    for writes in 1..=4 {
        let (cx, store) = context("production");
        store.fail_after(writes);
        assert!(release(&cx, repository.path(), Wanted::default()).await.is_err());
        let error = document::ready(&*cx.store, &cx.place, Number(1)).await.unwrap_err();
        assert!(error.chain().contains("is not complete"), "{}", error.chain());
        store.fail_after(u64::MAX);
        let made = release(&cx, repository.path(), Wanted::default()).await.unwrap();
        assert_eq!(made.published.number, Number(2));
        assert_eq!(document::newest(&*cx.store, &cx.place).await.unwrap().0, Number(2));
    }
}

#[tokio::test]
async fn an_undecided_write_costs_nothing_and_a_lost_answer_a_number() {
    let (cx, store) = context("production");
    let repository = Repository::new(&[PROCFILE]);
    store.leave_undecided(1);
    let made = release(&cx, repository.path(), Wanted::default()).await.unwrap();
    assert_eq!(made.published.number, Number(1));
    store.lose_answers(1);
    let made = release(&cx, repository.path(), Wanted::default()).await.unwrap();
    assert_eq!(made.published.number, Number(3));
    assert_eq!(document(&cx, 3).await.state, Progress::Ready);
    let begun = Document::begun("Ada", cx.store.now().await.unwrap(), Default::default());
    for lost in [false, true] {
        let reserved = document::reserve(&*cx.store, &cx.place, &begun).await.unwrap();
        if lost {
            store.lose_answers(1)
        } else {
            store.leave_undecided(1)
        }
        document::complete(&*cx.store, &cx.place, reserved, begun.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_24_releases_at_once_each_gets_a_number_of_its_own() {
    let store = Arc::new(Memory::default());
    let repository = Repository::new(&[PROCFILE]);
    let releases = (0..24).map(|_| {
        let (cx, here) = (in_store(&store, "production"), repository.path().to_owned());
        tokio::spawn(async move {
            release(&cx, &here, Wanted::default()).await.unwrap().published.number.0
        })
    });
    let mut numbers = Vec::new();
    for release in releases.collect::<Vec<_>>() {
        numbers.push(release.await.unwrap());
    }
    numbers.sort();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_commit_makes_the_same_bytes_in_every_clone() {
    let (cx, _) = context("production");
    let repository = Repository::new(&[PROCFILE, ("a/b", "x\r\n"), ("c", "y\n")]);
    repository.commit(&[(".gitattributes", "*.txt text\n"), ("d.txt", "z\n")]);
    let clones = tempfile::tempdir().unwrap();
    let from = repository.path().to_str().unwrap();
    let mut sums = Vec::new();
    for clone in ["one", "two"] {
        git(clones.path(), &["clone", "--quiet", from, clone]);
        let here = clones.path().join(clone);
        git(&here, &["config", "core.autocrlf", if clone == "one" { "true" } else { "input" }]);
        for _ in 0..2 {
            let made = release(&cx, &here, source("HEAD")).await.unwrap();
            sums.push(made.published.document.archive.unwrap().sha256);
        }
    }
    sums.dedup();
    assert_eq!(sums.len(), 1, "{sums:?}");
}

#[tokio::test]
async fn leaves_out_what_files_of_the_repository_name() {
    let (cx, _) = context("production");
    let files = [
        PROCFILE,
        (".deployignore", "/test\n*.log\n!keep.log\n"),
        (".gitattributes", "docs export-ignore\n"),
        ("test/t", ""),
        ("a.log", ""),
        ("keep.log", ""),
        ("docs/d", ""),
        ("lib/x", "x"),
    ];
    let repository = Repository::new(&files);
    repository.write("untracked", "");
    release(&cx, repository.path(), source("main")).await.unwrap();
    let names: Vec<String> = unpacked(&cx, 1).await.into_keys().collect();
    assert_eq!(names, [".gitattributes", "Procfile", "keep.log", "lib", "lib/x"]);
    release(&cx, repository.path(), source(".")).await.unwrap();
    let names: Vec<String> = unpacked(&cx, 2).await.into_keys().collect();
    let expected =
        [".gitattributes", "Procfile", "docs", "docs/d", "keep.log", "lib", "lib/x", "untracked"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn keeps_links_and_the_right_to_execute_and_no_other_mode() {
    let (cx, _) = context("production");
    let repository = Repository::new(&[PROCFILE, ("serve", "#!/bin/sh\n"), ("data", "d")]);
    let mode = |name: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(repository.path().join(name), mode).unwrap();
    };
    mode("serve", 0o4775);
    mode("data", 0o666);
    fs::create_dir(repository.path().join("bin")).unwrap();
    symlink("../serve", repository.path().join("bin/run")).unwrap();
    repository.commit(&[]);
    release(&cx, repository.path(), Wanted::default()).await.unwrap();
    release(&cx, repository.path(), source(".")).await.unwrap();
    for number in [1, 2] {
        let files = unpacked(&cx, number).await;
        assert_eq!(files["serve"], (0o755, "#!/bin/sh\n".to_owned()));
        assert_eq!(files["data"], (0o644, "d".to_owned()));
        assert_eq!(files["bin/run"].1, "../serve");
    }
    symlink("/etc/passwd", repository.path().join("outside")).unwrap();
    repository.commit(&[]);
    for wanted in [Wanted::default(), source(".")] {
        let error = release(&cx, repository.path(), wanted).await.err().unwrap();
        assert_eq!(error.reason(), Reason::InvalidArchive, "{}", error.chain());
        assert!(error.chain().contains("\"outside\": it links to \"/etc/passwd\""));
    }
}

#[tokio::test]
async fn a_dirty_tree_is_refused_or_recorded() {
    let (cx, _) = context("production");
    let repository = Repository::new(&[PROCFILE, (".gitignore", "*.o\n"), ("gone", "")]);
    repository.write("serve", "new");
    repository.write("x.o", "ignored");
    repository.write("Procfile", "web: ./changed\n");
    fs::remove_file(repository.path().join("gone")).unwrap();
    let error = release(&cx, repository.path(), Wanted::default()).await.err().unwrap();
    assert_eq!(error.exit().code(), 2);
    assert_eq!(error.chain(), "the working tree differs from its commit: \"Procfile\" and 2 more");
    release(&cx, repository.path(), dirty()).await.unwrap();
    let files = unpacked(&cx, 1).await;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, [".gitignore", "Procfile", "serve"]);
    assert_eq!(files["Procfile"].1, "web: ./changed\n");
    let origin = document(&cx, 1).await.origin;
    assert!(origin.dirty && origin.commit.is_some());
}

#[tokio::test]
async fn a_submodule_is_refused_with_what_to_do() {
    let (cx, _) = context("production");
    let other = Repository::new(&[("x", "")]);
    let repository = Repository::new(&[PROCFILE]);
    repository.git(&["submodule", "--quiet", "add", other.path().to_str().unwrap(), "lib"]);
    repository.commit(&[]);
    for wanted in [Wanted::default(), dirty()] {
        let error = release(&cx, repository.path(), wanted).await.err().unwrap();
        assert!(error.chain().contains("the submodule at \"lib\""), "{}", error.chain());
        assert!(error.advice().unwrap().contains("--source ."));
    }
    release(&cx, repository.path(), source(".")).await.unwrap();
    assert!(unpacked(&cx, 1).await.contains_key("lib/x"));
}

#[tokio::test]
async fn a_repository_that_git_refuses_is_no_plain_directory() {
    let (cx, store) = context("production");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("Procfile"), "web: x\n").unwrap();
    fs::write(directory.path().join(".git"), "damaged").unwrap();
    let error = release(&cx, directory.path(), Wanted::default()).await.err().unwrap();
    assert!(error.chain().contains("invalid gitfile"), "{}", error.chain());
    assert!(store.keys().is_empty());
    release(&cx, directory.path(), source(".")).await.unwrap();
    fs::remove_file(directory.path().join(".git")).unwrap();
    release(&cx, directory.path(), Wanted::default()).await.unwrap();
    assert_eq!(document(&cx, 2).await.origin, Default::default());
}

#[tokio::test]
async fn nothing_is_in_the_store_when_a_check_fails() {
    let files = |procfile| [("Procfile", procfile), ("serve", "")];
    for (procfile, env, expected) in [
        ("", "", "Procfile: line 1, column 1: no service"),
        ("web\n", "", "Procfile: line 1, column 1: not a process"),
        ("web: x\n", "A=1\nB=$(x)\n", "env of s3://releases/shop/production: line 2, column 3:"),
        ("web: x\n", "DEPLOY_SETLE=1s\n", "env: DEPLOY_SETLE: no setting has this name"),
        ("web: x\n", "DEPLOY_KEEP_RELEASES=9\n", "this setting belongs to the agent"),
        ("web: x\n", "DEPLOY_CONCURRENCY=wob=2\n", "DEPLOY_SINGLETON names wob: the Procfile has"),
    ] {
        let (cx, store) = context("production");
        put(&cx, "shop/production/env", env).await;
        let repository = Repository::new(&files(procfile));
        let error = release(&cx, repository.path(), Wanted::default()).await.err().unwrap();
        assert!(error.chain().contains(expected), "{}", error.chain());
        assert_eq!(error.exit().code(), 10, "{expected}");
        assert!(error.advice().is_some(), "{expected}");
        assert_eq!(store.keys(), ["shop/production/env"], "{expected}");
    }
}

#[tokio::test]
async fn a_missing_procfile_is_found_elsewhere() {
    for (name, help) in [("procfile", "found procfile: name it"), ("app/Procfile", "found app/")] {
        let (cx, store) = context("production");
        let repository = Repository::new(&[(name, "web: x\n")]);
        let error = release(&cx, repository.path(), Wanted::default()).await.err().unwrap();
        assert_eq!((error.exit().code(), error.reason()), (10, Reason::InvalidProcfile));
        assert!(error.advice().unwrap().starts_with(help), "{error:?}");
        assert!(store.keys().is_empty());
    }
}

#[tokio::test]
async fn an_app_below_the_top_of_its_repository_is_the_directory_of_ship_toml() {
    let (cx, _) = context("production");
    let files =
        [("shop/Procfile", "web: x\n"), ("shop/lib/x", ""), ("shop/.deployignore", "lib\n")];
    let repository = Repository::new(&files);
    repository.write("other/change", "");
    let app = repository.path().join("shop");
    let here = app.join("lib");
    let wanted = Wanted { app: Some(app), ..Wanted::default() };
    release(&cx, &here, wanted.clone()).await.unwrap();
    release(&cx, &here, Wanted { dirty: true, ..wanted }).await.unwrap();
    for number in [1, 2] {
        let names: Vec<String> = unpacked(&cx, number).await.into_keys().collect();
        assert_eq!(names, ["Procfile"]);
        assert!(!document(&cx, number).await.origin.dirty);
    }
}

#[tokio::test]
async fn a_tag_names_the_commit_and_never_costs_the_release() {
    let (cx, _) = context("production");
    let repository = Repository::new(&[PROCFILE]);
    repository.git(&["config", "user.name", "Ada"]);
    repository.git(&["config", "user.email", "ada@x"]);
    let order = |wanted| Order { here: repository.path().to_owned(), wanted, tag: true };
    let made = maker_release(&cx, order(Wanted::default())).await;
    assert!(made.untagged.is_none());
    assert_eq!(repository.git(&["cat-file", "-t", "r1"]), "tag");
    assert_eq!(repository.git(&["rev-parse", "r1^{}"]), repository.git(&["rev-parse", "HEAD"]));
    repository.git(&["tag", "r2"]);
    let made = maker_release(&cx, order(Wanted::default())).await;
    assert_eq!(made.published.number, Number(2));
    assert!(made.untagged.unwrap().chain().contains("already exists"));
    let error = super::release(&cx, order(source("."))).await.err().unwrap();
    assert_eq!(error.exit().code(), 2);
}

async fn maker_release(cx: &Context, order: Order) -> Made {
    super::release(cx, order).await.unwrap()
}
