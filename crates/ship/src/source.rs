//! The files that a release is made from: a commit, a working tree, or a directory.

pub mod git;

use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use model::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file that names what stays out of a release, in the syntax of `.gitignore`.
pub const IGNORE: &str = ".deployignore";

/// The origin of a release, as `release.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of the commit's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether the files differ from those of the commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dirty: bool,
}

/// The files to pack.
#[derive(Debug)]
pub enum Source {
    /// The files of a commit that are below a directory of its repository.
    Commit { directory: PathBuf, origin: Origin },
    /// Files of a directory: those named, relative to it, in their order.
    Files { directory: PathBuf, files: Vec<PathBuf>, origin: Origin },
}

/// The caller's choice of a source.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A directory, or a revision of the repository.
    pub source: Option<String>,
    pub dirty: bool,
    /// The directory of `ship.toml`, which is the app's own in a repository of several.
    pub app: Option<PathBuf>,
}

impl Source {
    /// Finds the source: the named directory or revision; without a name, the commit that is
    /// checked out in `here`, or `here` itself if it belongs to no repository.
    pub fn find(here: &Path, wanted: &Wanted) -> Result<Source> {
        if let Some(name) = &wanted.source
            && here.join(name).is_dir()
        {
            return Source::directory(&here.join(name));
        }
        let root = git::root(here)?.map(|root| match &wanted.app {
            Some(app) if app.canonicalize().is_ok_and(|app| app.starts_with(&root)) => app.clone(),
            _ => root,
        });
        match (&wanted.source, root) {
            (Some(name), Some(root)) => git::commit(root, name),
            (Some(name), None) => {
                let what = format!("find {}", model::text::quoted(name));
                let error = Error::usage(what).because("no such directory, and no Git repository");
                Err(error.help("name a directory, or run this in the repository"))
            }
            (None, Some(root)) if wanted.dirty => git::working_tree(root),
            (None, Some(root)) => {
                git::must_be_clean(&root)?;
                git::commit(root, "HEAD")
            }
            (None, None) => Source::directory(wanted.app.as_deref().unwrap_or(here)),
        }
    }

    /// All files below a directory, hidden ones as well, without `.git`.
    fn directory(directory: &Path) -> Result<Source> {
        let walk = WalkBuilder::new(directory)
            .standard_filters(false)
            .sort_by_file_name(std::ffi::OsStr::cmp)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        let mut files = Vec::new();
        for entry in walk {
            let what = || format!("read {}", directory.display());
            let entry = entry.map_err(|e| Error::usage(what()).because(e))?;
            if let Ok(path) = entry.path().strip_prefix(directory)
                && path != Path::new("")
            {
                files.push(path.to_owned());
            }
        }
        // Perhaps what a build made of the commit: its files are not those of the commit.
        let origin = git::origin(directory, "HEAD").unwrap_or_default();
        let origin = Origin { dirty: origin.commit.is_some(), ..origin };
        Ok(Source::Files { directory: directory.to_owned(), files, origin })
    }

    pub fn origin(&self) -> &Origin {
        match self {
            Source::Commit { origin, .. } | Source::Files { origin, .. } => origin,
        }
    }

    /// Names the source, for people.
    pub fn name(&self) -> String {
        match self {
            Source::Commit { origin, .. } => format!("commit {}", git::short(origin)),
            Source::Files { directory, origin, .. } => match origin {
                Origin { commit: Some(_), dirty: true, .. } => {
                    format!("{}, which differs from {}", directory.display(), git::short(origin))
                }
                _ => directory.display().to_string(),
            },
        }
    }

    /// Returns the content of `.deployignore`; empty if there is none.
    pub fn ignore_file(&self) -> Result<Vec<u8>> {
        match self {
            Source::Commit { directory, origin } => {
                git::file(directory, origin.commit.as_deref().unwrap_or_default(), IGNORE)
            }
            Source::Files { directory, .. } => match fs::read(directory.join(IGNORE)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(Error::usage(format!("read {IGNORE}")).because(error))
                }
                read => Ok(read.unwrap_or_default()),
            },
        }
    }
}

/// Parses the text of `.deployignore`.
pub fn ignored(text: &[u8]) -> Result<Gitignore> {
    let what = || Error::usage(format!("read {IGNORE}"));
    let mut builder = GitignoreBuilder::new("");
    for line in String::from_utf8_lossy(text).lines() {
        builder.add_line(None, line).map_err(|e| what().because(e))?;
    }
    builder.build().map_err(|e| what().because(e))
}
