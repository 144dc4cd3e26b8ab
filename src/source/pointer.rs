//! Reads the pointer `…/ENVIRONMENT/current`, and detects when it changes.

use super::object::{Fetch, Lookup, Object};
use super::{Download, Identity, Mark, Sources};
use model::error::{Error, Result};
use model::release::name::ReleaseName;
use model::release::url::ReleaseUrl;

/// A release name has 63 characters; a longer line is no pointer.
const LONGEST_POINTER: u64 = 256;

/// The release that `current` names, and the validator for the next request.
#[derive(Clone, Debug)]
pub struct PointerChange {
    pub mark: Mark,
    /// URL of the release; without a pointer, of `current` itself.
    pub url: ReleaseUrl,
}

impl PointerChange {
    /// Whether both name the same release.
    pub fn is_same(&self, other: &PointerChange) -> bool {
        self.url == other.url
            && match (&self.mark, &other.mark) {
                (Mark::Pointer(_), Mark::Pointer(_)) => true,
                (Mark::Release(one), Mark::Release(other)) => {
                    one.is_same(&self.url, other, &self.url)
                }
                _ => false,
            }
    }
}

impl Sources {
    /// Returns whether `url`, which ends with `current`, names another release than `known`.
    /// Pointers are compared by their content: a file server may give two of them, written in the
    /// same second, the same ETag. Only an S3 with MD5 ETags gets a conditional request.
    ///
    /// # Errors
    ///
    /// As [`Sources::resolve`].
    pub async fn pointer_change(
        &self,
        url: &ReleaseUrl,
        known: Option<&PointerChange>,
    ) -> Result<Option<PointerChange>> {
        let pointer = match known.map(|known| &known.mark) {
            Some(Mark::Pointer(validator)) => Some(validator),
            _ => None,
        };
        let directory = self.directory(url, None).await?;
        let news = match directory.look("current", pointer, Fetch::Get).await? {
            Lookup::Same => return Ok(None),
            Lookup::Found(object) => {
                let mark = Mark::Pointer(object.validator.clone());
                PointerChange { mark, url: self.follow(url, *object).await? }
            }
            Lookup::Missing | Lookup::Refused(_) => {
                let seen = self.resolve(url).await?.sighting();
                PointerChange {
                    mark: Mark::Release(Box::new(Identity::of(seen, None))),
                    url: url.clone(),
                }
            }
        };
        Ok((!known.is_some_and(|known| known.is_same(&news))).then_some(news))
    }

    /// Reads a pointer.
    pub(super) async fn follow(&self, url: &ReleaseUrl, pointer: Object) -> Result<ReleaseUrl> {
        let help = "write the name of a release into it and nothing else, for instance \
                    `echo r42 | aws s3 cp - …/ENVIRONMENT/current`";
        let url_of_pointer = pointer.url.clone();
        let unusable = || Error::unusable(format!("{url_of_pointer} is unusable")).help(help);
        let bytes =
            Download::new(pointer, self.timing.clone(), 0).read(LONGEST_POINTER, help).await?;
        if let Some(which) = byte_order_mark(&bytes) {
            let why = format!("it begins with the byte order mark of {which}");
            let help = "write it without one: `printf r42 >current`, or in PowerShell \
                        `Set-Content -Encoding ascii current r42`";
            return Err(unusable().because(why).help(help));
        }
        let text = String::from_utf8(bytes).map_err(|error| unusable().because(error))?;
        // Do not quote the text: it may be a secret.
        let none = |_: Error| unusable().because("what it holds is not a release name");
        let name: ReleaseName = text.trim().parse().map_err(none)?;
        let followed = url.with_release(name);
        if followed.is_current() {
            return Err(unusable().because("it points to itself"));
        }
        Ok(followed)
    }
}

/// The byte order mark that Windows programs put at the start of a text.
fn byte_order_mark(bytes: &[u8]) -> Option<&'static str> {
    let marks: [(&[u8], _); 3] =
        [(b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    marks.into_iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, which)| which)
}
