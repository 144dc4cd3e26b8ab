//! Puts a release into the store, whether it is made from files or from another release.

use crate::context::Context;
use crate::document::{self, Archive, Document};
use crate::objects::{Condition, Written};
use crate::place::{ENV, Number};
use crate::report::size;
use crate::source::Origin;
use model::error::{Error, Result};
use model::release::digest::Sha256;
use model::release::name::ProcessType;
use model::release::signature::SIGNATURE;
use model::release::sums::{SUMS, Sums, title};
use std::path::Path;

/// A release that is complete and checked, and has no number yet.
pub struct Draft<'a> {
    pub origin: Origin,
    /// The release whose archive it has.
    pub from: Option<String>,
    pub types: Vec<ProcessType>,
    pub archive: Archive,
    pub content: Content<'a>,
    pub env: Vec<u8>,
}

/// The place of the archive's bytes.
pub enum Content<'a> {
    File(&'a Path),
    /// Another object of the store.
    Object(String),
}

/// A release that is in the store.
#[derive(Debug)]
pub struct Published {
    pub number: Number,
    pub document: Document,
}

/// Signs for the next number, takes it, uploads, and marks the release ready: the last write of all.
pub async fn publish(cx: &Context, draft: Draft<'_>) -> Result<Published> {
    let Draft { origin, from, types, archive, content, env } = draft;
    let env_sum = Sha256::of(&env);
    // A key that does not sign must not cost a number.
    let next = document::next(&*cx.store, &cx.place).await?;
    let mut signed = Signed::new(cx, next, &archive, &env_sum).await?;
    let mut document = Document::begun(&cx.by, cx.store.now().await?, origin);
    document.from = from;
    let reserved = document::reserve(&*cx.store, &cx.place, &document).await?;
    let number = reserved.number;
    if number != next {
        signed = Signed::new(cx, number, &archive, &env_sum).await?;
    }
    cx.report.step("number", format!("{} {number}", cx.place));
    let key = |name: &str| cx.place.of(number, name);
    match content {
        Content::File(file) => {
            cx.report.step("upload", format!("{}, {}", archive.name, size(archive.bytes)));
            cx.store.upload(&key(&archive.name), file).await?;
        }
        Content::Object(from) => {
            cx.report.step("copy", format!("{}, {}", cx.store.url(&from), size(archive.bytes)));
            cx.store.copy(&from, &key(&archive.name)).await?;
        }
    }
    let rest = [(ENV, Some(env)), (SUMS, Some(signed.sums)), (SIGNATURE, signed.signature)];
    for (name, bytes) in rest {
        if let Some(bytes) = bytes {
            put(cx, &key(name), bytes).await?;
        }
    }
    document.archive = Some(archive);
    document.env = Some(env_sum);
    document.types = types;
    let document = document::complete(&*cx.store, &cx.place, reserved, document).await?;
    cx.report.step("ready", cx.store.url(&cx.place.of(number, "")).trim_end_matches('/'));
    Ok(Published { number, document })
}

async fn put(cx: &Context, key: &str, bytes: Vec<u8>) -> Result<()> {
    match cx.store.put(key, bytes, Condition::Any).await? {
        Written::Done(_) => Ok(()),
        Written::Conflict => {
            let error = Error::failed(format!("write {}", cx.store.url(key)));
            Err(error.because("another program writes it").help("repeat the command"))
        }
    }
}

/// The sums of a release and its name, which `sha256sum -c` checks, and their signature.
struct Signed {
    sums: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl Signed {
    async fn new(cx: &Context, number: Number, archive: &Archive, env: &Sha256) -> Result<Signed> {
        let title = title(&cx.place.app, &cx.place.environment, number);
        let files = [(archive.name.as_str(), &archive.sha256), (ENV, env)];
        let sums = Sums::new(title, &files).to_text().into_bytes();
        let signature = match &cx.signer {
            Some(signer) => Some(signer.sign(sums.clone()).await?),
            None => None,
        };
        Ok(Signed { sums, signature })
    }
}
