//! Runs other programs, such as git.

use model::error::{Error, Result};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Characters of a failed program's output that an error shows.
const LONGEST: usize = 400;

/// A program, and the directory that it works in.
pub struct Program<'a> {
    pub name: &'a str,
    pub directory: &'a Path,
}

impl Program<'_> {
    /// Prepares a call; its standard input is empty.
    pub fn command<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(self.name);
        command.current_dir(self.directory).args(words).stdin(Stdio::null());
        command
    }

    /// Returns what it prints, as bytes.
    pub fn bytes<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Result<Vec<u8>> {
        let mut command = self.command(words);
        let output = command.output().map_err(|why| self.unstarted(why))?;
        self.printed(&command, output)
    }

    /// Returns what it prints for this standard input, of at most a few KiB.
    pub fn feed<I: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = I>,
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|why| self.unstarted(why))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading it says why itself.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().map_err(|why| self.unstarted(why))?;
        self.printed(&command, output)
    }

    /// Returns the text that it prints, without the end of the last line.
    pub fn text<I: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = I>) -> Result<String> {
        let bytes = self.bytes(words)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    fn printed(&self, command: &Command, output: Output) -> Result<Vec<u8>> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let is_option = |word: &&OsStr| word.to_string_lossy().starts_with("-c");
        let words = command.get_args().skip_while(is_option).take(2);
        let called: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        let what =
            format!("`{} {}` failed in {}", self.name, called.join(" "), self.directory.display());
        Err(Error::failed(what).because(said(&output.stderr)))
    }

    pub fn unstarted(&self, why: std::io::Error) -> Error {
        let error = Error::failed(format!("start {}", self.name));
        error.because(why).help(format!("install {}", self.name))
    }
}

/// Returns what a program wrote to stderr as one line for an error.
pub fn said(stderr: &[u8]) -> String {
    model::text::line(String::from_utf8_lossy(stderr).trim(), LONGEST)
}
