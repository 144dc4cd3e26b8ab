//! The instance's metadata: EC2's service at a link-local address, version 2.

use super::connect_error::joined;
use super::s3;
use aws_config::imds;
use aws_config::imds::client::error::ImdsError;

/// A client of the metadata service, which keeps its token.
pub struct InstanceMetadata(imds::Client);

impl Default for InstanceMetadata {
    fn default() -> Self {
        InstanceMetadata(s3::imds())
    }
}

impl InstanceMetadata {
    /// Returns the text at a path below `/latest/meta-data/`; `None` if there is none. The error
    /// says why the service does not answer.
    pub async fn get(&self, path: &str) -> Result<Option<String>, String> {
        match self.0.get(format!("/latest/meta-data/{path}")).await {
            Ok(text) => Ok(Some(text.into())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => {
                Ok(None)
            }
            Err(error) => Err(joined(&error)),
        }
    }
}
