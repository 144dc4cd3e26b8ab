//! Runs the system's own ssh-keygen, as the unit of the agent does.

use crate::host::transient::Lines;
use crate::host::transient::{Command, Ending, Property};
use std::io::Write;
use std::process::{self, Stdio};

/// Runs the verification of a signature.
#[expect(clippy::disallowed_methods, reason = "a test's own program")]
pub fn run(command: Command, line: Lines<'_>) -> Ending {
    let input = command.properties.into_iter().find_map(|(name, property)| match property {
        Property::Bytes(bytes) if name == "StandardInputData" => Some(bytes),
        _ => None,
    });
    let directory = tempfile::tempdir().expect("a directory");
    let (program, arguments) = command.argv.split_first().expect("a program");
    let mut child = process::Command::new(program)
        .args(arguments)
        .env("RUNTIME_DIRECTORY", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&input.expect("its input")).expect("a write");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    for text in [output.stderr, output.stdout] {
        String::from_utf8_lossy(&text).lines().for_each(|text| line(text.to_owned()));
    }
    match output.status.success() {
        true => Ending::Success,
        false => Ending::Failure("exit-code, exit status 1".to_owned()),
    }
}
