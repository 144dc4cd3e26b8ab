//! `ship release`: from a commit or a directory to a numbered release in the store.

use crate::archive::{self, Packed};
use crate::check;
use crate::context::Context;
use crate::document::Archive;
use crate::publish::{Content, Draft, Published, publish};
use crate::report::size;
use crate::source::{Source, Wanted, git};
use model::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A request for a release.
pub struct Order {
    /// The working directory.
    pub here: PathBuf,
    pub wanted: Wanted,
    /// Whether to put the Git tag `rN` on the commit.
    pub tag: bool,
}

/// A release that is ready, and perhaps the reason why it has no tag.
pub struct Made {
    pub published: Published,
    pub untagged: Option<Error>,
}

/// Makes a release. Nothing is in the store before all checks are passed.
pub async fn release(cx: &Context, order: Order) -> Result<Made> {
    let Order { here, wanted, tag } = order;
    let source = blocking(move || Source::find(&here, &wanted)).await?;
    let tagged = if tag { Some(taggable(&source)?) } else { None };
    let (env, name) = canonical_env(cx).await?;
    let parsed = check::env(&env, &name)?;
    cx.report.step("pack", source.name());
    let source = Arc::new(source);
    let packing = Arc::clone(&source);
    let pack: Packed = blocking(move || archive::pack(&packing)).await?;
    cx.report.step("packed", format!("{} entries, {}", pack.entries, size(pack.bytes)));
    let types = pack.procfile.types();
    check::formation(&parsed, &types, &cx.report)?;
    let draft = Draft {
        origin: source.origin().clone(),
        from: None,
        types,
        archive: Archive {
            name: archive::NAME.to_owned(),
            bytes: pack.bytes,
            sha256: pack.sha256.clone(),
        },
        content: Content::File(pack.file.path()),
        env,
    };
    let published = publish(cx, draft).await?;
    let name = published.number.to_string();
    let untagged = match tagged {
        None => None,
        Some((directory, commit)) => {
            let message = format!("{} {name}", cx.place);
            cx.report.step("tag", format!("{name} on {}", git::short(source.origin())));
            let tagged = blocking(move || git::tag(&directory, &name, &message, &commit)).await;
            tagged.err().map(|why| untagged(&published, why))
        }
    };
    Ok(Made { published, untagged })
}

/// Returns the config that the next release gets, and its name in errors. It may not exist.
pub async fn canonical_env(cx: &Context) -> Result<(Vec<u8>, String)> {
    let key = cx.place.env();
    let found = cx.store.get(&key).await?;
    let name = format!("env of {}", cx.store.url(&key).trim_end_matches("/env"));
    Ok((found.map(|object| object.bytes).unwrap_or_default(), name))
}

/// Returns the repository and the commit that a tag can name.
fn taggable(source: &Source) -> Result<(PathBuf, String)> {
    match source {
        Source::Commit { directory, origin } => {
            Ok((directory.clone(), origin.commit.clone().unwrap_or_default()))
        }
        Source::Files { .. } => {
            let error = Error::usage(format!("tag {}", source.name()));
            let why = "a tag names a commit, and these files are not exactly those of one";
            Err(error.because(why).help("leave --tag out, or release a commit"))
        }
    }
}

fn untagged(published: &Published, why: Error) -> Error {
    let number = published.number;
    let error = Error::failed(format!("tag {number}")).because(why);
    error.help(format!("{number} is ready all the same; tag its commit with another name"))
}

/// Runs work that blocks.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|why| Error::failed("finish the work").because(why))?
}

/// Returns who makes a release: the name given, Git's, or the user's.
pub fn person(given: Option<String>, here: &Path) -> String {
    let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    let name = given.or_else(|| git::person(here)).or_else(user);
    model::text::line(&name.unwrap_or_else(|| "unknown".to_owned()), 80)
}

#[cfg(test)]
mod tests;
