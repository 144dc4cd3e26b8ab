//! What goes well.

use super::{Story, WEB, told};
use model::error::Exit;
use model::release::manifest::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_is_started_and_gets_the_traffic() {
    let story = Story::new();
    story.publish("r1", WEB, "");
    let done = story.deploy("r1").await.expect("it is good");
    assert!(done.message.starts_with("deployed my-app r1 (production) in "), "{}", done.message);
    assert_eq!(story.current().as_deref(), Some("r1"));
    assert_eq!(story.runs(), ["web-r1@1"]);
    assert_eq!(story.served_by(), ["web-r1@1"]);
    assert_eq!(story.state_of("r1"), State::Good);
    let last = story.last();
    assert_eq!((last.action.as_str(), last.exit), ("deploy", Exit::Done));
    assert_eq!((last.before, last.after.as_deref()), (None, Some("r1")));
}
