//! The names in which two configs differ.

use super::Changes;
use model::release::env::Env;
use serde::Serialize;
use std::collections::BTreeSet;

/// Names only; values are secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    pub added: BTreeSet<String>,
    pub changed: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

impl Differences {
    pub fn between(before: &Env, after: &Env) -> Differences {
        let mut found = Differences::default();
        let names: BTreeSet<&str> = before.names().chain(after.names()).collect();
        for name in names {
            let set = match (before.get(name), after.get(name)) {
                (None, Some(_)) => &mut found.added,
                (Some(_), None) => &mut found.removed,
                (before, after) if before != after => &mut found.changed,
                _ => continue,
            };
            set.insert(name.to_owned());
        }
        found
    }

    /// Returns those that are among the changes.
    pub fn only(mut self, changes: &Changes) -> Differences {
        for set in [&mut self.added, &mut self.changed, &mut self.removed] {
            set.retain(|name| changes.contains_key(name));
        }
        self
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.added.iter().chain(&self.changed).chain(&self.removed).map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// Returns a line for each name: `+` set, `~` changed, `-` removed.
    pub fn lines(&self) -> String {
        let line = |mark: &'static str| move |name: &String| format!("{mark} {name}\n");
        let added = self.added.iter().map(line("+"));
        added
            .chain(self.changed.iter().map(line("~")))
            .chain(self.removed.iter().map(line("-")))
            .collect()
    }

    /// Returns the changes that make `before` equal to `after` in these names.
    pub fn changes(&self, after: &Env) -> Changes {
        self.names().map(|name| (name.to_owned(), after.get(name).map(str::to_owned))).collect()
    }
}
