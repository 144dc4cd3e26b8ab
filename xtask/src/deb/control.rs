//! The package's metadata for dpkg: its fields and its configuration files.

use crate::Result;
use crate::manifest::Package;
use crate::process::output;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// All files in /etc, as Debian's policy requires.
pub fn conffiles(laid: &[String]) -> String {
    let in_etc = laid.iter().filter(|path| path.starts_with("etc/"));
    in_etc.map(|path| format!("/{path}\n")).collect()
}

/// The file `control`.
pub fn fields(package: &Package, built: &Path, laid: &[String], tree: &Path) -> Result<String> {
    let mut size = 0;
    for path in laid {
        size += fs::metadata(tree.join(path))?.len().div_ceil(1024);
    }
    let mut text = String::new();
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let fields = [
        ("Package", package.name()?.to_owned()),
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
    let description = package.base.join(package.deb("extended-description-file")?);
    for line in fs::read_to_string(description)?.lines() {
        writeln!(text, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(text)
}

/// The packages that Cargo.toml names, with `$auto` replaced by those of the shared libraries.
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

/// The packages that dpkg-shlibdeps finds, except libgcc, which every system has.
fn libraries(package: &Package, built: &Path) -> Result<Vec<String>> {
    // It must run in a directory with a debian/control.
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
