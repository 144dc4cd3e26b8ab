//! The connections of the SDK: one TLS stack, and the proxy of agent.env.

use crate::source::retry::Timing;
use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client as smithy;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext};
use std::time::Duration;

pub(super) fn http_client(proxy: ProxyConfig, trust: Option<TlsContext>) -> SharedHttpClient {
    smithy::Builder::new().build_with_connector_fn(move |settings, runtime| {
        let mut connector = smithy::Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(runtime.and_then(|runtime| runtime.sleep_impl()));
        with_tls(connector, trust.as_ref())
    })
}

/// Completes a connector with the one TLS stack.
pub(super) fn with_tls(
    connector: smithy::ConnectorBuilder,
    trust: Option<&TlsContext>,
) -> smithy::Connector {
    let connector = connector.tls_provider(Provider::Rustls(CryptoMode::Ring));
    match trust {
        Some(trust) => connector.tls_context(trust.clone()).build(),
        None => connector.build(),
    }
}

/// Timeout for finding credentials or a region.
pub(super) fn longest(timing: &Timing) -> Duration {
    timing.connect + timing.stall
}
