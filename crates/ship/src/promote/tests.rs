use super::*;
use crate::objects::memory::Memory;
use crate::source::Wanted;
use crate::testing::{Repository, in_store, put, release};
use std::sync::Arc;

async fn two() -> (Context, Context, Arc<Memory>) {
    let store = Arc::new(Memory::default());
    let (staging, production) = (in_store(&store, "staging"), in_store(&store, "production"));
    let repository = Repository::new(&[("Procfile", "web: x\n")]);
    for _ in 0..3 {
        release(&staging, repository.path(), Wanted::default()).await.unwrap();
    }
    put(&production, "shop/production/env", "A=production\n").await;
    (staging, production, store)
}

#[tokio::test]
async fn a_promoted_release_has_the_archive_of_one_and_the_config_of_the_other() {
    let (staging, production, store) = two().await;
    let promoted = promote(&production, &staging.place, Some(Number(2))).await.unwrap();
    assert_eq!(promoted.number, Number(1));
    assert_eq!(promoted.document.from.as_deref(), Some("shop/staging/r2"));
    assert_eq!(store.text("shop/production/r1/env").unwrap(), "A=production\n");
    let sums = store.text("shop/production/r1/SHA256SUMS").unwrap();
    assert!(sums.starts_with("# shop/production/r1\n"), "{sums}");
    let archive = |key: &str| store.text(key).unwrap();
    assert_eq!(
        archive("shop/production/r1/source.tar.zst"),
        archive("shop/staging/r2/source.tar.zst")
    );
}

#[tokio::test]
async fn the_pointer_says_what_is_promoted_and_else_the_newest() {
    let (staging, production, _) = two().await;
    let from = |published: Published| published.document.from.unwrap();
    let newest = promote(&production, &staging.place, None).await.unwrap();
    assert_eq!(from(newest), "shop/staging/r3");
    put(&staging, "shop/staging/current", "r1\n").await;
    let current = promote(&production, &staging.place, None).await.unwrap();
    assert_eq!(from(current), "shop/staging/r1");
    put(&staging, "shop/staging/current", "v1.0\n").await;
    let error = promote(&production, &staging.place, None).await.err().unwrap();
    assert!(error.chain().contains("ship has not made it"), "{}", error.chain());
}

#[tokio::test]
async fn nothing_is_promoted_that_could_not_run() {
    let (staging, production, store) = two().await;
    let count = store.keys().len();
    for (env, expected) in [
        ("A=(1)\n", "line 1, column 3: an array"),
        ("DEPLOY_CONCURRENCY=worker=1\n", "the Procfile has web"),
    ] {
        put(&production, "shop/production/env", env).await;
        let error = promote(&production, &staging.place, None).await.err().unwrap();
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
    let error = promote(&production, &staging.place, Some(Number(9))).await.err().unwrap();
    assert_eq!(error.reason(), Reason::ReleaseMissing);
    let error = promote(&staging, &staging.place, None).await.err().unwrap();
    assert_eq!(error.exit().code(), 2);
    assert_eq!(store.keys().len(), count);
}
