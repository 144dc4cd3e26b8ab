//! The rule by which `restart`, `stop`, `start` and `logs` read their words: `[APP] [PROCESS]`,
//! or for `logs` several apps.

use crate::error::{Error, Result};
use crate::reason::Reason;
use std::collections::BTreeSet;

/// An app that a word may name.
#[derive(Clone, Debug)]
pub struct Known {
    pub app: String,
    /// Whether a release of it is installed; of other apps only a history or a journal is left.
    pub is_installed: bool,
    /// Its processes, such as `web.1`.
    pub processes: BTreeSet<String>,
}

/// What the words name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// At least one; several only without a process.
    pub apps: Vec<String>,
    /// A process type or a process of the only app.
    pub process: Option<String>,
}

/// Whether `web` or `web.1` means the process `web.1`.
pub fn covers(word: &str, process: &str) -> bool {
    process == word || process.rsplit_once('.').is_some_and(|(kind, _)| kind == word)
}

/// Reads the words. A word is an app if one has that name; the second of two is a process of
/// the first app if it has one of that name.
pub fn select(known: &[Known], words: &[String]) -> Result<Selected> {
    let find = |word: &str| known.iter().find(|one| one.app == word);
    let one = |app: &Known, process: Option<&String>| Selected {
        apps: vec![app.app.clone()],
        process: process.cloned(),
    };
    match words {
        [] => Ok(one(only(known)?, None)),
        [word] => match find(word) {
            Some(app) => Ok(one(app, None)),
            None => match only(known) {
                Ok(app) => Ok(one(app, Some(word))),
                Err(_) => Err(unknown(known, word)),
            },
        },
        [word, process] => {
            let app = find(word).ok_or_else(|| unknown(known, word))?;
            let has_process = app.processes.iter().any(|found| covers(process, found));
            match find(process) {
                Some(second) if !has_process => {
                    let apps = vec![app.app.clone(), second.app.clone()];
                    Ok(Selected { apps, process: None })
                }
                _ => Ok(one(app, Some(process))),
            }
        }
        words => {
            let app = |word: &String| find(word).ok_or_else(|| unknown(known, word));
            let apps = words.iter().map(|word| app(word).map(|app| app.app.clone()));
            Ok(Selected { apps: apps.collect::<Result<_>>()?, process: None })
        }
    }
}

/// The only app that is installed, or else the only one that is known.
fn only(known: &[Known]) -> Result<&Known> {
    let installed: Vec<&Known> = known.iter().filter(|one| one.is_installed).collect();
    match (installed.as_slice(), known) {
        ([only], _) => Ok(only),
        ([], [only]) => Ok(only),
        ([], _) => {
            let error = Error::usage("find an app").because("none is installed");
            Err(error.help("`deploy URL` installs one"))
        }
        _ => {
            let why = format!("there are several: {}", names(known));
            Err(Error::usage("choose an app").because(why).help("name one of them"))
        }
    }
}

fn unknown(known: &[Known], word: &str) -> Error {
    let error = Error::usage(format!("find the app {word}")).with_reason(Reason::NotFound);
    error.because(format!("installed here: {}", names(known))).help("`deploy URL` installs one")
}

fn names(known: &[Known]) -> String {
    let names: Vec<&str> =
        known.iter().filter(|one| one.is_installed).map(|one| one.app.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(app: &str, processes: &[&str]) -> Known {
        let processes: BTreeSet<String> = processes.iter().map(|&name| name.to_owned()).collect();
        Known { app: app.into(), is_installed: !processes.is_empty(), processes }
    }

    fn read(known: &[Known], words: &str) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        match select(known, &words) {
            Ok(Selected { apps, process: None }) => apps.join("+"),
            Ok(Selected { apps, process: Some(process) }) => format!("{}:{process}", apps[0]),
            Err(error) => format!("! {}", error.chain()),
        }
    }

    #[test]
    fn words_name_apps_and_processes() {
        let one = [known("shop", &["web.1", "web.2"])];
        let two = [known("shop", &["web.1"]), known("web", &["web.1"]), known("old", &[])];
        let rows: [(&[Known], &str, &str); 14] = [
            (&[], "", "! find an app: none is installed"),
            (&[], "shop", "! find the app shop: installed here: none"),
            (&one, "", "shop"),
            (&one, "shop", "shop"),
            (&one, "web.2", "shop:web.2"),
            (&one, "nothing", "shop:nothing"),
            (&one, "shop web", "shop:web"),
            (&one, "shap web", "! find the app shap: installed here: shop"),
            (&two, "", "! choose an app: there are several: shop, web"),
            (&two, "worker", "! find the app worker: installed here: shop, web"),
            (&two, "shop web", "shop:web"),
            (&two, "web shop", "web+shop"),
            (&two, "shop web old", "shop+web+old"),
            (&[known("old", &[])], "", "old"),
        ];
        for (known, words, expected) in rows {
            assert_eq!(read(known, words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_type_means_all_its_processes() {
        assert!(covers("web", "web.1") && covers("web.1", "web.1"));
        assert!(!covers("web", "web-2.1") && !covers("web.1", "web.11"));
    }
}
