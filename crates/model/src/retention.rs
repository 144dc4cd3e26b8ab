//! Which installed releases are removed, and which have to stay.

use crate::installed::Snapshot;
use crate::release::manifest::Manifest;
use crate::release::name::Label;

/// Returns the labels to remove so that `keep` good releases stay, and as many that were staged
/// ahead. The current release, the rollback target and the last good release of other content
/// always stay.
pub fn prunable(snapshot: &Snapshot, keep: usize) -> Vec<Label> {
    let current = snapshot.current();
    let back = snapshot.rollback_target().map(|manifest| &manifest.label);
    let other = snapshot.last_of_other_content().map(|manifest| &manifest.label);
    let ahead = |m: &Manifest| current.is_none_or(|current| m.staged_at > current.staged_at);
    let (mut kept, mut kept_ahead) = (0, 0);
    let mut prunable = Vec::new();
    for manifest in snapshot.releases.iter().rev() {
        let needed = [snapshot.current.as_ref(), back, other].contains(&Some(&manifest.label));
        let state = manifest.state;
        let stays = (state.is_good() && kept < keep)
            || (state.waits() && ahead(manifest) && kept_ahead < keep);
        if !needed && !stays {
            prunable.push(manifest.label.clone());
            continue;
        }
        kept += usize::from(state.is_good());
        kept_ahead += usize::from(state.waits());
    }
    prunable
}

/// Returns the labels that can be removed when the disk is full, in order: old releases, the
/// oldest first, then those that were staged ahead. The current release, the rollback target
/// and the last good release of other content stay; without a current release, the newest good
/// one.
pub fn spare(snapshot: &Snapshot) -> Vec<Label> {
    let current = snapshot.current();
    let good = || snapshot.releases.iter().rev().find(|m| m.state.is_good());
    let back = match current {
        Some(_) => snapshot.rollback_target(),
        None => good(),
    };
    let other = snapshot.last_of_other_content().map(|manifest| &manifest.label);
    let needed = [snapshot.current.as_ref(), back.map(|manifest| &manifest.label), other];
    let ahead =
        |m: &&Manifest| m.state.waits() && current.is_none_or(|now| m.staged_at > now.staged_at);
    let rest = snapshot.releases.iter().filter(|m| !needed.contains(&Some(&m.label)));
    let (ahead, old): (Vec<_>, Vec<_>) = rest.partition(ahead);
    old.into_iter().chain(ahead).map(|manifest| manifest.label.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::snapshot;
    use crate::release::state::State;
    use State::{Failed, Good, Proved, Staged, TakenBack};

    fn names(labels: &[Label]) -> Vec<&str> {
        labels.iter().map(Label::as_str).collect()
    }

    type Row<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, State)], &'a [&'a str]);

    #[test]
    fn a_prune_to_two_good_releases_removes() {
        let rows: [Row<'_>; 7] = [
            ("nothing of two", Some("r2"), &[("r1", Good), ("r2", Good)], &[]),
            ("the oldest", Some("r3"), &[("r1", Good), ("r2", Good), ("r3", Good)], &["r1"]),
            (
                "what failed, but not the way back",
                Some("r3"),
                &[("r1", Good), ("r2", Failed), ("r3", Good)],
                &["r2"],
            ),
            (
                "what was staged and passed over",
                Some("r2"),
                &[("r1", Staged), ("r2", Good)],
                &["r1"],
            ),
            ("nothing staged for later", Some("r1"), &[("r1", Good), ("r2", Staged)], &[]),
            ("nothing taken back lately", Some("r1"), &[("r1", Good), ("r2", TakenBack)], &[]),
            (
                "nothing current, whatever its state",
                Some("r2"),
                &[("r1", Good), ("r2", Proved), ("r3", Failed)],
                &["r3"],
            ),
        ];
        for (what, current, releases, gone) in rows {
            assert_eq!(names(&prunable(&snapshot(current, releases), 2)), gone, "{what}");
        }
    }

    #[test]
    fn a_full_disk_takes_in_this_order() {
        let rows: [Row<'_>; 3] = [
            (
                "old ones first, then those staged ahead",
                Some("r3"),
                &[("r1", Good), ("r2", Good), ("r3", Good), ("r4", TakenBack), ("r5", Failed)],
                &["r1", "r5", "r4"],
            ),
            ("never the last good one", None, &[("r1", Good), ("r2", Failed)], &["r2"]),
            (
                "neither the current one nor the way back",
                Some("r2"),
                &[("r1", Good), ("r2", Good)],
                &[],
            ),
        ];
        for (what, current, releases, gone) in rows {
            assert_eq!(names(&spare(&snapshot(current, releases))), gone, "{what}");
        }
    }
}
