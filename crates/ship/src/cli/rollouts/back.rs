//! How a rollback that was interrupted goes on.
//!
//! Without the store it cannot be attached to, and once instances have gone back, the same command
//! without a name would take them further. Therefore the help names the release.

use crate::place::Place;
use crate::rollout::{Event, Group};
use std::sync::{Arc, OnceLock};

/// Returns the group, and what says to which release it goes back: the one that was asked for, or
/// the one that the rollback has begun with.
pub fn noted(group: Group, to: Option<String>) -> (Group, impl Fn() -> Option<String>) {
    let begun: Arc<OnceLock<String>> = Arc::default();
    let (noted, events) = (Arc::clone(&begun), Arc::clone(&group.events));
    let group = group.shown_by(Arc::new(move |event| {
        if let Event::Begun { to, .. } = event {
            noted.get_or_init(|| to.clone());
        }
        events(event);
    }));
    (group, move || to.clone().or_else(|| begun.get().cloned()))
}

/// Says how to go on. Nothing has begun while no release is chosen.
pub fn help(place: &Place, chosen: Option<String>) -> String {
    let environment = &place.environment;
    match chosen {
        Some(to) => format!(
            "`ship attach {environment}` goes on with it, or if the store did not respond, `ship \
             rollback {environment} --to {to}`"
        ),
        None => format!("nothing has begun: repeat `ship rollback {environment}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::stories::World;

    #[test]
    fn the_release_that_the_rollback_has_chosen_is_named() {
        let world = World::of(1);
        let (group, chosen) = noted(world.ship("Ada"), None);
        assert_eq!(chosen(), None);
        let said = help(&group.cx.place, chosen());
        assert_eq!(said, "nothing has begun: repeat `ship rollback production`");
        let (id, to) = ("5b1f03c2".to_owned(), "r7".to_owned());
        (group.events)(&Event::Begun { id, to, from: None, instances: 1 });
        let said = help(&group.cx.place, chosen());
        assert!(said.ends_with("`ship rollback production --to r7`"), "{said}");
        assert_eq!(world.last_id(), "5b1f03c2", "it is shown too");
    }
}
