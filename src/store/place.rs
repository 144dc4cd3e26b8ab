//! Where the state lies, written down where it lies by default: a mistake in agent.env must
//! not hide a state that is somewhere else from the generator.

use super::durable;
use model::error::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Holds the path of the state directory; missing where that is the default one.
const PLACE: &str = "state-dir";

/// Writes down that the state lies at `root`, below `usual`, where it lies by default.
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

/// Where the state lay when the settings could last be read; none where that was the default.
pub fn last_place(usual: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(usual.join(PLACE)).ok()?;
    let path = PathBuf::from(text.trim_end_matches('\n'));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_is_remembered_until_it_is_the_usual_one_again() {
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
    fn what_is_no_absolute_path_is_no_place() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "\n", "srv/deploy\n"] {
            fs::write(root.path().join(PLACE), text).unwrap();
            assert_eq!(last_place(root.path()), None, "{text:?}");
        }
    }
}
