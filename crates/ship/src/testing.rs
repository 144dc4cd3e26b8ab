//! Repositories and stores for tests.

use crate::context::Context;
use crate::maker::{self, Made, Order};
use crate::objects::memory::Memory;
use crate::objects::{Condition, Objects};
use crate::place::Place;
use crate::report::Report;
use crate::source::Wanted;
use model::error::Result;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// An environment of the app `shop`, in a store of its own.
pub fn context(environment: &str) -> (Context, Arc<Memory>) {
    let store = Arc::new(Memory::default());
    (in_store(&store, environment), store)
}

/// An environment of the app `shop` in this store.
pub fn in_store(store: &Arc<Memory>, environment: &str) -> Context {
    let app = "shop".parse().expect("a name");
    Context {
        store: Arc::clone(store) as Arc<dyn Objects>,
        place: Place { app, environment: environment.parse().expect("a name") },
        by: "Ada".to_owned(),
        signer: None,
        report: Report { quiet: true },
    }
}

/// Writes an object.
pub async fn put(cx: &Context, key: &str, text: &str) {
    let bytes = text.as_bytes().to_vec();
    cx.store.put(key, bytes, Condition::Any).await.expect("a write");
}

/// A Git repository in a temporary directory.
pub struct Repository(pub TempDir);

impl Repository {
    /// Makes one whose first commit has these files.
    pub fn new(files: &[(&str, &str)]) -> Repository {
        let repository = Repository(tempfile::tempdir().expect("a directory"));
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit(files);
        repository
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub fn commit(&self, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, text)| self.write(name, text));
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "Sell hats"]);
    }

    pub fn git(&self, words: &[&str]) -> String {
        git(self.path(), words)
    }
}

/// Runs git with a person and no configuration but the repository's own.
pub fn git(directory: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "user.name=Ada", "-c", "user.email=ada@x"]);
    command.args(["-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false"]);
    let output = command.args(words).output().expect("git");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Writes a program, by another process: the fork of another test could hold a file open that this
/// one writes, and nobody can execute it then.
pub fn program(path: &Path, script: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("sh");
    let text = format!("#!/bin/sh\n{script}\n");
    shell.stdin.take().expect("its input").write_all(text.as_bytes()).expect("a write");
    assert!(shell.wait().expect("its end").success());
}

/// Makes a release of what is wanted.
pub async fn release(cx: &Context, here: &Path, wanted: Wanted) -> Result<Made> {
    let order = Order { here: PathBuf::from(here), wanted, tag: false };
    maker::release(cx, order).await
}
