//! Creates an .rpm of built programs with rpmbuild, from the file list of the Debian package.
//!
//! rpmbuild finds the versions of shared libraries that the programs need, and so refuses an
//! installation on a distribution whose C library is too old.

mod spec;

use crate::Result;
use crate::deb;
use crate::manifest::Package;
use crate::process::run;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Files of the Debian package that only Debian has a use for.
const LEFT_OUT: [&str; 2] =
    ["usr/share/lintian/overrides/deploy-agent", "etc/needrestart/conf.d/deploy-agent.conf"];

/// Files that lie elsewhere on distributions with .rpm packages: Debian's path, their path.
const MOVED: [[&str; 2]; 1] =
    [["usr/share/zsh/vendor-completions/_deploy", "usr/share/zsh/site-functions/_deploy"]];

/// Files that only these distributions need: source, destination; the mode is 0644.
const ADDED: [[&str; 2]; 2] = [
    ["packaging/rpm/deploy-agent.preset", "usr/lib/systemd/system-preset/80-deploy-agent.preset"],
    [
        "packaging/rpm/certificates.conf",
        "usr/lib/systemd/system/deployd.service.d/certificates.conf",
    ],
];

/// Packs the programs in the directory `built` into `output`, under the version of Cargo.toml
/// or another one.
pub fn make(built: &Path, output: &Path, version: Option<&str>) -> Result<()> {
    let package = Package::read()?;
    let work = package.target.join("rpm/work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let tree = work.join("tree");
    let laid = lay(&package, built, &tree)?;
    let version = version.map_or_else(|| package.text("version"), Ok)?;
    let spec = work.join("deploy-agent.spec");
    fs::write(&spec, spec::text(&package, version, &tree, &laid)?)?;
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--quiet", "--nodeps"]);
    build.arg("--define").arg(format!("_topdir {}", work.join("top").display()));
    build.arg("--define").arg(format!("_rpmdir {}", work.display()));
    build.args(["--define", "_build_name_fmt made.rpm"]);
    run(build.arg(&spec))?;
    if let Some(dir) = output.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(work.join("made.rpm"), output)?;
    fs::remove_dir_all(&work)?;
    println!("{}", output.display());
    Ok(())
}

/// Copies every file below `tree`; returns their relative paths in order.
fn lay(package: &Package, built: &Path, tree: &Path) -> Result<Vec<String>> {
    let mut laid = deb::assets(package, built, tree)?;
    for path in LEFT_OUT {
        fs::remove_file(tree.join(path))?;
    }
    laid.retain(|path| !LEFT_OUT.contains(&path.as_str()));
    for [from, to] in MOVED {
        if let Some(dir) = tree.join(to).parent() {
            fs::create_dir_all(dir)?;
        }
        fs::rename(tree.join(from), tree.join(to))?;
        laid.retain(|path| path != from);
        laid.push(to.to_owned());
    }
    for [from, to] in ADDED {
        deb::copy(&package.root.join(from), &tree.join(to), 0o644)?;
        laid.push(to.to_owned());
    }
    laid.sort();
    Ok(laid)
}
