//! Why a release has a label of its own, such as `r5.2`, beside the one that it was published
//! under.

use crate::release::manifest::Manifest;

/// Explains the label of a release that differs from its published name.
pub fn why(manifest: &Manifest, releases: &[Manifest]) -> Option<String> {
    let name = manifest.url.release();
    if manifest.label.as_str() == name.as_str() {
        return None;
    }
    let earlier = |other: &&Manifest| {
        other.url.release() == name
            && other.label != manifest.label
            && other.staged_at <= manifest.staged_at
    };
    let Some(other) = releases.iter().rev().find(earlier) else {
        return Some(format!("{name} with other content or settings than the one before"));
    };
    let label = &other.label;
    let digests = manifest.identity.content.as_ref().zip(other.identity.content.as_ref());
    Some(match digests {
        _ if manifest.has_content_of(other) => {
            format!("the content of {label}, with other settings in agent.env")
        }
        Some((own, theirs)) if own.archive == theirs.archive => {
            format!("the archive of {label}, with another env")
        }
        Some((own, theirs)) if own.env == theirs.env => {
            format!("{name} was published again: another archive than {label}")
        }
        _ => format!("{name} was published again after {label}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::manifest;
    use crate::release::digest::Sha256;
    use crate::release::identity::Content;

    fn release(label: &str, at: i64, archive: &str, env: &str) -> Manifest {
        let mut release = manifest("r5", at);
        release.label = label.parse().unwrap();
        let content =
            Content { archive: Sha256::of(archive.as_bytes()), env: Sha256::of(env.as_bytes()) };
        release.identity.content = Some(content);
        release
    }

    #[test]
    fn says_what_differs_from_the_release_before() {
        let first = release("r5", 1, "a", "e");
        assert_eq!(why(&first, std::slice::from_ref(&first)), None);
        let rows = [
            ("a", "other", "the archive of r5, with another env"),
            ("a", "e", "the content of r5, with other settings in agent.env"),
            ("b", "e", "r5 was published again: another archive than r5"),
            ("b", "other", "r5 was published again after r5"),
        ];
        for (archive, env, expected) in rows {
            let second = release("r5.2", 2, archive, env);
            let all = [first.clone(), second.clone()];
            assert_eq!(why(&second, &all).as_deref(), Some(expected));
            let alone = why(&second, std::slice::from_ref(&second)).unwrap();
            assert!(alone.starts_with("r5 with other content"), "{alone}");
        }
    }
}
