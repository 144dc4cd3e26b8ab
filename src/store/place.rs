//! The state directory's path, stored in the default one: a mistake in agent.env must not hide a
//! state elsewhere from the generator.

use super::durable;
use model::error::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Contains the path of the state directory; missing for the default one.
const PLACE: &str = "state-dir";

/// Records, below the default directory `usual`, that the state is at `root`.
pub fn remember_place(usual: &Path, root: &Path) -> Result<()> {
    let path = usual.join(PLACE);
    match last_place(usual) {
        last if last.as_deref() == Some(root) => Ok(()),
        None if root == usual => Ok(()),
        _ if root == usual => durable::remove(&path),
        _ => {
            durable::make_dir(usual, 0o755)?;
            durable::write(&path, format!("{}\n", root.display()).as_bytes(), 0o644)
        }
    }
}

/// Returns the last valid state directory; `None` if it was the default one.
pub fn last_place(usual: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(usual.join(PLACE)).ok()?;
    let path = PathBuf::from(text.trim_end_matches('\n'));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_is_remembered_until_the_default_returns() {
        let root = tempfile::tempdir().unwrap();
        let usual = root.path().join("usual");
        assert_eq!(last_place(&usual), None);
        remember_place(&usual, &usual).unwrap();
        assert!(!usual.exists());
        for other in ["/srv/deploy", "/srv/other", "/srv/other"] {
            remember_place(&usual, Path::new(other)).unwrap();
            assert_eq!(last_place(&usual).as_deref(), Some(Path::new(other)));
        }
        remember_place(&usual, &usual).unwrap();
        assert_eq!(last_place(&usual), None);
    }

    #[test]
    fn a_relative_path_is_ignored() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "\n", "srv/deploy\n"] {
            fs::write(root.path().join(PLACE), text).unwrap();
            assert_eq!(last_place(root.path()), None, "{text:?}");
        }
    }
}
