//! Which installed releases go, and which have to stay.

use crate::installed::Snapshot;
use crate::release::manifest::Manifest;
use crate::release::name::Label;

/// The labels to remove so that `keep` good releases stay, and as many that
/// were staged ahead. What is current, what a rollback would take and the last good
/// one of other content are never among them.
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

/// The labels that can go when the disk is full, in the order in which they go:
/// old ones, the oldest first, then those that were staged ahead. Neither what is
/// current nor what a rollback would take is among them; where nothing is
/// current, the newest good release is kept.
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
