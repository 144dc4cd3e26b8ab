//! Names and characters that mean something to bash itself.

use super::cursor::Place;
use crate::release::ParseError;

/// Names whose assignment does not give the app that value: readonly or computed by bash
/// (`UID`, `RANDOM`), never taken from the environment (`IFS`), or changing how bash reads
/// on (`POSIXLY_CORRECT`).
/// Found by assigning every name that bash(1) and its binary mention, bash 5.2.
///
/// Gives the name as an error may tell it: one of these, and not what the file says.
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

/// Names that every bash sets again on its way to the app, so that no value of a file
/// reaches it; `export -p` and `env` list them among all others.
pub(super) fn set_by_every_bash(name: &str) -> Option<&'static str> {
    ["OLDPWD", "PWD", "SHLVL", "_"].into_iter().find(|own| *own == name)
}

/// Names for which a clean bash has a value of its own, so that a bare `export NAME`
/// would give that to the app.
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

/// Refuses the two characters with which bash marks quoting inside itself where they stand
/// behind a backslash: in some quotes bash 5.2 doubles or drops them there.
pub(super) fn check_escaped(c: char, at: Place) -> Result<(), ParseError> {
    if matches!(c, '\u{1}' | '\u{7f}') {
        return Err(at
            .refuse("a control character behind a backslash, which bash garbles")
            .help("write it as $'\\x01' or $'\\x7f'"));
    }
    Ok(())
}
