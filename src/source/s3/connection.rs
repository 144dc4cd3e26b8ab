//! The connections of the SDK: made by the HTTP client that web servers are asked with, so that
//! there is one TLS stack, and one way to find a proxy.

use crate::source;
use crate::source::retry::Timing;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper::{Request, Response};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;

/// The certificates that are trusted in place of the system's.
pub(super) type Trust = Option<Vec<Certificate>>;

/// Whether a request goes through the proxy of agent.env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Proxy,
    /// The instance's metadata is link-local: no proxy leads there.
    Direct,
}

/// Makes connections once they are needed, and keeps them.
#[derive(Clone)]
pub(super) struct Connections {
    client: Arc<OnceLock<Client>>,
    route: Route,
    trust: Trust,
    settings: HttpConnectorSettings,
}

/// The client for the SDK.
pub(super) fn http_client(route: Route, trust: Trust) -> SharedHttpClient {
    let connections = Connections::new(route, trust);
    http_client_fn(move |settings, _| {
        SharedHttpConnector::new(Connections { settings: settings.clone(), ..connections.clone() })
    })
}

impl Connections {
    pub fn new(route: Route, trust: Trust) -> Connections {
        let settings = HttpConnectorSettings::default();
        Connections { client: Arc::default(), route, trust, settings }
    }

    fn client(&self) -> Result<Client, ConnectorError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = self.build().map_err(|e| ConnectorError::user(e.into()))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    fn build(&self) -> reqwest::Result<Client> {
        let mut client = source::http_client().redirect(Policy::none());
        if let Some(limit) = self.settings.connect_timeout() {
            client = client.connect_timeout(limit);
        }
        if self.route == Route::Direct {
            client = client.no_proxy();
        }
        if let Some(trust) = &self.trust {
            client = client.tls_certs_only(trust.clone());
        }
        client.build()
    }

    /// The time until the head of a response is there.
    fn limit(&self) -> Option<Duration> {
        let read = self.settings.read_timeout()?;
        Some(self.settings.connect_timeout().unwrap_or_default() + read)
    }

    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let sent = self.client()?.execute(translated(request)?);
        let response = match self.limit() {
            Some(limit) => {
                timeout(limit, sent).await.map_err(|e| ConnectorError::timeout(e.into()))?
            }
            None => sent.await,
        };
        let response = Response::<Body>::from(response.map_err(lost)?);
        let response = response.map(SdkBody::from_body_1_x);
        HttpResponse::try_from(response).map_err(|e| ConnectorError::other(e.into(), None))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("route", &self.route).finish_non_exhaustive()
    }
}

impl HttpConnector for Connections {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connections = self.clone();
        HttpConnectorFuture::new(async move { connections.send(request).await })
    }
}

fn translated(request: HttpRequest) -> Result<reqwest::Request, ConnectorError> {
    let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
    let (head, body) = request.into_parts();
    let body = match body.bytes() {
        Some(bytes) => Body::from(bytes.to_vec()),
        None => Body::wrap(body),
    };
    let request = reqwest::Request::try_from(Request::from_parts(head, body));
    request.map_err(|e| ConnectorError::user(e.into()))
}

fn lost(error: reqwest::Error) -> ConnectorError {
    match error {
        error if error.is_timeout() => ConnectorError::timeout(error.into()),
        error if error.is_builder() => ConnectorError::user(error.into()),
        error => ConnectorError::io(error.into()),
    }
}

/// Timeout for finding credentials or a region.
pub(super) fn longest(timing: &Timing) -> Duration {
    timing.connect + timing.stall
}
