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

/// Returns the call for these words. `--by NAME` after the command is left out where the agent is
/// too old to know it, as its own help says.
pub fn call<T: AsRef<str>>(words: &[T]) -> Call {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let quoted = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        words.join(" ")
    };
    match words.as_slice() {
        [command, "--by", name, rest @ ..] => {
            let (command, name) = (quote(command), quote(name));
            let before = format!(
                "set --; if deploy {command} --help 2>/dev/null | grep -q -e --by; \
                 then set -- --by {name}; fi; "
            );
            Call { before, call: format!("deploy {command} \"$@\" {}", quoted(rest)) }
        }
        words => Call { before: String::new(), call: format!("deploy {}", quoted(words)) },
    }
}
