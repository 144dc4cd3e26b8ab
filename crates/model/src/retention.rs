//! Which installed releases are removed, and which have to stay.

use crate::installed::Snapshot;
use crate::release::manifest::{Manifest, State};
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
        let stays = match manifest.state {
            State::Good => kept < keep,
            State::Staged => ahead(manifest) && kept_ahead < keep,
            State::Proved | State::Failed => false,
        };
        if !needed && !stays {
            prunable.push(manifest.label.clone());
            continue;
        }
        match manifest.state {
            State::Good => kept += 1,
            State::Staged => kept_ahead += 1,
            State::Proved | State::Failed => {}
        }
    }
    prunable
}
/// Returns the labels that can be removed when the disk is full, in order: old releases, the
/// oldest first, then those that were staged ahead. The current release, the rollback target
/// and the last good release of other content stay; without a current release, the newest good
/// one.
pub fn spare(snapshot: &Snapshot) -> Vec<Label> {
    let current = snapshot.current();
    let good = || snapshot.releases.iter().rev().find(|m| m.state == State::Good);
    let back = match current {
        Some(_) => snapshot.rollback_target(),
        None => good(),
    };
    let other = snapshot.last_of_other_content().map(|manifest| &manifest.label);
    let needed = [snapshot.current.as_ref(), back.map(|manifest| &manifest.label), other];
    let ahead = |m: &&Manifest| {
        m.state == State::Staged && current.is_none_or(|now| m.staged_at > now.staged_at)
    };
    let rest = snapshot.releases.iter().filter(|m| !needed.contains(&Some(&m.label)));
    let (ahead, old): (Vec<_>, Vec<_>) = rest.partition(ahead);
    old.into_iter().chain(ahead).map(|manifest| manifest.label.clone()).collect()
}
