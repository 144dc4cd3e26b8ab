//! The editor of the person, on a file that nobody else can read and that never reaches a disk.

use super::edit::Editor;
use async_trait::async_trait;
use model::error::{Error, Result};
use model::text::for_terminal;
use std::env;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// A directory in memory, where the machine has one.
const MEMORY: &str = "/dev/shm";

/// `$VISUAL` or `$EDITOR`.
pub struct Program {
    command: String,
}

impl Program {
    pub fn find() -> Result<Program> {
        let set = |name| env::var(name).ok().filter(|command| !command.trim().is_empty());
        match set("VISUAL").or_else(|| set("EDITOR")) {
            Some(command) => Ok(Program { command }),
            None => {
                let error = Error::usage("find an editor").because("EDITOR is not set");
                Err(error.help("set it, as in `EDITOR=nano ship config edit`"))
            }
        }
    }
}

#[async_trait]
impl Editor for Program {
    async fn edit(&self, text: &str) -> Result<String> {
        let failed = |what: &'static str| move |why: io::Error| Error::failed(what).because(why);
        let directory = private_directory().map_err(failed("make a private directory"))?;
        let file = directory.path().join("env");
        write_private(&file, text).map_err(failed("write the config for the editor"))?;
        let ended = run(&self.command, &file).await;
        let edited = ended.and_then(|()| {
            let bytes = fs::read(&file).map_err(failed("read the edited config"))?;
            String::from_utf8(bytes).map_err(|_| {
                let error = Error::unusable("read the edited config").because("it is not UTF-8");
                error.help("edit it again, and save it as UTF-8")
            })
        });
        // With the copies that editors make beside it.
        directory.close().map_err(failed("remove the editor's directory"))?;
        edited
    }

    fn again(&self, why: &Error) -> bool {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return false;
        }
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "{}", for_terminal(&why.chain()));
        if let Some(help) = why.advice() {
            let _ = writeln!(stderr, "help: {}", for_terminal(help));
        }
        let _ = write!(stderr, "Edit it again? [Y/n] ");
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok_and(|bytes| bytes > 0) && matches!(answer.trim(), "" | "y" | "Y" | "yes")
    }
}

fn private_directory() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("ship-").permissions(Permissions::from_mode(0o700));
    builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir())
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}

/// Runs the editor. Ctrl-C is the editor's own; a signal that ends this program ends the editor
/// first, so that its file can be removed.
async fn run(command: &str, file: &Path) -> Result<()> {
    let failed = |why: io::Error| Error::failed("run the editor").because(why);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut quits = signal(SignalKind::quit()).map_err(failed)?;
    let mut ends = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangups = signal(SignalKind::hangup()).map_err(failed)?;
    let mut editor = Command::new("sh");
    editor.args(["-c", &format!("{command} \"$1\""), "editor"]).arg(file).kill_on_drop(true);
    let mut editor = editor.spawn().map_err(failed)?;
    let status = loop {
        tokio::select! {
            status = editor.wait() => break status.map_err(failed)?,
            _ = interrupts.recv() => {}
            _ = quits.recv() => {}
            _ = ends.recv() => return Err(ended()),
            _ = hangups.recv() => return Err(ended()),
        }
    };
    if status.success() {
        return Ok(());
    }
    let error = Error::failed("edit the config").because(format!("the editor ended with {status}"));
    Err(error.help("nothing has changed; EDITOR names the editor"))
}

fn ended() -> Error {
    Error::failed("edit the config").because("a signal ended it; nothing has changed")
}
