//! The S3 client: the SDK's own chain of regions and credentials, with timeouts.

use super::bounded::Bounded;
use super::connection::{Route, Trust, http_client, longest};
use super::credentials;
use super::endpoint::{self, Endpoint};
use super::refusal::{self, Answer, Asked, Kind, Refused};
use crate::source::retry::{Failure, Timing, retry};
use crate::source::{connect_error, proxy};
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, IdentityCache, ProvideCredentials, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::RequestPayer;
use model::error::{Error, Result};
use model::reason::Reason;
use std::error::Error as StdError;
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;
use tokio::time::timeout;

/// The region for servers other than Amazon's, if none is set.
const REGION_OF_OTHERS: &str = "us-east-1";

pub(in crate::source) struct S3 {
    /// Replaced when S3 reports expired credentials.
    client: RwLock<Client>,
    credentials: Credentials,
    pub(super) region: String,
    pub(super) timing: Timing,
    payer: Option<RequestPayer>,
    pub(super) trust: Trust,
    /// The server that gets the requests to Auto Scaling, if not Amazon's.
    pub(super) scaling: Option<Endpoint>,
    /// The proxy for the server, for messages.
    proxy: Option<String>,
}

enum Credentials {
    /// From a configuration that a test has built.
    Given(Option<SharedCredentialsProvider>),
    /// The SDK's chain: rebuilt when it fails, since it caches what it found.
    Chain,
}

impl S3 {
    /// Creates the client, configured by `sdk`, or else by the environment, the profile files and
    /// the instance's metadata.
    pub async fn new(sdk: Option<&SdkConfig>, timing: &Timing) -> Result<S3> {
        let (trust, payer) = (endpoint::trust()?, endpoint::payer()?);
        let (sdk, credentials) = match sdk {
            Some(sdk) => (sdk.clone(), Credentials::Given(sdk.credentials_provider())),
            None => {
                let loader = aws_config::defaults(BehaviorVersion::latest());
                let http = http_client(Route::Direct, trust.clone());
                let loaded = timeout(longest(timing), loader.http_client(http).load()).await;
                (loaded.map_err(|_| no_metadata())?, Credentials::Chain)
            }
        };
        let endpoint = Endpoint::of(&sdk, "AWS_ENDPOINT_URL_S3")?;
        let scaling = Endpoint::of(&sdk, "AWS_ENDPOINT_URL_AUTO_SCALING")?;
        let elsewhere = endpoint.is_some();
        let region = sdk.region().map(|region| region.as_ref().to_owned());
        let region = region.or_else(|| elsewhere.then(|| REGION_OF_OTHERS.to_owned()));
        let region = region.ok_or_else(no_region)?;
        let mut config = config(&sdk, timing, trust.clone())
            .region(Region::new(region.clone()))
            .force_path_style(endpoint::is_path_style(elsewhere)?);
        config.set_endpoint_url(endpoint.as_ref().map(|endpoint| endpoint.0.clone()));
        let client = RwLock::new(Client::from_conf(config.build()));
        let amazon = || format!("https://s3.{region}.amazonaws.com/");
        let proxy = proxy::on_the_way_to(&endpoint.map_or_else(amazon, |endpoint| endpoint.0));
        let timing = timing.clone();
        Ok(S3 { client, credentials, region, timing, payer, trust, scaling, proxy })
    }

    pub(super) fn payer(&self) -> Option<RequestPayer> {
        self.payer.clone()
    }

    /// Sends a request to S3, with retries for transient failures.
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
                // Instance metadata may return old credentials for a while.
                Err(Refused { kind: Kind::Transient | Kind::Expired, error }) => {
                    Err(Failure::Transient(error))
                }
                answer => Ok(answer),
            }
        };
        let answer = retry(&self.timing, ask).await;
        answer.unwrap_or_else(|error| Err(Refused { kind: Kind::Transient, error }))
    }

    /// Sends a request to S3; if S3 reports expired credentials, sends it again with fresh ones
    /// from the chain: the SDK may cache credentials for longer than S3 accepts them.
    pub(super) async fn ask_once<T, E, F>(
        &self,
        asked: Asked<'_>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Refused>
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        // Boxed: the SDK's futures are large, and each layer around them adds more.
        let refused = match Box::pin(request(self.client())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => self.refused(asked, error).await,
        };
        if refused.kind != Kind::Expired {
            return Err(refused);
        }
        match Box::pin(request(self.renew().await)).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.refused(asked, error).await),
        }
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the client in use by one without cached credentials.
    async fn renew(&self) -> Client {
        match &self.credentials {
            Credentials::Given(_) => self.replace(None),
            Credentials::Chain => self.replace(Some(self.chain().await)),
        }
    }

    /// Returns the provider, without what an earlier one has cached; `None` without credentials.
    pub(super) async fn provider(&self) -> Option<SharedCredentialsProvider> {
        match &self.credentials {
            Credentials::Given(given) => given.clone(),
            Credentials::Chain => Some(self.chain().await),
        }
    }

    async fn chain(&self) -> SharedCredentialsProvider {
        credentials::chain(&self.region, self.trust.clone()).await
    }

    fn replace(&self, provider: Option<SharedCredentialsProvider>) -> Client {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = client.config().to_builder().identity_cache(IdentityCache::lazy().build());
        let fresh = match provider {
            Some(provider) => fresh.credentials_provider(provider),
            None => fresh,
        };
        *client = Client::from_conf(fresh.build());
        client.clone()
    }

    /// Explains a failure in the operator's words.
    async fn refused<E>(&self, asked: Asked<'_>, error: SdkError<E>) -> Refused
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        if let Some(answer) = Answer::of(&error, SystemTime::now()) {
            let refused = refusal::explain(asked, &self.region, &answer);
            return match &self.proxy {
                Some(proxy) if answer.code.is_none() && proxy::may_answer(answer.status) => {
                    let help = connect_error::answer_of_a_proxy(proxy);
                    Refused { error: refused.error.help(help), ..refused }
                }
                _ => refused,
            };
        }
        let lost = match &error {
            SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
            SdkError::TimeoutError(_) => true,
            _ => false,
        };
        let renewed = match if lost { None } else { self.provided().await } {
            Some(Err(cause)) => {
                let error = credentials::explain(&asked.to_string(), cause);
                return Refused { kind: Kind::NoCredentials, error };
            }
            Some(Ok(is_new)) => is_new,
            None => false,
        };
        let never_sent = matches!(error, SdkError::ConstructionFailure(_)) && !renewed;
        let proxy = self.proxy.as_deref();
        let (kind, error) = match connect_error::unreachable(&asked.to_string(), proxy, &error) {
            Failure::Transient(error) if !never_sent => (Kind::Transient, error),
            Failure::Transient(error) | Failure::Final(error) => (Kind::Other, error),
        };
        Refused { kind, error }
    }

    /// Requests credentials again, since the SDK hides their failure among others. If there are
    /// some, later requests use them; true if they come from a new chain. `None` without a
    /// provider.
    pub(super) async fn provided(&self) -> Option<Result<bool, String>> {
        let is_new = matches!(self.credentials, Credentials::Chain);
        let provider = self.provider().await?;
        let given = timeout(longest(&self.timing), provider.provide_credentials());
        match given.await {
            Err(_) => Some(Err("they did not come in time".to_owned())),
            Ok(Ok(_)) => {
                if is_new {
                    self.replace(Some(provider));
                }
                Some(Ok(is_new))
            }
            Ok(Err(error)) => {
                let of_profile = match self.credentials {
                    Credentials::Chain => credentials::fault_of_profile(&self.region).await,
                    Credentials::Given(_) => None,
                };
                Some(Err(of_profile.unwrap_or_else(|| connect_error::joined(&error))))
            }
        }
    }
}

fn config(sdk: &SdkConfig, timing: &Timing, trust: Trust) -> Builder {
    // The operation timeout covers a response and its body, except the body of an object.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(timing.connect)
        .read_timeout(timing.stall)
        .operation_timeout(timing.connect + timing.stall * 2);
    Builder::from(sdk)
        .http_client(http_client(Route::Proxy, trust))
        .timeout_config(timeouts.build())
        .interceptor(Bounded)
        // Retries are the same for every source: the SDK's own are off.
        .retry_config(RetryConfig::disabled())
        // A download has its own stall guard, whatever its source.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The reader verifies the whole object, across resumed ranges.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

fn no_metadata() -> Error {
    Error::source("S3 cannot be asked without a region")
        .because("the profile files or the instance's metadata did not give one in time")
        .with_reason(Reason::RegionMissing)
        .help("set AWS_REGION to the bucket's region in /etc/deploy/agent.env")
}

fn no_region() -> Error {
    Error::source("S3 cannot be asked without a region")
        .because("none is set, and the instance's metadata gives none")
        .with_reason(Reason::RegionMissing)
        .help("set AWS_REGION to the bucket's region in /etc/deploy/agent.env")
}
