//! `release.json`: what is known of a release, beside its archive.

use crate::objects::{Condition, Objects, Written};
use crate::place::{Number, Place};
use crate::source::Origin;
use jiff::Timestamp;
use model::error::{Error, Exit, Result};
use model::reason::Reason;
use model::release::digest::Sha256;
use model::release::name::ProcessType;
use serde::{Deserialize, Serialize};

/// The name of the object.
pub const NAME: &str = "release.json";
/// The most tries to take a number: of the callers that try at once, one succeeds each time.
const TRIES: u32 = 200;
const TRIES_TO_COMPLETE: u32 = 5;
/// The most releases that are read to find one that is ready.
const MOST_UNFINISHED: usize = 100;

/// The state of a release in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Its number is taken. It is not complete, and may never be.
    Uploading,
    Ready,
}

/// The archive as it was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    pub name: String,
    pub bytes: u64,
    pub sha256: Sha256,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub state: Progress,
    /// The person or job that made it.
    pub by: String,
    pub at: Timestamp,
    /// The program that made it, with its version.
    pub tool: String,
    #[serde(default)]
    pub origin: Origin,
    /// The release that it was copied from: `my-app/staging/r12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
    /// The process types of its Procfile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<ProcessType>,
    /// The SHA-256 of its `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Sha256>,
}

impl Document {
    /// A release whose number is to be taken.
    pub fn begun(by: &str, at: Timestamp, origin: Origin) -> Document {
        Document {
            state: Progress::Uploading,
            by: by.to_owned(),
            at,
            tool: concat!("ship ", env!("CARGO_PKG_VERSION")).to_owned(),
            origin,
            from: None,
            archive: None,
            types: Vec::new(),
            env: None,
        }
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_vec_pretty(self);
        text.map_err(|e| Error::failed(format!("write {NAME}")).because(e))
    }
}

/// Reads the document of a release; none if it has none, as releases made by hand.
pub async fn read(store: &dyn Objects, place: &Place, number: Number) -> Result<Option<Document>> {
    let key = place.of(number, NAME);
    let Some(object) = store.get(&key).await? else { return Ok(None) };
    let document = serde_json::from_slice(&object.bytes);
    document.map(Some).map_err(|why| {
        let error = Error::unusable(format!("read {}", store.url(&key))).because(why);
        error.help("make the release again: `ship release`")
    })
}

/// Reads the document of a release that must be complete.
pub async fn ready(store: &dyn Objects, place: &Place, number: Number) -> Result<Document> {
    let Some(document) = read(store, place, number).await? else {
        let error = Error::unusable(format!("{place} has no release {number}"));
        let error = error.because(format!("{} does not exist", store.url(&place.of(number, NAME))));
        return Err(error.with_reason(Reason::ReleaseMissing).help("`ship releases` lists them"));
    };
    match document.state {
        Progress::Ready => Ok(document),
        Progress::Uploading => {
            let error = Error::unusable(format!("{place} {number} is not complete"));
            let why = format!("{} began to upload it at {}", document.by, document.at);
            Err(error.because(why).help("wait for it, or make another release"))
        }
    }
}

/// A number that belongs to the caller alone.
pub struct Reserved {
    pub number: Number,
    etag: String,
}

/// Takes the next number: of several callers at once, each gets another one.
pub async fn reserve(store: &dyn Objects, place: &Place, begun: &Document) -> Result<Reserved> {
    let bytes = begun.to_bytes()?;
    for _ in 0..TRIES {
        let next = next(store, place).await?;
        let key = place.of(next, NAME);
        if let Written::Done(etag) = store.put(&key, bytes.clone(), Condition::Absent).await? {
            return Ok(Reserved { number: next, etag });
        }
    }
    let error = Error::failed(format!("take a number for a release of {place}"));
    let error = error.because("others take each of them first").with_exit(Exit::Busy);
    Err(error.help("repeat the command"))
}

/// Returns the number that the next release gets, unless another caller takes it first.
pub async fn next(store: &dyn Objects, place: &Place) -> Result<Number> {
    Ok(Number(latest(store, place).await?.map_or(1, |number| number.0 + 1)))
}

/// Marks the release ready.
pub async fn complete(
    store: &dyn Objects,
    place: &Place,
    reserved: Reserved,
    mut document: Document,
) -> Result<Document> {
    document.state = Progress::Ready;
    let (key, bytes) = (place.of(reserved.number, NAME), document.to_bytes()?);
    for _ in 0..TRIES_TO_COMPLETE {
        let unchanged = Condition::Unchanged(reserved.etag.clone());
        if let Written::Done(_) = store.put(&key, bytes.clone(), unchanged).await? {
            return Ok(document);
        }
        match store.get(&key).await? {
            // The answer to the write was lost, and the SDK repeated it.
            Some(object) if object.bytes == bytes => return Ok(document),
            // S3 could not decide between two requests (409).
            Some(object) if object.etag == reserved.etag => {}
            _ => break,
        }
    }
    let error = Error::failed(format!("complete {place} {}", reserved.number));
    let why = format!("another program has changed {}", store.url(&key));
    Err(error.because(why).help("make the release again"))
}

/// Returns the newest release that is ready.
pub async fn newest(store: &dyn Objects, place: &Place) -> Result<(Number, Document)> {
    for number in numbers(store, place).await?.into_iter().take(MOST_UNFINISHED) {
        match read(store, place, number).await? {
            Some(document) if document.state == Progress::Ready => return Ok((number, document)),
            _ => {}
        }
    }
    let error = Error::unusable(format!("{place} has no release that is ready"));
    let help = format!("make one: `ship release {}`", place.environment);
    Err(error.with_reason(Reason::ReleaseMissing).help(help))
}

/// Returns the name of the release that the pointer names; none without a pointer.
pub async fn current(store: &dyn Objects, place: &Place) -> Result<Option<String>> {
    let object = store.get(&place.pointer()).await?;
    Ok(object.map(|object| String::from_utf8_lossy(&object.bytes).trim().to_owned()))
}

/// All numbers that are taken, highest first.
pub async fn numbers(store: &dyn Objects, place: &Place) -> Result<Vec<Number>> {
    let names = store.list(&place.prefix(), usize::MAX).await?.directories;
    let mut numbers: Vec<Number> = names.iter().filter_map(|name| Number::of_name(name)).collect();
    numbers.sort_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// The highest number that is taken.
pub async fn latest(store: &dyn Objects, place: &Place) -> Result<Option<Number>> {
    Ok(numbers(store, place).await?.first().copied())
}
