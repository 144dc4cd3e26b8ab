//! A refusal of S3 is told from its silence.

use super::connection::loader;
use super::*;
use crate::objects::is_silent;
use aws_config::Region;
use aws_credential_types::Credentials;
use model::error::Exit;
use std::time::Duration;
use testkit::s3::{Fault, S3Server};

async fn bucket(s3: &S3Server, name: &str) -> Bucket {
    let keys = Credentials::new("key", "secret", None, None, "test");
    let loader = loader().endpoint_url(s3.endpoint()).credentials_provider(keys);
    let config = loader.region(Region::new("eu-central-1")).load().await;
    Bucket::new(&config, Store { bucket: name.to_owned(), prefix: String::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_silent_if_it_is_gone_or_out_of_order_and_not_if_it_refuses() {
    let s3 = S3Server::start("127.0.0.1:0", "key", "secret");
    s3.put("releases", "shop/production/current", "r8\n");
    let there = bucket(&s3, "releases").await;
    assert!(there.responds("shop/production/current").await.is_ok());
    assert!(there.responds("shop/production/missing").await.is_ok());
    let none = bucket(&s3, "none").await.responds("x").await.unwrap_err();
    assert!(!is_silent(&none), "{none:?}");
    for (fault, silent, code) in [
        (Fault::ACCESS_DENIED, false, Exit::Source),
        (Fault::EXPIRED_TOKEN, false, Exit::Source),
        (Fault::INTERNAL_ERROR, true, Exit::NoAgent),
        (Fault::SLOW_DOWN, true, Exit::NoAgent),
    ] {
        // As many as there are tries.
        let tries = if silent { 2 } else { 1 };
        s3.fault("GET", "shop/production/current", tries, fault.clone());
        let error = there.responds("shop/production/current").await.unwrap_err();
        assert_eq!((is_silent(&error), error.exit()), (silent, code), "{fault:?}: {error:?}");
    }
    drop(s3);
    let error = there.responds("shop/production/current").await.unwrap_err();
    assert!(is_silent(&error), "{error:?}");
    let error = there.put("lock", vec![], Condition::Any).await.unwrap_err();
    assert_eq!((is_silent(&error), error.exit()), (true, Exit::NoAgent), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_that_of_the_store() {
    let s3 = S3Server::start("127.0.0.1:0", "key", "secret");
    s3.put("releases", "README", "");
    let ahead = Duration::from_secs(3 * 3600);
    s3.fault("GET", "README", 99, Fault::ClockSkew(ahead));
    let bucket = bucket(&s3, "releases").await;
    assert!(bucket.get("README").await.is_err());
    let skew = bucket.now().await.unwrap().duration_since(Timestamp::now());
    assert!((skew.as_secs() - 3 * 3600).abs() < 60, "{skew:?}");
}
