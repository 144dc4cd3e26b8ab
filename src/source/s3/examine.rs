//! Single requests that show what S3 allows, without retries, for `deploy doctor`.

use super::credentials;
use super::refusal::{Asked, Kind, Refused};
use super::{S3, S3Backend};
use aws_config::imds;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ConfigBag;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use model::error::Result;
use model::text;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// More digits than an instance id has.
const LONGEST_ID: usize = 32;

/// The longest name of a role that is shown; IAM allows 64 characters.
const LONGEST_ROLE: usize = 64;

/// What S3 answered to the attempt to read or list.
pub(in crate::source) enum Attempt {
    Allowed,
    Missing,
    Refused(model::error::Error),
}

/// Keeps the Date header of the last response.
#[derive(Clone, Debug, Default)]
struct Dated(Arc<Mutex<Option<SystemTime>>>);

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "date of the answer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| SystemTime::try_from(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

impl S3Backend {
    /// Reads the first byte of an object: s3:GetObject, and kms:Decrypt where a key encrypts it.
    pub async fn try_get(&self, name: &str) -> Attempt {
        let key = format!("{}/{name}", self.prefix);
        let asked = Asked { bucket: &self.bucket, key: &key };
        let get = |client: Client| {
            let get = client.get_object().bucket(&self.bucket).key(&key).range("bytes=0-0");
            get.set_request_payer(self.s3.payer()).send()
        };
        attempt(self.s3.ask_once(asked, get).await.map(drop))
    }

    /// Lists one name below the prefix: s3:ListBucket.
    pub async fn try_list(&self) -> Attempt {
        let prefix = format!("{}/", self.prefix);
        let asked = Asked { bucket: &self.bucket, key: &prefix };
        let list = |client: Client| {
            let list = client.list_objects_v2().bucket(&self.bucket).prefix(&prefix);
            list.max_keys(1).set_request_payer(self.s3.payer()).send()
        };
        attempt(self.s3.ask_once(asked, list).await.map(drop))
    }

    /// Returns S3's time, whatever it answers.
    pub async fn date(&self) -> Result<Option<SystemTime>> {
        let (dated, key) = (Dated::default(), format!("{}/env", self.prefix));
        let asked = Asked { bucket: &self.bucket, key: &key };
        let head = |client: Client| {
            let head = client.head_object().bucket(&self.bucket).key(&key);
            let head = head.set_request_payer(self.s3.payer()).customize();
            head.interceptor(dated.clone()).send()
        };
        let answer = self.s3.ask_once(asked, head).await;
        let date = *dated.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (date, answer) {
            (None, Err(refused)) => Err(refused.error),
            (date, _) => Ok(date),
        }
    }
}

fn attempt(answer: Result<(), Refused>) -> Attempt {
    match answer {
        Ok(()) => Attempt::Allowed,
        // An empty object has no first byte.
        Err(Refused { kind: Kind::Changed, .. }) => Attempt::Allowed,
        Err(Refused { kind: Kind::Missing, .. }) => Attempt::Missing,
        Err(Refused { error, .. }) => Attempt::Refused(error),
    }
}

impl S3 {
    /// Returns the region, if there are credentials for it.
    pub async fn try_credentials(&self) -> Result<String> {
        match self.provided().await {
            Some(Err(cause)) => Err(credentials::explain("s3://", cause)),
            Some(Ok(_)) | None => Ok(self.region.clone()),
        }
    }
}

/// Creates a client of the instance's metadata, without retries.
pub(in crate::source) fn imds() -> imds::Client {
    let config = credentials::config("us-east-1", None);
    imds::Client::builder().configure(&config).max_attempts(1).build()
}

/// Returns the instance id, by one request to the metadata service.
pub(in crate::source) async fn instance_id() -> Option<String> {
    let answer = imds().get("/latest/meta-data/instance-id").await.ok()?;
    let id = answer.as_ref().trim();
    let digits = id.strip_prefix("i-")?;
    let is_id = !digits.is_empty() && digits.len() <= LONGEST_ID;
    (is_id && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| id.to_owned())
}

/// Returns the name of the role that the instance's metadata offers; `None` if there is no role.
/// The error says why the metadata cannot be read.
pub(in crate::source) async fn role() -> Result<Option<String>, String> {
    match imds().get("/latest/meta-data/iam/security-credentials/").await {
        Ok(names) => {
            let first = names.as_ref().lines().next().unwrap_or_default();
            Ok((!first.is_empty()).then(|| text::line(first, LONGEST_ROLE)))
        }
        Err(imds::client::error::ImdsError::ErrorResponse(answer))
            if answer.response().status().as_u16() == 404 =>
        {
            Ok(None)
        }
        Err(error) => Err(crate::source::connect_error::joined(&error)),
    }
}
