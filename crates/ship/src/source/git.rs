//! Commits and working trees, by the program git.

use super::{Origin, Source};
use crate::program::Program;
use model::error::{Error, Result};
use model::text::quoted;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Git in a directory.
fn git(directory: &Path) -> Program<'_> {
    Program { name: "git", directory }
}

/// Returns the top of the repository that `here` belongs to; none if it belongs to none. Where
/// Git refuses a repository, its files must not be taken for those of a plain directory.
pub fn root(here: &Path) -> Result<Option<PathBuf>> {
    match git(here).text(["rev-parse", "--show-toplevel"]) {
        Ok(root) => Ok(Some(PathBuf::from(root))),
        Err(_) if !here.ancestors().any(|directory| directory.join(".git").exists()) => Ok(None),
        Err(why) => {
            let error = Error::usage("read the Git repository").because(why);
            Err(error.help("mend that, or release a directory as it is: --source DIR"))
        }
    }
}

/// Returns the name of the person as Git has it; none if it has none.
pub fn person(here: &Path) -> Option<String> {
    git(here).text(["config", "user.name"]).ok().filter(|name| !name.is_empty())
}

/// The source that is a commit: `name` is a branch, a tag or a hash.
pub fn commit(directory: PathBuf, name: &str) -> Result<Source> {
    let origin = origin(&directory, name)?;
    refuse_submodules(&directory, &origin)?;
    Ok(Source::Commit { directory, origin })
}

/// The source that is the working tree: tracked files, and new ones that are not ignored.
pub fn working_tree(directory: PathBuf) -> Result<Source> {
    let mut origin = origin(&directory, "HEAD")?;
    origin.dirty = !changes(&directory)?.is_empty();
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
    let names = git(&directory).bytes(listed)?;
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut files: Vec<PathBuf> = names
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        // Tracked, and deleted in the working tree.
        .filter(|path| directory.join(path).symlink_metadata().is_ok())
        .collect();
    files.sort();
    if let Some(path) = files.iter().find(|path| is_directory(&directory.join(path))) {
        return Err(has_submodule(&path.to_string_lossy()));
    }
    Ok(Source::Files { directory, files, origin })
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Fails if the files of the working tree differ from the commit that is checked out.
pub fn must_be_clean(directory: &Path) -> Result<()> {
    let changes = changes(directory)?;
    let Some(first) = changes.first() else { return Ok(()) };
    let what = "the working tree differs from its commit";
    let more = match changes.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let error = Error::usage(what).because(format!("{}{more}", quoted(first)));
    Err(error.help("commit the changes, or give --dirty to release them as they are"))
}

/// The paths that differ below the directory, as `git status` lists them.
fn changes(directory: &Path) -> Result<Vec<String>> {
    let status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--"];
    let status = git(directory).text(status.into_iter().chain(["."]))?;
    Ok(status.split('\0').filter_map(|line| line.get(3..)).map(str::to_owned).collect())
}

/// Returns what `release.json` says of a commit.
pub fn origin(directory: &Path, name: &str) -> Result<Origin> {
    let revision = format!("{name}^{{commit}}");
    let parse = ["rev-parse", "--verify", "--quiet", "--end-of-options", &revision];
    let commit = git(directory).text(parse).map_err(|_| {
        let error = Error::usage(format!("find the commit {}", quoted(name)));
        let help = "name a branch, a tag, a hash or a directory; a new repository needs a commit";
        error.because("Git knows none").help(help)
    })?;
    let format = ["show", "--no-patch", "--format=%an <%ae>%n%s", commit.as_str()];
    let said = git(directory).text(format)?;
    let (author, subject) = said.split_once('\n').unwrap_or((&said, ""));
    let (author, subject) = (author.to_owned(), subject.to_owned());
    Ok(Origin { commit: Some(commit), author: Some(author), subject: Some(subject), dirty: false })
}

/// `git archive` leaves the directory of a submodule empty.
fn refuse_submodules(directory: &Path, origin: &Origin) -> Result<()> {
    let commit = origin.commit.as_deref().unwrap_or_default();
    let tree = git(directory).bytes(["ls-tree", "-r", "-z", commit])?;
    let is_submodule = |entry: &&[u8]| entry.starts_with(b"160000 ");
    let Some(entry) = tree.split(|byte| *byte == 0).find(is_submodule) else { return Ok(()) };
    let path = entry.splitn(2, |byte| *byte == b'\t').nth(1).unwrap_or_default();
    Err(has_submodule(&String::from_utf8_lossy(path)))
}

fn has_submodule(path: &str) -> Error {
    let error = Error::usage(format!("release the submodule at {}", quoted(path)));
    error
        .because("Git packs the files of its own repository alone")
        .help("check submodules out, and release the directory: `ship release --source .`")
}

/// Returns a file of a commit; empty if there is none.
pub fn file(directory: &Path, commit: &str, name: &str) -> Result<Vec<u8>> {
    let listed = git(directory).bytes(["ls-tree", "--name-only", commit, "--", name])?;
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    git(directory).bytes(["show", &format!("{commit}:./{name}")])
}

/// The command that writes what is below the directory as a tar to its standard output: the same
/// bytes each time, whatever the configuration says of line ends.
pub fn archive(directory: &Path, commit: &str) -> Command {
    let configured = ["-c", "tar.umask=0022", "-c", "core.autocrlf=false", "-c", "core.eol=lf"];
    let words = configured.into_iter().chain(["archive", "--format=tar", commit]);
    let mut command = git(directory).command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Puts an annotated tag on a commit.
pub fn tag(directory: &Path, name: &str, message: &str, commit: &str) -> Result<()> {
    git(directory).bytes(["tag", "--annotate", "--message", message, name, commit]).map(drop)
}

/// `1a2b3c4d5e Subject`.
pub fn short(origin: &Origin) -> String {
    let commit = origin.commit.as_deref().unwrap_or_default();
    let commit = commit.get(..10).unwrap_or(commit);
    format!("{commit} {}", origin.subject.as_deref().unwrap_or_default())
}
