//! Names and characters with a meaning in bash itself.

use super::cursor::Place;
use crate::release::ParseError;

/// Names whose assignment does not give the app that value: readonly or computed by bash
/// (`UID`, `RANDOM`), never taken from the environment (`IFS`), or changing how bash parses the
/// rest (`POSIXLY_CORRECT`).
/// Found by assigning every name that bash(1) and its binary mention, bash 5.2.
///
/// Returns the name in a form that an error may contain: from this list, not from the file.
pub(super) fn bash_own(name: &str) -> Option<&'static str> {
    const OWN: [&str; 22] = [
        "BASH",
        "BASHOPTS",
        "BASHPID",
        "DIRSTACK",
        "EPOCHREALTIME",
        "EPOCHSECONDS",
        "EUID",
        "FUNCNAME",
        "GROUPS",
        "HISTCMD",
        "IFS",
        "LINENO",
        "OPTIND",
        "PIPESTATUS",
        "POSIXLY_CORRECT",
        "PPID",
        "RANDOM",
        "SECONDS",
        "SHELLOPTS",
        "SRANDOM",
        "UID",
        "histchars",
    ];
    let prefixed = name.starts_with("BASH_").then_some("BASH_…");
    OWN.into_iter().find(|own| *own == name).or(prefixed)
}

/// Names that every bash sets again before the app starts, so that a value from a file has no
/// effect; `export -p` and `env` list them among all others.
pub(super) fn set_by_every_bash(name: &str) -> Option<&'static str> {
    ["OLDPWD", "PWD", "SHLVL", "_"].into_iter().find(|own| *own == name)
}

/// Names that have a value in a clean bash, so that a bare `export NAME` would give that value
/// to the app.
pub(super) fn has_value_in_clean_bash(name: &str) -> bool {
    const SET: [&str; 9] = [
        "COMP_WORDBREAKS",
        "HOSTNAME",
        "HOSTTYPE",
        "MACHTYPE",
        "OPTERR",
        "OSTYPE",
        "PATH",
        "PS4",
        "SHELL",
    ];
    name == "TERM" || SET.contains(&name)
}

/// Refuses the two characters with which bash marks quoting internally, after a backslash: in
/// some quotes bash 5.2 doubles or drops them there.
pub(super) fn check_escaped(c: char, at: Place) -> Result<(), ParseError> {
    if matches!(c, '\u{1}' | '\u{7f}') {
        return Err(at
            .refuse("a control character behind a backslash, which bash garbles")
            .help("write it as $'\\x01' or $'\\x7f'"));
    }
    Ok(())
}
