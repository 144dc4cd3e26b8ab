//! Symbolic links, which must stay within the release.

use model::error::{Error, Result};
use model::reason::Reason;
use std::path::{Component, Path};

/// Refuses a link that the agent would refuse, by its text.
pub fn check(path: &Path, target: &Path) -> Result<()> {
    let refused = |why: &str| {
        let link = path.to_string_lossy();
        let text = target.to_string_lossy();
        let what = format!("the link {}", model::text::quoted(&link));
        let why = format!("it links to {}, {why}", model::text::quoted(&text));
        let error = Error::unusable(what).because(why).with_reason(Reason::InvalidArchive);
        Err(error.help("point links inside the release, relatively, or name it in .deployignore"))
    };
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        depth = match (part, depth) {
            (Component::RootDir | Component::Prefix(_), _) => return refused("an absolute path"),
            (Component::ParentDir, 0) => return refused("which leaves the release"),
            (Component::ParentDir, _) => depth - 1,
            (Component::CurDir, _) => depth,
            (Component::Normal(_), _) => depth + 1,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_link_that_leaves_the_release() {
        let check = |path: &str, target: &str| check(Path::new(path), Path::new(target));
        for target in ["c", "../..", "../../x/../y", "./b", "x//y/"] {
            assert!(check("a/b/link", target).is_ok(), "{target}");
        }
        for target in ["../../..", "../../../r", "x/../../../../r", "/etc/passwd"] {
            let error = check("a/b/link", target).unwrap_err();
            assert_eq!((error.exit().code(), error.reason()), (10, Reason::InvalidArchive));
        }
    }
}
