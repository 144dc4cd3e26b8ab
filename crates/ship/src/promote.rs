//! `ship promote`: the archive of a release in one environment, with the config of another.

use crate::check;
use crate::context::Context;
use crate::document::{self, Document};
use crate::maker::canonical_env;
use crate::place::{Number, Place};
use crate::publish::{Content, Draft, Published, publish};
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::signature::SIGNATURE;

/// Makes the next release of the context's environment from one of `from`: the named one, or the
/// one that `current` names there, or the newest.
pub async fn promote(cx: &Context, from: &Place, number: Option<Number>) -> Result<Published> {
    if *from == cx.place {
        let error = Error::usage(format!("promote a release of {from}"));
        let error = error.because("both environments are the same one");
        return Err(error.help("name two: `ship promote FROM TO`"));
    }
    let (number, document) = chosen(cx, from, number).await?;
    let (env, name) = canonical_env(cx).await?;
    let parsed = check::env(&env, &name)?;
    cx.report.step("promote", format!("{from} {number}"));
    again(cx, &Ready { place: from, number, document }, env, &parsed).await
}

/// A release that is ready.
pub struct Ready<'a> {
    pub place: &'a Place,
    pub number: Number,
    pub document: Document,
}

/// Makes the next release from the archive of another one, which the store copies itself.
pub async fn again(
    cx: &Context,
    ready: &Ready<'_>,
    env: Vec<u8>,
    parsed: &Env,
) -> Result<Published> {
    let Ready { place, number, document } = ready;
    let archive = document.archive.clone().ok_or_else(|| {
        let error = Error::unusable(format!("use {place} {number} again"));
        error.because(format!("its {} names no archive", document::NAME))
    })?;
    check::formation(parsed, &document.types, &cx.report)?;
    warn_if_unsigned(cx, ready).await?;
    let content = Content::Object(place.of(*number, &archive.name));
    let (origin, types) = (document.origin.clone(), document.types.clone());
    let from = Some(format!("{place}/{number}"));
    publish(cx, Draft { origin, from, types, archive, content, env }).await
}

/// Says that a signature is lost: the new release has another number, and must be signed anew.
async fn warn_if_unsigned(cx: &Context, ready: &Ready<'_>) -> Result<()> {
    let Ready { place, number, .. } = ready;
    let signature = place.of(*number, SIGNATURE);
    if cx.signer.is_none() && cx.store.get(&signature).await?.is_some() {
        cx.report.warn(format!(
            "{place} {number} is signed, and the new release is not: instances that require \
             signatures refuse it; sign it with --sign KEY, or `sign` in ship.toml"
        ));
    }
    Ok(())
}

async fn chosen(cx: &Context, from: &Place, number: Option<Number>) -> Result<(Number, Document)> {
    let store = &*cx.store;
    if let Some(number) = number {
        return Ok((number, document::ready(store, from, number).await?));
    }
    let Some(name) = document::current(store, from).await? else {
        return document::newest(store, from).await;
    };
    let number = Number::of_name(&name).ok_or_else(|| {
        let what = format!("promote {}", model::text::quoted(&name));
        let error = Error::unusable(what).with_reason(Reason::ReleaseMissing);
        let why = format!("{} names it, and ship has not made it", store.url(&from.pointer()));
        error.because(why).help(format!("name another: `ship promote {} … rN`", from.environment))
    })?;
    Ok((number, document::ready(store, from, number).await?))
}

#[cfg(test)]
mod tests;
