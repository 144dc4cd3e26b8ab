//! The journal, read by `journalctl`: as a transient unit if the daemon needs a few lines, as a
//! child of the command for an operator.

use super::systemd::Systemd;
use super::transient::{Command, LINE};
use serde_json::Value;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::sync::Mutex;

/// One reader at a time: the units have the same name.
static READING: Mutex<()> = Mutex::const_new(());

/// The message of systemd about a service that has failed, with its result:
/// SD_MESSAGE_UNIT_FAILURE_RESULT of sd-messages.h.
const UNIT_FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";

/// Its message that a process of a service was killed for memory, SD_MESSAGE_UNIT_OUT_OF_MEMORY. The
/// result of a service with OOMPolicy=continue does not say so: it is `signal`.
const OUT_OF_MEMORY: &str = "fe6faa94e7774663a0da52717891d8ef";

const JOURNALCTL: &str = "/usr/bin/journalctl";

/// The longest entry that is read: a line of 48 KiB, each byte of it a number.
const MOST_BYTES: u64 = 1 << 20;

/// The timeout of a read.
const LONGEST: Duration = Duration::from_secs(5);

impl Systemd {
    /// Reads the last `most` lines that units wrote since a moment, in seconds since the epoch.
    /// Best effort: entries that cannot be read are left out.
    pub async fn last_lines(&self, units: &[String], since: i64, most: usize) -> Vec<Line> {
        let options = [
            "--quiet".to_owned(),
            "--no-pager".to_owned(),
            // Without it, long text is null.
            "--all".to_owned(),
            "--output=json".to_owned(),
            "--output-fields=SYSLOG_IDENTIFIER,MESSAGE,MESSAGE_ID,UNIT_RESULT".to_owned(),
            // With --since alone, --lines would count from there: the first lines.
            "--reverse".to_owned(),
            format!("--since=@{since}"),
            format!("--lines={most}"),
        ];
        let written = units.iter().map(|unit| format!("_SYSTEMD_UNIT={unit}"));
        let of_systemd = [UNIT_FAILED, OUT_OF_MEMORY].map(|id| format!("MESSAGE_ID={id}"));
        let about = units.iter().map(|unit| format!("UNIT={unit}"));
        let matches = written.chain(["+".to_owned()]).chain(of_systemd).chain(about);
        let argv = std::iter::once(JOURNALCTL.to_owned()).chain(options).chain(matches).collect();
        let command = Command {
            unit: "deployd-journal".to_owned(),
            description: "The last lines of a release that failed".to_owned(),
            argv,
            timeout: LONGEST,
            properties: Vec::new(),
        };
        let mut lines = Vec::new();
        let _alone = READING.lock().await;
        let mut read = |line: String| lines.extend(entry(&line));
        if let Err(error) = self.run_with_lines(command, MOST_BYTES as usize, &mut read).await {
            tracing::debug!("{}", error.chain());
        }
        lines.reverse();
        lines
    }
}

/// One line of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The syslog identifier of its writer.
    pub identifier: String,
    pub text: String,
    /// systemd says in it that a process of a service was killed for memory.
    pub tells_of_memory: bool,
}

/// Reads one entry of journalctl's JSON, in which text that is not UTF-8 is an array of bytes, and
/// cuts its text as that of other programs.
pub(super) fn entry(line: &str) -> Option<Line> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let identifier = entry["SYSLOG_IDENTIFIER"].as_str()?.to_owned();
    let mut text = match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    text.truncate(text.floor_char_boundary(LINE));
    let tells_of_memory =
        entry["UNIT_RESULT"] == "oom-kill" || entry["MESSAGE_ID"] == OUT_OF_MEMORY;
    Some(Line { identifier, text, tells_of_memory })
}

/// Selects the output of processes. A writer chooses its identifier itself; journald determines
/// slice and unit.
#[derive(Debug, Default)]
pub struct Query {
    pub slices: Vec<String>,
    pub units: Vec<String>,
    /// All, if there are none.
    pub identifiers: Vec<String>,
    pub since: Option<String>,
    /// How many lines to begin with; without it, all.
    pub lines: Option<u32>,
    pub follow: bool,
}

/// A `journalctl` that is read by the `deploy` command.
pub struct Reader {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Reader {
    /// Starts it. What it has to say about its own work goes to stderr.
    #[expect(clippy::disallowed_methods, reason = "host/ is where programs are started")]
    pub fn start(query: &Query) -> io::Result<Reader> {
        let mut command = tokio::process::Command::new(JOURNALCTL);
        // Without --all, long text is null.
        command
            .args(["--no-pager", "--all", "--output=json"])
            .arg("--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_SYSTEMD_UNIT,_SYSTEMD_SLICE");
        command.args(query.identifiers.iter().map(|id| format!("--identifier={id}")));
        command.args(query.since.iter().map(|since| format!("--since={since}")));
        command.args(query.lines.iter().map(|lines| format!("--lines={lines}")));
        match (query.follow, query.lines) {
            (true, None) => drop(command.args(["--follow", "--no-tail"])),
            (true, Some(_)) => drop(command.arg("--follow")),
            (false, _) => {}
        }
        let slices = query.slices.iter().map(|slice| format!("_SYSTEMD_SLICE={slice}"));
        let units = query.units.iter().map(|unit| format!("_SYSTEMD_UNIT={unit}"));
        // Matches of one field are alternatives; `+` is the alternative of two fields.
        let between = !query.slices.is_empty() && !query.units.is_empty();
        command.args(slices).args(between.then_some("+")).args(units);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Reader { child, output: BufReader::new(output) })
    }

    /// Returns the next entry; none at the end. Leaves out entries that are no JSON or longer
    /// than the limit.
    pub async fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.output).take(MOST_BYTES).read_until(b'\n', &mut line).await?;
            match serde_json::from_slice(&line) {
                _ if read == 0 => return Ok(None),
                Ok(entry) => return Ok(Some(entry)),
                Err(_) => {}
            }
        }
    }

    pub async fn end(mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded;
    use super::*;

    #[test]
    fn an_entry_has_an_identifier_and_text_or_bytes() {
        let text = r#"{"SYSLOG_IDENTIFIER":"my-app.web.1","MESSAGE":"boom"}"#;
        let line = |identifier: &str, text: &str| {
            let (identifier, text) = (identifier.to_owned(), text.to_owned());
            Some(Line { identifier, text, tells_of_memory: false })
        };
        assert_eq!(entry(text), line("my-app.web.1", "boom"));
        let bytes = r#"{"SYSLOG_IDENTIFIER":"a","MESSAGE":[104,105,255]}"#;
        assert_eq!(entry(bytes), line("a", "hi\u{fffd}"));
        assert_eq!(entry("not json"), None);
    }

    #[test]
    fn every_recorded_line_is_read() {
        let lines = recorded::lines();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts[..3], ["a line", "no UTF-8: \u{fffd}", "a\tb \u{1b}[31mred\u{1b}[0m"]);
        assert_eq!((texts[3].len(), &texts[3][4995..]), (5000, "xxend"));
        assert_eq!(texts[4], "to stderr");
        assert!(lines[..5].iter().all(|line| line.identifier == "my-app.web.1"), "{lines:?}");
        assert!(!lines[5].tells_of_memory);
        for told in
            [r#""UNIT_RESULT":"oom-kill""#, r#""MESSAGE_ID":"fe6faa94e7774663a0da52717891d8ef""#]
        {
            let line = format!(r#"{{"SYSLOG_IDENTIFIER":"systemd","MESSAGE":"killed",{told}}}"#);
            assert!(entry(&line).is_some_and(|line| line.tells_of_memory), "{line}");
        }
    }
}
