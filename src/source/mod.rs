//! Sources of releases: S3, HTTP and directories.
//!
//! `Sources::resolve` asks a source once which release a URL names. The returned `Resolved` reads
//! exactly that release, or fails: code and env never come from two releases.

mod download;
mod beside;
mod encoding;
mod examine;
mod file;
mod pointer;
mod guard;
mod http;
mod metadata;
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
pub use examine::Access;
pub use metadata::InstanceMetadata;
pub use model::release::checksum::{Algorithm, Checksum};
pub use model::release::identity::{Identity, Mark, Sighting, Validator};
pub use pointer::PointerChange;
pub use retry::Timing;
pub use s3::{Query, QueryRefused};

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

/// An env file is written by people; the kernel accepts 2 MiB of environment at most.
const LONGEST_ENV: u64 = 1024 * 1024;

/// The clients, created for the first release that needs them and shared by all later ones.
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

/// Begins an HTTP client. All of them have one TLS stack.
pub fn http_client() -> reqwest::ClientBuilder {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

impl Sources {
    /// Creates the sources, with S3 configured by the environment, the profile files and the
    /// instance.
    pub fn new() -> Sources {
        Self::with_timing(Timing::default(), None)
    }

    /// Creates the sources with other timing; with `sdk`, S3 is configured by it and not by the
    /// environment.
    pub fn with_timing(timing: Timing, sdk: Option<SdkConfig>) -> Sources {
        Sources { timing, sdk, s3: OnceCell::new(), http: OnceCell::new() }
    }

    /// Resolves a URL. Requests four objects at once, and before them the pointer if the release
    /// is `current`.
    ///
    /// # Errors
    ///
    /// `Exit::Source` if the source cannot be reached, denies access or has no such release;
    /// `Exit::Unusable` if the pointer holds no release name.
    pub async fn resolve(&self, url: &ReleaseUrl) -> Result<Resolved> {
        if !url.is_current() {
            return self.pin(url.clone()).await;
        }
        let environment = self.directory(url, None).await?;
        let refused = match environment.look("current", None, Fetch::Get).await? {
            Lookup::Found(object) => return self.pin(self.follow(url, *object).await?).await,
            Lookup::Missing | Lookup::Same => None,
            // The pointer may be missing: S3 reveals that only to callers that may list.
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

    /// Returns the directory of a release, or of its environment.
    async fn directory(&self, url: &ReleaseUrl, release: Option<&ReleaseName>) -> Result<Backend> {
        let below = |base: &str| match release {
            Some(release) => format!("{base}/{release}"),
            None => base.to_owned(),
        };
        Ok(match url.scheme() {
            Scheme::S3 { bucket, prefix } => {
                Backend::S3(self.s3().await?.directory(bucket, &below(prefix)))
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

/// The place where the objects of a release are looked up.
enum Backend {
    S3(s3::S3Backend),
    Http(http::HttpBackend),
    File(file::FileBackend),
}

impl Backend {
    /// Looks up an object. With `known`, a source that can decide it only reports whether the
    /// object has changed.
    async fn look(&self, name: &str, known: Option<&Validator>, ask: Fetch) -> Result<Lookup> {
        match self {
            Backend::S3(directory) => directory.look(name, known, ask).await,
            Backend::Http(directory) => directory.look(name, ask).await,
            Backend::File(directory) => directory.look(name).await,
        }
    }

    /// Returns the reason that the source gives for one of these names, or else `error`.
    async fn explain(&self, names: &[&str], error: Error) -> Error {
        match self {
            Backend::S3(directory) => directory.explain(names, error).await,
            Backend::Http(_) | Backend::File(_) => error,
        }
    }
}

/// A resolved release: every byte read from it belongs to this version.
#[derive(Clone)]
pub struct Resolved {
    url: ReleaseUrl,
    compression: Compression,
    archive: Object,
    env: Object,
    timing: Timing,
}

impl Resolved {
    /// The URL of the release itself, after following a pointer.
    pub fn url(&self) -> &ReleaseUrl {
        &self.url
    }

    pub fn name(&self) -> &ReleaseName {
        self.url.release()
    }

    /// Returns the source's metadata of the archive and env.
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

    /// Compressed bytes, if the source reports the size.
    pub fn archive_size(&self) -> Option<u64> {
        self.archive.validator.size
    }

    /// Returns the algorithm of a stored checksum that is not over the archive's bytes: for some
    /// multipart uploads, S3 has only a checksum of the parts' checksums.
    pub fn checksum_of_parts(&self) -> Option<Algorithm> {
        let checksum = self.archive.validator.checksum.as_ref()?;
        (!checksum.full_object).then_some(checksum.algorithm)
    }

    /// Reads the env file.
    ///
    /// # Errors
    ///
    /// `Exit::Source`, as for the archive; `Exit::Unusable` if it is longer than 1 MiB.
    pub async fn env(&self) -> Result<Vec<u8>> {
        Download::new(self.env.clone(), self.timing.clone(), 0)
            .read(LONGEST_ENV, "an env file holds variables: put larger data into the archive")
            .await
    }

    /// Returns the archive's bytes, still compressed. They are valid only once the download has
    /// ended without an error: the checksum is verified last. A large archive is fetched in
    /// parallel parts, as many as fit into `memory` (bytes).
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
