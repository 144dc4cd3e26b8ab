//! A Debian package of programs that are built, out of what Cargo.toml says of it under
//! `[package.metadata.deb]`.
//!
//! `make deb` makes the package for users with cargo-deb, which reads the same. This one
//! is for tests and demo: it costs no compile of cargo-deb, does not strip the programs,
//! and compresses little. A test compares files, modes, scripts and fields of the two.

use crate::Result;
use crate::manifest::Package;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs the programs in the directory `built` to `output`.
pub fn make(built: &Path, output: &Path) -> Result<()> {
    let package = Package::read()?;
    let tree = package.target.join("debian/tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let laid = lay(&package, built, &tree)?;
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(control.join("control"), fields(&package, built, &laid, &tree)?)?;
    fs::write(control.join("conffiles"), conffiles(&laid))?;
    let scripts = package.root.join(package.deb("maintainer-scripts")?);
    for name in SCRIPTS {
        copy(&scripts.join(name), &control.join(name), 0o755)?;
    }
    if let Some(dir) = output.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group", "-Zzstd", "-z1"]).arg(&tree).arg(output);
    run(&mut pack)?;
    fs::remove_dir_all(&tree)?;
    println!("{}", output.display());
    Ok(())
}

/// Copies every asset below `tree`; gives their paths from there.
fn lay(package: &Package, built: &Path, tree: &Path) -> Result<Vec<String>> {
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
    let changelog = format!("usr/share/doc/{}/changelog.Debian", package.text("name")?);
    copy(&package.root.join(package.deb("changelog")?), &tree.join(&changelog), 0o644)?;
    run(Command::new("gzip").arg("-9n").arg(tree.join(&changelog)))?;
    laid.push(format!("{changelog}.gz"));
    Ok(laid)
}

/// Where an asset's source is: what `target/release/` is to cargo-deb, `built` is here.
fn located(package: &Package, built: &Path, from: &str) -> PathBuf {
    match (from.strip_prefix("target/release/"), from.strip_prefix("target/")) {
        (Some(program), _) => built.join(program),
        (None, Some(made)) => package.target.join(made),
        (None, None) => package.root.join(from),
    }
}

/// The files that a path stands for, whose last part may hold one `*`.
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

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let failed = |error| format!("copy {} to {}: {error}", from.display(), to.display());
    fs::copy(from, to).map_err(failed)?;
    Ok(fs::set_permissions(to, Permissions::from_mode(mode))?)
}

/// Compresses a man page below `tree`; gives the path that the file has then.
fn compressed(tree: &Path, path: String) -> Result<String> {
    if !path.starts_with("usr/share/man/") {
        return Ok(path);
    }
    run(Command::new("gzip").arg("-9n").arg(tree.join(&path)))?;
    Ok(format!("{path}.gz"))
}

/// All files in /etc, as Debian's policy has it.
fn conffiles(laid: &[String]) -> String {
    let in_etc = laid.iter().filter(|path| path.starts_with("etc/"));
    in_etc.map(|path| format!("/{path}\n")).collect()
}

/// The file `control`.
fn fields(package: &Package, built: &Path, laid: &[String], tree: &Path) -> Result<String> {
    let mut size = 0;
    for path in laid {
        size += fs::metadata(tree.join(path))?.len().div_ceil(1024);
    }
    let mut text = String::new();
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let fields = [
        ("Package", package.text("name")?.to_owned()),
        ("Version", format!("{}-1", package.text("version")?)),
        ("Architecture", architecture.trim().to_owned()),
        ("Section", package.deb("section")?.to_owned()),
        ("Priority", package.deb("priority")?.to_owned()),
        ("Maintainer", package.deb("maintainer")?.to_owned()),
        ("Installed-Size", size.to_string()),
        ("Depends", depends(package, built)?),
        ("Recommends", package.deb("recommends")?.to_owned()),
        ("Description", package.text("description")?.to_owned()),
    ];
    for (name, value) in fields {
        writeln!(text, "{name}: {value}")?;
    }
    let description = package.root.join(package.deb("extended-description-file")?);
    for line in fs::read_to_string(description)?.lines() {
        writeln!(text, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(text)
}

/// The packages that Cargo.toml names, and for `$auto` those of the shared libraries.
fn depends(package: &Package, built: &Path) -> Result<String> {
    let mut all = Vec::new();
    for one in package.deb("depends")?.split(',').map(str::trim) {
        if one == "$auto" {
            all.extend(libraries(package, built)?);
        } else {
            all.push(one.to_owned());
        }
    }
    all.sort();
    all.dedup();
    Ok(all.join(", "))
}

/// What dpkg-shlibdeps finds, but for libgcc, which every system has.
fn libraries(package: &Package, built: &Path) -> Result<Vec<String>> {
    // It wants to be where a debian/control is.
    let dir = package.target.join("debian/shlibs");
    fs::create_dir_all(dir.join("debian"))?;
    fs::write(dir.join("debian/control"), "")?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.current_dir(&dir).args(["-O", "-xlibgcc"]);
    for [from, ..] in package.assets()? {
        if let Some(program) = from.strip_prefix("target/release/") {
            command.arg(built.canonicalize()?.join(program));
        }
    }
    let found = output(&mut command)?;
    fs::remove_dir_all(&dir)?;
    let line = found.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    let all = line.ok_or("dpkg-shlibdeps names no library")?.split(',').map(str::trim);
    Ok(all.filter(|one| !one.starts_with("libgcc")).map(str::to_owned).collect())
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a program prints; an error names it and has what it wrote to stderr.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if !ran.status.success() {
        return Err(
            format!("{name}: {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr)).into()
        );
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
