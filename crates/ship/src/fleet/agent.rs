//! The agent's command line, for the shell of an instance.

use super::{Order, quote};

/// A call of `deploy`.
pub struct Call {
    /// What the shell does first.
    pub before: String,
    pub call: String,
}

/// Returns the words of an order. `timeout` is the time that the instance has.
pub fn words(order: &Order, timeout: &str) -> Vec<String> {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    match order {
        Order::Deploy { url, by, release } => {
            let mut words = own(&["release", "--by", by, "--json", "--timeout", timeout]);
            words.extend(release.as_ref().map(|id| format!("--run-release={id}")));
            words.extend(own(&["--", url]));
            words
        }
        Order::Rollback { app, to, by } => {
            own(&["rollback", "--by", by, "--json", "--to", to, "--", app])
        }
    }
}

/// Why an agent is not asked for the release phase.
pub const TOO_OLD: &str = "its agent does not know --run-release=ID, and nothing was changed: \
    update it, or run the release phase by hand and deploy without it";

/// Returns the call for these words. The agent's own help says what it knows: `--by NAME` after the
/// command is left out where the agent is too old, and a release phase is refused, with the status
/// of wrong words.
pub fn call<T: AsRef<str>>(words: &[T]) -> Call {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let quoted = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        words.join(" ")
    };
    match words.as_slice() {
        [command, "--by", name, rest @ ..] => {
            let (command, name) = (quote(command), quote(name));
            let mut before = format!(
                "set --; h=$(deploy {command} --help 2>/dev/null); \
                 case $h in *--by*) set -- --by {name};; esac; "
            );
            if rest.iter().any(|word| word.starts_with("--run-release=")) {
                let refused = format!("echo '{TOO_OLD}' >&2; echo status=2; exit 1");
                before += &format!("case $h in *'--run-release[='*) ;; *) {refused};; esac; ");
            }
            Call { before, call: format!("deploy {command} \"$@\" {}", quoted(rest)) }
        }
        words => Call { before: String::new(), call: format!("deploy {}", quoted(words)) },
    }
}
