//! What `…/ENVIRONMENT/current` names, and whether it names something else now.

use super::object::{Ask, Look, Object};
use super::{Download, Mark, Sources};
use crate::error::{Error, Result};
use crate::release::name::ReleaseName;
use crate::release::url::ReleaseUrl;

/// A release name has 63 characters; more than a line's worth is no pointer.
const LONGEST_POINTER: u64 = 256;

/// What `current` names now, and what it is known by from now on.
#[derive(Clone, Debug)]
pub struct News {
    pub mark: Mark,
    /// Of the release; where no pointer leads to one, of `current` itself.
    pub url: ReleaseUrl,
}

impl Sources {
    /// Whether `url`, which ends with `current`, names something else than when it
    /// was known by `known`: one conditional request where it has a pointer.
    ///
    /// # Errors
    ///
    /// As [`Sources::resolve`].
    pub async fn news(&self, url: &ReleaseUrl, known: Option<&Mark>) -> Result<Option<News>> {
        let pointer = match known {
            Some(Mark::Pointer(validator)) => Some(validator),
            _ => None,
        };
        match self.directory(url, None).await?.look("current", pointer, Ask::Get).await? {
            Look::Same => Ok(None),
            Look::Found(object) => {
                let mark = Mark::Pointer(object.validator.clone());
                let url = self.follow(url, *object).await?;
                Ok(Some(News { mark, url }))
            }
            Look::Missing | Look::Refused(_) => {
                let mark = Mark::Release(self.resolve(url).await?.identity());
                Ok((known != Some(&mark)).then(|| News { mark, url: url.clone() }))
            }
        }
    }

    /// Reads a pointer.
    pub(super) async fn follow(&self, url: &ReleaseUrl, pointer: Object) -> Result<ReleaseUrl> {
        let help = "write the name of a release into it and nothing else, for instance \
                    `echo r42 | aws s3 cp - …/ENVIRONMENT/current`";
        let url_of_pointer = pointer.url.clone();
        let unusable = || Error::unusable(format!("{url_of_pointer} is unusable")).help(help);
        let bytes =
            Download::new(pointer, self.timing.clone(), 0).read(LONGEST_POINTER, help).await?;
        let text = String::from_utf8(bytes).map_err(|error| unusable().because(error))?;
        let name: ReleaseName =
            text.trim().parse().map_err(|error: Error| unusable().because(error))?;
        let followed = url.with_release(name);
        if followed.is_current() {
            return Err(unusable().because("it points to itself"));
        }
        Ok(followed)
    }
}
