//! Where releases come from: S3, HTTP and directories.
//!
//! `Sources::resolve` asks a source once what a release is. The `Resolved` that
//! it gives reads nothing else than that, or fails: code and env never come from
//! two releases.

mod download;
mod encoding;
mod file;
mod pointer;
mod guard;
mod http;
mod connect_error;
mod object;
mod stall_guard;
mod parallel_download;
mod proxy;
mod retry;
mod s3;
mod range_reader;
mod unread;
mod verifier;

pub use download::Download;
pub use model::release::checksum::{Algorithm, Checksum};
pub use model::release::identity::{Identity, Mark, Sighting, Validator};
pub use pointer::PointerChange;
pub use retry::Timing;

use aws_config::SdkConfig;
use futures_util::future::{join, join_all};
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::compression::Compression;
use model::release::name::ReleaseName;
use model::release::url::ReleaseUrl;
use model::release::url::Scheme;
use object::{Fetch, Lookup, Object};
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// An env file is text that people write; the kernel takes 2 MiB of environment at most.
const LONGEST_ENV: u64 = 1024 * 1024;

/// The clients, made when the first release needs them and used by all later ones.
pub struct Sources {
    timing: Timing,
    sdk: Option<SdkConfig>,
    s3: OnceCell<Arc<s3::S3>>,
    http: OnceCell<http::Web>,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl Sources {
    /// S3 as the environment, the profile files and the instance say.
    pub fn new() -> Sources {
        Self::with_timing(Timing::default(), None)
    }

    /// Other bounds than the usual ones; with `sdk`, S3 as it says and not as the
    /// environment does.
    pub fn with_timing(timing: Timing, sdk: Option<SdkConfig>) -> Sources {
        // The one TLS stack, for reqwest; an error says that it is chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Sources { timing, sdk, s3: OnceCell::new(), http: OnceCell::new() }
    }

    /// Finds out which release this is. It asks for four objects at once, and
    /// for a pointer before them where the release is `current`.
    ///
    /// # Errors
    ///
    /// `Exit::Source` where the source cannot be reached, refuses us or has no
    /// such release; `Exit::Unusable` where the pointer holds no release name.
    pub async fn resolve(&self, url: &ReleaseUrl) -> Result<Resolved> {
        if !url.is_current() {
            return self.pin(url.clone()).await;
        }
        let environment = self.directory(url, None).await?;
        let refused = match environment.look("current", None, Fetch::Get).await? {
            Lookup::Found(object) => return self.pin(self.follow(url, *object).await?).await,
            Lookup::Missing | Lookup::Same => None,
            // It may just as well be missing: S3 tells only whom it lets list.
            Lookup::Refused(refused) => Some(refused),
        };
        match (self.pin(url.clone()).await, refused) {
            (Err(_), Some(refused)) => Err(environment.explain(&["current"], refused).await),
            (resolved, _) => resolved,
        }
    }

    async fn pin(&self, url: ReleaseUrl) -> Result<Resolved> {
        let directory = self.directory(&url, Some(url.release())).await?;
        let archive = |kind: Compression| directory.look(kind.archive_name(), None, Fetch::Head);
        let archives = join_all(Compression::ALL.map(archive));
        let (archives, env) = join(archives, directory.look("env", None, Fetch::Get)).await;

        let mut archive = None;
        let mut refused = None;
        for (compression, look) in Compression::ALL.into_iter().zip(archives) {
            match look? {
                Lookup::Found(object) => {
                    archive = Some((compression, *object));
                    break;
                }
                Lookup::Missing | Lookup::Same => {}
                Lookup::Refused(error) => refused = refused.or(Some(error)),
            }
        }
        let env = match env? {
            Lookup::Found(object) => Some(*object),
            Lookup::Missing | Lookup::Same => None,
            Lookup::Refused(error) => {
                refused = refused.or(Some(error));
                None
            }
        };
        match (archive, env, refused) {
            (Some((compression, archive)), Some(env), _) => {
                Ok(Resolved { url, compression, archive, env, timing: self.timing.clone() })
            }
            (archive, env, refused) => {
                if archive.is_none()
                    && let Some(error) = unread::find(&directory, &url).await
                {
                    return Err(error);
                }
                let refused =
                    refused.unwrap_or_else(|| missing(&url, archive.is_some(), env.is_some()));
                Err(directory.explain(&["env", Compression::Zstd.archive_name()], refused).await)
            }
        }
    }

    /// The directory of a release, or of its environment.
    async fn directory(&self, url: &ReleaseUrl, release: Option<&ReleaseName>) -> Result<Backend> {
        let below = |base: &str| match release {
            Some(release) => format!("{base}/{release}"),
            None => base.to_owned(),
        };
        Ok(match url.scheme() {
            Scheme::S3 { bucket, prefix } => {
                let s3 = async || s3::S3::new(self.sdk.as_ref(), &self.timing).await.map(Arc::new);
                let s3 = self.s3.get_or_try_init(s3).await?.clone();
                Backend::S3(s3.directory(bucket, &below(prefix)))
            }
            Scheme::Http { base } => {
                let client = || std::future::ready(http::client(&self.timing));
                let client = self.http.get_or_try_init(client).await?.clone();
                Backend::Http(http::HttpBackend::new(client, below(base), self.timing.clone()))
            }
            Scheme::File { base } => {
                let path =
                    release.map_or_else(|| base.clone(), |release| base.join(release.as_str()));
                Backend::File(file::FileBackend::open(path).await?)
            }
        })
    }
}

fn missing(url: &ReleaseUrl, archive: bool, env: bool) -> Error {
    let names = Compression::ALL.map(Compression::archive_name).join(", ");
    let what = match (archive, env) {
        (false, false) => format!("there is neither an archive ({names}) nor an env"),
        (false, true) => format!("there is an env and no archive ({names})"),
        _ => "there is an archive and no env".to_owned(),
    };
    Error::source(format!("{url} is no release"))
        .with_reason(Reason::ReleaseMissing)
        .because(what)
        .help("check the release's name, and that its upload is complete")
}

/// Where the objects of a release are looked for.
enum Backend {
    S3(s3::S3Backend),
    Http(http::HttpBackend),
    File(file::FileBackend),
}

impl Backend {
    /// Asks for an object and, where it is `known` and the source can say for sure, only
    /// whether it is another one now.
    async fn look(&self, name: &str, known: Option<&Validator>, ask: Fetch) -> Result<Lookup> {
        match self {
            Backend::S3(directory) => directory.look(name, known, ask).await,
            Backend::Http(directory) => directory.look(name, ask).await,
            Backend::File(directory) => directory.look(name).await,
        }
    }

    /// The same failure, or the reason that the source gives for one of these names.
    async fn explain(&self, names: &[&str], error: Error) -> Error {
        match self {
            Backend::S3(directory) => directory.explain(names, error).await,
            Backend::Http(_) | Backend::File(_) => error,
        }
    }
}

/// A release that is resolved: every byte read of it is of this identity.
#[derive(Clone)]
pub struct Resolved {
    url: ReleaseUrl,
    compression: Compression,
    archive: Object,
    env: Object,
    timing: Timing,
}

impl Resolved {
    /// Of the release itself: a pointer was followed.
    pub fn url(&self) -> &ReleaseUrl {
        &self.url
    }

    pub fn name(&self) -> &ReleaseName {
        self.url.release()
    }

    /// What the source says of it.
    pub fn sighting(&self) -> Sighting {
        let named = |object: &Object, name: &str| Validator {
            name: Some(name.to_owned()),
            ..object.validator.clone()
        };
        Sighting {
            url: self.url.clone(),
            archive: named(&self.archive, self.compression.archive_name()),
            env: named(&self.env, "env"),
        }
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Compressed bytes, where the source says how many.
    pub fn archive_size(&self) -> Option<u64> {
        self.archive.validator.size
    }

    /// Of a checksum that the source keeps for the archive, if it is none of its bytes: S3 has
    /// for some objects that were uploaded in parts a checksum of the parts' checksums alone.
    pub fn checksum_of_parts(&self) -> Option<Algorithm> {
        let checksum = self.archive.validator.checksum.as_ref()?;
        (!checksum.full_object).then_some(checksum.algorithm)
    }

    /// The env file.
    ///
    /// # Errors
    ///
    /// `Exit::Source`, as for the archive; `Exit::Unusable` where it is longer than 1 MiB.
    pub async fn env(&self) -> Result<Vec<u8>> {
        Download::new(self.env.clone(), self.timing.clone(), 0)
            .read(LONGEST_ENV, "an env file holds variables: put larger data into the archive")
            .await
    }

    /// The archive's bytes, still compressed. They are the release's only once
    /// the download has ended without an error: the checksum is known last. Of a
    /// large one several parts are under way at once, as far as `memory` (bytes) goes.
    pub fn archive(&self, memory: u64) -> Download {
        Download::new(self.archive.clone(), self.timing.clone(), memory)
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut resolved = f.debug_struct("Resolved");
        resolved.field("seen", &self.sighting()).finish_non_exhaustive()
    }
}
