//! Tests that a page names in the last column of a table: each of them exists.

use crate::Result;
use std::fs;
use std::path::Path;

/// The pages whose tables end with a column of tests.
const PAGES: [&str; 3] = ["docs/operators-view.md", "docs/real-inputs.md", "docs/rollouts.md"];

/// Returns a line for each name without a test.
pub fn missing() -> Result<Vec<String>> {
    let mut code = String::new();
    for directory in ["src", "crates", "tests"] {
        read(Path::new(directory), &mut code)?;
    }
    let mut wrong = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(page).map_err(|e| format!("{page}: {e}"))?;
        let names: Vec<&str> = text.lines().filter_map(last_cell).flat_map(names).collect();
        if names.is_empty() {
            wrong.push(format!("{page}: names no test"));
        }
        let is_missing = |name: &&str| !code.contains(&format!("fn {}", begin(name)));
        let lines = names.into_iter().filter(is_missing);
        wrong.extend(lines.map(|name| format!("{page}: there is no test {name}")));
    }
    Ok(wrong)
}

fn read(directory: &Path, code: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, code)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            code.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn last_cell(line: &str) -> Option<&str> {
    line.strip_prefix("| ")?.trim_end().strip_suffix('|')?.rsplit('|').next()
}

/// The paths in backticks: `module::name`, perhaps cut with `…`.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let is_module = |name: &str| ["::", "::…", "::tests"].iter().any(|end| name.ends_with(end));
    quoted.filter(move |name| name.contains("::") && !name.contains(' ') && !is_module(name))
}

/// What the name of the function begins with; whole where it is not cut.
fn begin(path: &str) -> String {
    let name = path.rsplit("::").next().unwrap_or_default();
    match name.strip_suffix('…') {
        Some(begin) => begin.to_owned(),
        None => format!("{name}("),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_backticks_in_the_last_cell() {
        let cell = last_cell("| a | `b::c` | `d::e…`, `doctor::…` and `cargo test`, `f::g` |");
        let found: Vec<&str> = names(cell.unwrap()).collect();
        assert_eq!(found, ["d::e…", "f::g"]);
        let begins: Vec<String> = found.into_iter().map(begin).collect();
        assert_eq!(begins, ["e", "g("]);
        assert_eq!(last_cell("no table"), None);
    }
}
