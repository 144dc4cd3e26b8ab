//! Tests of a state that was baked into an image and appears on another machine.

use super::*;
use model::reason::Reason;
use model::release::identity::{Mark, Validator};
use model::release::url::ReleaseUrl;
use model::timings::Timings;

impl World {
    /// Returns the app on the same disk in another machine.
    fn elsewhere(&self) -> App {
        self.store().on("another machine").app(self.app.name())
    }
}

#[test]
fn a_deploy_of_another_machine_is_not_current_here() {
    let world = World::installed(&["r1", "r2"]);
    assert_eq!(world.app.current().unwrap(), Some(label("r2")));
    let snapshot = world.elsewhere().snapshot().expect("a snapshot");
    assert_eq!(snapshot.current, None);
    assert!(snapshot.rollback_target().is_none());
}

#[test]
fn adopted_releases_are_only_staged() {
    let World { root, app } = World::installed(&["r1", "r2"]);
    app.set_stopped(&Stopped(["web.1".to_owned()].into())).unwrap();
    app.set_under_way(&under_way()).unwrap();
    let elsewhere = Store::at(root.path()).on("another machine").app(app.name());
    drop(app);
    let app = elsewhere.lock().expect("the lock");
    assert!(app.adopt().expect("adopted"));
    let snapshot = app.snapshot().expect("a snapshot");
    assert_eq!((snapshot.current, snapshot.stopped), (None, Stopped::default()));
    assert!(snapshot.releases.iter().all(|manifest| manifest.state == State::Staged));
    assert_eq!(app.under_way(), None);
    assert!(!app.adopt().expect("nothing to adopt"), "already adopted");
    app.commit(&label("r1")).expect("committed");
    assert_eq!(app.current().unwrap(), Some(label("r1")));
}

#[test]
fn a_machine_does_not_adopt_its_own_state() {
    let world = World::installed(&["r1"]);
    assert!(!world.app.adopt().expect("nothing to adopt"));
    assert_eq!(world.app.current().unwrap(), Some(label("r1")));
}

#[test]
fn a_deploy_under_way_is_remembered_until_it_ends() {
    let world = World::new();
    assert_eq!(world.app.under_way(), None);
    world.app.set_under_way(&under_way()).unwrap();
    assert_eq!(world.app.under_way(), Some(under_way()));
    world.app.record(&ended(under_way())).unwrap();
    assert_eq!(world.app.under_way(), None, "it has ended");
    world.app.nothing_under_way().unwrap();
    world.app.nothing_under_way().unwrap();
    assert_eq!(world.app.under_way(), None);
}

#[test]
fn a_watched_release_is_remembered_on_this_machine_only() {
    let world = World::new();
    assert_eq!(world.app.watched(), None);
    let url: ReleaseUrl = "s3://releases/my-app/production/current".parse().unwrap();
    let watched = Watched {
        release: url.with_release("r2".parse().unwrap()),
        url,
        mark: Mark::Pointer(Validator { size: Some(3), ..Validator::default() }),
        id: "0a1b".into(),
        tries: 1,
        exit: Some(Exit::RolledBack),
        reason: Some(Reason::HealthTimeout),
        message: "r2 failed".into(),
        at: Timestamp::now(),
    };
    world.app.set_watched(&watched).unwrap();
    assert_eq!(world.app.watched(), Some(watched));
    assert_eq!(world.elsewhere().watched(), None);
}

fn under_way() -> UnderWay {
    UnderWay {
        id: "0a1b".into(),
        action: "deploy".into(),
        who: "root".into(),
        url: None,
        before: Some(label("r1")),
        since: Timestamp::UNIX_EPOCH,
        of_processes: false,
    }
}

fn ended(work: UnderWay) -> Entry {
    Entry {
        at: work.since,
        id: work.id,
        action: work.action,
        who: work.who,
        url: None,
        release: None,
        before: None,
        after: None,
        exit: Exit::RolledBack,
        reason: Some(Reason::HealthTimeout),
        message: "r2 failed".into(),
        seconds: 1.0,
        timings: Timings::default(),
    }
}
