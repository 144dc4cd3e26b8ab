//! A release of the same archive with the new config.

use super::{Changes, text};
use crate::check;
use crate::context::Context;
use crate::document;
use crate::maker::canonical_env;
use crate::promote::{Ready, again};
use crate::publish::Published;
use model::error::Result;
use model::release::env::Env;

/// Makes the next release from the archive of the newest one that is ready, and the config.
pub async fn release(cx: &Context) -> Result<Published> {
    let (number, document) = document::newest(&*cx.store, &cx.place).await?;
    let (env, name) = canonical_env(cx).await?;
    let parsed = check::env(&env, &name)?;
    again(cx, &Ready { place: &cx.place, number, document }, env, &parsed).await
}

/// Fails if no release could be made after the changes, before they are made.
pub async fn check(cx: &Context, changes: &Changes) -> Result<()> {
    let (_, document) = document::newest(&*cx.store, &cx.place).await?;
    let applied = text::apply(&super::read(cx).await?.text, changes)?;
    let env: Env = check::env(applied.text.as_bytes(), crate::place::ENV)?;
    let quiet = crate::report::Report { quiet: true };
    check::formation(&env, &document.types, &quiet)
}
