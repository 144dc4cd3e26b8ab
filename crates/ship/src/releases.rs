//! `ship releases`: what is in the store for an environment.

use crate::context::Context;
use crate::document::{self, Document, Progress};
use crate::place::Number;
use crate::report::size;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use model::error::Result;
use serde::Serialize;

/// Documents that are read at once.
const AT_ONCE: usize = 16;
/// Columns that the author gets.
const AUTHOR: usize = 20;

/// A release in the store.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub release: String,
    /// Whether `current` names it.
    pub current: bool,
    /// None for a release that was made by hand.
    #[serde(flatten)]
    pub document: Option<Document>,
}

/// Returns the newest releases, at most so many, and the time by the store's clock. Those with
/// other names than ship gives come last, by name.
pub async fn list(cx: &Context, most: usize) -> Result<(Vec<Listed>, Timestamp)> {
    let (store, place) = (&*cx.store, &cx.place);
    let mut names = store.list(&place.prefix(), usize::MAX).await?.directories;
    names.retain(|name| name != "deploys");
    let number = |name: &str| Number::of_name(name);
    names.sort_by(|a, b| number(b).cmp(&number(a)).then_with(|| a.cmp(b)));
    names.truncate(most);
    let current = document::current(store, place).await?;
    let read = names.into_iter().map(|release| {
        let current = current.as_ref() == Some(&release);
        async move {
            let document = match Number::of_name(&release) {
                Some(number) => document::read(store, place, number).await?,
                None => None,
            };
            Ok(Listed { release, current, document })
        }
    });
    let listed = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
    Ok((listed, store.now().await?))
}

/// Renders the releases for people, in lines of at most `width` columns.
pub fn table(listed: &[Listed], now: Timestamp, width: Option<usize>) -> String {
    let header = ["", "release", "age", "commit", "by", "size", "state"].map(str::to_uppercase);
    let rows: Vec<_> =
        std::iter::once(header.to_vec()).chain(listed.iter().map(|one| row(one, now))).collect();
    crate::table::table(&rows, width)
}

fn row(one: &Listed, now: Timestamp) -> Vec<String> {
    let mark = if one.current { "*" } else { "" }.to_owned();
    let release = model::text::line(&one.release, 63);
    let Some(document) = &one.document else {
        let nothing = || "-".to_owned();
        return vec![mark, release, nothing(), nothing(), nothing(), nothing(), "by hand".into()];
    };
    let Document { origin, archive, state, from, .. } = document;
    let commit = origin.commit.as_deref().map_or("-", |commit| commit.get(..10).unwrap_or(commit));
    let dirty = if origin.dirty { "+" } else { "" };
    let author = origin.author.as_deref().and_then(|author| author.split(" <").next());
    let author = author.filter(|author| !author.is_empty()).unwrap_or(&document.by);
    let state = match (state, from) {
        (Progress::Uploading, _) => "uploading".to_owned(),
        (Progress::Ready, None) => "ready".to_owned(),
        (Progress::Ready, Some(from)) => format!("ready, from {}", short(from)),
    };
    vec![
        mark,
        release,
        age(document.at, now),
        format!("{commit}{dirty}"),
        cut(author),
        archive.as_ref().map_or("-".into(), |archive| size(archive.bytes)),
        state,
    ]
}

/// `my-app/staging/r12` without the app.
fn short(from: &str) -> String {
    let short = from.split_once('/').map_or(from, |(_, rest)| rest);
    model::text::line(short, 63)
}

fn cut(author: &str) -> String {
    let author = model::text::line(author, 200);
    console::truncate_str(&author, AUTHOR, "…").into_owned()
}

/// Returns how long ago it was, in the unit that fits.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
