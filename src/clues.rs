//! Clues in the last log lines of a failed process or build, and advice for the operator.

use model::error::Error;
use model::release::settings::Sandbox;

/// Messages of programs whose port is taken: Linux, Java, Erlang, gunicorn.
const IN_USE: [&str; 5] = [
    "address already in use",
    "eaddrinuse",
    "address in use",
    "connection in use",
    "port already in use",
];
/// The paths of a process's own output.
const OUTPUT: [&str; 8] = [
    "/dev/stdout",
    "/dev/stderr",
    "/dev/fd/1",
    "/dev/fd/2",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
    "/proc/1/fd/1",
    "/proc/1/fd/2",
];
/// Messages of libc, shells and Node about a path that is hidden.
const HIDDEN: [&str; 5] =
    ["No such file or directory", "Permission denied", "not found", "ENOENT", "EACCES"];

/// Adds the help that the error's log suggests, if any.
pub fn explain(error: Error, sandbox: Sandbox) -> Error {
    match help(error.log(), sandbox) {
        Some(help) => error.help(help),
        None => error,
    }
}

fn help(log: &[String], sandbox: Sandbox) -> Option<String> {
    let says = |is: &dyn Fn(&str) -> bool| log.iter().any(|line| is(line));
    if says(&is_read_only) {
        return Some(
            match sandbox {
                Sandbox::Strict => {
                    "write below $HOME, $DEPLOY_SHARED, /tmp or a directory of the release that \
                 DEPLOY_WRITABLE names, or open the machine with DEPLOY_SANDBOX=full"
                }
                Sandbox::Full | Sandbox::Off => {
                    "write below $HOME, $DEPLOY_SHARED or /tmp: DEPLOY_SANDBOX=full keeps the \
                 system's own directories read-only"
                }
            }
            .to_owned(),
        );
    }
    if says(&is_output_refused) {
        return Some(
            "stdout and stderr lead to the journal, which no path opens: write to the descriptor \
             (`>&2`), or begin the command with `exec > >(trap '' TERM; exec cat) 2>&1;`"
                .to_owned(),
        );
    }
    if says(&is_home_hidden) {
        return Some(match sandbox {
            Sandbox::Strict => {
                "home directories are hidden: install what it needs below /opt or /usr/local, or \
                 set DEPLOY_SANDBOX=full, which shows them read-only"
            }
            Sandbox::Full | Sandbox::Off => {
                "let DEPLOY_USER enter that home directory and read what it needs, or install \
                 it below /opt"
            }
        }
        .to_owned());
    }
    if says(&is_registry_unreachable) {
        return Some(
            "this instance does not reach the package registry: pack the dependencies into the \
             archive (`pip wheel -w wheels -r requirements.txt`, `npm ci --omit=dev`, `bundle \
             install`), or give the instance a way out"
                .to_owned(),
        );
    }
    if says(&is_python_module_missing) {
        return Some(
            "install it into a virtual environment in `build`, and start the program from there: \
             `build: python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`, `web: \
             .venv/bin/gunicorn …`"
                .to_owned(),
        );
    }
    if says(&|line| line.contains("Cannot find module '") || line.contains("Cannot find package '"))
    {
        return Some(
            "run `npm ci --omit=dev` before the archive is made, and pack node_modules; or let \
             `build: npm ci --omit=dev` do it on the instance"
                .to_owned(),
        );
    }
    if says(&|line| is_command_missing(line) && line.contains(": python: ")) {
        return Some(
            "write python3, the only name that Debian and Ubuntu give it; the package \
             python-is-python3 adds the other one to an image"
                .to_owned(),
        );
    }
    if says(&is_command_missing) {
        let hidden = match sandbox {
            Sandbox::Strict => {
                "; home directories (nvm, rbenv, pyenv) need DEPLOY_SANDBOX=full too"
            }
            Sandbox::Full | Sandbox::Off => "",
        };
        return Some(format!(
            "install the command in /usr/local/bin, name it by its path in the release \
             (./bin/server, .venv/bin/gunicorn), or set PATH in the release's env; a script is not found either where \
             its `#!` line names a program that is not there{hidden}"
        ));
    }
    None
}

/// The log lines that report a taken port.
pub fn in_use(log: &[String]) -> Vec<&str> {
    let says = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        let port = lower.contains("port") && lower.contains("already in use");
        port || IN_USE.iter().any(|words| lower.contains(words))
    };
    log.iter().map(String::as_str).filter(says).collect()
}

/// Every number in a text that may be a port, in order.
pub fn ports(text: &str) -> impl Iterator<Item = u16> + '_ {
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).filter(|port| *port > 0)
}

/// Whether a line reports EROFS, in the wording of various languages.
fn is_read_only(line: &str) -> bool {
    line.to_ascii_lowercase().contains("read-only file system")
}

fn is_output_refused(line: &str) -> bool {
    let refused = ["No such device or address", "ENXIO", "Permission denied", "EACCES"];
    let named = OUTPUT.iter().any(|path| line.contains(path));
    named && refused.iter().any(|words| line.contains(words))
}

fn is_home_hidden(line: &str) -> bool {
    let named = ["/home/", "/root/"].iter().any(|path| {
        let before = |at: usize| line[..at].chars().next_back();
        let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        line.find(path).is_some_and(|at| !before(at).is_some_and(inside))
    });
    named && HIDDEN.iter().any(|words| line.contains(words))
}

/// Whether a line of pip, npm, bundler or another package manager reports that it has no network.
fn is_registry_unreachable(line: &str) -> bool {
    let of_npm = line.contains("npm ") && line.to_ascii_lowercase().contains("npm err");
    let npm = ["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH"];
    let pip = ["NewConnectionError(", "ConnectTimeoutError(", "NameResolutionError("];
    let bundler = ["Could not reach host ", "Could not fetch specs from "];
    of_npm && npm.iter().any(|words| line.contains(words))
        || pip.iter().chain(&bundler).any(|words| line.contains(words))
}

fn is_python_module_missing(line: &str) -> bool {
    ["ModuleNotFoundError: No module named", "ImportError: No module named"]
        .iter()
        .any(|words| line.contains(words))
}

/// Whether a line reports a missing command, in the wording of bash, dash or env(1).
fn is_command_missing(line: &str) -> bool {
    let env = line.contains("env: ") && line.ends_with("No such file or directory");
    let exec = line.contains(": exec: ") && line.ends_with(": not found");
    env || exec || line.ends_with(": command not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(line: &str, sandbox: Sandbox) -> String {
        help(&[line.to_owned()], sandbox).unwrap_or_default()
    }

    #[test]
    fn explains_an_output_path_that_does_not_open() {
        for line in [
            "web.1: ./start2: line 3: /dev/stderr: No such device or address",
            "build: /bin/bash: line 1: /dev/stdout: Permission denied",
            "web.1: Error: ENXIO: no such device or address, open '/dev/stdout'",
            "web.1: nginx: [emerg] open() \"/proc/self/fd/2\" failed (6: No such device or address)",
        ] {
            assert!(advice(line, Sandbox::Strict).contains("(`>&2`)"), "{line}");
        }
        assert_eq!(advice("web.1: open /dev/snd: Permission denied", Sandbox::Strict), "");
    }

    #[test]
    fn names_the_writable_places_for_a_read_only_one() {
        let line = "web.1: OSError: [Errno 30] Read-only file system: 'cache/x'";
        assert!(advice(line, Sandbox::Strict).contains("DEPLOY_WRITABLE"));
        assert!(advice(line, Sandbox::Full).contains("$DEPLOY_SHARED"));
    }

    #[test]
    fn names_the_sandbox_that_shows_a_home() {
        let line = "web.1: /bin/bash: line 1: /home/ubuntu/.nvm/node: Permission denied";
        assert!(advice(line, Sandbox::Strict).contains("DEPLOY_SANDBOX=full"));
        assert!(advice(line, Sandbox::Full).contains("let DEPLOY_USER enter"));
        let own = "open '/var/lib/deploy/apps/a/releases/r1/home/web.1/x': Permission denied";
        assert_eq!(advice(own, Sandbox::Strict), "");
    }

    #[test]
    fn explains_a_missing_command() {
        for line in [
            "web.1: /bin/bash: line 1: node: command not found",
            "web.1: /bin/bash: line 1: exec: node: not found",
            "web.1: /usr/bin/env: ‘ruby’: No such file or directory",
        ] {
            assert!(advice(line, Sandbox::Strict).contains("/usr/local/bin"), "{line}");
        }
        assert_eq!(advice("web.1: GET /x 404 not found", Sandbox::Strict), "");
    }

    #[test]
    fn says_how_dependencies_get_in() {
        for (line, words) in [
            ("web.1: ModuleNotFoundError: No module named 'flask'", ".venv/bin/pip install"),
            ("worker.1: /bin/bash: line 1: exec: python: not found", "write python3"),
            ("web.1: bash: line 1: python: command not found", "write python3"),
            ("web.1: Error: Cannot find module 'express'", "pack node_modules"),
            ("build: npm ERR! code EAI_AGAIN", "does not reach the package registry"),
            ("build: npm error errno ECONNREFUSED", "does not reach the package registry"),
            (
                "build: WARNING: Retrying after connection broken by 'NewConnectionError('<pip._",
                "pip wheel -w wheels",
            ),
        ] {
            assert!(advice(line, Sandbox::Strict).contains(words), "{line}");
        }
        assert_eq!(advice("web.1: connect ECONNREFUSED 127.0.0.1:5432", Sandbox::Strict), "");
    }

    #[test]
    fn a_taken_port_is_found_in_the_words_of_many_runtimes() {
        let lines = [
            "web.1: Error: listen EADDRINUSE: address already in use :::9090",
            "web.1: OSError: [Errno 98] Address already in use",
            "web.1: java.rmi.server.ExportException: Port already in use: 9010",
            "web.1: Web server failed to start. Port 8080 was already in use.",
            "web.1: [ERROR] Connection in use: ('0.0.0.0', 9090)",
        ]
        .map(str::to_owned);
        assert_eq!(in_use(&lines).len(), lines.len());
        assert!(ports(&lines[0]).any(|port| port == 9090));
        assert!(in_use(&["web.1: that name is already in use".to_owned()]).is_empty());
    }
}
