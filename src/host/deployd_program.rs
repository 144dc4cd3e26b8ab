//! Runs deployd's program for what it does without the daemon: see [`model::helper`].

use model::error::{Error, Result};
use model::event::Outcome;
use model::helper::Answer;
use serde::de::DeserializeOwned;
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// Runs the program with these words, and returns its answer. It ends with the returned future.
#[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
pub async fn ask<T: DeserializeOwned>(words: &[&str]) -> Result<T> {
    let program = program().map_err(|e| Error::failed("find the program deployd").because(e))?;
    let failed = |why: String| {
        let error = Error::failed(format!("run {}", program.display())).because(why);
        error.help("install the package again: deploy and deployd belong together")
    };
    let ran = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| failed(e.to_string()))?;
    match serde_json::from_slice::<Answer<T>>(&ran.stdout) {
        Ok(answer) => answer.map_err(Outcome::into_error),
        Err(_) => Err(failed(format!("it ended without an answer: {}", ran.status))),
    }
}

/// The program of the same package.
fn program() -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("deployd"))
}
