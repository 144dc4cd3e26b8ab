//! The connection to AWS: credentials, region, timeouts, and the clock of the other side.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use model::error::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A connection is made, and a document's request is answered, within these times.
const CONNECTION: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// The times of each of two tries to learn whether S3 responds at all.
const HASTY_CONNECTION: Duration = Duration::from_secs(4);
const HASTY_ANSWER: Duration = Duration::from_secs(5);
/// The same for a request that carries a part of an archive, over a slow line; or that has S3
/// copy one.
const TRANSFER: Duration = Duration::from_secs(15 * 60);

/// Loads credentials and region by the SDK's own chain; AWS_ENDPOINT_URL and profiles work.
pub async fn connect(region: Option<&str>) -> Result<SdkConfig> {
    let mut loader = loader();
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    if config.region().is_none() {
        let help = "give --region, AWS_REGION, or `region` of the environment in ship.toml";
        return Err(Error::usage("no AWS region is set").help(help));
    }
    Ok(config)
}

/// Returns the loader of a configuration with ship's own TLS and timeouts.
pub fn loader() -> ConfigLoader {
    use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(patience(CONNECTION, ANSWER))
}

/// Without these, a request to a server that never answers would wait for ever.
fn patience(connection: Duration, answer: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(connection).read_timeout(answer).build()
}

/// The configuration of requests that take long.
pub fn patient() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().timeout_config(patience(CONNECTION, TRANSFER))
}

/// The configuration of a request that asks whether S3 responds.
pub fn hasty() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new()
        .timeout_config(patience(HASTY_CONNECTION, HASTY_ANSWER))
        .retry_config(RetryConfig::standard().with_max_attempts(2))
}

/// The time by the Date header of the last response, and when that came.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl Clock {
    /// Returns the time now; none before the first response.
    pub fn last(&self) -> Option<Timestamp> {
        let (time, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        time.checked_add(at.elapsed()).ok()
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "clock of the store"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(time) = date.and_then(|date| rfc2822::parse(date).ok()) {
            let now = (time.timestamp(), Instant::now());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        Ok(())
    }
}
