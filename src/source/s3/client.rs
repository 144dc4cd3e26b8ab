//! The S3 client: the SDK's own chain of regions and credentials, bounded in time.

use super::refusal::{self, Answer, Asked, Kind, Refused};
use crate::error::{Error, Result};
use crate::source::network;
use crate::source::retry::{Failure, Timing, retry};
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, IdentityCache, ProvideCredentials, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client as smithy;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use std::error::Error as StdError;
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

/// What servers other than Amazon's expect where no region is set.
const REGION_OF_OTHERS: &str = "us-east-1";

pub(in crate::source) struct S3 {
    /// Another one once S3 has called the credentials expired.
    client: RwLock<Client>,
    credentials: Option<SharedCredentialsProvider>,
    region: String,
    timing: Timing,
}

impl S3 {
    /// With `sdk`, as it says; otherwise as the environment, the profile files and
    /// the instance's metadata say.
    pub async fn new(sdk: Option<&SdkConfig>, timing: &Timing) -> Result<S3> {
        let sdk = match sdk {
            Some(sdk) => sdk.clone(),
            None => {
                let loader = aws_config::defaults(BehaviorVersion::latest());
                // Instance metadata is on the link itself: never by way of a proxy.
                loader.http_client(http_client(ProxyConfig::disabled())).load().await
            }
        };
        let by_service = std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
        let elsewhere = sdk.endpoint_url().is_some() || by_service;
        let region = sdk.region().map(|region| region.as_ref().to_owned());
        let region = region.or_else(|| elsewhere.then(|| REGION_OF_OTHERS.to_owned()));
        let region = region.ok_or_else(no_region)?;
        let config = config(&sdk, timing)
            .region(Region::new(region.clone()))
            // Few servers other than Amazon's have a name for each bucket.
            .force_path_style(elsewhere)
            .build();
        let client = Client::from_conf(config);
        let client = RwLock::new(client);
        let (credentials, timing) = (sdk.credentials_provider(), timing.clone());
        Ok(S3 { client, credentials, region, timing })
    }

    /// Asks S3, and again while it has trouble.
    pub(super) async fn ask<T, E, F>(
        &self,
        asked: Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Refused>
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let ask = || async {
            match self.ask_once(asked, &request).await {
                Err(Refused { kind: Kind::Transient, error }) => Err(Failure::Transient(error)),
                answer => Ok(answer),
            }
        };
        let answer = retry(&self.timing, ask).await;
        answer.unwrap_or_else(|error| Err(Refused { kind: Kind::Transient, error }))
    }

    /// Asks S3 once; where it calls the credentials expired, a second time with
    /// those that the chain gives now: what it gave before may be kept here for
    /// longer than S3 takes it.
    pub(super) async fn ask_once<T, E, F>(
        &self,
        asked: Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Refused>
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        // On the heap: the SDK's futures are large, and every layer around them is more so.
        let refused = match Box::pin(request(self.client())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => self.refused(asked, error).await,
        };
        if refused.kind != Kind::Expired {
            return Err(refused);
        }
        match Box::pin(request(self.renew())).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.refused(asked, error).await),
        }
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that knows no credentials yet, in place of the one in use.
    fn renew(&self) -> Client {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = client.config().to_builder().identity_cache(IdentityCache::lazy().build());
        *client = Client::from_conf(fresh.build());
        client.clone()
    }

    /// What this failure means, in the operator's words.
    async fn refused<E>(&self, asked: Asked<'_>, error: SdkError<E>) -> Refused
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        if let Some(answer) = Answer::of(&error, SystemTime::now()) {
            return refusal::explain(asked, &self.region, &answer);
        }
        let lost = match &error {
            SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
            SdkError::TimeoutError(_) => true,
            _ => false,
        };
        if !lost && let Some(error) = self.no_credentials(asked).await {
            return Refused { kind: Kind::NoCredentials, error };
        }
        let never_sent = matches!(error, SdkError::ConstructionFailure(_));
        let (kind, error) = match network::unreachable(&asked.to_string(), &error) {
            Failure::Transient(error) if !never_sent => (Kind::Transient, error),
            Failure::Transient(error) | Failure::Final(error) => (Kind::Other, error),
        };
        Refused { kind, error }
    }

    /// The SDK hides this reason among others, so the chain is asked once more.
    async fn no_credentials(&self, asked: Asked<'_>) -> Option<Error> {
        let credentials = self.credentials.as_ref()?.provide_credentials().await;
        let cause = network::joined(&credentials.err()?);
        Some(
            Error::source(format!("{asked} cannot be read without AWS credentials"))
                .because(cause)
                .at_boot()
                .help(
                    "attach a role to this instance, and allow its metadata service (IMDSv2, hop \
                     limit 1 is enough); searched were the environment and /etc/deploy/agent.env \
                     (AWS_ACCESS_KEY_ID), the profile files (AWS_PROFILE), a web identity, a \
                     container's role and the instance's metadata",
                ),
        )
    }
}

fn config(sdk: &SdkConfig, timing: &Timing) -> Builder {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(timing.connect).read_timeout(timing.stall);
    Builder::from(sdk)
        .http_client(http_client(ProxyConfig::from_env()))
        .timeout_config(timeouts.build())
        // What is asked again, and when, is the same for every source.
        .retry_config(RetryConfig::disabled())
        // A download has a pace of its own to keep, whatever its source.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The whole object is verified, across resumed ranges, where it is read.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

fn http_client(proxy: ProxyConfig) -> SharedHttpClient {
    smithy::Builder::new().build_with_connector_fn(move |settings, runtime| {
        let mut connector = smithy::Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(runtime.and_then(|runtime| runtime.sleep_impl()));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    })
}

fn no_region() -> Error {
    Error::source("S3 cannot be asked without a region")
        .because("none is set, and the instance's metadata gives none")
        .at_boot()
        .help("set AWS_REGION to the bucket's region in /etc/deploy/agent.env")
}
