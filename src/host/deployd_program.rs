//! Runs deployd's program for what it does without the daemon: see [`model::helper`].

use model::error::{Error, Result};
use model::event::Outcome;
use model::helper::Answer;
use serde::de::DeserializeOwned;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How long the kernel may take to end a killed program.
const KILLED: Duration = Duration::from_secs(5);

/// Runs the program with these words, and returns its answer. It ends with the returned future.
#[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
pub async fn ask<T: DeserializeOwned>(words: &[&OsStr]) -> Result<T> {
    let program = program().map_err(|e| Error::failed("find the program deployd").because(e))?;
    let failed = |why: String| {
        let error = Error::failed(format!("run {}", program.display())).because(why);
        error.help("install the package again: deploy and deployd belong together")
    };
    let mut command = Command::new(&program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = Run(command.spawn().map_err(|e| failed(e.to_string()))?);
    let mut text = Vec::new();
    if let Some(mut stdout) = run.0.stdout.take() {
        stdout.read_to_end(&mut text).await.map_err(|e| failed(e.to_string()))?;
    }
    let status = run.0.wait().await.map_err(|e| failed(e.to_string()))?;
    match serde_json::from_slice::<Answer<T>>(&text) {
        Ok(answer) => answer.map_err(Outcome::into_error),
        Err(_) => Err(failed(format!("it ended without an answer: {status}"))),
    }
}

/// A run of the program. Dropping it ends it: afterwards it writes nothing any more.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.start_kill();
        let begin = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begin.elapsed() < KILLED {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The program of the same package.
fn program() -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("deployd"))
}
