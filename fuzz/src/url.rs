//! Checks a release URL: it names exactly one place, and no error contains a credential.

use super::said::{self, SECRET, said};
use model::error::Exit;
use model::release::url::{ReleaseUrl, Scheme};
use std::path::Component;

pub fn url(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    no_error_repeats_a_credential(text);
    let read = text.parse::<ReleaseUrl>();
    match &read {
        Ok(url) => check(text, url),
        Err(error) => said::check(error, &[Exit::Usage]),
    }
    read.is_ok()
}

fn check(text: &str, url: &ReleaseUrl) {
    let shown = url.to_string();
    let given = text.strip_suffix('/').unwrap_or(text);
    // A host name is case-insensitive.
    assert!(shown.eq_ignore_ascii_case(given), "{text:?} became {shown:?}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert_eq!(shown.parse::<ReleaseUrl>().as_ref().ok(), Some(url), "{shown:?}");
    let json = serde_json::to_string(url).expect("JSON");
    assert_eq!(serde_json::from_str::<ReleaseUrl>(&json).ok().as_ref(), Some(url), "{json}");

    for name in [url.app().as_str(), url.environment().as_str(), url.release().as_str()] {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        assert!((1..=63).contains(&name.len()) && name.bytes().all(plain), "{name:?}");
        assert!(!name.starts_with('.'), "{name:?}");
    }
    let ends = format!("/{}/{}/{}", url.app(), url.environment(), url.release());
    assert!(shown.ends_with(&ends), "{shown:?}");
    let current = url.with_release("current".parse().expect("a name"));
    assert!(current.is_current() && current.scheme() == url.scheme());
    check_place(url, &shown);
}

/// Checks that the client requests the place that was validated, with no other interpretation.
fn check_place(url: &ReleaseUrl, shown: &str) {
    match url.scheme() {
        Scheme::File { base } => {
            let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
            assert!(base.is_absolute() && base.components().all(plain), "{base:?}");
        }
        Scheme::S3 { bucket, prefix } => {
            assert!(!bucket.contains('/'), "{bucket:?}");
            let plain = |part| !matches!(part, "" | "." | "..");
            assert!(prefix.split('/').all(plain), "{prefix:?}");
        }
        // A URL that the client cannot parse is refused before any request.
        Scheme::Http { .. } => {
            let Ok(read) = reqwest::Url::parse(shown) else { return };
            assert!(read.username().is_empty() && read.password().is_none(), "{read}");
            assert!(read.query().is_none() && read.fragment().is_none(), "{read}");
            assert!(shown.ends_with(read.path()), "{shown:?} is read as {read}");
            let parts = read.path().split('/').count();
            assert_eq!(parts, shown.split('/').count() - 2, "{shown:?} is read as {read}");
        }
    }
}

fn no_error_repeats_a_credential(text: &str) {
    if text.contains(SECRET) {
        return;
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    for text in [
        format!("{scheme}://{SECRET}@{rest}"),
        format!("{scheme}://user:{SECRET}@{rest}"),
        format!("{scheme}://{rest}?{SECRET}"),
        format!("{scheme}://{rest}#{SECRET}"),
    ] {
        let error = text.parse::<ReleaseUrl>().expect_err("no credentials in a URL");
        let told = format!("{} {error:?}", said(&error));
        assert!(!told.contains(SECRET), "{told}");
    }
}
