//! The proxy on the way to a server, as the environment has it.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// `HOST[:PORT]` of the proxy through which `url` is asked, without its password; none
/// where it is asked directly.
pub(super) fn on_the_way_to(url: &str) -> Option<String> {
    through(&Matcher::from_system(), url)
}

fn through(matcher: &Matcher, url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let proxy = matcher.intercept(&url)?;
    let host = proxy.uri().host()?;
    Some(match proxy.uri().port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Whether an answer of this status, which no store has signed, is likely a proxy's own.
pub(super) fn may_answer(status: u16) -> bool {
    matches!(status, 407 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_proxy_that_is_used_and_no_password() {
        let matcher =
            Matcher::builder().https("http://user:secret@proxy.local:3128").no("inside").build();
        let proxy = |url| through(&matcher, url);
        assert_eq!(proxy("https://host/a").as_deref(), Some("proxy.local:3128"));
        assert_eq!((proxy("http://host/a"), proxy("https://inside/a")), (None, None));
    }
}
