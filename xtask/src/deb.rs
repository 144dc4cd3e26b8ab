//! Creates a Debian package of built programs, from `[package.metadata.deb]` in Cargo.toml.
//!
//! `make deb` creates the agent's package for users with cargo-deb, which reads the same data.
//! This one is for ship, and of the agent's for tests and the demo: it needs no compile of
//! cargo-deb, does not strip the programs, and compresses little what was not optimised. A test compares files, modes, scripts and fields of the two.

mod control;

use crate::Result;
use crate::manifest::Package;
use crate::process::run;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs the programs in the directory `built` into `output`.
pub fn make(package: &Package, built: &Path, output: &Path) -> Result<()> {
    let tree = package.target.join("debian/tree").join(package.name()?);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let laid = lay(package, built, &tree)?;
    let about = tree.join("DEBIAN");
    fs::create_dir_all(&about)?;
    fs::write(about.join("control"), control::fields(package, built, &laid, &tree)?)?;
    let conffiles = control::conffiles(&laid);
    if !conffiles.is_empty() {
        fs::write(about.join("conffiles"), conffiles)?;
    }
    if let Some(scripts) = package.deb_if_any("maintainer-scripts") {
        for name in SCRIPTS {
            copy(&package.base.join(scripts).join(name), &about.join(name), 0o755)?;
        }
    }
    // Whatever umask the directories were created with.
    run(Command::new("find").arg(&tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    if let Some(dir) = output.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut pack = Command::new("dpkg-deb");
    // Quickly for tests; for users as Debian's own packages.
    let compression = if built.ends_with("debug") { ["-Zzstd", "-z1"] } else { ["-Zxz", "-z6"] };
    pack.args(["--build", "--root-owner-group"]).args(compression).arg(&tree).arg(output);
    run(&mut pack)?;
    fs::remove_dir_all(&tree)?;
    println!("{}", output.display());
    Ok(())
}

/// Copies every asset and the changelog below `tree`; returns their relative paths.
fn lay(package: &Package, built: &Path, tree: &Path) -> Result<Vec<String>> {
    let mut laid = assets(package, built, tree)?;
    let changelog = format!("usr/share/doc/{}/changelog.Debian", package.name()?);
    copy(&package.base.join(package.deb("changelog")?), &tree.join(&changelog), 0o644)?;
    run(Command::new("gzip").arg("-9n").arg(tree.join(&changelog)))?;
    laid.push(format!("{changelog}.gz"));
    Ok(laid)
}

/// Copies every asset below `tree`; returns their relative paths.
pub fn assets(package: &Package, built: &Path, tree: &Path) -> Result<Vec<String>> {
    let mut laid = Vec::new();
    for [from, to, mode] in package.assets()? {
        let mode = u32::from_str_radix(mode, 8)?;
        for source in sources(&located(package, built, from))? {
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            let path = if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
            copy(&source, &tree.join(&path), mode)?;
            laid.push(compressed(tree, path)?);
        }
    }
    Ok(laid)
}

/// The source of an asset: `target/release/` of cargo-deb is `built` here.
fn located(package: &Package, built: &Path, from: &str) -> PathBuf {
    match from.strip_prefix("target/release/") {
        Some(program) => built.join(program),
        None => package.base.join(from),
    }
}

/// The files that a path matches, whose last part may contain one `*`.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    let pattern = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((before, after)) = pattern.split_once('*') else {
        return Ok(vec![path.to_owned()]);
    };
    let dir = path.parent().unwrap_or(path);
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
        {
            found.push(dir.join(name));
        }
    }
    if found.is_empty() {
        return Err(format!("no file is named as {}", path.display()).into());
    }
    found.sort();
    Ok(found)
}

/// Copies a file, creates the directories above it, and sets its mode.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let failed = |error| format!("copy {} to {}: {error}", from.display(), to.display());
    fs::copy(from, to).map_err(failed)?;
    Ok(fs::set_permissions(to, Permissions::from_mode(mode))?)
}

/// Compresses a man page below `tree`; returns its new path.
fn compressed(tree: &Path, path: String) -> Result<String> {
    if !path.starts_with("usr/share/man/") {
        return Ok(path);
    }
    run(Command::new("gzip").arg("-9n").arg(tree.join(&path)))?;
    Ok(format!("{path}.gz"))
}

#[cfg(test)]
mod tests {
    use super::sources;
    use std::path::Path;

    fn names(pattern: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = sources(&root.join(pattern)).unwrap();
        let name =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        found.iter().map(name).collect()
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_name() {
        assert_eq!(names("packaging/man/*.5"), ["deploy-agent.env.5"]);
        assert_eq!(names("packaging/man/*.8"), ["deploy-generator.8", "deployd.8"]);
        assert_eq!(names("packaging/rsyslog/journal*"), ["journal.conf", "journald.conf"]);
        assert_eq!(names("packaging/deb/postinst"), ["postinst"]);
    }

    #[test]
    fn a_pattern_without_a_file_is_an_error() {
        assert!(sources(Path::new("/usr/*.no-such-end")).is_err());
    }
}
