use super::edit::{Editor, edit};
use super::*;
use crate::config::quote::assignment;
use crate::objects::memory::Memory;
use crate::testing::{Repository, context, in_store, put, release as make};
use async_trait::async_trait;
use std::sync::{Arc, Mutex};

const KEY: &str = "shop/production/env";

fn changes(pairs: &[(&str, Option<&str>)]) -> Changes {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
}

/// Edits by a function, after someone else has done something.
struct Hand<F>(F, Mutex<Vec<String>>);

impl<F> Hand<F> {
    fn new(hand: F) -> Arc<Hand<F>> {
        Arc::new(Hand(hand, Mutex::default()))
    }
}

#[async_trait]
impl<F: Fn(&str) -> String + Send + Sync> Editor for Hand<F> {
    async fn edit(&self, text: &str) -> Result<String> {
        Ok((self.0)(text))
    }

    fn again(&self, why: &Error) -> bool {
        let mut said = self.1.lock().unwrap();
        said.push(why.chain());
        said.len() < 2
    }
}

#[tokio::test]
async fn the_first_variable_makes_the_config() {
    let (cx, store) = context("production");
    let changed = change(&cx, &changes(&[("A", Some("it's $5"))])).await.unwrap();
    assert_eq!(changed.differences.lines(), "+ A\n");
    assert_eq!(store.text(KEY).unwrap(), "export A=\"it's \\$5\"\n");
    assert_eq!(read(&cx).await.unwrap().env.get("A"), Some("it's $5"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_changes_at_once_none_is_lost() {
    let store = Arc::new(Memory::default());
    put(&in_store(&store, "production"), KEY, "# keep\nexport OLD=1\n").await;
    let tasks = (0..12).map(|n| {
        let cx = in_store(&store, "production");
        let changes = changes(&[(&format!("N{n}"), Some("x")), ("OLD", None)]);
        tokio::spawn(async move { change(&cx, &changes).await.unwrap() })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let text = store.text(KEY).unwrap();
    assert!(text.starts_with("# keep\n"), "{text}");
    let env = Env::parse(text.as_bytes()).unwrap();
    assert_eq!(env.names().count(), 12, "{text}");
}

#[tokio::test]
async fn a_lost_answer_is_no_change_of_someone_else() {
    let (cx, store) = context("production");
    put(&cx, KEY, "A=1\n").await;
    store.lose_answers(1);
    let changed = change(&cx, &changes(&[("A", Some("2"))])).await.unwrap();
    assert_eq!(changed.differences.lines(), "~ A\n");
    store.lose_answers(1);
    let changed = edit(&cx, Hand::new(|text: &str| text.replace('2', "3 # mine"))).await.unwrap();
    assert_eq!(changed.differences.lines(), "~ A\n");
    assert_eq!(store.text(KEY).unwrap(), "A=3 # mine\n");
}

#[tokio::test]
async fn two_who_change_the_same_name_are_told() {
    let (cx, store) = context("production");
    put(&cx, KEY, "A=1\nB=1\n").await;
    let other = |text: &'static str| {
        let store = Arc::clone(&store);
        Hand::new(move |before: &str| {
            store.overwrite(KEY, text);
            before.replace("A=1", "A=2 # mine")
        })
    };
    let error = edit(&cx, other("A=3\nB=1\n")).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Busy);
    assert_eq!(
        error.chain(),
        "change the config of shop/production: someone else has changed A meanwhile"
    );
    store.overwrite(KEY, "A=1\nB=1\n");
    edit(&cx, other("A=1\nB=5\nC=6\n")).await.unwrap();
    assert_eq!(store.text(KEY).unwrap(), "A=2 # mine\nB=5\nC=6\n");
}

#[tokio::test]
async fn an_edit_that_cannot_be_parsed_is_shown_and_then_refused() {
    let (cx, store) = context("production");
    put(&cx, KEY, "A=1\n").await;
    let hand = Hand::new(|text: &str| format!("{text}B=se cret\n"));
    let error = edit(&cx, Arc::clone(&hand) as Arc<dyn Editor>).await.unwrap_err();
    assert_eq!(error.chain(), "env: line 2, column 6: not an assignment");
    assert_eq!(error.exit().code(), 10);
    assert_eq!(hand.1.lock().unwrap().len(), 2);
    assert_eq!(store.text(KEY).unwrap(), "A=1\n");
    let hand = Hand::new(|_: &str| "DEPLOY_SETTLE=soon\n".to_owned());
    let error = edit(&cx, hand).await.unwrap_err();
    assert!(error.chain().starts_with("env: DEPLOY_SETTLE=\"soon\""), "{}", error.chain());
}

#[tokio::test]
async fn a_config_that_cannot_be_parsed_is_corrected_by_an_edit_alone() {
    let (cx, store) = context("production");
    put(&cx, KEY, "A='1\n").await;
    let error = change(&cx, &changes(&[("B", Some("2"))])).await.unwrap_err();
    assert!(error.chain().contains("line 1, column 3"), "{}", error.chain());
    assert_eq!(error.advice(), Some("correct that line: `ship config edit -e production`"));
    edit(&cx, Hand::new(|text: &str| text.replace('\'', ""))).await.unwrap();
    assert_eq!(store.text(KEY).unwrap(), "A=1\n");
}

#[tokio::test]
async fn a_setting_is_checked_before_anything_is_written() {
    let (cx, store) = context("production");
    for (name, value) in [("DEPLOY_SETTLE", "soon"), ("DEPLOY_X", "1"), ("PORT", "0")] {
        let error = change(&cx, &changes(&[(name, Some(value))])).await.unwrap_err();
        assert_eq!(error.exit().code(), 10);
    }
    assert!(store.keys().is_empty());
    for (name, value) in [("A=1 B", "x"), ("1A", "x"), ("", ""), ("PWD", "/x"), ("UID", "3")] {
        assert_eq!(quote::check(name, value).unwrap_err().exit().code(), 2, "{name}");
    }
    let error = quote::check("A", "se\0cret").unwrap_err();
    assert!(!error.chain().contains("cret"), "{}", error.chain());
    let error = quote::check_name("my secret=value").unwrap_err();
    assert!(!error.chain().contains("secret"), "{}", error.chain());
}

#[tokio::test]
async fn a_release_of_new_config_has_the_same_archive() {
    let (cx, store) = context("production");
    put(&cx, KEY, "A=1\n").await;
    let error = check_release(&cx, &changes(&[("A", Some("2"))])).await.unwrap_err();
    assert!(error.chain().contains("has no release that is ready"));
    let repository = Repository::new(&[("Procfile", "web: x\n")]);
    let first = make(&cx, repository.path(), Default::default()).await.unwrap().published;
    let wrong = changes(&[("DEPLOY_CONCURRENCY", Some("worker=2"))]);
    let error = check_release(&cx, &wrong).await.unwrap_err();
    assert!(error.chain().ends_with("the Procfile has web"), "{}", error.chain());
    change(&cx, &changes(&[("A", Some("2"))])).await.unwrap();
    let (name, differences) = diff(&cx, None).await.unwrap();
    assert_eq!((name.as_str(), differences.lines().as_str()), ("r1", "~ A\n"));
    let second = release(&cx).await.unwrap();
    assert_eq!(second.number, Number(2));
    assert_eq!(second.document.from.as_deref(), Some("shop/production/r1"));
    assert_eq!(second.document.archive, first.document.archive);
    assert_eq!(second.document.origin, first.document.origin);
    assert_eq!(store.text("shop/production/r2/env").unwrap(), "A=2\n");
    assert_eq!(
        store.text("shop/production/r2/source.tar.zst"),
        store.text("shop/production/r1/source.tar.zst")
    );
    assert!(diff(&cx, None).await.unwrap().1.is_empty());
    put(&cx, "shop/production/current", "r1\n").await;
    assert_eq!(diff(&cx, None).await.unwrap().1.lines(), "~ A\n");
    assert!(diff(&cx, Some(Number(9))).await.unwrap_err().chain().contains("r9/env"));
}

#[test]
fn a_plain_value_has_no_quotes() {
    assert_eq!(assignment("A", "postgres://h:5/db"), "A=postgres://h:5/db");
    assert_eq!(assignment("A", ""), "A=''");
    assert_eq!(assignment("A", "a b"), "A='a b'");
    assert_eq!(assignment("A", "it's `$x`"), "A=\"it's \\`\\$x\\`\"");
}
