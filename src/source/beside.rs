//! Reads small files that lie beside a release's archive.

use super::object::{Fetch, Lookup};
use super::{Download, Sources};
use model::error::{Error, Result};
use model::release::url::ReleaseUrl;

impl Sources {
    /// Reads a file of a release, of at most `limit` bytes; none if there is no such file. It is
    /// not pinned with the release: its content must prove that it belongs to it.
    ///
    /// # Errors
    ///
    /// `Exit::Source` if it cannot be read, `Exit::Unusable` if it is too long. A store that may
    /// not be listed denies access to a file that does not exist.
    pub async fn beside(
        &self,
        url: &ReleaseUrl,
        name: &str,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        let directory = self.directory(url, Some(url.release())).await?;
        match directory.look(name, None, Fetch::Get).await? {
            Lookup::Missing | Lookup::Same => Ok(None),
            Lookup::Refused(error) => {
                Err(denied(url, name, directory.explain(&[name], error).await))
            }
            Lookup::Found(object) => {
                let download = Download::new(*object, self.timing.clone(), 0);
                let help = format!("sign the release again: a usual {name} is a few lines");
                download.read(limit as u64, &help).await.map(Some)
            }
        }
    }
}

fn denied(url: &ReleaseUrl, name: &str, why: Error) -> Error {
    let reason = why.reason();
    let error = Error::source(format!("read {name} of {url}")).because(why).with_reason(reason);
    error.help(format!(
        "sign the release, if it has no {name}: without s3:ListBucket the store does not say \
         that; otherwise allow this instance to read it"
    ))
}
