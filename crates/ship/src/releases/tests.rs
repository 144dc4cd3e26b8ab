use super::*;
use crate::source::Wanted;
use crate::testing::{Repository, context, put, release};
use jiff::SignedDuration;

#[tokio::test]
async fn lists_what_is_there_with_its_state() {
    let (cx, store) = context("production");
    let repository = Repository::new(&[("Procfile", "web: x\n")]);
    put(&cx, "shop/production/v7/env", "").await;
    put(&cx, "shop/production/r2/env", "").await;
    release(&cx, repository.path(), Wanted::default()).await.unwrap();
    put(&cx, "shop/production/current", "r3\n").await;
    store.pass(SignedDuration::from_hours(3));
    store.fail_after(2);
    assert!(release(&cx, repository.path(), Wanted::default()).await.is_err());
    let (listed, now) = list(&cx, 20).await.unwrap();
    let text = table(&listed, now, Some(80));
    let commit = &repository.git(&["rev-parse", "HEAD"])[..10];
    let size = size(listed[1].document.clone().unwrap().archive.unwrap().bytes);
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let size: Vec<&str> = size.split(' ').collect();
    let expected = [
        vec!["RELEASE", "AGE", "COMMIT", "BY", "SIZE", "STATE"],
        vec!["r4", "0s", commit, "Ada", "-", "uploading"],
        [vec!["*", "r3", "3h", commit, "Ada"], size, vec!["ready"]].concat(),
        vec!["r2", "-", "-", "-", "-", "by", "hand"],
        vec!["v7", "-", "-", "-", "-", "by", "hand"],
    ];
    assert_eq!(lines, expected, "{text}");
    assert_eq!(list(&cx, 1).await.unwrap().0.len(), 1);
    let json = serde_json::to_value(&listed).unwrap();
    assert_eq!(json[1]["current"], true);
    assert_eq!(json[1]["origin"]["subject"], "Sell hats");
    assert_eq!(json[3], serde_json::json!({ "release": "v7", "current": false }));
}

#[test]
fn long_names_fit_the_terminal() {
    let mut document = Document::begun("Ada\u{1b}[2J", Timestamp::UNIX_EPOCH, Default::default());
    document.from = Some(format!("shop/{}/r12", "s".repeat(60)));
    document.state = Progress::Ready;
    document.origin.author = Some("An Author With A Very Long Name <a@x>".to_owned());
    let listed = [Listed { release: "r".repeat(63), current: true, document: Some(document) }];
    for width in [20, 80] {
        let text = table(&listed, Timestamp::UNIX_EPOCH, Some(width));
        assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
