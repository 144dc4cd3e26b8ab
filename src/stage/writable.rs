//! The paths of the tree that processes may write to: DEPLOY_WRITABLE.

use crate::store::{Staging, Unwritable, WhyUnwritable};
use model::error::{Error, Result};
use model::release::settings::ReleaseSettings;

/// Makes every path of DEPLOY_WRITABLE writable for the processes. With the built-in value, a path
/// that cannot be made writable is no error: nobody asked for it.
pub(super) fn make(staging: &Staging, settings: &ReleaseSettings) -> Result<()> {
    for path in &settings.writable {
        match staging.make_writable(path) {
            Ok(()) => {}
            Err(Unwritable { why: WhyUnwritable::Dangling | WhyUnwritable::Kind, .. })
                if settings.is_writable_built_in() => {}
            Err(found) => return Err(refused(path, &found)),
        }
    }
    Ok(())
}

fn refused(path: &str, found: &Unwritable) -> Error {
    let (why, help) = match found.why {
        WhyUnwritable::Dangling => (
            "it is a link to something that is not there".to_owned(),
            "make the directory in `build`, or name it in DEPLOY_WRITABLE in place of the link",
        ),
        WhyUnwritable::Outside => (
            "it is a link that leads out of the release".to_owned(),
            "leave the link out, or set DEPLOY_WRITABLE (tmp,log where it is not set) to \
             directories of the release",
        ),
        WhyUnwritable::Kind => (
            "it is no directory".to_owned(),
            "name directories of the release in DEPLOY_WRITABLE, or a file without a path below it",
        ),
        WhyUnwritable::System(errno) => {
            (errno.to_string(), "check the owner and the mode of what `build` made there")
        }
    };
    let at = found.at.to_string_lossy();
    let why = if at == path { why } else { format!("{at}: {why}") };
    Error::unusable(format!("make {path} writable (DEPLOY_WRITABLE)")).because(why).help(help)
}
