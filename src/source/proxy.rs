//! The proxy for a server, as configured by the environment.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Returns `HOST[:PORT]` of the proxy for `url`, without its password; `None` for a direct
/// request.
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

/// Whether an unsigned response with this status probably comes from a proxy.
pub(super) fn may_answer(status: u16) -> bool {
    matches!(status, 407 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_proxy_without_its_password() {
        let matcher =
            Matcher::builder().https("http://user:secret@proxy.local:3128").no("inside").build();
        let proxy = |url| through(&matcher, url);
        assert_eq!(proxy("https://host/a").as_deref(), Some("proxy.local:3128"));
        assert_eq!((proxy("http://host/a"), proxy("https://inside/a")), (None, None));
    }
}
