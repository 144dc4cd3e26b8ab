//! Advice for a tree without a Procfile at its root: perhaps it has one elsewhere.

use std::fs::{self, DirEntry};
use std::path::Path;

/// How many entries of the root are examined.
const MOST: usize = 1000;

/// Returns advice that fits the files at the root of the tree.
pub fn help(tree: &Path) -> String {
    let entries = || fs::read_dir(tree).into_iter().flatten().take(MOST).filter_map(Result::ok);
    let mut similar: Vec<String> = entries().filter_map(|entry| similar(&entry)).collect();
    // `procfile` and `Procfile.txt` before `Procfile.dev`.
    similar.sort_by_key(|name| (!name.eq_ignore_ascii_case("procfile"), !name.ends_with(".txt")));
    if let Some(name) = similar.first() {
        return format!("found {}: name it Procfile", name.escape_debug());
    }
    let mut below = entries().filter(|entry| has_procfile(&entry.path()));
    match (below.next(), below.next()) {
        (Some(only), None) => {
            let name: String = only.file_name().to_string_lossy().chars().take(80).collect();
            let name = name.escape_debug();
            format!(
                "found {name}/Procfile: pack the directory's content, `tar czf source.tar.gz -C \
                 {name} .`"
            )
        }
        _ => "put a file named Procfile at the root of the archive, as `tar czf source.tar.gz \
              -C my-app .` does with my-app/Procfile"
            .to_owned(),
    }
}

/// The name of a file that was perhaps meant to be the Procfile.
fn similar(entry: &DirEntry) -> Option<String> {
    let name = entry.file_name().into_string().ok()?;
    let lower = name.to_ascii_lowercase();
    let is_similar = lower == "procfile" || lower.starts_with("procfile.");
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    (is_similar && is_file && name != "Procfile" && name.len() <= 40).then_some(name)
}

/// Does not follow links, neither to the directory nor to the file.
fn has_procfile(directory: &Path) -> bool {
    let is = |path: &Path, kind: fn(&fs::Metadata) -> bool| {
        path.symlink_metadata().is_ok_and(|found| kind(&found))
    };
    is(directory, fs::Metadata::is_dir) && is(&directory.join("Procfile"), fs::Metadata::is_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "web: x\n").unwrap();
        }
        help(dir.path())
    }

    #[test]
    fn names_a_misspelled_procfile() {
        assert_eq!(of(&["procfile", "Procfile.dev"]), "found procfile: name it Procfile");
        assert_eq!(of(&["Procfile.dev", "Procfile.txt"]), "found Procfile.txt: name it Procfile");
        assert_eq!(of(&["PROCFILE", "a/Procfile"]), "found PROCFILE: name it Procfile");
    }

    #[test]
    fn names_the_one_directory_with_a_procfile() {
        let said = of(&["my-app-1.0/Procfile", "my-app-1.0/web.py", "README"]);
        assert!(said.contains("found my-app-1.0/Procfile"), "{said}");
        assert!(said.contains("`tar czf source.tar.gz -C my-app-1.0 .`"), "{said}");
        let said = of(&["a\u{1b}[2J/Procfile"]);
        assert!(!said.contains('\u{1b}'), "{said:?}");
        for files in [&["a/Procfile", "b/Procfile"][..], &["a/b/Procfile"], &["x"]] {
            assert!(of(files).starts_with("put a file named Procfile"), "{files:?}");
        }
    }
}
