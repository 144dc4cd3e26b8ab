//! What `deploy doctor` asks the store of a release.

use super::s3::{self, Attempt, S3Backend};
use super::{Backend, Query, QueryRefused, Sources};
use model::error::{Error, Result};
use model::release::compression::Compression;
use model::release::url::ReleaseUrl;
use std::sync::Arc;
use std::time::SystemTime;

/// The answer to one action on a store with the protocol of S3.
pub enum Access {
    Allowed,
    /// There is no such object, and the store says so.
    Missing,
    Refused(Error),
    /// The store has other actions.
    NotS3,
}

impl Sources {
    /// Returns the region, if there are credentials for S3.
    pub async fn credentials(&self) -> Result<String> {
        self.s3().await?.try_credentials().await
    }

    /// Returns the role that the instance's metadata offers, or why it cannot be read.
    pub async fn role(&self) -> Result<Option<String>, String> {
        s3::role().await
    }

    /// Calls Auto Scaling with the credentials that S3 is read with.
    ///
    /// # Errors
    ///
    /// `Exit::Source` if there are no credentials or no answer.
    pub async fn query(&self, query: &Query<'_>) -> Result<Result<(), QueryRefused>> {
        self.s3().await?.query(query).await
    }

    /// Returns the id of this EC2 instance; `None` if the metadata service does not answer.
    pub async fn instance_id(&self) -> Option<String> {
        s3::instance_id().await
    }

    /// Returns the store's time; `None` if it tells none.
    pub async fn date(&self, url: &ReleaseUrl) -> Result<Option<SystemTime>> {
        match self.s3_directory(url).await? {
            Some(directory) => directory.date().await,
            None => Ok(None),
        }
    }

    /// Tries to list the release's directory.
    pub async fn try_list(&self, url: &ReleaseUrl) -> Access {
        match self.s3_directory(url).await {
            Ok(Some(directory)) => directory.try_list().await.into(),
            Ok(None) => Access::NotS3,
            Err(error) => Access::Refused(error),
        }
    }

    /// Tries to read the release's env.
    pub async fn try_env(&self, url: &ReleaseUrl) -> Access {
        match self.s3_directory(url).await {
            Ok(Some(directory)) => directory.try_get("env").await.into(),
            Ok(None) => Access::NotS3,
            Err(error) => Access::Refused(error),
        }
    }

    /// Tries to read the release's archive, whatever its compression.
    pub async fn try_archive(&self, url: &ReleaseUrl) -> Access {
        let directory = match self.s3_directory(url).await {
            Ok(Some(directory)) => directory,
            Ok(None) => return Access::NotS3,
            Err(error) => return Access::Refused(error),
        };
        let mut answer = Access::Missing;
        for compression in Compression::ALL {
            match directory.try_get(compression.archive_name()).await {
                Attempt::Allowed => return Access::Allowed,
                Attempt::Missing => {}
                // Without the right to list, missing objects are denied as well.
                Attempt::Refused(error) => answer = Access::Refused(error),
            }
        }
        answer
    }

    async fn s3_directory(&self, url: &ReleaseUrl) -> Result<Option<S3Backend>> {
        match self.directory(url, Some(url.release())).await? {
            Backend::S3(directory) => Ok(Some(directory)),
            Backend::Http(_) | Backend::File(_) => Ok(None),
        }
    }

    pub(super) async fn s3(&self) -> Result<Arc<s3::S3>> {
        let s3 = async || s3::S3::new(self.sdk.as_ref(), &self.timing).await.map(Arc::new);
        self.s3.get_or_try_init(s3).await.cloned()
    }
}

impl From<Attempt> for Access {
    fn from(attempt: Attempt) -> Access {
        match attempt {
            Attempt::Allowed => Access::Allowed,
            Attempt::Missing => Access::Missing,
            Attempt::Refused(error) => Access::Refused(error),
        }
    }
}
